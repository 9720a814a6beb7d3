"""Header sections: where they end, which fields they have, what these say of the message."""

from __future__ import annotations

import pytest

from openred_central.micro_engine.limits import LIST_MEMBERS_MAX
from openred_central.micro_engine.wire.fields import (
    find_line_end,
    find_section_end,
    parse_fields,
    parse_header_section,
)
from openred_central.micro_engine.wire.protocol import ProtocolError

PLACE = "header section"


def refused(raw: bytes, version: int = 11) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse_header_section(raw, version)
    return caught.value


def test_line_ends_with_cr_lf() -> None:
    buffer = bytearray(b"..ab\r\ncd\r\n")
    assert find_line_end(buffer, 2, 0, 10, "line") == 4
    assert find_line_end(buffer, 2, 5, 10, "line") == 4
    assert find_line_end(bytearray(b"ab\r"), 0, 0, 10, "line") == -1
    assert find_line_end(bytearray(b""), 0, 0, 10, "line") == -1


def test_line_that_is_too_long_is_not_found() -> None:
    assert find_line_end(bytearray(b"abc\r\n"), 0, 0, 3, "line") == 3
    assert find_line_end(bytearray(b"abc\r\n"), 0, 0, 2, "line") == -1


@pytest.mark.parametrize("data", [b"\n", b"a\n", b"a\rb", b"\r\r", b"a\r\r\r\n"[:3]])
def test_bare_line_break_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        find_line_end(bytearray(data), 0, 0, 10, "chunk size line")
    assert "chunk size line" in caught.value.message
    with pytest.raises(ProtocolError):
        find_section_end(bytearray(b"\r\n" + data), 2, 0, PLACE)


def test_section_ends_with_an_empty_line() -> None:
    assert find_section_end(bytearray(b"x\r\n\r\nrest"), 3, 0, PLACE) == 5
    assert find_section_end(bytearray(b"x\r\na: b\r\n\r\nrest"), 3, 0, PLACE) == 11
    assert find_section_end(bytearray(b"x\r\na: b\r\n\r"), 3, 0, PLACE) == -1


def test_field_is_split_at_the_first_colon() -> None:
    assert parse_fields(b"\r\n", PLACE) == ()
    assert parse_fields(b"A:b:c\r\nHost: d\r\nACCEPT:\r\n\r\n", PLACE) == (
        ("a", "b:c"),
        ("host", "d"),
        ("accept", ""),
    )


def test_error_names_the_fault() -> None:
    for raw, word in (
        (b"A: b\r\n c\r\n\r\n", "folded"),
        (b"A : b\r\n\r\n", "'A : b'"),
        (b"A\r\n\r\n", "colon"),
        (b"A: \x00\r\n\r\n", "control"),
        (b"A: \r\r\n\r\n", "CR without LF"),
    ):
        with pytest.raises(ProtocolError) as caught:
            parse_fields(raw, "trailer section")
        assert word in caught.value.message
        assert "trailer section" in caught.value.message
        assert caught.value.status == 400


def test_section_without_a_body_or_options_keeps_the_connection() -> None:
    section = parse_header_section(b"Host: A:80\r\n\r\n", 11)
    assert section.authority == "a:80"
    assert section.keep_alive
    assert section.content_length == 0
    assert not section.expects_continue
    assert section.refusal is None


def test_chunked_body_has_no_length() -> None:
    section = parse_header_section(
        b"Host: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", 11
    )
    assert section.content_length is None
    assert section.expects_continue


def test_meaning_of_a_section_depends_on_the_version() -> None:
    raw = b"Host: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    assert parse_header_section(raw, 11).expects_continue
    assert parse_header_section(raw, 11).keep_alive
    assert not parse_header_section(raw, 10).expects_continue
    assert not parse_header_section(raw, 10).keep_alive
    assert parse_header_section(b"\r\n", 10).authority == ""
    assert "Host" in refused(b"\r\n").message


def test_unmet_expectation_keeps_the_connection() -> None:
    refusal = parse_header_section(b"Host: a\r\nExpect: tea\r\n\r\n", 11).refusal
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.close) == (417, "expectation_failed", False)
    assert "'tea'" in refusal.message


@pytest.mark.parametrize("name", ["Connection", "Expect"])
def test_list_of_too_many_members_is_refused(name: str) -> None:
    members = ",".join(["100-continue"] * LIST_MEMBERS_MAX)
    assert parse_header_section(f"Host: a\r\n{name}: {members}\r\n\r\n".encode(), 11).refusal is None
    error = refused(f"Host: a\r\n{name}: {members},\r\n\r\n".encode())
    assert (error.status, error.close) == (431, True)
    assert f"{LIST_MEMBERS_MAX} members" in error.message


def test_two_framings_are_refused_whichever_comes_first() -> None:
    for fields in (
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
    ):
        error = refused(b"Host: a\r\n" + fields + b"\r\n")
        assert (error.status, error.close) == (400, True)
        assert "together" in error.message


def test_transfer_coding_is_unknown_or_wrong() -> None:
    def status(*codings: str) -> int:
        lines = "".join(f"Transfer-Encoding: {coding}\r\n" for coding in codings)
        return refused(f"Host: a\r\n{lines}\r\n".encode("latin-1")).status

    assert status("gzip, chunked") == 501
    assert status(*[",".join(["a"] * LIST_MEMBERS_MAX + ["chunked"])]) == 501
    assert status(*[",".join(["a"] * (LIST_MEMBERS_MAX + 1) + ["chunked"])]) == 400
    assert status("gzip ; a=b , chunked") == 501
    assert status("gzip", "chunked") == 400
    assert status("chunked ;a, chunked") == 400
    assert status("") == 400

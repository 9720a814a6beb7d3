"""Request lines, authorities, paths and queries mean what RFC 9112 and RFC 3986 say."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.errors import CallerError
from openred_central.micro_engine.wire.protocol import ProtocolError
from openred_central.micro_engine.wire.target import (
    parse_authority,
    parse_query,
    parse_request_line,
    split_path,
)

from ..wire_examples import BAD_HOSTS, GOOD_HOSTS


def refused(error: pytest.ExceptionInfo[CallerError]) -> str:
    """Return the message of a 400 that keeps the connection."""
    assert (error.value.status, error.value.code, error.value.close) == (400, "bad_request", False)
    assert error.value.suggestion
    return error.value.message


def test_request_line_has_its_parts() -> None:
    assert parse_request_line("POST /a/b?c HTTP/1.1", "http") == ("POST", "/a/b", "c", 11, "", None)
    assert parse_request_line("GET http://B:1/p HTTP/1.0", "http") == ("GET", "/p", "", 10, "b:1", None)
    assert parse_request_line("OPTIONS * HTTP/1.1", "http") == ("OPTIONS", "*", "", 11, "", None)


@pytest.mark.parametrize(("served", "other"), [("http", "https"), ("https", "http")])
def test_address_needs_the_scheme_of_its_connection(served: str, other: str) -> None:
    for scheme in (served, served.upper()):
        found = parse_request_line(f"GET {scheme}://b:1/p?q HTTP/1.1", served)
        assert found == ("GET", "/p", "q", 11, "b:1", None)
    for scheme in (other, other.upper()):
        with pytest.raises(ProtocolError) as caught:
            parse_request_line(f"GET {scheme}://b/p HTTP/1.1", served)
        assert (caught.value.status, caught.value.code) == (421, "misdirected_request")
        assert caught.value.suggestion == f"Request the path alone, or the address with {served}."
    with pytest.raises(ProtocolError) as caught:
        parse_request_line("GET ftp://b/p HTTP/1.1", served)
    assert (caught.value.status, caught.value.suggestion) == (
        400,
        f"Send a path that begins with a slash, or an {served} address.",
    )


def test_forbidden_character_is_refused_with_its_escape() -> None:
    for character, escape in (
        ("|", "%7C"),
        ('"', "%22"),
        ("<", "%3C"),
        ("^", "%5E"),
        ("{", "%7B"),
        ("`", "%60"),
    ):
        refusal = parse_request_line(f"GET /a{character}b HTTP/1.1", "http")[-1]
        assert refusal is not None
        assert refusal.status == 400
        assert not refusal.close
        assert escape in (refusal.suggestion or "")


def test_fragment_keeps_the_connection() -> None:
    for target in ("/a#b", "/#", "/?#", "/a?b#c?d", "http://a/#b", "http://a#b", "http://a?b#c"):
        refusal = parse_request_line(f"GET {target} HTTP/1.1", "http")[-1]
        assert refusal is not None, target
        assert "'#'" in refusal.message
        assert refusal.suggestion == "Send it as %23."
        assert not refusal.close


@given(st.text(alphabet=st.characters(max_codepoint=0xFF), max_size=40))
def test_request_line_is_parsed_or_refused(line: str) -> None:
    for text in (line, f"GET {line} HTTP/1.1", f"GET http://{line} HTTP/1.1"):
        try:
            method, path, _, version, authority, _ = parse_request_line(text, "http")
        except ProtocolError:
            continue
        assert method
        assert path.startswith("/") or (path == "*" and method == "OPTIONS")
        assert version in (10, 11)
        assert authority == "" or parse_authority(authority) == authority


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_authority_is_a_host_with_an_optional_port(host: bytes) -> None:
    text = host.decode().strip(" \t")
    assert parse_authority(text) == text.lower()


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_malformed_authority_is_refused(host: bytes) -> None:
    assert parse_authority(host.strip(b" \t").decode("latin-1")) is None


def test_long_authority_is_checked_in_linear_time() -> None:
    # With a regular expression that backtracks, this would take longer than the universe is old.
    assert parse_authority("a" * 8000 + "\n") is None
    assert parse_authority("%41" * 2000 + "%") is None
    assert parse_authority("[" + ":" * 8000) is None


def test_path_is_split_before_it_is_decoded() -> None:
    assert split_path("/") == ("",)
    assert split_path("/a") == ("a",)
    assert split_path("/a/") == ("a", "")
    assert split_path("//a") == ("", "a")
    assert split_path("/nodes/a%2Fb/c") == ("nodes", "a/b", "c")
    assert split_path("*") == ()


def test_dots_have_no_meaning() -> None:
    assert split_path("/a/../b/./%2e%2E/c") == ("a", "..", "b", ".", "..", "c")


def test_escapes_are_decoded_once_as_utf_8() -> None:
    assert split_path("/%C3%A9%41") == ("éA",)
    assert split_path("/%2541") == ("%41",)
    assert split_path("/a+b") == ("a+b",)
    assert split_path("/%00") == ("\x00",)


@pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/a/%4g", "/%%41", "/%+1", "/% 1", "/%4/1"])
def test_bad_escape_in_a_path_keeps_the_connection(path: str) -> None:
    with pytest.raises(CallerError) as caught:
        split_path(path)
    assert "hexadecimal" in refused(caught)


@pytest.mark.parametrize("path", ["/%ff", "/%C3", "/%C3/%A9", "/%c0%af", "/%ed%a0%80", "/%f4%90%80%80"])
def test_path_that_is_not_utf_8_keeps_the_connection(path: str) -> None:
    with pytest.raises(CallerError) as caught:
        split_path(path)
    assert "UTF-8" in refused(caught)


@given(st.lists(st.text(), min_size=1))
def test_any_path_survives_encoding(segments: list[str]) -> None:
    segments = [segment.encode("utf-8", "replace").decode() for segment in segments]
    assert split_path("/" + "/".join(quote(segment, safe="") for segment in segments)) == tuple(segments)


def test_query_has_names_and_values() -> None:
    assert parse_query("") == {}
    assert parse_query("a=b&c=d") == {"a": "b", "c": "d"}
    assert parse_query("a&b=&=c&&") == {"a": "", "b": "", "": "c"}
    assert parse_query("a=b=c") == {"a": "b=c"}
    assert parse_query("a=1+2%2B3&b+c=%26%3D") == {"a": "1 2+3", "b c": "&="}
    assert parse_query("a=%2541") == {"a": "%41"}


def test_name_given_twice_needs_equal_values() -> None:
    assert parse_query("a=b&a=b&%61=b") == {"a": "b"}
    with pytest.raises(CallerError) as caught:
        parse_query("limit=1&x=y&limi%74=2")
    assert "'limit'" in refused(caught)
    assert caught.value.fields is not None
    assert list(caught.value.fields) == ["limit"]


@pytest.mark.parametrize("query", ["a=%", "%zz=a", "a=%4", "a=%ff", "%C3=a"])
def test_undecodable_query_keeps_the_connection(query: str) -> None:
    with pytest.raises(CallerError) as caught:
        parse_query(query)
    assert "query" in refused(caught)


def test_query_has_at_most_100_fields() -> None:
    hundred = "&".join(f"a{index}=b" for index in range(100))
    assert len(parse_query(hundred)) == 100
    with pytest.raises(CallerError) as caught:
        parse_query(hundred + "&c=d")
    assert "100" in refused(caught)
    with pytest.raises(CallerError):
        parse_query("&" * 8000)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=20)
)
def test_any_query_survives_encoding(values: dict[str, str]) -> None:
    # A lone empty name with an empty value is written as "=", which is a field too.
    assert parse_query(urlencode(values)) == values


@given(st.text(alphabet="ab%&=+#4zé1C3A9", max_size=40))
def test_path_and_a_query_are_decoded_or_refused(text: str) -> None:
    for decode in (split_path, parse_query):
        with suppress(CallerError):
            decode("/" + text)

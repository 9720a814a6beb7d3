"""The chunked coding is decoded to the letter, in any pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.micro_engine.limits import CHUNKS_PER_READ_MAX, SMALL_CHUNK_BYTES, SMALL_CHUNKS_MAX
from openred_central.micro_engine.wire.chunked import ChunkedDecoder
from openred_central.micro_engine.wire.protocol import ProtocolError

from ..wire_examples import BAD_CHUNKS, GOOD_CHUNKS


def decode(pieces: list[bytes], bytes_max: int = 1024 * 1024) -> tuple[bytes | None, bytes]:
    """Return the body in `pieces`, or None, and the bytes that were left."""
    decoder = ChunkedDecoder()
    buffer = bytearray()
    for index, piece in enumerate(pieces):
        buffer += piece
        body = decoder.decode(buffer, bytes_max)
        while body is None and decoder.rests:
            body = decoder.decode(buffer, bytes_max)
        if body is not None:
            return body, bytes(buffer) + b"".join(pieces[index + 1 :])
    return None, bytes(buffer)


@pytest.mark.parametrize(("name", "data", "body"), GOOD_CHUNKS, ids=[name for name, _, _ in GOOD_CHUNKS])
def test_bytes_behind_a_body_stay_in_the_buffer(name: str, data: bytes, body: bytes) -> None:
    assert decode([data + b"\r\nrest"]) == (body, b"\r\nrest")


@pytest.mark.parametrize(("name", "data"), BAD_CHUNKS, ids=[name for name, _ in BAD_CHUNKS])
def test_malformed_chunks_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode([data])
    assert (caught.value.status, caught.value.close) == (400, True)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"x\r\n", "hexadecimal"),
        (b"1\r\nabc", "CR LF"),
        (b"1\n", "CR without LF"),
        (b"1;\r\n", "extensions"),
        (b"1;" + b"a" * 5000 + b"\r\n", "4096 bytes"),
        (b"0\r\nA\r\n\r\n", "trailer section"),
    ],
)
def test_error_names_place_and_fault(data: bytes, word: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode([data])
    assert word in caught.value.message


def test_limit_counts_all_announced_chunks() -> None:
    assert decode([b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"], 4) == (b"abcd", b"")
    for data in (b"5\r\n", b"2\r\nab\r\n3\r\n", b"ffffffffffffffff\r\n"):
        with pytest.raises(ProtocolError) as caught:
            decode([data], 4)
        assert caught.value.status == 413


def test_body_has_started_with_its_first_size() -> None:
    decoder = ChunkedDecoder()
    buffer = bytearray(b"1")
    assert decoder.decode(buffer, 10) is None
    assert not decoder.started
    for piece in (b"\r\n", b"a\r\n", b"0\r\n", b"\r"):
        buffer += piece
        assert decoder.decode(buffer, 10) is None
        assert decoder.started
    buffer += b"\n"
    assert decoder.decode(buffer, 10) == b"a"


def test_chunks_of_one_call_are_bounded() -> None:
    decoder, buffer = (
        ChunkedDecoder(),
        bytearray(b"1\r\na\r\n" * (2 * CHUNKS_PER_READ_MAX + 1) + b"0\r\n\r\n"),
    )
    for chunks_left in (CHUNKS_PER_READ_MAX + 1, 1):
        assert decoder.decode(buffer, 10_000) is None
        assert decoder.rests
        assert buffer.count(b"a") == chunks_left
    assert decoder.decode(buffer, 10_000) == b"a" * (2 * CHUNKS_PER_READ_MAX + 1)


def test_body_that_lacks_bytes_does_not_rest() -> None:
    decoder, buffer = ChunkedDecoder(), bytearray(b"1\r\na\r\n" * (CHUNKS_PER_READ_MAX + 1))
    assert decoder.decode(buffer, 10_000) is None
    assert decoder.rests
    assert decoder.decode(buffer, 10_000) is None
    assert not decoder.rests


def test_unwanted_body_is_not_kept() -> None:
    decoder, buffer = ChunkedDecoder(), bytearray(b"8\r\n")
    for piece in (b"abc", b"defgh", b"\r\n", b"2\r\nij\r\n", b"0\r\n\r"):
        buffer += piece
        assert decoder.decode(buffer, 10, keep=False) is None
        assert (len(decoder.body), b"a" in buffer, b"j" in buffer) == (0, False, False)
    assert decoder.decode(buffer + b"\n", 10, keep=False) == b""


def test_decoder_keeps_nothing_of_a_finished_body() -> None:
    decoder = ChunkedDecoder()
    assert decoder.decode(bytearray(b"3\r\nabc\r\n0\r\n\r\n"), 10) == b"abc"
    assert decoder.body == b""


def test_too_many_small_chunks_are_refused() -> None:
    small = b"1\r\na\r\n" * SMALL_CHUNKS_MAX
    assert decode([small, b"0\r\n\r\n"])[0] == b"a" * SMALL_CHUNKS_MAX
    with pytest.raises(ProtocolError) as caught:
        decode([small, b"1\r\na\r\n"])
    assert (caught.value.status, caught.value.close) == (400, True)
    assert f"{SMALL_CHUNKS_MAX} chunks" in caught.value.message


def test_large_chunks_make_up_for_small_ones() -> None:
    some = b"%x\r\n" % SMALL_CHUNK_BYTES + b"a" * SMALL_CHUNK_BYTES + b"\r\n"
    assert decode([some * (SMALL_CHUNKS_MAX + 9) + b"0\r\n\r\n"])[0] is not None
    large = b"1000\r\n" + b"a" * 4096 + b"\r\n"
    mixed = (b"1\r\na\r\n" * 200 + large) * 30
    assert decode([mixed, b"0\r\n\r\n"])[0] is not None


def test_long_extensions_are_checked_in_linear_time() -> None:
    # With a regular expression that backtracks, this would take longer than the universe is old.
    for extension in (b";a" * 2000 + b"\x00", b";a=" + b'"' + b"\\a" * 2000, b";" + b" " * 4000 + b"\x00"):
        with pytest.raises(ProtocolError):
            decode([b"1" + extension + b"\r\n"])


@given(st.data())
def test_any_body_survives_any_chunks_and_pieces(data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.binary(min_size=1, max_size=40)))
    coded = bytearray()
    for chunk in chunks:
        size = data.draw(st.sampled_from(["%x", "%X", "%08x"])) % len(chunk)
        extension = data.draw(st.sampled_from(["", ";a", ';a="b;c"', " ; a = b"]))
        coded += f"{size}{extension}\r\n".encode() + chunk + b"\r\n"
    coded += b"0\r\n" + data.draw(st.sampled_from([b"", b"A: b\r\n"])) + b"\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(coded)), max_size=8)))
    pieces = [bytes(coded[start:end]) for start, end in pairwise([0, *cuts, len(coded)])]
    assert decode([*pieces, b"rest"])[0] == b"".join(chunks)

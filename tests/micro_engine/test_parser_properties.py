"""Valid messages parse to themselves; any bytes give the same requests however cut, and one error at most."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from .parsing import Refused, Served, bytewise, cut, outcomes
from .wire_examples import EXAMPLES

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~09azAZ"
FRAMING = {"host", "content-length", "transfer-encoding", "connection", "expect"}
CUTS = st.lists(st.integers(0, 10_000), max_size=6)

tokens = st.text(TOKEN_CHARACTERS, min_size=1, max_size=10)
values = st.text(
    st.characters(max_codepoint=0xFF, exclude_characters=[*map(chr, range(0x20)), "\x7f"]) | st.just("\t"),
    max_size=20,
).map(lambda value: value.strip(" \t"))
white_space = st.text(" \t", max_size=2)
paths = st.text("aZ0-._~!$&'()*+,;=:@/%", max_size=20).map(lambda path: "/" + path)
queries = st.text("aZ0-._~!$&'()*+,;=:@/%?", max_size=20)
hosts = st.sampled_from(["a", "a.example:80", "[::1]:8", "127.0.0.1", "A.b"])


@dataclass(frozen=True)
class Message:
    data: bytes
    served: Served


@st.composite
def header_lines(draw: st.DrawFn, host: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Header lines as text, and the fields they mean."""
    drawn = draw(st.lists(st.tuples(tokens, values), max_size=4))
    fields = [(name, value) for name, value in drawn if name.lower() not in FRAMING]
    fields.insert(draw(st.integers(0, len(fields))), (draw(st.sampled_from(["Host", "host", "HOST"])), host))
    lines = [f"{name}:{draw(white_space)}{value}{draw(white_space)}\r\n" for name, value in fields]
    return "".join(lines), tuple((name.lower(), value) for name, value in fields)


@st.composite
def chunked_bodies(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` in chunks, with extensions and trailers."""
    coded = b""
    for piece in cut(body, draw(CUTS)):
        if piece:
            size = draw(st.sampled_from(["%x", "%X", "%05x"])) % len(piece)
            coded += (
                size.encode()
                + draw(st.sampled_from([b"", b";a", b' ; a = "\\";"']))
                + b"\r\n"
                + piece
                + b"\r\n"
            )
    trailers = draw(st.sampled_from([b"", b"A: b\r\n", b"Content-Length: 9\r\nB:\r\n"]))
    return coded + draw(st.sampled_from([b"0", b"000"])) + b"\r\n" + trailers + b"\r\n"


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Draw a valid request that keeps its connection."""
    method = draw(tokens.filter(lambda token: token != "CONNECT"))
    path, query, host = draw(paths), draw(queries), draw(hosts)
    target = path + ("?" + query if query or draw(st.booleans()) else "")
    authority = host
    if draw(st.booleans()):
        authority = draw(hosts)
        target = f"http://{authority}{target}"
    lines, fields = draw(header_lines(host))
    body = draw(st.binary(max_size=30))
    coded = body
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "none":
        body = coded = b""
    elif framing == "length":
        lines += f"Content-Length: {len(body)}\r\n"
        fields += (("content-length", str(len(body))),)
    else:
        lines += "Transfer-Encoding: Chunked\r\n"
        fields += (("transfer-encoding", "Chunked"),)
        coded = draw(chunked_bodies(body))
    minor = draw(st.integers(1, 9))
    head = f"{method} {target} HTTP/1.{minor}\r\n{lines}\r\n"
    data = b"\r\n" * draw(st.integers(0, 2)) + head.encode("latin-1") + coded
    served = Served(method, path, query, authority=authority.lower(), fields=fields, body=body)
    return Message(data, served)


@given(st.lists(messages(), min_size=1, max_size=3), CUTS)
def test_valid_messages_parse_to_themselves(sent: list[Message], cuts: list[int]) -> None:
    data = b"".join(message.data for message in sent)
    expected = [message.served for message in sent]
    assert outcomes([data]) == expected
    assert outcomes(bytewise(data)) == expected
    assert outcomes(cut(data, cuts)) == expected


def check_any_cut(data: bytes, cuts: list[int]) -> None:
    for eof in (False, True):
        whole = outcomes([data], eof=eof)
        assert outcomes(bytewise(data), eof=eof) == whole
        assert outcomes(cut(data, cuts), eof=eof) == whole
        assert sum(isinstance(outcome, Refused) for outcome in whole) <= 1


SHORT = [example.data for example in EXAMPLES if len(example.data) < 400]
PIECES = [
    *(b"\r\n", b"\r", b"\n", b" ", b"\t", b"\x00", b"\x0b", b"\xa0", b":", b",", b";", b"0", b"5", b"+"),
    *(b"\r\n\r\n", b"\r\n ", b"0\r\n\r\n", b"1\r\na\r\n", b"chunked", b"HTTP/1.0", b"HTTP/1.1", b"* ", b"#"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Connection: close\r\n", b"Host: a\r\n"),
    *(b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"Expect: 100-continue\r\n"),
]
pieces = st.sampled_from(PIECES) | st.binary(min_size=1, max_size=2)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One or two examples or valid messages, with bytes deleted, inserted, replaced and repeated."""
    valid = messages().map(lambda message: message.data)
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(SHORT) | valid, min_size=1, max_size=2))))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 4)))
        data[start:end] = draw(pieces | st.just(bytes(data[start:end]) * 2))
    return bytes(data)


@given(mutated(), CUTS)
def test_mutated_messages_mean_the_same_however_cut(data: bytes, cuts: list[int]) -> None:
    check_any_cut(data, cuts)


@given(st.lists(pieces, max_size=20).map(b"".join), CUTS)
def test_any_bytes_mean_the_same_however_cut(data: bytes, cuts: list[int]) -> None:
    check_any_cut(data, cuts)


@given(st.lists(pieces, max_size=12).map(b"".join), CUTS)
def test_any_bytes_for_header_fields_mean_the_same_however_cut(data: bytes, cuts: list[int]) -> None:
    check_any_cut(b"POST / HTTP/1.1\r\nHost: a\r\n" + data, cuts)


@given(st.lists(pieces, max_size=12).map(b"".join), CUTS)
def test_any_bytes_for_chunks_mean_the_same_however_cut(data: bytes, cuts: list[int]) -> None:
    check_any_cut(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data, cuts)


@given(
    messages(), messages(), st.sampled_from(["Transfer-Encoding: chunked", "Content-Length: 0", "Host: b"])
)
def test_ambiguous_framing_is_never_read(first: Message, second: Message, extra: str) -> None:
    head, _, rest = first.data.lstrip(b"\r\n").partition(b"\r\n")
    doubled = head + b"\r\n" + extra.encode() + b"\r\n" + rest
    found = outcomes([doubled + second.data])
    names = [name for name, _ in first.served.fields]
    if extra.startswith("Host") or {"content-length", "transfer-encoding"} & set(names):
        assert [type(outcome) for outcome in found] == [Refused]

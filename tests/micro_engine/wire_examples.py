"""Every kind of input and what the parser makes of it: the decision table of the engine, row by row, as data.

Each example is a name, the bytes of one connection, and what must come of them: the requests served, and
the status of the error that ends the connection, if any. The host is ``a`` where it does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from .parsing import Served

GET = Served("GET", "/")
POST = Served("POST", "/")


@dataclass(frozen=True)
class Example:
    name: str
    data: bytes
    served: tuple[Served, ...] = ()
    status: int | None = None
    eof: bool = False
    bytes_max: int = 1024 * 1024


def ok(name: str, data: bytes, *served: Served) -> Example:
    return Example(name, data, served)


def bad(name: str, data: bytes, status: int = 400, *served: Served) -> Example:
    return Example(name, data, served, status)


def get(fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """Return a request with the header lines `fields`, each with its CRLF."""
    return line + b"\r\n" + fields + b"\r\n"


def line(request_line: bytes) -> bytes:
    return get(b"Host: a\r\n", request_line)


def post(fields: bytes, body: bytes = b"") -> bytes:
    return get(b"Host: a\r\n" + fields, b"POST / HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


HOST = b"Host: a\r\n"

REQUEST_LINES = [
    ok("origin form", line(b"GET / HTTP/1.1"), GET),
    ok("path and query", line(b"GET /a/b?c=d&e HTTP/1.1"), Served("GET", "/a/b", "c=d&e")),
    ok("empty query", line(b"GET /? HTTP/1.1"), GET),
    ok("question mark in query", line(b"GET /?a?b HTTP/1.1"), Served("GET", "/", "a?b")),
    ok("double slash is a path", line(b"GET //x/y HTTP/1.1"), Served("GET", "//x/y")),
    ok("dots have no meaning", line(b"GET /../a/./b HTTP/1.1"), Served("GET", "/../a/./b")),
    ok("escapes stay as received", line(b"GET /%zz%2F?%41 HTTP/1.1"), Served("GET", "/%zz%2F", "%41")),
    ok("unknown method", line(b"get / HTTP/1.1"), Served("get", "/")),
    ok("any token is a method", line(b"M-S!#$%&'*+.^_`|~9 / HTTP/1.1"), Served("M-S!#$%&'*+.^_`|~9", "/")),
    bad("no method", line(b" / HTTP/1.1")),
    bad("no target", line(b"GET HTTP/1.1")),
    bad("empty target", line(b"GET  HTTP/1.1")),
    bad("no version", line(b"GET /")),
    bad("simple request of HTTP/0.9", b"GET /\r\n"),
    bad("two spaces after the method", line(b"GET  / HTTP/1.1")),
    bad("two spaces before the version", line(b"GET /  HTTP/1.1")),
    bad("space before the method", line(b" GET / HTTP/1.1")),
    bad("space behind the version", line(b"GET / HTTP/1.1 ")),
    bad("space in the target", line(b"GET /a b HTTP/1.1")),
    bad("tab for a space", line(b"GET\t/ HTTP/1.1")),
    bad("tab before the version", line(b"GET /\tHTTP/1.1")),
    bad("vertical tab", line(b"GET\x0b/ HTTP/1.1")),
    bad("form feed in the target", line(b"GET /\x0c HTTP/1.1")),
    bad("NUL in the method", line(b"G\x00T / HTTP/1.1")),
    bad("NUL in the target", line(b"GET /\x00 HTTP/1.1")),
    bad("NUL behind the version", line(b"GET / HTTP/1.1\x00")),
    bad("DEL in the target", line(b"GET /\x7f HTTP/1.1")),
    bad("UTF-8 in the target", line("GET /é HTTP/1.1".encode())),
    bad("0xFF in the target", line(b"GET /\xff HTTP/1.1")),
    bad("non-ASCII method", line(b"G\xc9T / HTTP/1.1")),
    bad("method not a token", line(b"G(T / HTTP/1.1")),
    bad("method with colon", line(b"GET: / HTTP/1.1")),
    bad("byte order mark", line(b"\xef\xbb\xbfGET / HTTP/1.1")),
    bad("non-ASCII digit in the version", line(b"GET / HTTP/1.\xb9")),
    bad("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    bad("target without slash", line(b"GET a HTTP/1.1")),
    bad("authority form without CONNECT", line(b"GET a:80 HTTP/1.1")),
    bad("query alone", line(b"GET ?a HTTP/1.1")),
    ok("fragment", line(b"GET /a#b HTTP/1.1"), Served("GET", "/a#b", refusal=400)),
    ok("fragment behind a query", line(b"GET /a?b#c HTTP/1.1"), Served("GET", "/a", "b#c", refusal=400)),
    ok("backslash in the path", line(b"GET /a\\b HTTP/1.1"), Served("GET", "/a\\b", refusal=400)),
    ok("quote in the query", line(b'GET /?"a" HTTP/1.1'), Served("GET", "/", '"a"', refusal=400)),
]

VERSIONS = [
    ok("1.0", get(b"", b"GET / HTTP/1.0"), Served("GET", "/", version=10, authority="", keep_alive=False)),
    ok("1.0 with host", line(b"GET / HTTP/1.0"), Served("GET", "/", version=10, keep_alive=False)),
    ok(
        "1.0 kept alive",
        get(HOST + b"Connection: Keep-Alive\r\n", b"GET / HTTP/1.0"),
        Served("GET", "/", version=10),
    ),
    ok(
        "1.0 kept alive and closed",
        get(HOST + b"Connection: keep-alive, close\r\n", b"GET / HTTP/1.0"),
        Served("GET", "/", version=10, keep_alive=False),
    ),
    ok("1.2 is served as 1.1", line(b"GET / HTTP/1.2"), GET),
    ok("1.9 is served as 1.1", line(b"GET / HTTP/1.9"), GET),
    bad("0.9", line(b"GET / HTTP/0.9"), 505),
    bad("2.0", line(b"GET / HTTP/2.0"), 505),
    bad("3.0", line(b"GET / HTTP/3.0"), 505),
    bad("9.9", line(b"GET / HTTP/9.9"), 505),
    bad("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    bad("lower case", line(b"GET / http/1.1")),
    bad("mixed case", line(b"GET / Http/1.1")),
    bad("no minor version", line(b"GET / HTTP/1")),
    bad("no minor version but a dot", line(b"GET / HTTP/1.")),
    bad("HTTP/2", line(b"GET / HTTP/2")),
    bad("leading zero", line(b"GET / HTTP/01.1")),
    bad("two minor digits", line(b"GET / HTTP/1.10")),
    bad("two major digits", line(b"GET / HTTP/11.1")),
    bad("signed", line(b"GET / HTTP/+1.1")),
    bad("comma", line(b"GET / HTTP/1,1")),
    bad("another protocol", line(b"GET / ICY/1.1")),
    bad("version with a space", line(b"GET / HTTP /1.1")),
]

LINES = [
    ok("one empty line first", b"\r\n" + line(b"GET / HTTP/1.1"), GET),
    ok("eight empty lines first", b"\r\n" * 8 + line(b"GET / HTTP/1.1"), GET),
    bad("nine empty lines first", b"\r\n" * 9 + line(b"GET / HTTP/1.1")),
    bad("only empty lines", b"\r\n" * 9),
    ok(
        "eight empty lines before each of two",
        (b"\r\n" * 8 + line(b"GET / HTTP/1.1")) * 2,
        GET,
        GET,
    ),
    bad("empty line of a bare LF", b"\n" + line(b"GET / HTTP/1.1")),
    bad("empty line of a bare CR", b"\r" + line(b"GET / HTTP/1.1")),
    bad("CR CR LF first", b"\r\r\n" + line(b"GET / HTTP/1.1")),
    bad("LF ends all lines", b"GET / HTTP/1.1\nHost: a\n\n"),
    bad("CR ends all lines", b"GET / HTTP/1.1\rHost: a\r\r"),
    bad("LF ends the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    bad("CR ends the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    bad("LF CR ends the request line", b"GET / HTTP/1.1\n\rHost: a\r\n\r\n"),
    bad("CR CR LF ends the request line", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    bad("LF ends a field", b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n"),
    bad("CR ends a field", b"GET / HTTP/1.1\r\nHost: a\rA: b\r\n\r\n"),
    bad("CR CR LF ends a field", b"GET / HTTP/1.1\r\nHost: a\r\r\nA: b\r\n\r\n"),
    bad("LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    bad("LF LF ends the head", b"GET / HTTP/1.1\r\nHost: a\n\n"),
    bad("CR LF CR ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\rX"),
    bad("CR CR LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n"),
    bad("bare CR in a value", get(HOST + b"A: b\rc\r\n")),
    bad("bare CR at the end of a value", get(HOST + b"A: b\r\r\n")),
    bad("bare LF smuggles a field", get(HOST + b"A: b\nTransfer-Encoding: chunked\r\n")),
    bad("bare CR smuggles a field", get(HOST + b"A: b\rContent-Length: 5\r\n")),
    ok(
        "request line of 8,000 bytes",
        line(b"GET /" + b"a" * 7986 + b" HTTP/1.1"),
        Served("GET", "/" + "a" * 7986),
    ),
    ok(
        "request line of 8 KiB",
        line(b"GET /" + b"a" * 8178 + b" HTTP/1.1"),
        Served("GET", "/" + "a" * 8178),
    ),
    bad("request line of 8 KiB and a byte", line(b"GET /" + b"a" * 8179 + b" HTTP/1.1"), 414),
    bad("request line without end", b"GET /" + b"a" * 9000, 414),
    bad(
        "request line and header both too long",
        line(b"GET /" + b"a" * 9000 + b" HTTP/1.1") + b"A: " + b"b" * 40000,
        414,
    ),
]

TARGETS = [
    ok(
        "absolute form",
        get(b"Host: b\r\n", b"GET http://A.example:80/p?q HTTP/1.1"),
        Served("GET", "/p", "q", authority="a.example:80"),
    ),
    ok("absolute form without path", line(b"GET http://b HTTP/1.1"), Served("GET", "/", authority="b")),
    ok(
        "absolute form with a query alone",
        line(b"GET http://b?q HTTP/1.1"),
        Served("GET", "/", "q", authority="b"),
    ),
    ok(
        "absolute form, scheme in capitals",
        line(b"GET HTTP://b/ HTTP/1.1"),
        Served("GET", "/", authority="b"),
    ),
    ok("absolute form, IPv6", line(b"GET http://[::1]:8/ HTTP/1.1"), Served("GET", "/", authority="[::1]:8")),
    ok(
        "absolute form in 1.0",
        get(b"", b"GET http://b/ HTTP/1.0"),
        Served("GET", "/", version=10, authority="b", keep_alive=False),
    ),
    ok(
        "absolute form with fragment",
        line(b"GET http://b/c#d HTTP/1.1"),
        Served("GET", "/c", "d", authority="b", refusal=400),
    ),
    bad("absolute form without Host", get(b"", b"GET http://b/ HTTP/1.1")),
    bad("absolute form with a bad Host", get(b"Host: a b\r\n", b"GET http://b/ HTTP/1.1")),
    bad("https", line(b"GET https://b/ HTTP/1.1"), 421),
    bad("HTTPS in capitals", line(b"GET HTTPS://b/ HTTP/1.1"), 421),
    bad("another scheme", line(b"GET ftp://b/ HTTP/1.1")),
    bad("user-info", line(b"GET http://u@b/ HTTP/1.1")),
    bad("user-info with password", line(b"GET http://u:p@b/ HTTP/1.1")),
    bad("empty authority", line(b"GET http:///a HTTP/1.1")),
    bad("port without host", line(b"GET http://:80/a HTTP/1.1")),
    bad("letters in the port", line(b"GET http://b:x/ HTTP/1.1")),
    bad("absolute form with one slash", line(b"GET http:/b HTTP/1.1")),
    bad("scheme alone", line(b"GET http: HTTP/1.1")),
    ok("asterisk", line(b"OPTIONS * HTTP/1.1"), Served("OPTIONS", "*")),
    ok(
        "asterisk by absolute form", line(b"OPTIONS http://b HTTP/1.1"), Served("OPTIONS", "*", authority="b")
    ),
    ok("OPTIONS of a path", line(b"OPTIONS http://b/ HTTP/1.1"), Served("OPTIONS", "/", authority="b")),
    bad("asterisk with GET", line(b"GET * HTTP/1.1")),
    bad("asterisk with options in lower case", line(b"options * HTTP/1.1")),
    bad("asterisk and more", line(b"OPTIONS *a HTTP/1.1")),
    bad("CONNECT", line(b"CONNECT a:443 HTTP/1.1"), 501),
    bad("CONNECT to a path", line(b"CONNECT / HTTP/1.1"), 501),
    bad("CONNECT in 1.0", line(b"CONNECT a:443 HTTP/1.0"), 501),
]

GOOD_HOSTS = [
    b"a",
    b"A.Example",
    b"a:80",
    b"a:",
    b"127.0.0.1:8000",
    b"[::1]",
    b"[2001:DB8::1]:80",
    b"[::ffff:1.2.3.4]",
    b"[v1.a:b]",
    b"a_b-c.~d",
    b"xn--bcher-kva.example",
    b"%41",
    b" \t a \t ",
]

BAD_HOSTS = [
    b"",
    b" ",
    b":80",
    b"a b",
    b"a/",
    b"/a",
    b"a/b",
    b"http://a",
    b"a?b",
    b"a#b",
    b'"a"',
    b"'a'",
    b"u@a",
    b"u:p@a",
    b"a:b",
    b"a:80:80",
    b"a::80",
    b"::1",
    b"a:8a",
    b"a:-1",
    b"a:+1",
    b"a: 80",
    b"[::1",
    b"::1]",
    b"[]",
    b"[::1]80",
    b"[::1]a",
    b"[fe80::1%25eth0]",
    b"[1.2.3.4]",
    b"[a]",
    b"[v.a]",
    b"a\x00",
    b"a\x0b",
    b"a\x7f",
    b"a\\b",
    b"a<b>",
    b"a,b c",
    b"a, b",
    b"%4",
    b"%zz",
    b"\xe9.example",
    b"a\xa0",
    b"a\x85",
    b"a:\xb2",
]

HOSTS = [
    *(
        ok(
            f"host {host!r}",
            get(b"Host:" + host + b"\r\n"),
            Served("GET", "/", authority=host.decode().strip().lower()),
        )
        for host in GOOD_HOSTS
    ),
    *(bad(f"host {host!r}", get(b"Host:" + host + b"\r\n")) for host in BAD_HOSTS),
    *(bad(f"host {host!r} in 1.0", get(b"Host:" + host + b"\r\n", b"GET / HTTP/1.0")) for host in BAD_HOSTS),
    bad("no host", get(b"")),
    bad("no host but another field", get(b"Accept: a\r\n")),
    bad("two hosts", get(b"Host: a\r\nHost: b\r\n")),
    bad("the same host twice", get(b"Host: a\r\nhOST: a\r\n")),
    bad("a host and an empty one", get(b"Host: a\r\nHost:\r\n")),
    bad("two hosts in 1.0", get(b"Host: a\r\nHost: b\r\n", b"GET / HTTP/1.0")),
    bad("host with CR", get(b"Host: a\r:80\r\n")),
    bad("folded host", get(b"Host:\r\n a\r\n")),
    bad("host with a space before the colon", get(b"Host : a\r\n")),
    bad("space before the first field", get(b" Host: a\r\nHost: b\r\n")),
    bad("a folded line before the first field", get(b"\tX\r\nHost: b\r\n")),
]

VALUE_CONTROLS = [byte for byte in range(0x20) if byte not in (0x09, 0x0A, 0x0D)] + [0x7F]

FIELDS = [
    ok("empty value", get(HOST + b"A:\r\n"), GET),
    ok("value of white space", get(HOST + b"A: \t \r\n"), GET),
    ok("no white space around the value", get(b"Host:a\r\nA:b\r\n"), GET),
    ok("colons in a value", get(HOST + b"A: b: c:\r\n"), GET),
    ok("a tab within a value", get(HOST + b"A: b\tc\r\n"), GET),
    ok("all token characters in a name", get(HOST + b"!#$%&'*+-.^_`|~9aA: b\r\n"), GET),
    ok("high bytes in a value", get(HOST + b"A: " + bytes(range(0x80, 0x100)) + b"\r\n"), GET),
    bad("space before the colon", get(HOST + b"A : b\r\n")),
    bad("tab before the colon", get(HOST + b"A\t: b\r\n")),
    bad("space in the name", get(HOST + b"A B: c\r\n")),
    bad("empty name", get(HOST + b": b\r\n")),
    bad("no colon", get(HOST + b"A\r\n")),
    bad("known name without colon", get(HOST + b"Accept\r\n")),
    bad("folded by a space", get(HOST + b"A: b\r\n c\r\n")),
    bad("folded by a tab", get(HOST + b"A: b\r\n\tc\r\n")),
    bad("folded by an empty line", get(HOST + b"A: b\r\n \r\n")),
    *(
        bad(f"{mark!r} in the name", get(HOST + b"A" + mark + b"B: c\r\n"))
        for mark in map(bytes, zip(b'()<>@,;\\"/[]?={}'))
    ),
    bad("high byte in the name", get(HOST + b"A\xe9: b\r\n")),
    bad("0xA0 before the colon", get(HOST + b"A\xa0: b\r\n")),
    *(bad(f"control {byte:#04x} in a name", get(HOST + b"A%c: b\r\n" % byte)) for byte in VALUE_CONTROLS),
    *(bad(f"control {byte:#04x} in a value", get(HOST + b"A: b%cc\r\n" % byte)) for byte in VALUE_CONTROLS),
    *(bad(f"control {byte:#04x} before a value", get(HOST + b"A:%cb\r\n" % byte)) for byte in VALUE_CONTROLS),
    ok("100 fields", get(HOST + b"A: b\r\n" * 99), GET),
    bad("101 fields", get(HOST + b"A: b\r\n" * 100), 431),
    ok("a field of 8 KiB", get(HOST + b"A: " + b"b" * 8189 + b"\r\n"), GET),
    bad("a field of 8 KiB and a byte", get(HOST + b"A: " + b"b" * 8190 + b"\r\n"), 431),
    ok(
        "32 KiB of fields",
        get(HOST + (b"A: " + b"b" * 8000 + b"\r\n") * 4 + b"A: " + b"b" * 734 + b"\r\n"),
        GET,
    ),
    bad(
        "32 KiB of fields and a byte",
        get(HOST + (b"A: " + b"b" * 8000 + b"\r\n") * 4 + b"A: " + b"b" * 735 + b"\r\n"),
        431,
    ),
    bad("fields without end", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 6000, 431),
    bad("a field without end", b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 40000, 431),
]

LENGTHS = [
    ok("no length", post(b""), POST),
    ok("length 0", post(b"Content-Length: 0\r\n"), POST),
    ok("length 3", post(b"Content-Length: 3\r\n", b"abc"), Served("POST", "/", body=b"abc")),
    ok("length with zeros", post(b"Content-Length: 003\r\n", b"abc"), Served("POST", "/", body=b"abc")),
    ok(
        "length with 5,000 zeros",
        post(b"Content-Length: " + b"0" * 5000 + b"3\r\n", b"abc"),
        Served("POST", "/", body=b"abc"),
    ),
    ok(
        "white space around the length",
        post(b"Content-Length: \t3\t \r\n", b"abc"),
        Served("POST", "/", body=b"abc"),
    ),
    ok(
        "a body that looks like a request",
        post(b"Content-Length: 29\r\n", b"GET /x HTTP/1.1\r\nHost: b\r\n\r\n\r\n"[:29]),
        Served("POST", "/", body=b"GET /x HTTP/1.1\r\nHost: b\r\n\r\n\r\n"[:29]),
    ),
    ok(
        "GET with a body",
        get(HOST + b"Content-Length: 3\r\n") + b"abc",
        Served("GET", "/", body=b"abc"),
    ),
    *(
        bad(f"length {value!r}", post(b"Content-Length: " + value + b"\r\n", b"abcde"))
        for value in (
            b"",
            b"+5",
            b"-1",
            b"-0",
            b"0x5",
            b"5 a",
            b"5 5",
            b"1e3",
            b"5.0",
            b"5,",
            b",5",
            b"5, 5",
            b"5,6",
            b"5_0",
            b"five",
            b"\xb2",
            b"\xd9\xa5",
            b'"5"',
            b"5;a",
            b"5\x0b",
            b"5\xa0",
            b"0b1",
            b"NaN",
            b"5\x00",
        )
    ),
    bad("the same length twice", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"abcde")),
    bad("two lengths", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"abcdef")),
    bad("two lengths in unlike case", post(b"Content-Length: 5\r\ncontent-length: 6\r\n", b"abcdef")),
    bad("a length and an empty one", post(b"Content-Length: 5\r\nContent-Length:\r\n", b"abcde")),
    bad("a folded length", post(b"Content-Length: 5\r\n 6\r\n", b"abcde")),
    Example(
        "length at the limit",
        post(b"Content-Length: 4\r\n", b"abcd"),
        (Served("POST", "/", body=b"abcd"),),
        bytes_max=4,
    ),
    Example("length above the limit", post(b"Content-Length: 5\r\n"), (), 413, bytes_max=4),
    bad("length above the limit of all", post(b"Content-Length: 1048577\r\n"), 413),
    bad("length of 30 digits", post(b"Content-Length: " + b"9" * 30 + b"\r\n"), 413),
    bad("length of 5,000 digits", post(b"Content-Length: " + b"9" * 5000 + b"\r\n"), 413),
    bad("length of 2^64 and 3", post(b"Content-Length: 18446744073709551619\r\n", b"abc"), 413),
    Example("body ends early", post(b"Content-Length: 5\r\n", b"abcd"), (), 400, eof=True),
    Example("body never begins", post(b"Content-Length: 5\r\n"), (), 400, eof=True),
    Example("head ends early", b"GET / HTTP/1.1\r\nHost: a\r\n", (), 400, eof=True),
    Example("request line ends early", b"GET", (), 400, eof=True),
    Example("client closes behind a request", line(b"GET / HTTP/1.1"), (GET,), eof=True),
    Example(
        "client closes behind a body",
        post(b"Content-Length: 1\r\n", b"a"),
        (Served("POST", "/", body=b"a"),),
        eof=True,
    ),
    Example("client closes at once", b"", (), eof=True),
    Example("client closes behind an empty line", b"\r\n", (), eof=True),
]

CODINGS = [
    ok("chunked", chunked(b"3\r\nabc\r\n0\r\n\r\n"), Served("POST", "/", body=b"abc")),
    ok(
        "Chunked in capitals, between tabs",
        post(b"transfer-ENCODING:\tChUnKeD\t\r\n", b"0\r\n\r\n"),
        POST,
    ),
    ok(
        "GET with chunks",
        get(HOST + b"Transfer-Encoding: chunked\r\n") + b"1\r\na\r\n0\r\n\r\n",
        Served("GET", "/", body=b"a"),
    ),
    *(
        bad(f"transfer coding {value!r}", post(b"Transfer-Encoding: " + value + b"\r\n", b"0\r\n\r\n"), 501)
        for value in (
            b"gzip, chunked",
            b"identity, chunked",
            b"gzip,chunked",
            b"gzip;q=1, chunked",
            b"xchunked, chunked",
            b"gzip, deflate, CHUNKED",
        )
    ),
    *(
        bad(f"transfer coding {value!r}", post(b"Transfer-Encoding: " + value + b"\r\n", b"0\r\n\r\n"))
        for value in (
            b"",
            b",",
            b"identity",
            b"gzip",
            b"cow",
            b"xchunked",
            b"chunkedx",
            b"chunked1",
            b"chunke",
            b"chunk",
            b"x chunked",
            b"chunked x",
            b"chunked, identity",
            b"chunked, gzip",
            b"chunked, chunked",
            b"chunked chunked",
            b"chunked, gzip, chunked",
            b"chunked;a=b, chunked",
            b"chunked;a=b",
            b"chunked;",
            b"chunked,",
            b",chunked",
            b"gzip,,chunked",
            b"a b, chunked",
            b"\xa0gzip, chunked",
            b'"chunked"',
            b"'chunked'",
            b"\x0bchunked",
            b"chunked\x0b",
            b"\x0cchunked",
            b"\xa0chunked",
            b"chunked\xa0",
            b"chunked\x85",
            b"\x1cchunked",
            b"chunked\x00",
            b"\x00chunked",
            b"chunked\x7f",
            b"ch\xc5\xb3nked",
            b"chun\xe2\x84\xaaed",
            b": chunked",
            b"=chunked",
            b"[chunked]",
        )
    ),
    *(
        bad(
            f"transfer codings {first!r} and {second!r}",
            post(b"Transfer-Encoding: %s\r\nTransfer-encoding: %s\r\n" % (first, second), b"0\r\n\r\n"),
        )
        for first, second in (
            (b"chunked", b"chunked"),
            (b"chunked", b"cow"),
            (b"cow", b"chunked"),
            (b"gzip", b"chunked"),
            (b"identity", b"chunked"),
            (b"chunked", b"identity"),
            (b"", b"chunked"),
            (b"chunked", b""),
        )
    ),
    bad("space before the colon of a coding", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    bad("tab before the colon of a coding", post(b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n")),
    bad("VT before the colon of a coding", post(b"Transfer-Encoding\x0b: chunked\r\n", b"0\r\n\r\n")),
    bad("NUL before the colon of a coding", post(b"Transfer-Encoding\x00: chunked\r\n", b"0\r\n\r\n")),
    bad("line break before the colon of a coding", post(b"Transfer-Encoding\r\n: chunked\r\n", b"0\r\n\r\n")),
    bad("space before a coding's name", post(b" Transfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    bad("folded coding", post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n")),
    bad("coding folded into another field", post(b"A: b\r\n Transfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    bad("coding behind a bare LF", post(b"A: b\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    ok(
        "a field like Transfer-Encoding",
        post(b"Transfer_Encoding: chunked\r\nX-Transfer-Encoding: chunked\r\n"),
        POST,
    ),
    ok("a field like Content-Length", post(b"Content_Length: 5\r\nXContent-Length: 5\r\n"), POST),
    bad("length, then coding", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    bad("coding, then length", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n")),
    bad(
        "coding and length in unlike case",
        post(b"tRANSFER-eNCODING: CHUNKED\r\ncONTENT-lENGTH: 5\r\n", b"0\r\n\r\n"),
    ),
    bad("coding and length 0", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    bad("unknown coding and length", post(b"Content-Length: 5\r\nTransfer-Encoding: cow\r\n", b"abcde")),
    bad(
        "other coding, chunked and length",
        post(b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n", b"abcde"),
    ),
    bad("chunked in 1.0", get(HOST + b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.0") + b"0\r\n\r\n"),
    bad(
        "gzip, chunked in 1.0",
        get(HOST + b"Transfer-Encoding: gzip, chunked\r\n", b"POST / HTTP/1.0") + b"0\r\n\r\n",
    ),
]

GOOD_CHUNKS = [
    ("no data", b"0\r\n\r\n", b""),
    ("many zeros for the last", b"00000\r\n\r\n", b""),
    ("capitals", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("small letters", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("zeros before the size", b"00000000000000000003\r\nabc\r\n0\r\n\r\n", b"abc"),
    ("line breaks in the data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ("two chunks", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    ("extension name", b"1;a\r\nb\r\n0;c\r\n\r\n", b"b"),
    ("extension value", b"1;a=b;c=d\r\nb\r\n0\r\n\r\n", b"b"),
    ("quoted extension value", b'1;a="b;\\"\t\x80 c"\r\nb\r\n0\r\n\r\n', b"b"),
    ("white space in an extension", b"1 \t; a = b ;c\r\nb\r\n0\r\n\r\n", b"b"),
    ("4 KiB of extensions", b"1;" + b"a" * 4095 + b"\r\nb\r\n0\r\n\r\n", b"b"),
    ("a trailer", b"0\r\nA: b\r\n\r\n", b""),
    ("two trailers", b"1\r\na\r\n0\r\nA: b\r\nC:\r\n\r\n", b"a"),
    (
        "a trailer named like framing",
        b"0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: b c\r\n\r\n",
        b"",
    ),
    ("100 trailers", b"0\r\n" + b"A: b\r\n" * 100 + b"\r\n", b""),
]

BAD_CHUNKS = [
    ("empty size", b"\r\nabc\r\n0\r\n\r\n"),
    ("not hexadecimal", b"g\r\nabc\r\n0\r\n\r\n"),
    ("plus sign", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("minus sign", b"-3\r\nabc\r\n0\r\n\r\n"),
    ("minus zero", b"-0\r\n\r\n"),
    ("underscore", b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    ("0x", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("0X", b"0X3\r\nabc\r\n0\r\n\r\n"),
    ("space before the size", b" 3\r\nabc\r\n0\r\n\r\n"),
    ("space behind the size", b"3 \r\nabc\r\n0\r\n\r\n"),
    ("tab behind the size", b"3\t\r\nabc\r\n0\r\n\r\n"),
    ("VT behind the size", b"3\x0b\r\nabc\r\n0\r\n\r\n"),
    ("0xA0 behind the size", b"3\xa0\r\nabc\r\n0\r\n\r\n"),
    ("NUL behind the size", b"3\x00\r\nabc\r\n0\r\n\r\n"),
    ("Arabic digit", "٣\r\nabc\r\n0\r\n\r\n".encode()),
    ("comma behind the size", b"3,\r\nabc\r\n0\r\n\r\n"),
    ("decimal point", b"3.0\r\nabc\r\n0\r\n\r\n"),
    ("17 digits", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("17 digits after zeros", b"00010000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size ended by LF", b"3\nabc\r\n0\r\n\r\n"),
    ("size ended by CR", b"3\rabc\r\n0\r\n\r\n"),
    ("size ended by CR CR LF", b"3\r\r\nabc\r\n0\r\n\r\n"),
    ("size ended by LF CR", b"3\n\rabc\r\n0\r\n\r\n"),
    ("data ended by LF", b"3\r\nabc\n0\r\n\r\n"),
    ("data ended by CR", b"3\r\nabc\r0\r\n\r\n"),
    ("data not ended", b"3\r\nabc0\r\n\r\n"),
    ("data longer than its size", b"3\r\nabcd\r\n0\r\n\r\n"),
    ("data shorter than its size", b"4\r\nabc\r\n0\r\n\r\n"),
    ("data ended by CR CR LF", b"3\r\nabc\r\r\n0\r\n\r\n"),
    ("an empty line between chunks", b"3\r\nabc\r\n\r\n0\r\n\r\n"),
    ("last chunk ended by LF", b"0\n\r\n"),
    ("last chunk with data", b"0\r\nabc\r\n\r\n"),
    ("body ended by LF", b"0\r\n\n"),
    ("body ended by CR X", b"0\r\n\rX"),
    ("trailer ended by LF", b"0\r\nA: b\n\r\n"),
    ("trailer without colon", b"0\r\nAB\r\n\r\n"),
    ("trailer with a space before the colon", b"0\r\nA : b\r\n\r\n"),
    ("folded trailer", b"0\r\nA: b\r\n c\r\n\r\n"),
    ("a space for a trailer", b"0\r\n \r\n\r\n"),
    ("trailer with NUL", b"0\r\nA: b\x00\r\n\r\n"),
    ("trailer without name", b"0\r\n: b\r\n\r\n"),
    ("a request for trailers", b"0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("extension without name", b"3;\r\nabc\r\n0\r\n\r\n"),
    ("extension with a space for a name", b"3; \r\nabc\r\n0\r\n\r\n"),
    ("extension without value", b"3;a=\r\nabc\r\n0\r\n\r\n"),
    ("extension with white space behind it", b"3;a \r\nabc\r\n0\r\n\r\n"),
    ("extension with an open quote", b'3;a="b\r\nabc\r\n0\r\n\r\n'),
    ("extension behind a quote", b'3;a="b"c\r\nabc\r\n0\r\n\r\n'),
    ("extension with LF", b"3;a\nabc\r\n0\r\n\r\n"),
    ("extension with LF in quotes", b'3;a="\n"\r\nabc\r\n0\r\n\r\n'),
    ("extension with CR", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("extension with NUL", b"3;a\x00\r\nabc\r\n0\r\n\r\n"),
    ("extension with a high byte", b"3;\xe9\r\nabc\r\n0\r\n\r\n"),
    ("extension without semicolon", b"3 a\r\nabc\r\n0\r\n\r\n"),
    ("more than 4 KiB of extensions", b"1;" + b"a" * 4096 + b"\r\nb\r\n0\r\n\r\n"),
    ("extensions without end", b"1;" + b"a" * 9000),
    ("more than 4 KiB of extensions in all", (b"1;" + b"a" * 409 + b"\r\nb\r\n") * 10 + b"0\r\n\r\n"),
    ("more than 4 KiB of zeros", b"0" * 4113 + b"1\r\nb\r\n0\r\n\r\n"),
]

CHUNKS = [
    *(
        ok(f"chunks: {name}", chunked(data), Served("POST", "/", body=body))
        for name, data, body in GOOD_CHUNKS
    ),
    *(bad(f"chunks: {name}", chunked(data)) for name, data in BAD_CHUNKS),
    bad("101 trailers", chunked(b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n"), 431),
    bad("32 KiB of trailers", chunked(b"0\r\n" + b"A: b\r\n" * 6000), 431),
    bad("a trailer above 8 KiB", chunked(b"0\r\nA: " + b"b" * 8190 + b"\r\n\r\n"), 431),
    Example(
        "chunks at the limit",
        chunked(b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
        (Served("POST", "/", body=b"abcd"),),
        bytes_max=4,
    ),
    Example("chunks above the limit", chunked(b"2\r\nab\r\n3\r\n"), (), 413, bytes_max=4),
    bad("a chunk of 2^64 - 1", chunked(b"ffffffffffffffff\r\n"), 413),
    Example("chunks end early", chunked(b"2\r\nab\r\n"), (), 400, eof=True),
    Example("a chunk ends early", chunked(b"2\r\na"), (), 400, eof=True),
    Example("chunks end without the last line", chunked(b"0\r\n"), (), 400, eof=True),
]

EXPECTATIONS = [
    ok(
        "100-continue",
        post(b"Expect: 100-continue\r\nContent-Length: 1\r\n", b"a"),
        Served("POST", "/", expects_continue=True, body=b"a"),
    ),
    ok(
        "100-continue in capitals, chunked",
        post(b"Expect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        Served("POST", "/", expects_continue=True),
    ),
    ok("100-continue without a body", post(b"Expect: 100-continue\r\n"), POST),
    ok("empty expectation", post(b"Expect: , \r\n"), POST),
    ok("another expectation", post(b"Expect: tea\r\n"), Served("POST", "/", refusal=417)),
    ok(
        "100-continue and another",
        post(b"Expect: 100-continue, tea\r\nContent-Length: 1\r\n", b"a"),
        Served("POST", "/", refusal=417, body=b"a"),
    ),
    ok(
        "100-continue with a parameter", post(b"Expect: 100-continue;a\r\n"), Served("POST", "/", refusal=417)
    ),
    ok(
        "100-continue in 1.0",
        get(
            HOST + b"Expect: 100-continue\r\nConnection: keep-alive\r\nContent-Length: 1\r\n",
            b"POST / HTTP/1.0",
        )
        + b"a",
        Served("POST", "/", version=10, body=b"a"),
    ),
    ok(
        "another expectation in 1.0",
        get(HOST + b"Expect: tea\r\nConnection: keep-alive\r\n", b"POST / HTTP/1.0"),
        Served("POST", "/", version=10),
    ),
    Example(
        "100-continue above the limit",
        post(b"Expect: 100-continue\r\nContent-Length: 5\r\n"),
        (),
        413,
        bytes_max=4,
    ),
]

CLOSED = Served("GET", "/", keep_alive=False)

CONNECTIONS = [
    *(
        ok(f"connection {value!r}", get(HOST + b"Connection: " + value + b"\r\n"), CLOSED)
        for value in (
            b"close",
            b"Close",
            b"CLOSE",
            b"a, close",
            b"close,a",
            b", ,close,",
            b"a,\tclose\t,b",
            b"keep-alive, close",
            b"close, keep-alive",
        )
    ),
    *(
        ok(f"connection {value!r}", get(HOST + b"Connection: " + value + b"\r\n"), GET)
        for value in (
            b"",
            b"closed",
            b"xclose",
            b"close-notify",
            b'"close"',
            b"close\xa0",
            b"close;a",
            b"keep-alive",
            b"upgrade",
            b"clo, se",
        )
    ),
    ok(
        "several connection fields",
        get(HOST + b"Connection: keep-alive\r\nA: b\r\nconnection: close\r\n"),
        CLOSED,
    ),
    ok(
        "close before a body",
        post(b"Connection: close\r\nContent-Length: 1\r\n", b"a"),
        Served("POST", "/", keep_alive=False, body=b"a"),
    ),
    ok(
        "close before chunks",
        post(b"Connection: close\r\nTransfer-Encoding: chunked\r\n", b"1\r\na\r\n0\r\n\r\n"),
        Served("POST", "/", keep_alive=False, body=b"a"),
    ),
    ok("upgrade is ignored", get(HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n"), GET),
]

PIPELINES = [
    ok("sixteen requests", line(b"GET / HTTP/1.1") * 16, *([GET] * 16)),
    ok(
        "with bodies between",
        post(b"Content-Length: 2\r\n", b"ab") + chunked(b"1\r\nc\r\n0\r\n\r\n") + line(b"GET / HTTP/1.1"),
        Served("POST", "/", body=b"ab"),
        Served("POST", "/", body=b"c"),
        GET,
    ),
    ok(
        "one section in two versions",
        get(HOST + b"Connection: keep-alive\r\n", b"GET / HTTP/1.0")
        + get(HOST + b"Connection: keep-alive\r\n"),
        Served("GET", "/", version=10),
        GET,
    ),
    ok(
        "sections that begin alike",
        get(b"Host: a\r\n") + get(b"Host: a\r\nConnection: close\r\n"),
        GET,
        CLOSED,
    ),
    bad("garbage behind a request", line(b"GET / HTTP/1.1") + b"garbage\r\n\r\n", 400, GET),
    bad(
        "an empty line too many behind a body is no garbage, nine are",
        post(b"Content-Length: 1\r\n", b"a") + b"\r\n" * 9,
        400,
        Served("POST", "/", body=b"a"),
    ),
    bad("a second request without host", get(HOST) + get(b""), 400, GET),
    bad(
        "a version that a remembered section is not valid for",
        get(b"", b"GET / HTTP/1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
        + get(b"Connection: keep-alive\r\n"),
        400,
        Served("GET", "/", version=10, authority=""),
    ),
    bad(
        "a body longer than announced",
        post(b"Content-Length: 1\r\n", b"ab\r\n"),
        400,
        Served("POST", "/", body=b"a"),
    ),
]

EXAMPLES = [
    *REQUEST_LINES,
    *VERSIONS,
    *LINES,
    *TARGETS,
    *HOSTS,
    *FIELDS,
    *LENGTHS,
    *CODINGS,
    *CHUNKS,
    *EXPECTATIONS,
    *CONNECTIONS,
    *PIPELINES,
]

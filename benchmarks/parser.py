"""Time of the request parser: `python -m benchmarks.parser`, about ten seconds.

Each case is timed several times and the fastest counts, because other work on the machine only adds. h11, if
it is installed, parses the same bytes in turns with our parser.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.parser import RequestParser

from . import machine

ROUNDS = 12
ROUND_S = 0.05
BODY_BYTES_MAX = 1024 * 1024

HEARTBEAT = (
    b"POST /heartbeat/node-0001 HTTP/1.1\r\nHost: central.example:8000\r\nUser-Agent: openred-node/1.0\r\n"
    b"Accept: application/json\r\nContent-Length: 0\r\n\r\n"
)
BROWSER = (
    b"GET /dashboard/index.html?theme=dark HTTP/1.1\r\nHost: central.example:8000\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\nReferer: http://central.example:8000/dashboard/\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n"
    b"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nPriority: u=0, i\r\n\r\n"
)
CHUNKED = (
    b"POST /register HTTP/1.1\r\nHost: central.example:8000\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + (b"40\r\n" + b"x" * 64 + b"\r\n") * 16 + b"0\r\n\r\n"
)
LARGE_BODY = b"POST /register HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + b"x" * 1048576


@dataclass(frozen=True)
class Case:
    """Pieces of data, one a read, and the number of requests in all of them."""

    name: str
    pieces: list[bytes]
    requests: int


def cases() -> list[Case]:
    """Return all cases."""
    changing = [HEARTBEAT.replace(b"/1.0", b"/%d" % number) for number in range(1000)]
    bytewise = [HEARTBEAT[index : index + 1] for index in range(len(HEARTBEAT))]
    large = [LARGE_BODY[start : start + 65536] for start in range(0, len(LARGE_BODY), 65536)]
    return [
        Case("repeated header section", [HEARTBEAT], 1),
        Case("changing header section", changing, 1000),
        Case("browser, 12 fields, repeated", [BROWSER], 1),
        Case(
            "browser, 12 fields, changing",
            [BROWSER.replace(b"i\r\n\r\n", b"%d\r\n\r\n" % i) for i in range(100)],
            100,
        ),
        Case("16 pipelined in one piece", [HEARTBEAT * 16], 16),
        Case("400 pipelined in one piece", [HEARTBEAT * 400], 400),
        Case("byte by byte", bytewise, 1),
        Case("16 chunks of 64 bytes", [CHUNKED], 1),
        Case("1 MiB body in 64 KiB pieces", large, 1),
    ]


def ours() -> Callable[[bytes], None]:
    """Return a function that reads pieces of one connection with our parser."""
    parser = RequestParser(EngineLimits())
    body_expected = False

    def read(piece: bytes) -> None:
        nonlocal body_expected
        parser.feed(piece)
        while True:
            if body_expected:
                if parser.read_body(BODY_BYTES_MAX) is None:
                    return
                body_expected = False
            request = parser.read_head()
            if request is None:
                return
            body_expected = request.content_length != 0

    return read


def with_h11(h11: Any) -> Callable[[bytes], None]:
    """Return a function that reads pieces of one connection with h11, and answers for its state machine."""
    connection = h11.Connection(h11.SERVER)
    response = h11.Response(status_code=204, headers=[])
    pieces: list[bytes] = []

    def read(piece: bytes) -> None:
        connection.receive_data(piece)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return
            if type(event) is h11.Data:
                # The whole body at once, as from our parser.
                pieces.append(bytes(event.data))
            elif type(event) is h11.EndOfMessage:
                b"".join(pieces)
                pieces.clear()
                connection.send(response)
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()

    return read


def round_s(read: Callable[[bytes], None], case: Case) -> float:
    """Return seconds a request in one round."""
    requests = 0
    start = now = perf_counter()
    while now - start < ROUND_S:
        for piece in case.pieces:
            read(piece)
        requests += case.requests
        now = perf_counter()
    return (now - start) / requests


def main() -> None:
    """Measure all cases and print a table."""
    print(machine.sentence())
    try:
        h11 = importlib.import_module("h11")
    except ModuleNotFoundError:
        h11 = None
        print("h11 is not installed: no comparison.")
    print(f"{'case':32}{'requests/s':>12}{'µs/request':>12}{'h11 µs':>10}{'h11/ours':>10}")
    for case in cases():
        best_s = best_h11_s = float("inf")
        read = ours()
        read_h11 = with_h11(h11) if h11 is not None else None
        for _ in range(ROUNDS):
            best_s = min(best_s, round_s(read, case))
            if read_h11 is not None:
                best_h11_s = min(best_h11_s, round_s(read_h11, case))
        compared = f"{best_h11_s * 1e6:10.2f}{best_h11_s / best_s:10.1f}" if h11 is not None else ""
        print(f"{case.name:32}{1 / best_s:12.0f}{best_s * 1e6:12.2f}{compared}")


if __name__ == "__main__":
    main()

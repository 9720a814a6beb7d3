"""Runs the parser as a connection does: feed, then take what is there, after every piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request
from openred_central.micro_engine.wire.parser import ProtocolError, RequestParser

BODY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class Served:
    """One request as a parser read it."""

    method: str
    path: str
    query: str = ""
    version: int = 11
    authority: str = "a"
    fields: tuple[tuple[str, str], ...] = ()
    keep_alive: bool = True
    expects_continue: bool = False
    refusal: int | None = None
    body: bytes = b""


@dataclass(frozen=True)
class Refused:
    """The error that ended a connection."""

    status: int
    code: str
    message: str


Outcome = Served | Refused


def served(request: Request, body: bytes) -> Served:
    refusal = request.refusal
    assert refusal is None or not refusal.close
    return Served(
        method=request.method,
        path=request.path,
        query=request.query,
        version=request.version,
        authority=request.authority,
        fields=request.headers.fields,
        keep_alive=request.keep_alive,
        expects_continue=request.expects_continue,
        refusal=None if refusal is None else refusal.status,
        body=body,
    )


class Reader:
    """A parser and all that it has read so far."""

    def __init__(self, bytes_max: int = BODY_BYTES_MAX) -> None:
        self.parser = RequestParser(EngineLimits())
        self.bytes_max = bytes_max
        self.outcomes: list[Outcome] = []
        self.request: Request | None = None

    def feed(self, data: bytes) -> None:
        self.parser.feed(data)
        self._take()

    def feed_eof(self) -> None:
        self.parser.feed_eof()
        self._take()

    def _take(self) -> None:
        try:
            while self._take_one():
                pass
        except ProtocolError as error:
            self._note(error)

    def _note(self, error: ProtocolError) -> None:
        assert error.close
        assert error.suggestion
        assert self.parser.buffered_bytes == 0
        assert not any(isinstance(each, Refused) for each in self.outcomes), "another error after the first"
        self.outcomes.append(Refused(error.status, error.code, error.message))

    def _take_one(self) -> bool:
        if self.request is None:
            self.request = self.parser.read_head()
            if self.request is None:
                return False
        body: bytes | None = b""
        if self.request.content_length != 0:
            body = self.parser.read_body(self.bytes_max)
            if body is None:
                return self.parser.rests
        assert body is not None
        self.outcomes.append(served(self.request, body))
        self.request = None
        return True


def outcomes(pieces: Iterable[bytes], *, eof: bool = False, bytes_max: int = BODY_BYTES_MAX) -> list[Outcome]:
    """Return all that a parser reads in `pieces`, with the connection's end behind them if `eof`."""
    reader = Reader(bytes_max)
    for piece in pieces:
        reader.feed(piece)
    if eof:
        reader.feed_eof()
    return reader.outcomes


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """Return `data` cut at `positions`, in any order."""
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def split_positions(data: bytes) -> Iterable[int]:
    """Return every boundary of a short message, those near ends and line breaks of a long one."""
    if len(data) <= 400:
        return range(1, len(data))
    near_breaks = {
        index + shift
        for index in range(len(data))
        if data[index : index + 1] == b"\n" and (index < 1000 or index > len(data) - 1000)
        for shift in (-1, 0, 1)
    }
    positions = {*range(1, 20), *range(len(data) - 20, len(data)), *near_breaks}
    return sorted(position for position in positions if 0 < position < len(data))

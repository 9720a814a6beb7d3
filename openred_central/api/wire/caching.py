"""Replies that callers may cache, and conditional requests (RFC 9110 §13.1.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from math import inf
from typing import Generic, NamedTuple, TypeVar

from ...encoding import entity_tag
from ...micro_engine.limits import LIST_MEMBERS_MAX
from ...micro_engine.wire.messages import Request, Response

IF_NONE_MATCH = "if-none-match"
NOT_MODIFIED = 304

HeaderFields = tuple[tuple[str, str], ...]
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Once(Generic[T]):
    """A value that is computed once, in a thread, on first use, and kept."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._turn = asyncio.Lock()
        self._made: T | None = None

    async def __call__(self) -> T:
        """Return the value, computed now unless it was before."""
        if self._made is None:
            async with self._turn:
                if self._made is None:
                    self._made = await asyncio.get_running_loop().run_in_executor(None, self._make)
        return self._made


class StaticDocument(NamedTuple):
    """A reply that stays equal while the server runs: bytes, media type, entity tag, all header fields."""

    body: bytes
    content_type: str
    etag: str
    headers: HeaderFields

    @classmethod
    def of(cls, body: bytes, content_type: str, headers: HeaderFields = ()) -> StaticDocument:
        """Return `body` with its entity tag. Callers may keep it, and revalidate it each time."""
        etag = entity_tag(body)
        return cls(body, content_type, etag, (("ETag", etag), ("Cache-Control", "no-cache"), *headers))

    def answer(self, request: Request) -> Response:
        """Return 200 with the body, or 304 if the caller has it."""
        if has_already(request, self.etag):
            return not_modified(self.headers)
        return Response(self.body, content_type=self.content_type, headers=self.headers)


Make = Callable[[], StaticDocument]


async def in_a_thread(make: Make) -> StaticDocument:
    return await asyncio.get_running_loop().run_in_executor(None, make)


class Recent(Generic[K]):
    """Documents by a key, each made in a thread and kept for `kept_s`; the last `documents_max` of them.

    One is made at a time, so that many callers keep no more than one thread busy. `elsewhere` calls what
    it is given where that holds up nobody.
    """

    def __init__(
        self,
        kept_s: float,
        documents_max: int,
        elsewhere: Callable[[Make], Awaitable[StaticDocument]] = in_a_thread,
    ) -> None:
        self._kept_s, self._documents_max, self._elsewhere = kept_s, documents_max, elsewhere
        self._turn = asyncio.Lock()
        self._made: dict[K, tuple[float, StaticDocument]] = {}

    async def get(self, key: K, now_s: float, prepare: Callable[[], Make]) -> StaticDocument:
        """Return the document of `key`; at monotonic `now_s` it is made anew if it is too old.

        `prepare` gathers on the loop what the function needs that it returns, which makes the document.
        """
        async with self._turn:
            made_s, document = self._made.get(key, (-inf, None))
            if document is None or now_s - made_s >= self._kept_s:
                document = await self._elsewhere(prepare())
                self._made.pop(key, None)
                self._made[key] = now_s, document
                while len(self._made) > self._documents_max:
                    del self._made[next(iter(self._made))]
            return document


def has_already(request: Request, etag: str) -> bool:
    """Return whether the caller has what `etag` names: compares weakly, and only the first hundred tags."""
    known = request.headers.get(IF_NONE_MATCH)
    if known is None:
        return False
    tags = known.split(",", LIST_MEMBERS_MAX)[:LIST_MEMBERS_MAX]
    return known.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in tags}


def not_modified(headers: HeaderFields) -> Response:
    """Return 304 with the header fields that 200 would have."""
    return Response(status=NOT_MODIFIED, content_type=None, headers=headers)

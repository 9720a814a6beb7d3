"""Answers that callers may keep, and whether they have the present one already (RFC 9110 §13.1.2)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from ...micro_engine.limits import LIST_MEMBERS_MAX
from ...micro_engine.wire.messages import Request, Response

IF_NONE_MATCH = "if-none-match"
TAG_BYTES = 16

HeaderFields = tuple[tuple[str, str], ...]
T = TypeVar("T")


class Once(Generic[T]):
    """What `make` makes, when it is first asked for, in a thread, and then kept.

    For what few ever ask for: at the start of a server, the description of the API took 20 ms and 2.5 MB.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._turn = asyncio.Lock()
        self._made: T | None = None

    async def __call__(self) -> T:
        """It, made where it was not yet."""
        if self._made is None:
            async with self._turn:
                if self._made is None:
                    self._made = await asyncio.get_running_loop().run_in_executor(None, self._make)
        return self._made


class Page(NamedTuple):
    """An answer that stays the same while the server runs: bytes, media type, entity tag, further fields."""

    body: bytes
    content_type: str
    etag: str
    headers: HeaderFields

    @classmethod
    def of(cls, body: bytes, content_type: str, headers: HeaderFields = ()) -> Page:
        """`body` with an entity tag made of it. It may be kept, and is to be asked for anew each time."""
        digest = hashlib.sha256(body).digest()[:TAG_BYTES]
        etag = '"' + base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii") + '"'
        return cls(body, content_type, etag, (("ETag", etag), ("Cache-Control", "no-cache"), *headers))

    def answer(self, request: Request) -> Response:
        """200 with all of it, or 304 for who has it."""
        if has_already(request, self.etag):
            return not_modified(self.headers)
        return Response(self.body, content_type=self.content_type, headers=self.headers)


def has_already(request: Request, etag: str) -> bool:
    """Whether who asks has what `etag` stands for. Tags are compared weakly, the first hundred of them."""
    known = request.headers.get(IF_NONE_MATCH)
    if known is None:
        return False
    tags = known.split(",", LIST_MEMBERS_MAX)[:LIST_MEMBERS_MAX]
    return known.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in tags}


def not_modified(headers: HeaderFields) -> Response:
    """304, with the fields that 200 would have."""
    return Response(status=304, content_type=None, headers=headers)

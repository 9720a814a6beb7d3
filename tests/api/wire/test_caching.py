"""Replies that callers may cache, and conditional requests."""

from __future__ import annotations

import asyncio
import threading

import pytest

from openred_central.api.wire.caching import Once, StaticDocument, has_already, not_modified
from openred_central.micro_engine.limits import LIST_MEMBERS_MAX
from openred_central.micro_engine.wire.messages import Headers, Request


def asking(known: str | None) -> Request:
    fields = () if known is None else (("if-none-match", known),)
    return Request("GET", "/page", headers=Headers(fields))


@pytest.mark.parametrize(
    "known", ['"a"', '"b",' * (LIST_MEMBERS_MAX - 1) + '"a"', 'W/"a"', '"b", "a"', '"b",W/"a"', "*", " * "]
)
def test_a_caller_that_has_it_is_recognized(known: str) -> None:
    assert has_already(asking(known), '"a"')


@pytest.mark.parametrize("known", [None, "", '"b"', "a", '"a" "b"', '"b",' * LIST_MEMBERS_MAX + '"a"'])
def test_a_caller_that_has_something_else_is_not(known: str | None) -> None:
    assert not has_already(asking(known), '"a"')


def test_a_document_has_a_tag_of_its_bytes_and_is_revalidated() -> None:
    page, other = (
        StaticDocument.of(b"1", "text/plain", (("X-More", "1"),)),
        StaticDocument.of(b"2", "text/plain"),
    )
    assert page.etag == StaticDocument.of(b"1", "text/html").etag != other.etag
    assert page.headers == (("ETag", page.etag), ("Cache-Control", "no-cache"), ("X-More", "1"))


def test_a_document_is_sent_once() -> None:
    page = StaticDocument.of(b"content", "text/plain")
    first = page.answer(asking(None))
    assert (first.status, first.body, first.content_type) == (200, b"content", "text/plain")
    again = page.answer(asking(dict(first.headers)["ETag"]))
    assert (again.status, again.body, again.content_type) == (304, b"", None)
    assert again.headers == first.headers == not_modified(page.headers).headers


async def test_a_thread_makes_the_value_once_for_all_callers() -> None:
    threads: list[int] = []

    def make() -> StaticDocument:
        threads.append(threading.get_ident())
        return StaticDocument.of(b"1", "text/plain")

    once = Once(make)
    assert threads == []
    first, *others = await asyncio.gather(*(once() for _ in range(3)), once())
    assert all(other is first for other in [*others, await once()])
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_failure_to_make_the_value_is_retried() -> None:
    outcomes = [ValueError("no"), None]

    def make() -> bytes:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return b"1"

    once = Once(make)
    with pytest.raises(ValueError, match="no"):
        await once()
    assert await once() == b"1"

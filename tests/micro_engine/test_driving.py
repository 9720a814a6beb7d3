"""Coroutines driven in place, and handed to a task when they wait."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from openred_central.micro_engine.driving import Resumed, start

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Any:
    made = request.param()
    yield made
    made.close()


def run(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    then: Callable[[asyncio.Task[Any]], object] = lambda task: None,
) -> Any:
    """The result of `coroutine`, driven within a callback of `loop`; `then` is done with its task at once."""
    outcome: asyncio.Future[Any] = loop.create_future()

    def drive() -> None:
        try:
            task, result = start(coroutine, loop)
        except (RuntimeError, TypeError) as error:
            outcome.set_exception(error)
            return
        if task is None:
            outcome.set_result(("in place", result))
            return
        then(task)
        task.add_done_callback(finished)

    def finished(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            outcome.set_result(("cancelled", None))
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(("task", task.result()))

    loop.call_soon(drive)
    return loop.run_until_complete(outcome)


def test_one_that_never_waits_ends_in_place(loop: asyncio.AbstractEventLoop) -> None:
    async def quick() -> int:
        return 7

    assert run(loop, quick()) == ("in place", 7)


def test_one_that_waits_goes_on_in_a_task_where_it_stopped(loop: asyncio.AbstractEventLoop) -> None:
    lines = []

    async def waiting() -> str:
        lines.append("first")
        await asyncio.sleep(0)
        lines.append("second")
        future = loop.create_future()
        loop.call_soon(future.set_result, "third")
        lines.append(await future)
        return "done"

    assert run(loop, waiting()) == ("task", "done")
    assert lines == ["first", "second", "third"]


def test_what_is_waited_for_may_be_done_before_the_task_begins(loop: asyncio.AbstractEventLoop) -> None:
    future: asyncio.Future[str] = loop.create_future()

    async def waiting() -> str:
        return await future

    assert run(loop, waiting(), lambda task: future.set_result("early")) == ("task", "early")


@pytest.mark.parametrize("waits", [False, True])
def test_what_it_raises_comes_out(loop: asyncio.AbstractEventLoop, waits: bool) -> None:
    async def failing() -> None:
        if waits:
            await asyncio.sleep(0)
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        run(loop, failing())


def test_a_timeout_entered_before_the_first_wait_works(loop: asyncio.AbstractEventLoop) -> None:
    async def late() -> str:
        try:
            async with asyncio.timeout(0):
                await loop.create_future()
        except TimeoutError:
            await asyncio.sleep(0)
            return "timed out"
        return "not reached"

    assert run(loop, late()) == ("task", "timed out")


def test_a_timeout_that_is_not_reached_leaves_no_trace(loop: asyncio.AbstractEventLoop) -> None:
    async def in_time() -> int:
        async with asyncio.timeout(3600):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert run(loop, in_time()) == ("task", 0)


def test_a_task_group_entered_before_the_first_wait_works(loop: asyncio.AbstractEventLoop) -> None:
    async def part(value: int) -> int:
        await asyncio.sleep(0)
        if value < 0:
            raise ValueError(value)
        return value

    async def grouped(*values: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part(value)) for value in values]
        return [task.result() for task in tasks]

    assert run(loop, grouped(1, 2)) == ("task", [1, 2])
    with pytest.raises(ExceptionGroup):
        run(loop, grouped(1, -2))


def test_cancelling_before_the_first_step_of_the_task_lets_it_clean_up(
    loop: asyncio.AbstractEventLoop,
) -> None:
    lines = []

    async def cleaning() -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            lines.append("clean")
            raise

    assert run(loop, cleaning(), lambda task: task.cancel()) == ("cancelled", None)
    assert lines == ["clean"]


def test_one_that_cancels_itself_before_it_waits_is_cancelled_when_it_does(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def stopping() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError("not reached")

    assert run(loop, stopping()) == ("cancelled", None)


def test_one_that_takes_its_cancelling_back_is_not_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    async def staying() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        assert task.cancelling() == 1
        assert task.uncancel() == 0
        await asyncio.sleep(0)
        return task.cancelling()

    assert run(loop, staying()) == ("task", 0)


def test_outside_of_it_there_is_no_current_task(loop: asyncio.AbstractEventLoop) -> None:
    seen = []

    async def quick() -> None:
        seen.append(asyncio.current_task())

    def drive() -> None:
        for _ in range(2):
            start(quick(), loop)
            seen.append(asyncio.current_task())

    async def main() -> None:
        loop.call_soon(drive)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert [task is None for task in seen] == [False, True, False, True]


def test_what_is_known_of_the_task_early_is_known_of_it_later(loop: asyncio.AbstractEventLoop) -> None:
    async def naming() -> str:
        early = asyncio.current_task()
        assert early is not None
        await asyncio.sleep(0)
        late = asyncio.current_task()
        assert late is not None
        assert early.get_name() == late.get_name()
        return "same"

    assert run(loop, naming()) == ("task", "same")


def test_it_can_be_kept_weakly_like_a_task(loop: asyncio.AbstractEventLoop) -> None:
    async def kept() -> str:
        names = weakref.WeakKeyDictionary({asyncio.current_task(): "kept"})
        return names[asyncio.current_task()]

    assert run(loop, kept()) == ("in place", "kept")


def test_within_a_task_nothing_is_run_and_the_coroutine_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    async def never() -> None: ...

    async def main() -> None:
        coroutine = never()
        with pytest.raises(RuntimeError, match="while another task"):
            start(coroutine, loop)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    loop.run_until_complete(main())


def test_closing_closes_the_coroutine_itself() -> None:
    lines = []

    async def closing() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            lines.append("closed")

    coroutine = closing()
    resumed = Resumed(coroutine, coroutine.send(None))
    resumed.close()
    assert lines == ["closed"]


def test_it_is_for_a_task_and_not_to_be_awaited() -> None:
    async def never() -> None: ...

    coroutine = never()
    with pytest.raises(TypeError):
        Resumed(coroutine, None).__await__()
    coroutine.close()

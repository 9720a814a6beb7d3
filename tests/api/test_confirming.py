"""An answer of a leader that proves something leaves only after the database has confirmed the lead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from openred_central.api.confirming import confirming, strict
from openred_central.api.routes import install
from openred_central.errors import CallerError
from openred_central.micro_engine.router import Router
from openred_central.micro_engine.wire.messages import Response
from tests.support.world import NODE, Routes, World, run


class Leader:
    """The endpoints of a world, as a leader of a cluster serves them."""

    def __init__(self) -> None:
        self.world = World()
        self.router = Router(1024 * 1024)
        self.is_sure = True
        self.asked: list[float] = []
        install(
            Routes(self.router),  # type: ignore[arg-type]
            self.world.api,
            lambda endpoint, handler: confirming(
                endpoint, self.world.api, handler, self.confirmed, self.elapsed_s
            ),
        )

    def elapsed_s(self) -> float:
        return 7.0

    async def confirmed(self, since_s: float) -> bool:
        self.asked.append(since_s)
        return self.is_sure

    def answer(self, method: str, target: str, body: Any = None, **options: Any) -> Response:
        request = self.world.request(method, target, body, **options)
        route, parameters = self.router.admit(request)
        return run(route.handler(request, *parameters))


def test_what_proves_nothing_does_not_wait() -> None:
    leader = Leader()
    leader.answer("POST", "/register", NODE)
    leader.asked.clear()
    for method, target in (
        ("GET", "/nodes/node-1"),
        ("GET", "/discover"),
        ("GET", "/stats"),
        ("POST", "/heartbeat/node-1"),
    ):
        leader.answer(method, target)
    assert leader.asked == []


def test_changes_and_proofs_wait_for_a_word_that_is_newer_than_the_request() -> None:
    leader = Leader()
    registered = leader.answer("POST", "/register", NODE)
    assert registered.status == 201
    assert leader.asked == [7.0]
    claim = orjson.loads(registered.body)["claim"]
    leader.answer("GET", "/nodes/node-1", claim=claim)
    leader.answer("DELETE", "/nodes/node-1", claim=claim)
    assert leader.asked == [7.0] * 3


def test_without_that_word_nobody_is_told_anything() -> None:
    leader = Leader()
    leader.is_sure = False
    with pytest.raises(CallerError) as caught:
        leader.answer("POST", "/register", NODE)
    assert (caught.value.status, caught.value.code) == (503, "outcome_unknown")


async def test_a_change_that_is_not_stored_in_time_is_never_accepted() -> None:
    world = World()

    async def never(*_: object) -> bool:
        return False

    with pytest.raises(CallerError, match="nobody knows"):
        await strict(replace(world.api, saved=never)).saved(1)
    with pytest.raises(CallerError, match="nobody knows"):
        await strict(replace(world.api, save_revocations=never)).save_revocations()
    assert await strict(world.api).saved(world.api.directory.saving.last_change)

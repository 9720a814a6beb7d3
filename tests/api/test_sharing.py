"""One draw for several callers: how many, for how long, and never what is no longer so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from openred_central.api.discovering import read_query
from openred_central.api.sharing import AGE_S_MAX, CALLERS_MAX, DRAWS_MAX, NODES_BYTES_MAX, TIES_MIN
from openred_central.api.wire.describing import describe
from openred_central.clock import Now
from openred_central.directory.discovery import Draw, Query
from openred_central.directory.lifecycle import Event

from .helpers import DAY_S, Reply, World

RESULTS = 10
# Each finds another node first.
CALLERS = RESULTS
ASKED = f"/discover?services=relay&max_results={RESULTS}"
# More than eight times as many as are asked for.
MANY = 100
# What is told as of the draw.
OF_THE_DRAW = ("last_seen", "availability")


class Counted(World):
    """A world with so many relays, which counts its draws. The claim of each relay is kept by its name."""

    def __init__(self, relays: int = MANY, *, seed: int = 0, **fields: Any) -> None:
        super().__init__(seed=seed)
        self.draws = 0
        self.claims = {name: self.claim_of(**self.relay(name)) for name in map(_name, range(relays))}
        self._discover = self.directory.discover
        self.directory.discover = self._counted  # type: ignore[method-assign]
        for name in self.claims if fields else ():
            assert self.register(claim=self.claims[name], **self.relay(name, **fields)).status == 200

    @staticmethod
    def relay(name: str, **fields: Any) -> dict[str, Any]:
        return {"node_id": name, "public_key": f"key of {name}", "services": ["relay"], **fields}

    def _counted(self, query: Query, now: Now) -> Draw:
        self.draws += 1
        return self._discover(query, now)

    def ask(self, target: str = ASKED) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = self.reply(target).document["nodes"]
        return nodes

    def reply(self, target: str = ASKED) -> Reply:
        reply = self.call("GET", target)
        assert reply.status == 200, reply
        return reply


def _name(number: int) -> str:
    return f"n{number}"


def ids(nodes: list[dict[str, Any]]) -> list[str]:
    return [node["node_id"] for node in nodes]


def test_who_asks_the_same_is_told_of_the_same_nodes_but_of_others_first() -> None:
    world = Counted()
    answers = [world.ask() for _ in range(CALLERS)]
    assert world.draws == 1
    assert len({frozenset(ids(nodes)) for nodes in answers}) == 1
    heads = Counter(ids(nodes)[0] for nodes in answers)
    assert heads == dict.fromkeys(ids(answers[0]), 1), "whoever takes the first has it alone"
    assert all(len(set(ids(nodes))) == RESULTS for nodes in answers)


def test_who_was_told_cannot_know_who_is_first_in_the_next_answer() -> None:
    """Who knew it could use up the answers of others until it is a node of his own."""
    world = Counted()
    places = Counter[int]()
    for _ in range(40):
        told = ids(world.ask())
        places[told.index(ids(world.ask())[0])] += 1
        world.clock.advance(AGE_S_MAX)
    assert world.draws == 40
    assert len(places) > CALLERS // 2
    assert places[0] == 0


def test_a_draw_is_for_so_many_callers_and_no_more() -> None:
    world = Counted()
    for number in range(3 * CALLERS):
        world.ask()
        assert world.draws == 1 + number // CALLERS


def test_a_draw_is_told_for_a_second_and_no_longer() -> None:
    world = Counted()
    first = world.ask()
    world.clock.advance(AGE_S_MAX - 0.001)
    assert set(ids(world.ask())) == set(ids(first))
    world.clock.advance(0.001)
    assert set(ids(world.ask())) != set(ids(first))
    assert world.draws == 2


def test_a_wall_clock_that_is_set_back_makes_no_draw_older() -> None:
    world = Counted()
    world.ask()
    world.clock.advance(AGE_S_MAX)
    world.clock.jump_wall(-DAY_S)
    world.ask()
    assert world.draws == 2


def test_who_is_alone_in_asking_is_given_draws_of_its_own() -> None:
    world = Counted()
    for _ in range(20):
        world.ask()
        world.clock.advance(AGE_S_MAX)
    assert world.draws == 20


def test_who_asks_otherwise_has_another_draw() -> None:
    world = Counted()
    for target in (ASKED, f"{ASKED}&", f"/discover?max_results={RESULTS}", f"{ASKED}&exclude_states="):
        world.ask(target)
    assert world.draws == 4
    world.ask(ASKED.replace("/discover", "/api/v3/nodes/discover"))
    assert world.draws == 4, "it is the same question at the older path"


def test_a_wrong_query_is_refused_each_time() -> None:
    world = Counted()
    for _ in range(3):
        assert world.call("GET", "/discover?services=No").status == 400
        assert world.call("GET", f"{ASKED}&max_results=0").status == 400


def test_as_of_the_draw_is_told_when_nodes_were_heard() -> None:
    world = Counted()
    first = {node["node_id"]: node for node in world.ask()}
    world.clock.advance(0.5)
    name = next(iter(first))
    assert world.call("POST", f"/heartbeat/{name}").status == 200
    assert {node["node_id"]: node for node in world.ask()} == first
    assert world.draws == 1


def test_the_time_that_a_query_took_is_that_of_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Counted()
    take = world.api.shared_draws.take

    def slow(shared: Any, *arguments: Any) -> Any:
        world.clock.advance(0.25)
        return take(*arguments)

    world.ask()
    monkeypatch.setattr(type(world.api.shared_draws), "take", slow)
    assert world.reply().document["query_time_ms"] == 250
    assert world.draws == 1


def test_of_very_many_nodes_each_caller_finds_several_that_are_its_own_first() -> None:
    world = Counted(relays=900)
    answers = [ids(world.ask("/discover?max_results=100")) for _ in range(CALLERS_MAX)]
    assert world.draws == 1
    per_caller = 100 // CALLERS_MAX
    heads = Counter(name for nodes in answers for name in nodes[:per_caller])
    assert (len(heads), set(heads.values())) == (CALLERS_MAX * per_caller, {1})
    world.ask("/discover?max_results=100")
    assert world.draws == 2


# Nothing that has changed is told again.


def _amended(**fields: Any) -> Callable[[Counted, str], None]:
    def deed(world: Counted, name: str) -> None:
        assert world.register(claim=world.claims[name], **world.relay(name, **fields)).status == 200

    return deed


def _left(world: Counted, name: str) -> None:
    assert world.call("DELETE", f"/nodes/{name}", claim=world.claims[name]).status == 200


def _forgotten(world: Counted, name: str) -> None:
    assert world.call("DELETE", f"/nodes/{name}?mode=forget", claim=world.claims[name]).status == 200


def _replaced(world: Counted, name: str) -> None:
    """Another node comes to its slot."""
    _forgotten(world, name)
    assert world.register(node_id="other", services=["relay"]).status == 201


def _bound(world: Counted, name: str) -> None:
    world.directory.bind(world.directory.slot(name, world.now()))


def _new_key(world: Counted, name: str) -> None:
    world.directory.change_key(world.directory.slot(name, world.now()), "bmV3", "")


def _silent(world: Counted, name: str) -> None:
    slot, now = world.directory.slot(name, world.now()), world.now()
    world.directory.nodes.enter(slot, Event.DEADLINE, at=now.wall_s, at_s=now.attended_s)
    world.directory.nodes.deadlines.arm(slot, world.directory.nodes.deadline_s(slot))


def _went_and_came(world: Counted, name: str) -> None:
    _left(world, name)
    assert world.call("POST", f"/heartbeat/{name}", claim=world.claims[name]).status == 200


DEEDS = {
    "address": _amended(address="192.0.2.99"),
    "port": _amended(port=9_999),
    "services": _amended(services=["mail", "relay"]),
    "other services": _amended(services=["mail"]),
    "region": _amended(region="eu"),
    "metadata": _amended(metadata={"x": 1}),
    "more addresses": _amended(addresses=[{"address": "192.0.2.98", "port": 1}]),
    "hidden": _amended(discoverable=False),
    "away": _amended(away_until="2027-02-15T08:00:00Z"),
    "left": _left,
    "forgotten": _forgotten,
    "replaced": _replaced,
    "bound": _bound,
    "new key": _new_key,
    "silent": _silent,
    "went and came": _went_and_came,
}


@pytest.mark.parametrize("deed", DEEDS)
def test_who_has_changed_is_not_told_of_as_it_was(deed: str) -> None:
    world = Counted()
    name = ids(world.ask())[RESULTS // 2]
    DEEDS[deed](world, name)
    truth = _truth(world)
    for _ in range(CALLERS):
        assert all(node == truth.get(node["node_id"]) for node in world.ask())
    assert world.draws == 2, "and the new draw is shared again"


@pytest.mark.parametrize("deed", DEEDS)
def test_what_becomes_of_others_voids_nothing_and_is_counted(deed: str) -> None:
    world = Counted()
    reply = world.reply().document
    name = next(name for name in world.claims if name not in ids(reply["nodes"]))
    DEEDS[deed](world, name)
    again = world.reply().document
    assert (world.draws, set(ids(again["nodes"]))) == (1, set(ids(reply["nodes"])))
    gone = deed in {"other services", "hidden", "left", "forgotten"}
    assert (reply["total_found"], again["total_found"]) == (MANY, MANY - gone)


def test_who_comes_is_counted_at_once() -> None:
    world = Counted()
    world.ask()
    world.claim_of(**world.relay("new"))
    assert world.reply().document["total_found"] == MANY + 1
    assert world.draws == 1


def _truth(world: World) -> dict[str, dict[str, Any]]:
    """What is to be told now of each node that may be discovered."""
    nodes, now = world.directory.nodes, world.now()
    slots = [slot for slot in nodes.registry.taken_slots() if nodes.is_indexed(slot)]
    return {nodes.registry.node_id(slot): describe(world.directory, slot, now) for slot in slots}


# What is not shared.


def test_where_few_match_who_comes_is_found_at_once() -> None:
    world = Counted(relays=8 * RESULTS)
    world.ask()
    world.ask()
    assert world.draws == 2
    small = Counted(relays=RESULTS - 1)
    small.ask()
    small.claim_of(**small.relay("new"))
    assert "new" in ids(small.ask())


def test_who_is_near_and_comes_is_found_at_once() -> None:
    world = Counted(region="us")
    for _ in range(2):
        world.ask(f"{ASKED}&near=eu")
    world.claim_of(**world.relay("new", region="eu"))
    assert ids(world.ask(f"{ASKED}&near=eu"))[0] == "new"
    assert world.draws == 3
    for _ in range(2):
        world.ask(f"{ASKED}&near=us")
    assert world.draws == 4, "where very many are near, it is a draw among these"


@pytest.mark.parametrize("query", ["min_last_seen=2027-01-15T08:00:00Z", "states=coma"])
def test_what_is_looked_at_one_by_one_is_not_shared(query: str) -> None:
    """Also not the best of the rest, where nobody healthy is left."""
    world = Counted()
    for _ in range(2):
        world.ask(f"{ASKED}&{query}")
    assert world.draws == 2


def test_nodes_that_are_better_available_stay_first() -> None:
    """Two of five were heard lately: only these come to the head, and so a draw is for fewer callers."""
    world = Counted(relays=0)
    for number in range(MANY):
        world.claim_of(**world.relay(_name(number)))
    world.clock.advance(2 * DAY_S)
    for number in range(MANY):
        if number % 5 < 2:
            world.call("POST", f"/heartbeat/{_name(number)}")
    callers = Counter[int]()
    for _ in range(10 * CALLERS):
        told = [node["availability"] for node in world.ask()]
        assert told == sorted(told, reverse=True)
        callers[world.draws] += 1
        well = told.count(1.0)
        assert callers[world.draws] <= (well if well >= TIES_MIN else 1)
    assert {1, TIES_MIN} <= set(callers.values())


@pytest.mark.parametrize("max_results", [1, 2, TIES_MIN - 1])
def test_where_few_are_asked_for_nothing_is_told_twice(max_results: int) -> None:
    world = Counted()
    for _ in range(3):
        world.ask(f"/discover?max_results={max_results}")
    assert world.draws == 3


# Memory


def test_so_many_draws_are_kept_and_the_oldest_is_given_up() -> None:
    world = Counted()
    # Empty fields mean nothing, and make each query another text.
    targets = [ASKED + "&" * number for number in range(DRAWS_MAX + 1)]
    for target in targets:
        world.ask(target)
    assert len(world.api.shared_draws) == DRAWS_MAX
    drawn = world.draws
    world.ask(targets[-1])
    world.ask(targets[1])
    assert world.draws == drawn
    world.ask(targets[0])
    assert world.draws == drawn + 1
    assert len(world.api.shared_draws) == DRAWS_MAX


def test_a_draw_that_is_too_old_is_given_up_with_the_next_one() -> None:
    world = Counted()
    for number in range(10):
        world.ask(ASKED + "&" * number)
    world.clock.advance(AGE_S_MAX)
    world.ask()
    assert len(world.api.shared_draws) == 1


def test_very_long_descriptions_are_not_kept() -> None:
    text = "y" * 4_000
    world = Counted(relays=170, metadata={"x": text})
    assert RESULTS * len(text) < NODES_BYTES_MAX < 20 * len(text)
    for max_results, draws in ((RESULTS, 1), (20, 3)):
        for _ in range(2):
            world.ask(f"/discover?max_results={max_results}")
        assert world.draws == draws


# Everything at once

USUAL_DEEDS = ("address", "metadata", "hidden", "other services", "services", "away", "left", "went and came")


def test_whatever_happens_a_shared_answer_tells_what_is_true(seed: int) -> None:
    """Held against the directory itself, asked and described anew at each answer."""
    world, chance = Counted(seed=seed), random.Random(seed)
    targets = (ASKED, f"/discover?max_results={RESULTS}")
    drawn: dict[str, tuple[float, dict[str, dict[str, Any]]]] = {}
    heads: dict[str, list[str]] = {}
    for step in range(400):
        world.wait(chance.choice([0.0, 0.0, 0.1, 0.5]))
        name = chance.choice(list(world.claims))
        if chance.random() < 0.5:
            world.call("POST", f"/heartbeat/{name}", claim=world.claims[name])
        elif chance.random() < 0.3:
            DEEDS[chance.choice(USUAL_DEEDS)](world, name)
        elif chance.random() < 0.1:
            _forgotten(world, name)
            del world.claims[name]
            world.claims[f"{name}-{step}"] = world.claim_of(**world.relay(f"{name}-{step}"))
        target, before, now = chance.choice(targets), world.draws, world.now()
        document, truth = world.reply(target).document, _truth(world)
        if world.draws > before:
            drawn[target], heads[target] = (now.monotonic_s, truth), []
        drawn_s, of_the_draw = drawn[target]
        assert now.monotonic_s - drawn_s < AGE_S_MAX
        for node in document["nodes"]:
            kept = {field: of_the_draw[node["node_id"]][field] for field in OF_THE_DRAW}
            assert node == truth[node["node_id"]] | kept
        first = document["nodes"][0]["node_id"]
        assert first not in heads[target]
        heads[target].append(first)
        assert len(heads[target]) <= CALLERS
        fresh = world._discover(read_query(target.partition("?")[2])[0], now).step()
        assert fresh is not None
        assert (document["total_found"], document["degraded"]) == (fresh.total, False)
    assert 50 < world.draws < 350

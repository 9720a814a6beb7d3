"""The fast path of registrations: nobody can see whether it is on, in bytes, stored state or figures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openred_central.api import registering
from openred_central.api.fast_registration import register_plainly
from openred_central.directory.consistency import check
from openred_central.directory.soundness import Unserved
from openred_central.encoding import ED25519_SPKI_PREFIX, key_text
from openred_central.errors import CallerError
from openred_central.limits.gcra import Policy
from openred_central.micro_engine.wire.messages import Response
from tests.support.building import SHORT_LIFE
from tests.support.options import limit_options
from tests.support.signed_requests import rsa_key
from tests.support.world import World, run

KEYS = [key_text(ED25519_SPKI_PREFIX + bytes(range(first, first + 32))) for first in range(3)]
NAMES = ("alice", "bob", "carol", "dave")
PEERS = ("198.51.100.7", "198.51.100.8", "192.0.2.1", "2001:db8::1", "")
# Values of each field, valid and not; the first ones are usual.
VALUES: dict[str, tuple[Any, ...]] = {
    "node_id": (*NAMES, "k-x", f"k-{'A' * 43}", "no such name!", "", "a" * 129, 7, None),
    "address": (
        *("192.0.2.1", "198.51.100.7", "198.51.100.8", "2001:DB8::1", "Node.Example", "::ffff:192.0.2.1"),
        *("0.0.0.0", "224.0.0.1", "1.2.3", "", 5),
    ),
    "port": (7_000, 1, 65_535, 7_000.0, 0, 65_536, True, "7"),
    "public_key": (*KEYS, f" {KEYS[0]}\n", rsa_key().public_text, "text", "A" * 43 + "=", "x" * 5_000, 1),
    "services": ([], ["chat"], ["b", "a", "a"], ["BAD"], [1], ["a"] * 33, "chat", None),
    "metadata": ({}, {"v": 1}, {"a": {"b": [[]]}}, {"a": {"b": [[[]]]}}, {"a": "x" * 4_100}, [], None),
    # Fields that are not usual.
    "ip_address": ("192.0.2.1", "192.0.2.2"),
    "region": ("eu", ""),
    "addresses": ([{"address": "192.0.2.9", "port": 1}],),
    "discoverable": (False, True),
    "next_key": (None, "A" * 43),
    "newer": (1,),
}
USUAL = ("node_id", "address", "port", "public_key", "services", "metadata")
LIMITS = (
    {},
    {"new_nodes": Policy("new-nodes", limit=1, window_s=1, burst=2)},
    {"nodes_per_network_max": 2},
    {"exempt_networks": ("198.51.100.0/24",)},
)
WORLDS = (
    {},
    {"nodes_max": 3},
    {"nodes_bytes_max": 700},
    {"strict": True},
    {"store_durable": False},
    {"rsa_bits_min": 4_096},
)


class Way(World):
    """A directory in which nodes live for a minute."""

    def __init__(self, limits: dict[str, Any], options: dict[str, Any], *, fast_path: bool) -> None:
        limits = {"register": None, "new_nodes": None, **limits}
        super().__init__(limits=limit_options(**limits), lifecycle=SHORT_LIFE, fast_path=fast_path, **options)

    def send(self, body: Any, peer: str, headers: dict[str, str]) -> object:
        """Return the answer to a registration, byte for byte."""
        try:
            response = run(self.start(self.request("POST", "/register", body, peer=peer, **headers)))
        except CallerError as error:
            response = Response.problem(error)
        return response.status, response.body, response.headers, response.content_type

    def act(self, action: str, name: str) -> object:
        """Let the node or an operator do something. Return what can be seen of it."""
        try:
            return getattr(self.directory, action)(name, self.now())
        except CallerError as error:
            return error.code

    def damage(self, name: str) -> None:
        """Reserve the name of a row that cannot be served."""
        nodes = self.directory.nodes
        if nodes.registry.slot_of(name) is None and not nodes.is_reserved(name):
            nodes.set_aside([Unserved(nodes.registry.slots_count + 3, name, "damaged")])

    def save(self) -> object:
        """Return what the store gets next."""
        return self.directory.saving.take_changes(1_000, self.now(), closing=True)

    def state(self) -> list[object]:
        """Return the stored state, the events, the counters and the figures that metrics show."""
        nodes, refusals = self.directory.nodes, self.limits.refusals
        registry = nodes.registry
        slots = registry.taken_slots()
        return [
            [(registry.record(slot), nodes.deadlines.armed_s(slot)) for slot in slots],
            (registry.bytes_held, registry.state_counts, registry.next_slot(), len(nodes.index)),
            (nodes.revision, nodes.changes.last, len(nodes.changes), list(nodes.tombstones)),
            (nodes.transitions.counts, nodes.transitions.take(), self.directory.expiry.silence.recent),
            (refusals.by_policy, refusals.by_reason, self.directory.bytes_refusals),
            (self.saved_changes, self.random.getstate()),
        ]


def changed(usual: dict[str, Any], other: list[tuple[str, Any]], without: list[str]) -> dict[str, Any]:
    return {name: value for name, value in {**usual, **dict(other)}.items() if name not in without}


# Mostly what nodes send; else with a field or two changed, added or left out.
BODIES = st.builds(
    changed,
    st.fixed_dictionaries({name: st.sampled_from(VALUES[name][:3]) for name in USUAL}),
    st.just([])
    | st.lists(
        st.sampled_from(sorted(VALUES)).flatmap(
            lambda name: st.tuples(st.just(name), st.sampled_from(VALUES[name]))
        ),
        max_size=2,
    ),
    st.just([]) | st.lists(st.sampled_from(USUAL), max_size=2),
)
BROKEN = st.sampled_from([b"", b"{", b"[]", b"7", b'{"node_id":"alice","port":18446744073709551616}'])
HEADERS = st.sampled_from([{}, {}, {}, {"authorization": "Claim x"}, {"signature_input": "sig=()"}])
STEPS = st.lists(
    st.tuples(st.just("send"), BODIES | BODIES | BODIES | BROKEN, st.sampled_from(PEERS), HEADERS)
    | st.tuples(st.just("send"), BODIES, st.sampled_from(PEERS), st.just({}))
    | st.tuples(st.just("wait"), st.sampled_from([0.25, 5.0, 11.0, 60.0]))
    | st.tuples(st.just("act"), st.sampled_from(["forget", "leave", "hold"]), st.sampled_from(NAMES))
    | st.tuples(st.just("damage"), st.sampled_from(NAMES))
    | st.just(("save",)),
    min_size=3,
    max_size=12,
)
PLAIN = {name: VALUES[name][0] for name in USUAL}


def sent(peer: str = PEERS[0], headers: dict[str, str] | None = None, **fields: Any) -> tuple[Any, ...]:
    return "send", {**PLAIN, **fields}, peer, headers or {}


@example({}, {}, [sent(), ("act", "forget", "alice"), ("save",), sent(), ("wait", 60.0), sent(), ("save",)])
@example({}, {}, [("damage", "alice"), sent()])
@example({}, {"nodes_max": 3}, [sent(node_id=name) for name in NAMES])
@example({}, {"nodes_bytes_max": 700}, [sent(node_id=name, metadata={"a": "x" * 200}) for name in NAMES])
@example({}, {"strict": True}, [sent()])
@example({"nodes_per_network_max": 2}, {}, [sent(node_id=name) for name in NAMES])
@example({}, {}, [sent(node_id=f"k-{'A' * 43}")])
@example({}, {}, [sent(headers={"signature_input": "sig=()"})])
@example({}, {}, [sent(region="eu"), sent(port=7_001)])
@example({}, {}, [sent(address=PEERS[0]), sent(node_id="bob", public_key=f" {KEYS[0]}"), ("save",)])
@example({}, {}, [sent(node_id="bob", public_key=rsa_key().public_text), ("send", b"[]", PEERS[0], {})])
@example({}, {"rsa_bits_min": 4_096}, [sent(public_key=rsa_key().public_text)])
@given(st.sampled_from(LIMITS), st.sampled_from(WORLDS), STEPS)
def test_fast_path_cannot_be_seen(
    limits: dict[str, Any], options: dict[str, Any], steps: list[tuple[Any, ...]]
) -> None:
    ways = [Way(limits, options, fast_path=fast_path) for fast_path in (True, False)]
    for name, *arguments in steps:
        fast, plain = (getattr(way, name)(*arguments) for way in ways)
        assert fast == plain, (name, *arguments)
        fast, plain = (way.state() for way in ways)
        assert fast == plain, (name, *arguments)
    for way in ways:
        assert check(way.directory, way.now()) == []


@pytest.mark.parametrize("fast_path", [True, False])
def test_fast_path_takes_usual_registrations(fast_path: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def noted(*arguments: Any) -> Any:
        registered = register_plainly(*arguments)
        taken.append(registered is not None)
        return registered

    monkeypatch.setattr(registering, "register_plainly", noted)
    world = World(fast_path=fast_path)
    for body in (PLAIN, {**PLAIN, "node_id": "bob", "address": "node.example"}):
        assert world.call("POST", "/register", body).status == 201
    assert world.call("POST", "/register", PLAIN).status == 200
    assert taken == ([True, True, False] if fast_path else [])

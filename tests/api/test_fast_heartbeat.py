"""The fast path of heartbeats: nobody can see whether it is on, in bytes, stored state or figures."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.routes import install
from openred_central.directory.state.blocks import Block, Kind
from openred_central.errors import CallerError
from openred_central.limits.gcra import Policy
from openred_central.security.signing import PrivateKey
from tests.micro_engine.harness import FakeTransport
from tests.micro_engine.harness import World as Engine
from tests.support.options import limit_options
from tests.support.world import AUTHORITY, DAY_S, NODE, Reply, Routes, World

KEYS = {name: PrivateKey.generate_ed25519() for name in ("alice", "bob")}
LATER = PrivateKey.generate_ed25519()
# Two nodes that are bound to keys, one that is not, and none.
NAMES = ("alice", "bob", "carol", "nobody")
# The owner of the session or claim in a request: of any node, wrong for all, or nothing.
CREDENTIALS = ("nothing", "alice", "bob", "carol", "wrong")
CONNECTIONS = 2
LIMITS = (
    None,
    Policy("heartbeat", limit=1, window_s=60, burst=2),
    Policy("heartbeat", limit=30, window_s=60, burst=60),
)

# A method of `Way` and its arguments.
Step = tuple[Any, ...]


class Way:
    """A directory behind an engine, with clients that are connected to it."""

    def __init__(self, limit: Policy | None, *, strict: bool, fast_path: bool) -> None:
        no_others = dict.fromkeys(("register", "discover", "proof_fail", "new_nodes", "token"))
        self.world = World(limits=limit_options(**no_others, heartbeat=limit), strict=strict)
        self.engine = Engine(fast_path=fast_path)
        install(Routes(self.engine.router), self.world.api)  # type: ignore[arg-type]
        self.transports = [self.engine.transport]
        for _ in range(CONNECTIONS - 1):
            self.transports.append(FakeTransport(self.engine.loop))
            self.engine.connect(self.transports[-1])
        self.admitted = 0
        admit = self.engine.router.admit

        def counted(request: Any) -> Any:
            self.admitted += 1
            return admit(request)

        self.engine.router.admit = counted  # type: ignore[method-assign]
        # Sessions and claims by the node that has them.
        self.secrets = {"wrong": "OpenRed or3s.1.1.0.AAAAAAAAAAAAAAAAAAAAAA"}
        for name in NAMES[:3]:
            self.register(name)

    def register(self, name: str, **fields: Any) -> Reply:
        """Let a node register, signed if it has a key. Keep the session or claim that it gets."""
        if name in KEYS:
            return self.sign(
                name, "/register", {**NODE, "node_id": name, "public_key": KEYS[name].public_text}
            )
        claim = self.secrets.get(name, "").partition(" ")[2]
        reply = self.world.register(node_id=name, claim=claim, **fields)
        if "claim" in reply.document:
            self.secrets[name] = f"Claim {reply.document['claim']}"
        return reply

    def sign(self, name: str, path: str, body: Any = None) -> Reply:
        reply = self.world.signed(KEYS[name], "POST", path, body)
        if "session" in reply.document:
            self.secrets[name] = f"OpenRed {reply.document['session']}"
        return reply

    def send(self, number: int, names: list[str], credential: str, times: int) -> bytes:
        """Let a client send a heartbeat of each of `names` at once, so many times. Return the answers."""
        transport, secret = self.transports[number], self.secrets.get(credential)
        field = f"Authorization: {secret}\r\n" if secret else ""
        ending = f" HTTP/1.1\r\nHost: {AUTHORITY}\r\n{field}\r\n"
        data = "".join(f"POST /heartbeat/{name}{ending}" for name in names).encode()
        before = len(transport.sent)
        for _ in range(times):
            self.engine.call(transport.protocol.data_received, data)
        return transport.sent[before:]

    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.engine.clock.advance(seconds)
        self.engine.shared.encoder.tick(self.engine.clock.wall_s())

    def act(self, action: str, name: str) -> object:
        """Let the node or an operator do something. Return what can be seen of it."""
        directory, now = self.world.directory, self.world.now()
        slot = directory.nodes.registry.slot_of(name)
        try:
            if action == "register":
                return self.register(name)
            if action == "be away":
                return None if name in KEYS else self.register(name, away_until="2027-06-01T00:00:00Z")
            if action == "sign":
                return self.sign(name, f"/heartbeat/{name}") if name in KEYS else None
            if action == "come back":
                return None if slot is None else directory.nodes.raise_longest(slot, 200 * DAY_S)
            if action == "revoke":
                return slot is not None and directory.revoke_all(slot)
            if action == "change key":
                return slot is not None and directory.change_key(slot, LATER.public_text, "")
            if action.endswith("block"):
                return self.judge(action, name)
            return getattr(directory, action)(name, now)
        except CallerError as error:
            return error.code

    def judge(self, action: str, name: str) -> list[int]:
        """Block the node by what `action` says, or end all blocks. Return how many nodes have changed."""
        blocking, key = self.world.directory.blocking, KEYS[name].key_id if name in KEYS else None
        subjects = {
            "id block": (Kind.ID, name),
            "key block": (Kind.KEY, key or LATER.key_id),
            # All callers are there, and all nodes.
            "network block": (Kind.NETWORK, "192.0.2.0/24"),
        }
        if action in subjects:
            blocking.add(Block(*subjects[action], "spam", self.world.now().wall_s, None))
        else:
            for block in list(blocking.blocks):
                blocking.remove(block.kind, block.subject)
        return list(blocking.judging())

    def save(self) -> object:
        """Return what the store gets next."""
        return self.world.directory.saving.take_changes(1_000, self.world.now(), closing=True)

    def state(self) -> list[object]:
        """Return the stored state, the counters and the figures that metrics show."""
        nodes, stats, refusals = (
            self.world.directory.nodes,
            self.engine.shared.stats,
            self.world.limits.refusals,
        )
        slots = nodes.registry.taken_slots()
        return [
            [(nodes.registry.record(slot), nodes.deadlines.armed_s(slot)) for slot in slots],
            (bytes(nodes.changes.heard.marks), nodes.changes.last, nodes.transitions.counts),
            (refusals.by_policy, refusals.by_reason),
            (stats.requests, stats.responses, stats.bytes_in, stats.bytes_out, stats.handler_failures),
            (stats.latency.counts, stats.latency.sum_s),
            {(each.method, each.template): each.responses for each in self.engine.router.routes()},
        ]


NODES = st.sampled_from(NAMES)
WAIT = st.tuples(
    st.just("wait"), st.sampled_from([0.0003, 1.0, 20.0, 61.0, 250.0, 301.0, 3_601.0, DAY_S, 181 * DAY_S])
)
ACT = st.tuples(
    st.just("act"),
    st.sampled_from(
        [
            *("register", "be away", "come back", "sign", "revoke", "change key"),
            *("hold", "release", "wake", "leave", "forget"),
            *("id block", "key block", "network block", "unblock", "unblock"),
        ]
    ),
    NODES,
)
# The nodes that heartbeats name, and their credential: usually one node, with its own session if it has one.
OWN = st.sampled_from(NAMES[:3]).map(lambda name: ([name], name if name in KEYS else "nothing"))
ANY = st.tuples(st.lists(NODES, min_size=1, max_size=3), st.sampled_from(CREDENTIALS))
HEARTBEATS = OWN | OWN | OWN | ANY


def interrupted(number: int, heartbeats: tuple[list[str], str], step: Step, later: list[str]) -> list[Step]:
    """Return the steps of a client that repeats itself, before and after `step`."""
    names, credential = heartbeats
    return [("send", number, names, credential, 4), step, ("send", number, later or names, credential, 2)]


STEPS = st.lists(
    st.builds(
        interrupted,
        st.integers(0, CONNECTIONS - 1),
        HEARTBEATS,
        WAIT | ACT | st.just(("save",)),
        st.just([]) | st.lists(NODES, max_size=3),
    ),
    min_size=4,
    max_size=10,
).map(lambda parts: [*chain.from_iterable(parts), ("save",)])


@given(st.sampled_from(LIMITS), st.sampled_from([False, False, True]), STEPS)
def test_fast_path_cannot_be_seen(limit: Policy | None, strict: bool, steps: list[Step]) -> None:
    ways = [Way(limit, strict=strict, fast_path=fast_path) for fast_path in (True, False)]
    try:
        for name, *arguments in steps:
            fast, plain = (getattr(way, name)(*arguments) for way in ways)
            assert fast == plain, (name, *arguments)
            fast, plain = (way.state() for way in ways)
            assert fast == plain, (name, *arguments)
    finally:
        for way in ways:
            way.engine.close()


@pytest.mark.parametrize("credential", ["nothing", "alice"])
def test_fast_path_answers_heartbeats_that_repeat(credential: str) -> None:
    ways = [Way(None, strict=False, fast_path=fast_path) for fast_path in (True, False)]
    name = "carol" if credential == "nothing" else credential
    for way in ways:
        way.send(0, [name], credential, 10)
        way.engine.close()
    assert [way.admitted for way in ways] == [2, 10]


@pytest.mark.parametrize("action", ["id block", "network block"])
@pytest.mark.parametrize("name", ["carol", "alice"])
def test_fast_path_is_no_way_around_a_block(name: str, action: str) -> None:
    way = Way(None, strict=False, fast_path=True)
    # The network of the callers is not that of the nodes.
    if name == "carol":
        way.register(name, address="203.0.113.9")
    else:
        body = {**NODE, "node_id": name, "public_key": KEYS[name].public_text, "address": "203.0.113.9"}
        way.sign(name, "/register", body)
    credential = "nothing" if name == "carol" else name
    statuses = [way.send(0, [name], credential, 5).count(b"HTTP/1.1 200")]
    way.judge(action, name)
    statuses.append(way.send(0, [name], credential, 5).count(b"HTTP/1.1 403"))
    # A heartbeat needs no proof of carol; the session of alice has ended with the block of the node.
    way.judge("unblock", name)
    statuses.append(way.send(0, [name], credential, 5).count(b"HTTP/1.1 200"))
    way.engine.close()
    assert statuses == [5, 5, 0 if (name, action) == ("alice", "id block") else 5]

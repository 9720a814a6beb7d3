"""One simulated world: nodes, a directory with its scheduler and a store, faults, and the model beside them.

Everything is drawn from one `random.Random`, so a seed repeats a world exactly. All times are whole eighths
of a second, which floats and deadline steps hold exactly: model and directory are compared to the last bit.
"""

from __future__ import annotations

import copy
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openred_central.clock import AttendedTime, Now
from openred_central.directory.consistency import check
from openred_central.directory.directory import Directory
from openred_central.directory.discovery import Query
from openred_central.directory.life.expiry import ProbeRequest
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.directory.lifecycle import LIVE_STATES, LifecycleOptions, State
from openred_central.directory.octaves import seconds_of
from openred_central.directory.registration import Registration
from openred_central.directory.state.changes import Batch
from openred_central.directory.state.node import LEFT, Profile, Record, Transition, decode_history, hash_id
from openred_central.errors import CallerError
from openred_central.tasks.prober import Submission
from openred_central.tasks.scheduler import PENDING_MAX, Scheduler
from tests.support.building import HOUR_S, NEVER_HOLDS, DictStore, beat, registration
from tests.support.clock import VirtualClock
from tests.support.options import directory_options
from tests.support.records import signs_on

from .model import Grave, Model, Node, Refused, Said

YEAR_S = 365 * 86_400.0
SERVICES = ("chat", "files", "mail", "relay")


@dataclass(frozen=True)
class WorldOptions:
    """The kind of world: how many names there are, how fast they live, and what may go wrong."""

    life: LifecycleOptions
    silence: MassSilenceOptions = NEVER_HOLDS
    names: int = 40
    nodes_max: int = 36
    tick_s: float = 1.0
    patience: float = 2.0
    # Nodes that beat, and other things that happen, between two ticks.
    beats: int = 3
    deeds: int = 3
    probing: bool = False
    faults: bool = True


class World:
    """The directory, the model, and what goes on between them."""

    def __init__(self, options: WorldOptions, seed: int) -> None:
        self.options = options
        self.chance = random.Random(seed)
        self.faults = options.faults
        self.clock = VirtualClock(wall_s=1_800_000_000.0, monotonic_s=1_000.0)
        self.store = DictStore()
        # The content of the store, in the words of the model.
        self.stored_nodes: dict[str, Node] = {}
        self.stored_graves: dict[str, Grave] = {}
        self.store_reachable = True
        self.model = Model(options.life, options.nodes_max, options.tick_s, options.patience)
        self.names = [f"node-{number}" for number in range(options.names)]
        self.names_by_hash = {hash_id(name): name for name in self.names}
        # Acknowledged facts of each node, as (number of the change, identity or None), oldest first.
        self.acknowledged: dict[str, list[tuple[int, object]]] = {}
        self.holds = 0
        # Every kind of transition that ever happened here.
        self.seen: set[tuple[State, State, str]] = set()
        self._boot()

    # The directory, as the composition root puts it together.

    def _boot(self) -> None:
        options = self.options
        self.directory = Directory(
            directory_options(
                nodes_max=options.nodes_max,
                shards=4,
                probing=options.probing,
                patience_factor_max=options.patience,
            ),
            options.life,
            options.silence,
            self.chance.random,
        )
        attended_s = self.store.restore_into(self.directory)
        self.attended = AttendedTime(self.clock, attended_s=attended_s, tick_s=options.tick_s)
        self.probes: deque[ProbeRequest] = deque()
        self.scheduler = Scheduler(
            self.directory,
            self.attended,
            tick_s=options.tick_s,
            store_reachable=lambda: self.store_reachable,
            submit_probe=self._ask,
        )
        self.directory.nodes.transitions.observers.append(self._take_transitions)
        self.ticked_monotonic_s = self.clock.monotonic_s()
        self.held_since_s: float | None = None
        self.releasing = False

    @property
    def now(self) -> Now:
        """The moment as the model tells it, which is what the directory must tell."""
        monotonic_s = self.clock.monotonic_s()
        now = Now(
            self.model.attended_after_s(monotonic_s - self.ticked_monotonic_s),
            self.clock.wall_s(),
            monotonic_s,
        )
        assert now == self.attended.now()
        return now

    def restart(self, *, crash: bool) -> None:
        """Stop and start the process, with or without a last flush; hours may pass in between."""
        if not crash:
            self.save(fails=False, limit=None)
            assert self.stored_nodes == self.model.nodes, "something was not stored"
            assert self.stored_graves == self.model.graves, "something was not stored"
        else:
            self._expect_acknowledged_in_store()
        vitals = self.store.vitals
        attended_s = 0.0 if vitals is None else vitals.attended_s
        self.model.rolled_back(self.stored_nodes, self.stored_graves, attended_s)
        self.clock.advance(self.chance.choice((0.0, 10.0, 86_400.0, YEAR_S)))
        self.acknowledged = {name: [(0, node.identity())] for name, node in self.stored_nodes.items()}
        self.store.last_change = 0
        self._boot()

    def _expect_acknowledged_in_store(self) -> None:
        """Check that the store holds each change acknowledged as durable, or a later one."""
        for name, versions in self.acknowledged.items():
            durable = [
                place for place, (number, _) in enumerate(versions) if number <= self.store.last_change
            ]
            if durable:
                node = self.stored_nodes.get(name)
                found = None if node is None else node.identity()
                assert found in [identity for _, identity in versions[durable[-1] :]], f"{name} was lost"

    # Time.

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def tick(self) -> None:
        """Let the scheduler tick until nothing more is due at once, and judge what it did."""
        silence = self.directory.expiry.silence
        while True:
            held = silence.hold
            self.releasing = silence.releasing or held is not None
            now = self.now
            more = self.scheduler.tick()
            self.model.attended_s = now.attended_s
            self.ticked_monotonic_s = now.monotonic_s
            unheard = self.directory.expiry.attendance.hold
            self.model.attending = (
                self.store_reachable and held is None and silence.hold is None and unheard is None
            )
            self._judge_hold(now)
            self._judge_silence_of_all(now)
            if self.releasing:
                # After a hold the count begins anew.
                self.model.silent_s.clear()
            if not more:
                break
        # Nodes are not moved on while too many changes wait to be stored.
        if self.directory.saving.pending_records < PENDING_MAX:
            self._expect_nothing_due(self.now)

    def _judge_hold(self, now: Now) -> None:
        hold, options = self.directory.expiry.silence.hold, self.options.silence
        if hold is None:
            self.held_since_s = None
            return
        if self.held_since_s is None:
            self.held_since_s = now.monotonic_s
            self.holds += 1
            # The count is kept in slices of a minute, so up to one more than an hour may be in it.
            recent = self.model.silent_since(now.attended_s - HOUR_S - 60.0)
            nodes = len(self.model.nodes)
            assert recent + 1 > options.share * nodes, "held although few fell silent"
            assert recent + 1 >= options.nodes_min, "held although few fell silent"
        assert now.monotonic_s - self.held_since_s <= options.hold_s_max + 2 * self.longest_step_s()

    def _judge_silence_of_all(self, now: Now) -> None:
        silence_s = now.attended_s - max(
            (node.last_seen_s for node in self.model.nodes.values()), default=0.0
        )
        if self.directory.expiry.attendance.hold is not None:
            assert silence_s >= self.options.silence.all_silent_s > 0, "time stands although a node was heard"

    def longest_step_s(self) -> float:
        """Return the longest time between two ticks when nothing is suspended."""
        return 2 * self.options.tick_s

    def _expect_nothing_due(self, now: Now) -> None:
        expiry, registry = self.directory.expiry, self.directory.nodes.registry
        if self.directory.saving.pending_records >= PENDING_MAX:
            # No node moves on until the store has caught up.
            return
        if expiry.silence.hold is None and not len(expiry.waiting):
            for node_id in self.model.due(now):
                slot = registry.slot_of(node_id)
                assert slot is not None
                assert slot in expiry.asked or slot in expiry.postponed, (
                    f"{node_id} is due and was not moved on"
                )
        if expiry.silence.hold is None:
            assert not self.model.grave_due(now), "a tombstone stands for too long"

    def _take_transitions(self, transitions: Sequence[Transition]) -> None:
        now = self.attended.now()
        for transition in transitions:
            self.seen.add((transition.from_state, transition.to_state, transition.reason))
            if transition.reason == "deadline":
                assert not self.model.expected, f"{self.model.expected[0]} was not announced"
                self.model.silence(transition, now)
                if transition.from_state is not State.DEAD:
                    self._judge_silence(now)
                    self._acknowledge(transition.node_id, self.directory.saving.last_change)
                continue
            told = (transition.node_id, transition.from_state, transition.to_state, transition.reason)
            assert told == self.model.expected.pop(0)

    def _judge_silence(self, now: Now) -> None:
        assert self.held_since_s is None, "a node aged while all were held"
        if self.releasing:
            return
        silence, usual_per_h = self.options.silence, self.directory.expiry.silence.usual_per_h
        believed = max(silence.share * self.options.nodes_max, silence.nodes_min, 4 * usual_per_h)
        recent = self.model.silent_since(now.attended_s - HOUR_S + 60.0)
        assert silence.share >= 1 or recent <= believed, "mass silence was believed"

    # Probing.

    def _ask(self, request: ProbeRequest) -> Submission:
        node = self.model.nodes[request.node_id]
        assert self.model.due_s(node) <= self.now.attended_s, "asked although nothing was due"
        if self.chance.random() < 0.2:
            return Submission.REFUSED
        if self.faults and self.chance.random() < 0.1:
            return Submission.LATER
        self.probes.append(request)
        return Submission.ACCEPTED

    def answer_probes(self) -> None:
        """Answer some probes, some late, and some never.

        Without faults, nobody answers.
        """
        for _ in range(len(self.probes)):
            request = self.probes.popleft()
            match self.chance.randrange(4) if self.faults else 1:
                case 0:
                    slot = self.directory.nodes.registry.slot_of(request.node_id)
                    awaited = request.slot in self.directory.expiry.asked
                    if slot == request.slot and (awaited or not self.model.nodes[request.node_id].left):
                        self.model.heartbeat(request.node_id, self.now)
                    self.directory.expiry.probed(request.slot, request.node_id, alive=True, now=self.now)
                    self._acknowledge(request.node_id, self.directory.saving.last_change)
                case 1:
                    self.directory.expiry.probed(request.slot, request.node_id, alive=False, now=self.now)
                case 2:
                    self.probes.append(request)

    # The acts of nodes.

    def beat(self, name: str) -> None:
        now = self.now
        expected = self._outcome(lambda: self.model.heartbeat(name, now))
        assert expected == self._outcome(lambda: beat(self.directory, name, now))
        self._acknowledge(name, self.directory.saving.last_change)

    def register(self, name: str, said: Said, *, proved: bool) -> None:
        now = self.now
        new = self._registration(name, said)
        change = 0

        def run() -> str:
            nonlocal change
            registered = self.directory.register(new, proved=proved, now=now)
            change = registered.change
            return registered.outcome

        expected = self._outcome(lambda: self.model.register(name, said, now, proved=proved))
        assert expected == self._outcome(run)
        self._acknowledge(name, change or self.directory.saving.last_change)

    def beat_with_news(self, name: str, said: Said) -> None:
        """Send a heartbeat that also changes data, as the API does."""
        if name not in self.model.nodes:
            return
        self.beat(name)
        now = self.now
        self.model.amend(name, said, now)
        slot = self.directory.slot(name, now)
        new = self._registration(name, said)
        record = self.directory.amended(slot, new, now)
        change = self.directory.amend(record) if record is not None else self.directory.saving.last_change
        self._acknowledge(name, change)

    def come_back(self, name: str) -> None:
        """Let a visit find that a node came back, after an absence that may be longer than any before."""
        self.beat(name)
        if name in self.model.nodes:
            absence_s = self.chance.random() * 2 * self.options.life.heartbeat_tolerance_s
            self.model.came_back(name, absence_s)
            self.directory.nodes.raise_longest(self.directory.slot(name, self.now), absence_s)
            self._acknowledge(name, self.directory.saving.last_change)

    def leave(self, name: str) -> None:
        self._depart(name, self.model.leave, self.directory.leave)

    def forget(self, name: str) -> None:
        self._depart(name, self.model.forget, self.directory.forget)

    def _depart(self, name: str, model: Callable[[str, Now], None], real: Callable[[str, Now], int]) -> None:
        now = self.now
        expected = self._outcome(lambda: model(name, now))
        change = self._outcome(lambda: real(name, now))
        assert expected == change or expected is None
        self._acknowledge(name, change if isinstance(change, int) else self.directory.saving.last_change)

    def said(self, name: str) -> Said:
        """Return what a node might state; often the same as before."""
        chance, node = self.chance, self.model.nodes.get(name)
        if node is not None and chance.random() < 0.4:
            return node.said
        away_until_at = None
        if chance.random() < 0.2:
            ahead_s = chance.randrange(-8, 80) / 40 * self.options.life.coma_s
            away_until_at = self.clock.wall_s() + round(ahead_s * 8) / 8
        return Said(
            key=f"key-{chance.randrange(2)} of {name}" if chance.random() < 0.3 else f"key of {name}",
            services=tuple(sorted(chance.sample(SERVICES, chance.randrange(3)))),
            metadata={"version": chance.randrange(3)} if chance.random() < 0.5 else {},
            discoverable=chance.random() < 0.9,
            away_until_at=away_until_at,
        )

    def _registration(self, name: str, said: Said) -> Registration:
        return registration(
            name,
            key=said.key,
            metadata=said.metadata,
            services=",".join(said.services),
            discoverable=said.discoverable,
            away_until_at=said.away_until_at,
        )

    def _outcome(self, deed: Callable[[], object]) -> object:
        try:
            return deed()
        except Refused as refused:
            return str(refused)
        except CallerError as error:
            return error.code

    def _acknowledge(self, name: str, change: int) -> None:
        node = self.model.nodes.get(name)
        identity = None if node is None else node.identity()
        versions = self.acknowledged.setdefault(name, [])
        if not versions or versions[-1][1] != identity:
            versions.append((change, identity))

    # The store.

    def save(self, *, fails: bool, limit: int | None) -> None:
        """Save one batch of at most `limit`, or everything where that is None; what is taken must be true."""
        while True:
            batch = self.directory.saving.take_changes(limit or 7, self.now)
            if batch is None:
                return
            self._expect_true(batch)
            if fails:
                self.directory.saving.put_back(batch)
                return
            self._remember_stored(batch)
            self.store.commit(batch)
            if limit is not None:
                return

    def _expect_true(self, batch: Batch) -> None:
        assert batch.vitals.attended_s == self.now.attended_s
        for record in batch.records:
            self.expect_same(record)
        for sign in signs_on(batch.pages):
            node = self.model.nodes[self.directory.nodes.registry.node_id(sign.slot)]
            assert (sign.last_seen_s, sign.last_seen_at) == (node.last_seen_s, node.last_seen_at)
        for tombstone in batch.tombstones:
            grave = self.model.graves[self.names_by_hash[tombstone.id_hash]]
            assert (tombstone.died_s, tombstone.reason) == (grave.died_s, grave.reason)
        for id_hash in batch.lifted_id_hashes:
            assert self.names_by_hash[id_hash] not in self.model.graves

    def _remember_stored(self, batch: Batch) -> None:
        for slot in (*batch.freed_slots, *(record.slot for record in batch.records)):
            if slot in self.store.records:
                self.stored_nodes.pop(self.store.records[slot].node_id, None)
        for record in batch.records:
            self.stored_nodes[record.node_id] = copy.deepcopy(self.model.nodes[record.node_id])
        for sign in signs_on(batch.pages):
            stored = self.stored_nodes[self.directory.nodes.registry.node_id(sign.slot)]
            stored.last_seen_s, stored.last_seen_at = sign.last_seen_s, sign.last_seen_at
        for id_hash in batch.lifted_id_hashes:
            self.stored_graves.pop(self.names_by_hash[id_hash], None)
        for tombstone in batch.tombstones:
            name = self.names_by_hash[tombstone.id_hash]
            self.stored_graves[name] = copy.copy(self.model.graves[name])

    # Model and directory, side by side.

    def expect_same(self, record: Record) -> None:
        """Compare one node of the directory with that of the model."""
        node = self.model.nodes[record.node_id]
        assert record.state == node.state
        assert (record.last_seen_s, record.last_seen_at) == (node.last_seen_s, node.last_seen_at)
        assert (record.since_s, record.registered_at) == (node.since_s, node.registered_at)
        assert (record.away_until_s, bool(record.flags & LEFT)) == (node.away_until_s, node.left)
        assert record.services == ",".join(node.said.services)
        profile = Profile.decode(record.profile)
        assert (profile.public_key, profile.metadata) == (node.said.key, node.said.metadata)
        history = [
            (entry.from_state, entry.to_state, entry.reason) for entry in decode_history(record.history)
        ]
        assert history == node.history
        assert seconds_of(record.longest) == node.longest_s
        assert self.directory.nodes.deadline_s(record.slot) == self.model.due_s(node)

    def compare(self) -> None:
        """Everything, after every step; of very many nodes a few hundred, others each time."""
        directory, model, now = self.directory, self.model, self.now
        nodes = directory.nodes
        assert check(directory, now) == []
        assert len(directory) == len(model.nodes)
        for name in self.chance.sample(list(model.nodes), min(len(model.nodes), 200)):
            slot = nodes.registry.slot_of(name)
            assert slot is not None, f"{name} is lost"
            self.expect_same(nodes.registry.record(slot))
        counts = Counter(node.state for node in model.nodes.values())
        assert [nodes.registry.state_counts[state] for state in State] == [counts[state] for state in State]
        assert {self.names_by_hash[one.id_hash] for one in nodes.tombstones} == model.graves.keys()
        if not model.expected:
            assert nodes.transitions.counts == model.happened
        self._compare_discovery(now)

    def _compare_discovery(self, now: Now) -> None:
        wanted = frozenset(self.chance.sample(SERVICES, self.chance.randrange(3)))
        states = tuple(self.chance.sample(LIVE_STATES, self.chance.randint(1, len(LIVE_STATES))))
        matching = {
            name
            for name, node in self.model.nodes.items()
            if node.said.discoverable and not node.left and wanted <= set(node.said.services)
        }
        healthy = {name for name in matching if self.model.nodes[name].state in states}
        found = self.directory.discover(Query(wanted, states, max_results=5), now).step()
        assert found is not None
        names = [self.directory.nodes.registry.node_id(slot) for slot in found.slots]
        assert found.total == len(healthy)
        assert found.degraded == (bool(matching) and not healthy)
        assert len(set(names)) == len(names) == min(5, len(healthy or matching))
        assert set(names) <= (healthy or matching)

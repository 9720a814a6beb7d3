"""The directory: the operations of nodes, callers and operators, and the one mutator of all state.

Pure and synchronous: no loop, no socket, no clock; `now` and randomness are arguments. Nothing here waits, so
nothing interleaves and there are no locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..clock import Now
from ..errors import CallerError
from ..wording import counted, span
from .analytics.analytics import SHARED, Analytics
from .analytics.days import DAYS, MONTHS
from .blocking import Blocking
from .discovery import Draw, Query
from .empathy.forecast import Forecast
from .empathy.paces import Paces
from .empathy.pacing import Pacing
from .empathy.returns import Returns
from .empathy.visiting import CALIBRATION, HABITS, RETURNS, Visiting
from .empathy.watch import Watch
from .hearing import hearing
from .life.expiry import UNHEARD_S, Crowding, Expiry
from .life.mass_silence import MassSilenceOptions
from .life.pace import ADVICE_MAX
from .lifecycle import Event, LifecycleOptions, State, deadline_s
from .nodes import PATIENCE, Nodes
from .ranking import Ranking, SilenceRanking
from .registration import (
    Registration,
    amended,
    breaks,
    committed,
    fingerprints,
    has_key,
    names_key_of,
    new_record,
    repeats_absence,
    taken,
)
from .saving import Saving
from .state.blocks import BLOCK
from .state.kept import UNUSABLE
from .state.node import (
    BLOCKED,
    GENERATION_BASE_MAX,
    HELD,
    KEYED,
    LEFT,
    PROVEN,
    Profile,
    Record,
    hash_id,
    is_visible,
)

# The tolerance covers two heartbeats, whatever an operator advises.
HEARTBEATS_PER_TOLERANCE = 2
# The beginning of the names of kept values of the leader of a cluster.
CLUSTER = "cluster"
# Retry-After of the answer that the directory is full.
FULL_RETRY_AFTER_S = 3_600
# Default budget of bytes: several times the size of most nodes, and never too small for a few full ones.
BYTES_PER_NODE = 2_048
BYTES_MAX_LEAST = 1024 * 1024


@dataclass(frozen=True, eq=False)
class DirectoryOptions:
    """Settings of the directory. Durations are in seconds.

    `nodes_bytes_max` bounds `Registry.bytes_held`, the bytes of all records; with 0, `nodes_max` decides.
    With `forecast`, the directory remembers the habits of nodes and advises each a pace between
    `heartbeat_advice_min_s` and `heartbeat_advice_s`, for `heartbeats_advised_per_s` in all. The
    `analytics_days` last days have a row.
    """

    nodes_max: int
    nodes_bytes_max: int
    shards: int
    patience_factor_max: float
    heartbeat_advice_s: float
    probing: bool
    forecast: bool
    heartbeat_advice_min_s: float
    heartbeats_advised_per_s: float
    analytics_days: int

    @property
    def bytes_max(self) -> int:
        """The value of `nodes_bytes_max`, or the default for `nodes_max` if that is 0."""
        return self.nodes_bytes_max or max(BYTES_MAX_LEAST, BYTES_PER_NODE * self.nodes_max)


class Registered(NamedTuple):
    """The result of a registration, with the outcome ``registered``, ``updated`` or ``revived``.

    `slept_s` is how long the node had been silent. The outcome is durable once the change numbered `change`
    is stored.
    """

    outcome: str
    slot: int
    previous_state: State
    slept_s: float
    change: int


class Directory:
    """Nodes, their life cycle, and their discovery.

    `paces` are those of the heartbeats that nodes are advised. `visiting` and `forecast` are None for a
    directory that remembers no habits. `random` returns floats in [0, 1). The scheduler and the saver use the
    parts `nodes`, `expiry` and `saving`; requests use the methods here.
    """

    def __init__(
        self,
        options: DirectoryOptions,
        lifecycle: LifecycleOptions,
        mass_silence: MassSilenceOptions,
        random: Callable[[], float],
    ) -> None:
        self.options = options
        self.lifecycle = lifecycle
        self.nodes = Nodes(
            lifecycle,
            shards=options.shards,
            nodes_max=options.nodes_max,
            patience_factor_max=options.patience_factor_max,
        )
        self.blocking = Blocking(self.nodes)
        self.expiry = Expiry(self.nodes, mass_silence, probing=options.probing)
        self.saving = Saving(self.nodes, self.expiry)
        pace_s_max = lifecycle.heartbeat_tolerance_s / (HEARTBEATS_PER_TOLERANCE * ADVICE_MAX)
        slowest_s = min(options.heartbeat_advice_s, pace_s_max)
        quickest_s = min(options.heartbeat_advice_min_s, slowest_s) if options.forecast else slowest_s
        self.paces = Paces(quickest_s, slowest_s)
        self.watch: Watch | None = None
        self.visiting: Visiting | None = None
        self.forecast: Forecast | None = None
        self.ranking: Ranking = SilenceRanking(self.nodes.registry, lifecycle.heartbeat_tolerance_s)
        if options.forecast:
            self.forecast = self.ranking = Forecast(self.nodes, self.paces, Returns())
            pacing = Pacing(self.paces, options.heartbeats_advised_per_s)
            self.watch = Watch(self.nodes.registry, self.nodes.habits.days)
            self.visiting = Visiting(
                *(self.nodes, self.paces, self.forecast, pacing, self.watch),
                tolerance_s=lifecycle.heartbeat_tolerance_s,
            )
        self.analytics = Analytics(
            *(self.nodes, self.expiry, self.forecast, self.visiting, self.watch),
            days_max=options.analytics_days,
        )
        # False while another process may lead.
        self.may_change: Callable[[], bool] = lambda: True
        # Takes a sign of life, at a moment, of the active node in a slot.
        self.hear = hearing(self.nodes, self.expiry)
        self._crowding = Crowding(self.nodes.registry, options.nodes_max, options.bytes_max)
        # Number of new nodes and longer records that were refused because of `bytes_max`.
        self.bytes_refusals = 0
        # Values that the store keeps for others, by their names, as they were when it was loaded.
        self.kept_for_others: dict[str, bytes] = {}
        # Functions that take the kept values of a store, by the part of their names before the first "/".
        self.keepers: dict[str, Callable[[str, bytes], None]] = {
            PATIENCE: self.nodes.restore_patience,
            CLUSTER: self.kept_for_others.__setitem__,
            BLOCK: self.blocking.blocks.take,
            **dict.fromkeys((DAYS, MONTHS), self.analytics.restore),
        }
        if self.visiting is None:
            # Nothing would keep them up to date, or forget them with their nodes.
            self.keepers[HABITS] = lambda name, _: self.nodes.kept.note(name, lambda: None)
        else:
            self.keepers |= dict.fromkeys((HABITS, RETURNS, CALIBRATION), self.visiting.restore)
        self._random = random
        # Differs in each run, so that no generation is used again after a crash or from an older snapshot.
        self._generation_base = int(random() * GENERATION_BASE_MAX)

    def require_lead(self) -> None:
        """Raise `CallerError` 503 ``no_leader`` unless this is the directory of the leader, for sure."""
        if self.nodes.is_replica or not self.may_change():
            raise CallerError(
                503,
                "no_leader",
                "The request would change a record, which the leader of this directory does alone, and this "
                "process did not hand it on.",
                suggestion="Try again in a second.",
                headers=(("Retry-After", "1"),),
            )

    def __len__(self) -> int:
        return len(self.nodes.registry)

    def restore_kept(self, rows: Iterable[tuple[str, bytes]]) -> list[str]:
        """Take back the values that a store keeps, by name, after everything else.

        Values of unknown names are left alone. Return a line for each value that cannot be used.
        """
        if self.visiting is not None:
            self.visiting.begin()
        return self._take_kept(rows)

    def take_shared(self, name: str, value: bytes) -> None:
        """Take a kept value of a leader, if replicas need it; a damaged one is left out."""
        if name.partition("/")[0] in SHARED:
            self._take_kept([(name, value)])

    def _take_kept(self, rows: Iterable[tuple[str, bytes]]) -> list[str]:
        faults = []
        for name, value in rows:
            restore = self.keepers.get(name.partition("/")[0])
            try:
                if restore is not None:
                    restore(name, value)
            except UNUSABLE as error:
                faults.append(f"{name!r} of {counted(len(value), 'byte')}: {type(error).__name__}: {error}")
        return faults

    def register(
        self, registration: Registration, *, proved: bool, now: Now, signed: bool = False
    ) -> Registered:
        """Add a node, or update or revive the one that is already there.

        `proved`: the caller proved to be the node. Without a proof, only a registration that changes nothing
        is accepted, as a sign of life, and not for a node that is bound to its key. `signed`: the
        registration is signed with the key that it names, which binds the node to that key.

        Raise `CallerError`: 403 ``blocked``, 403 ``forbidden`` if it breaks the commitment to a next key, 409
        ``node_id_taken``, 503 ``directory_full``. A known node may always change, unless its record grows by
        more than there is room for.
        """
        self.require_lead()
        self.blocking.refuse_registration(registration)
        slot = self.nodes.registry.slot_of(registration.node_id)
        if slot is None:
            return self._register_new(registration, signed, now)
        known = self.nodes.registry.record(slot)
        # Another key is no way around a block. Another address is: the block is of the former one alone.
        self.blocking.refuse_key_of(known)
        if known.flags & PROVEN and not (proved and names_key_of(registration, known)):
            raise taken(
                registration.node_id,
                "It is bound to another key.",
                "Register with the key of that node, change the key with POST /nodes/{node_id}/key, "
                "or choose another node_id.",
            )
        if breaks(registration, known.next_key):
            raise committed(known.next_key)
        record = amended(known, registration, now, self.lifecycle.coma_s, signed=signed)
        if record is not None and not proved:
            if not repeats_absence(known, record, registration):
                raise taken(
                    registration.node_id,
                    "It is registered with other data, and nothing proves that you are the node.",
                    "Register the data that the directory holds, prove that you are the node, "
                    "or choose another node_id.",
                )
            record = None
        slept_s = max(0.0, now.wall_s - self.nodes.registry.last_seen_at[slot])
        if record is not None:
            self.amend(record)
        previous = self.expiry.sign_of_life(slot, Event.REGISTERED, now)
        # The answer says whether the registration is durable, also if it only repeats another one.
        change = self.nodes.changes.note(slot)
        outcome = "updated" if previous is State.ACTIVE else "revived"
        return Registered(outcome, slot, previous, slept_s, change)

    def heartbeat(self, slot: int, now: Now) -> State:
        """Take a sign of life of the node in `slot`. Return the state in which it found the node."""
        if self.nodes.registry.states[slot] != State.ACTIVE:
            self.require_lead()
            return self.expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, now)
        self.hear(slot, now)
        return State.ACTIVE

    def heartbeat_due_at(self, now: Now, slot: int | None = None) -> float:
        """Return the wall time at which the tolerance of an active node ends.

        The node is that in `slot`; without a slot, any that is heard `now`, is not held, and is not in
        `Registry.apart`.
        """
        if slot is None:
            due_s = deadline_s(State.ACTIVE, 0.0, now.attended_s, 0.0, self.lifecycle.heartbeat_tolerance_s)
        else:
            due_s = self.nodes.deadline_s(slot)
        return now.wall_s + due_s - now.attended_s

    @property
    def first_gap_s(self) -> float:
        """The time that is assumed between two signs of life of a new node."""
        return self.paces.seconds[self.nodes.habits.pace_first]

    def advice_s(self, slot: int, now: Now) -> float:
        """Return in how many seconds the node in `slot`, which is heard `now`, is due again."""
        pace = self.paces.each[self.nodes.habits.paces[slot]]
        return pace.advice_s(slot, now.attended_s)

    def amended(self, slot: int, registration: Registration, now: Now) -> Record | None:
        """Return the record of the node in `slot` with what it now says; None where it says nothing new."""
        return amended(self.nodes.registry.record(slot), registration, now, self.lifecycle.coma_s)

    def amend(self, record: Record) -> int:
        """Write a record that `amended` returned; the node proved to be that node.

        Return the number of the change. Raise `CallerError` 503 ``directory_full`` if the record grows by
        more than there is room for, 403 ``blocked``.
        """
        self.require_lead()
        self.blocking.refuse_record(record)
        self._require_bytes(self.nodes.registry.bytes_added(record))
        return self.nodes.rewrite(record._replace(flags=record.flags & ~BLOCKED))

    def bind(self, slot: int) -> int:
        """Bind the node in `slot` to its key, with which it signed. Return the number of the change."""
        self.require_lead()
        record = self.nodes.registry.record(slot)
        return self.nodes.rewrite(record._replace(flags=record.flags | PROVEN))

    def change_key(self, slot: int, public_key: str, next_key: str) -> int:
        """Give the node in `slot` a new key, with which it signed, and bind it to that key.

        `public_key` is the canonical text; `next_key`, as in `Record`, replaces the former commitment.
        Everything that the former key granted is void from now on. Return the number of the change. Raise
        `CallerError` 403 ``blocked``.
        """
        self.require_lead()
        record = self.nodes.registry.record(slot)
        profile = Profile.decode(record.profile)._replace(public_key=public_key)
        record = record._replace(
            profile=profile.encode(),
            flags=record.flags | PROVEN | KEYED,
            generation=record.generation + 1,
            next_key=next_key,
        )
        self.blocking.refuse_record(record)
        return self.nodes.rewrite(record)

    def revoke_all(self, slot: int) -> int:
        """Make void everything that the node in `slot` was granted. Return the number of the change."""
        self.require_lead()
        record = self.nodes.registry.record(slot)
        return self.nodes.rewrite(record._replace(generation=record.generation + 1))

    def is_bound(self, node_id: str) -> bool:
        """Return whether the node, alive or dead, is bound to a key that only its bearer can use."""
        slot = self.nodes.registry.slot_of(node_id)
        if slot is not None:
            return bool(self.nodes.registry.flags[slot] & PROVEN)
        tombstone = self.nodes.tombstones.of_node(node_id)
        return tombstone is not None and bool(tombstone.flags & PROVEN)

    def leave(self, node_id: str, now: Now) -> int:
        """Hide a node, without suspicion, until it is heard again. It keeps its identity.

        Return the number of the change. Raise `CallerError`: 404 ``node_not_found``, 410 ``node_dead``.
        """
        self.require_lead()
        slot = self.slot(node_id, now)
        # A node that says goodbye is alive: its coma begins now, even if it was in a coma already.
        self.expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, now)
        record = self.nodes.registry.record(slot)
        change = self.nodes.rewrite(
            record._replace(flags=record.flags | LEFT, away_from_s=0.0, away_until_s=0.0)
        )
        self.nodes.enter(slot, Event.LEFT, at=now.wall_s, at_s=now.attended_s)
        self.expiry.let_go(slot)
        return change

    def forget(self, node_id: str, now: Now) -> int:
        """Erase a node now. Only a tombstone remains, with a hash of the id.

        Return the number of the change. Raise `CallerError`: 404 ``node_not_found``, 410 ``node_dead``.
        """
        self.require_lead()
        slot = self.slot(node_id, now)
        self.expiry.let_go(slot)
        return self.nodes.bury(slot, Event.FORGOTTEN, at=now.wall_s, at_s=now.attended_s)

    def wake(self, node_id: str, now: Now) -> int:
        """Count a node as heard, on an operator's word. Return the number of the change.

        Raise `CallerError`: 404 ``node_not_found``, 410 ``node_dead``, 409 ``node_left`` for a node that
        left, because only the node itself may undo that.
        """
        self.require_lead()
        slot = self.slot(node_id, now)
        if self.nodes.registry.flags[slot] & LEFT:
            raise CallerError(
                409,
                "node_left",
                f"The node {node_id!r} has left, and waking it would make it discoverable against its wish.",
                suggestion="Its own heartbeat brings it back.",
            )
        self.expiry.sign_of_life(slot, Event.SIGN_OF_LIFE, now)
        return self.nodes.changes.note(slot)

    def hold(self, node_id: str, now: Now) -> int:
        """Keep a node from changing state by silence until `release`, on an operator's word.

        The hold is part of the record and survives a restart. A sign of life still revives the node, and the
        node may still leave. Return the number of the change. Raise `CallerError`: 404 ``node_not_found``,
        410 ``node_dead``.
        """
        self.require_lead()
        slot = self.slot(node_id, now)
        record = self.nodes.registry.record(slot)
        if record.flags & HELD:
            return self.nodes.changes.note(slot)
        change = self.nodes.rewrite(record._replace(flags=record.flags | HELD))
        self.expiry.let_go(slot)
        return change

    def release(self, node_id: str, now: Now) -> int:
        """End the hold of a node. Return the number of the change.

        The time of the hold does not count as silence. If the tolerance of an active node ended meanwhile,
        its silence counts from now on; a node that was silent already begins the dwell time of its state
        anew.

        Raise `CallerError`: 404 ``node_not_found``, 410 ``node_dead``, 409 ``node_not_held``.
        """
        self.require_lead()
        slot = self.slot(node_id, now)
        record = self.nodes.registry.record(slot)
        if not record.flags & HELD:
            raise CallerError(
                409,
                "node_not_held",
                f"The node {node_id!r} is not held, so there is nothing to release.",
                suggestion="GET /admin/nodes shows which nodes are held.",
            )
        record = record._replace(flags=record.flags & ~HELD)
        if record.state != State.ACTIVE:
            record = record._replace(since_s=now.attended_s)
        silent_s_max = min(self.nodes.patience.dwell_s(State.ACTIVE, record.longest), UNHEARD_S)
        if record.last_seen_s + silent_s_max < now.attended_s:
            # As if the node had announced an absence until now, which also keeps it from making room.
            away_from_s = record.away_from_s or record.last_seen_s
            away_until_s = max(record.away_until_s, now.attended_s)
            record = record._replace(away_from_s=away_from_s, away_until_s=away_until_s)
        return self.nodes.rewrite(record)

    def discover(self, query: Query, now: Now) -> Draw:
        """Begin a search for peers; `Draw.step` does the work."""
        return Draw(self.nodes, self.ranking, query, now.attended_s, self._random)

    def slot(self, node_id: str, now: Now) -> int:
        """Return the slot of a node. Raise `CallerError`: 404 ``node_not_found``, 410 ``node_dead``."""
        slot = self.nodes.registry.slot_of(node_id)
        if slot is None:
            raise self._unknown(node_id, now)
        return slot

    def open_slot(self, node_id: str, now: Now) -> int:
        """Return the slot of a node that no block covers.

        Raise `CallerError` as `slot`, and 403 ``blocked``.
        """
        slot = self.slot(node_id, now)
        self.blocking.refuse_slot(slot)
        return slot

    def visible_slot(self, node_id: str) -> int:
        """Return the slot of a node that everybody may see.

        Raise `CallerError` 404 ``node_not_found``, with one text for a node that is hidden, dead or unknown.
        """
        slot = self.nodes.registry.slot_of(node_id)
        if slot is None or not is_visible(self.nodes.registry.flags[slot]):
            raise self.not_found(node_id)
        return slot

    def _register_new(self, registration: Registration, signed: bool, now: Now) -> Registered:
        nodes = self.nodes
        if nodes.is_reserved(registration.node_id):
            raise taken(
                registration.node_id,
                "Its record is damaged, and is kept as it is until the operator of this directory fixes it.",
                "Report it to the operator, who finds it with `openred-central verify`, "
                "or choose another node_id.",
            )
        id_hash = hash_id(registration.node_id)
        tombstone = nodes.tombstones.get(id_hash)
        next_key = "" if tombstone is None else tombstone.next_key
        takes_over = signed and has_key(registration, next_key)
        if tombstone is not None and not (
            takes_over
            or (
                tombstone.key_fingerprint in fingerprints(registration)
                and (signed or not tombstone.flags & PROVEN)
            )
        ):
            left = span(nodes.tombstones.ends_s(tombstone) - now.attended_s)
            raise taken(
                registration.node_id,
                f"Its former bearer is dead. Only its key, or the next key that it committed to, may take it "
                f"now; the name is free in {left}.",
                "Register with the key of that node, signed if the node used to sign, "
                "or choose another node_id.",
            )
        if breaks(registration, next_key) and not takes_over:
            raise committed(next_key)
        record = new_record(
            registration,
            now,
            self.lifecycle.coma_s,
            slot=nodes.registry.next_slot(),
            revision=nodes.revision + 1,
            usual_gap_s=self.first_gap_s,
            signed=signed,
        )
        bytes_added = nodes.registry.bytes_added(record)
        giving_way = self._crowding.who_makes_room(bytes_added, now.attended_s)
        if giving_way and not self.expiry.may_bury():
            giving_way = []
        # No node makes room for one that finds no place after all.
        if len(self) - len(giving_way) >= self.options.nodes_max:
            raise CallerError(
                503,
                "directory_full",
                f"The directory holds {counted(len(self), 'node')}, which is its limit; "
                "known nodes may still update, send heartbeats and revive.",
                suggestion="Try again later, or register with another directory.",
                headers=(("Retry-After", str(FULL_RETRY_AFTER_S)),),
            )
        self._require_bytes(bytes_added - sum(map(nodes.registry.text_bytes, giving_way)))
        for freed in giving_way:
            self.expiry.let_go(freed)
            nodes.bury(freed, Event.FORGOTTEN, at=now.wall_s, at_s=now.attended_s)
            record = record._replace(slot=nodes.registry.next_slot(), revision=nodes.revision + 1)
        if next_key and not takes_over:
            record = record._replace(next_key=next_key)
        from_state = State.DEAD if tombstone is not None else State.ABSENT
        return self.add(record, id_hash, now, from_state=from_state)

    def is_crowded(self, bytes_added: int) -> bool:
        """Return whether the room may be short for one more node, which takes `bytes_added` more bytes."""
        return self._crowding.is_crowded(bytes_added)

    def add(self, record: Record, id_hash: str, now: Now, *, from_state: State = State.ABSENT) -> Registered:
        """Add a new node that nothing keeps out; `id_hash` is the `hash_id` of its id.

        `record` has the slot and the revision that come next.
        """
        self.require_lead()
        nodes = self.nodes
        # The node may have died within the hour, and its tombstone may be gone already.
        self.expiry.silence.began_anew(record.node_id)
        nodes.revision = record.revision
        if nodes.tombstones.may_have_grants(id_hash, now.attended_s):
            # Grants of a former bearer of the name, or of a life that a crash lost, must not be valid here.
            record = record._replace(generation=self._generation_base + record.revision)
        change = nodes.begin(record, id_hash, from_state=from_state, at=now.wall_s)
        return Registered("registered", record.slot, from_state, 0.0, change)

    def _require_bytes(self, bytes_added: int) -> None:
        """Raise `CallerError` 503 ``directory_full`` if there is no room for so many more bytes."""
        held, bytes_max = self.nodes.registry.bytes_held, self.options.bytes_max
        if bytes_added > 0 and held + bytes_added > bytes_max:
            self.bytes_refusals += 1
            raise CallerError(
                503,
                "directory_full",
                f"The records of all nodes take {held} of {bytes_max} bytes, and this one needs "
                f"{bytes_added} more; known nodes may still send heartbeats, revive and register less data.",
                suggestion="Register less data, try again later, or register with another directory.",
                headers=(("Retry-After", str(FULL_RETRY_AFTER_S)),),
            )

    @staticmethod
    def not_found(node_id: str) -> CallerError:
        """Return the error for a node that is unknown, or that the caller may not see."""
        return CallerError(
            404,
            "node_not_found",
            f"No node is registered as {node_id!r}.",
            suggestion="Register it with POST /register. A hidden node looks like this to all callers that "
            "do not prove to be the node: if it is yours, send a proof.",
        )

    def _unknown(self, node_id: str, now: Now) -> CallerError:
        tombstone = self.nodes.tombstones.of_node(node_id)
        if tombstone is None:
            return self.not_found(node_id)
        ago = span(now.attended_s - tombstone.died_s)
        return CallerError(
            410,
            "node_dead",
            f"The node {node_id!r} was removed {ago} ago (reason: {tombstone.reason}).",
            suggestion="Register it again with POST /register and the same public key.",
        )

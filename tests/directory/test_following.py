"""A replica that is kept in step by frames is what its origin is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from random import Random

import pytest

from openred_central.clock import Now
from openred_central.directory.consistency import check
from openred_central.directory.directory import Directory
from openred_central.directory.following import Differs, Following, Gap
from openred_central.directory.frame import Check, Frame, LoadPart
from openred_central.directory.leading import Leading
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.directory.lifecycle import State
from openred_central.directory.merging import Merger
from openred_central.directory.state.blocks import Block, Kind
from openred_central.directory.state.signs import SignColumns
from openred_central.errors import CallerError
from openred_central.storage.frames import pack, pack_part, unpack, unpack_part
from openred_central.storage.versions import LINK_VERSION
from tests.support.building import (
    NEVER_HOLDS,
    SHORT_LIFE,
    DictStore,
    at,
    beat,
    load,
    make_directory,
    register,
    registration,
    run_until,
)

# The text of some key, and the services of some nodes.
KEY = "A" * 43 + "="
SERVICES = ("", "chat", "chat,files", "relay")


def make(silence: MassSilenceOptions = NEVER_HOLDS) -> Directory:
    return make_directory(
        life=SHORT_LIFE, silence=silence, forecast=True, nodes_max=150, patience_factor_max=2.0
    )


class Origin:
    """A directory in which everything happens, and the frames of its commits."""

    def __init__(self, random: Random, names: int = 140) -> None:
        self.random = random
        self.directory = make()
        self.store = DictStore()
        self.names = [f"node-{number}" for number in range(names)]
        self.now = at(1.0)
        assert self.directory.visiting is not None
        self.directory.visiting.begin()
        self.directory.visiting.resumed(0.0)
        self.leading, self.merger = Leading(self.directory), Merger(self.directory)

    def pass_time(self, seconds: float) -> None:
        self.now = at(self.now.attended_s + seconds)

    def act(self) -> None:
        """Let something happen."""
        random, directory, now = self.random, self.directory, self.now
        name = random.choice(self.names)
        with suppress(CallerError):
            match random.randrange(13):
                case 0 | 1 | 2:
                    services, habits = random.choice(SERVICES), random.random() < 0.9
                    away_until_at = random.choice((None, 0.0, now.wall_s + 20))
                    new = registration(name, services=services, habits=habits, away_until_at=away_until_at)
                    directory.register(new, proved=True, now=now)
                case 3 | 4 | 5:
                    beat(directory, name, now)
                case 6:
                    directory.forget(name, now)
                case 7:
                    random.choice((directory.leave, directory.hold, directory.release))(name, now)
                case 8:
                    directory.change_key(directory.slot(name, now), KEY, "")
                case 9:
                    directory.nodes.raise_longest(directory.slot(name, now), 300.0 * random.random())
                case 10:
                    run_until(directory, now)
                case 11:
                    self.pass_time(random.choice((0.25, 1.0, 2.0)))
                    self.visit()
                case 12:
                    self.block(name)

    def block(self, node_id: str) -> None:
        """Block a node or a network, or end a block. Records may have their flags later."""
        blocking, random = self.directory.blocking, self.random
        known = list(blocking.blocks)
        if known and random.random() < 0.6:
            ended = random.choice(known)
            blocking.remove(ended.kind, ended.subject)
        else:
            network = Kind.NETWORK, f"192.0.2.{random.randrange(4)}/32"
            kind, subject = network if random.random() < 0.2 else (Kind.ID, node_id)
            blocking.add(Block(kind, subject, "spam", self.now.wall_s, None))
        if random.random() < 0.8:
            for _ in blocking.judging():
                pass

    def visit(self) -> None:
        """Visit all nodes that are due for it."""
        visiting = self.directory.visiting
        assert visiting is not None
        for _ in range(10):
            if visiting.next_s(self.now.attended_s) <= self.now.attended_s:
                visiting.visit(self.now)

    def commit(self, limit: int, *, closing: bool = False) -> bytes | None:
        """Save a batch. Return its frame as bytes."""
        batch = self.directory.saving.take_changes(limit, self.now, closing=closing)
        if batch is None:
            return None
        self.store.commit(batch)
        return pack(self.leading.frame(batch, self.now), LINK_VERSION)

    def commit_all(self) -> Iterator[bytes]:
        """Save everything. Forecasts may have changed alone, and come with the vitals."""
        while self.directory.saving.pending_records:
            yield self.commit(50) or b""
        yield self.commit(50, closing=True) or b""

    def load(self) -> list[LoadPart]:
        return [unpack_part(pack_part(part, LINK_VERSION)) for part in self.leading.load()]


def follow(origin: Origin) -> Following:
    following = Following(make())
    load(following, origin.load())
    return following


def apply(following: Following, frame: bytes | Frame) -> None:
    for _ in following.apply(unpack(frame) if isinstance(frame, bytes) else frame):
        pass


def resync(following: Following, parts: Iterable[LoadPart]) -> None:
    for _ in following.resync(parts):
        pass


def content(directory: Directory, now: Now) -> dict[str, object]:
    """Return all that a replica must have in common with its origin."""
    nodes, registry, forecast = directory.nodes, directory.nodes.registry, directory.forecast
    assert forecast is not None
    slots = registry.taken_slots()
    return {
        "records": registry.records(slots),
        "tombstones": sorted(nodes.tombstones),
        "index": sorted(nodes.index.members()),
        "check": Check.of(nodes),
        "bytes": registry.bytes_held,
        "blocks": sorted(directory.blocking.blocks),
        "revision": nodes.revision,
        "apart": registry.apart,
        "expected": [forecast.expected(slot, now.attended_s) for slot in slots],
        "scores": forecast.scores(slots, now.attended_s),
        "usual": forecast.usual_score,
        "advice": [directory.advice_s(slot, now) for slot in slots],
    }


def expect_equal(following: Following, origin: Origin) -> None:
    replica = following.directory
    assert content(replica, origin.now) == content(origin.directory, origin.now)
    assert check(replica, origin.now) == []
    assert not replica.saving.pending_records
    assert not replica.nodes.transitions.take()


def test_a_replica_follows_in_any_cuts_and_repetitions(seed: int) -> None:
    random = Random(seed)
    origin = Origin(random)
    for _ in range(100):
        origin.act()
    following, last = follow(origin), b""
    for _ in range(2_000):
        origin.act()
        if random.random() < 0.2 and (frame := origin.commit(random.choice((1, 3, 50)))) is not None:
            for each in filter(None, (last, frame, frame)):
                apply(following, each)
            last = frame
    for frame in origin.commit_all():
        apply(following, frame)
    assert following.seq == origin.leading.seq > 100
    expect_equal(following, origin)


DROPPED: dict[str, Callable[[Frame], Frame]] = {
    "freed": lambda frame: frame._replace(batch=frame.batch._replace(freed_slots=[])),
    "records": lambda frame: frame._replace(batch=frame.batch._replace(records=[])),
    "tombstones": lambda frame: frame._replace(batch=frame.batch._replace(tombstones=[])),
    "lifted": lambda frame: frame._replace(batch=frame.batch._replace(lifted_id_hashes=[])),
    "blocks": lambda frame: frame._replace(batch=frame.batch._replace(kept=())),
    "signs": lambda frame: frame._replace(signs=SignColumns()),
    "habits": lambda frame: frame._replace(habits=[]),
    "outlook": lambda frame: frame._replace(outlook=None),
}


@pytest.mark.parametrize("dropped", DROPPED)
def test_every_section_of_a_frame_counts(seed: int, dropped: str) -> None:
    random = Random(seed)
    origin = Origin(random)
    following, differed = follow(origin), False
    for _ in range(2_000):
        origin.act()
        if random.random() < 0.1 and (frame := origin.commit(50)) is not None:
            try:
                apply(following, DROPPED[dropped](unpack(frame)))
            except Differs:
                differed = True
    origin.directory.blocking.add(Block(Kind.ID, "nobody", "spam", origin.now.wall_s, None))
    # The second time, all nodes are active and stored, so that no record brings their signs of life.
    for _ in range(2):
        origin.pass_time(1.0)
        for name in origin.names:
            with suppress(CallerError):
                beat(origin.directory, name, origin.now)
        for frame in origin.commit_all():
            with suppress(Differs):
                apply(following, DROPPED[dropped](unpack(frame)))
    if dropped in ("blocks", "signs", "habits", "outlook"):
        assert content(following.directory, origin.now) != content(origin.directory, origin.now)
    else:
        assert differed, "the digest shows it at once"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openred_central.directory.leading.LOAD_ROWS", 5)
    monkeypatch.setattr("openred_central.directory.leading.LOAD_CHUNKS", 1)
    monkeypatch.setattr("openred_central.directory.following.SLICE_ROWS", 7)


def changing(origin: Origin, frames: list[bytes]) -> Iterator[LoadPart]:
    """Yield the parts of a load while the origin changes; the frames meanwhile go to `frames`."""
    for part in origin.leading.load():
        yield unpack_part(pack_part(part, LINK_VERSION))
        for _ in range(origin.random.randrange(8)):
            origin.act()
            if origin.random.random() < 0.3 and (frame := origin.commit(5)) is not None:
                frames.append(frame)


@pytest.mark.usefixtures("small_parts")
def test_a_load_may_take_its_time(seed: int) -> None:
    origin, frames = Origin(Random(seed)), list[bytes]()
    for _ in range(15):
        for _ in range(200):
            origin.act()
        following = Following(make())
        frames.clear()
        load(following, changing(origin, frames))
        for frame in (*frames, *origin.commit_all()):
            apply(following, frame)
        expect_equal(following, origin)


@pytest.mark.usefixtures("small_parts")
def test_a_gap_is_repaired_in_place(seed: int) -> None:
    random = Random(seed)
    origin, frames = Origin(random), list[bytes]()
    following, gaps = follow(origin), 0
    while gaps < 15:
        for _ in range(20):
            origin.act()
        frames += origin.commit_all()
        if random.random() < 0.2 and frames:
            frames.pop(random.randrange(len(frames)))
        try:
            while frames:
                apply(following, frames[0])
                frames.pop(0)
        except Gap:
            gaps += 1
            frames.clear()
            resync(following, changing(origin, frames))
            for frame in (*frames, *origin.commit_all()):
                apply(following, frame)
            frames.clear()
            expect_equal(following, origin)


def test_a_frame_out_of_turn_changes_nothing() -> None:
    origin = Origin(Random(1))
    following = follow(origin)
    register(origin.directory, "a", origin.now)
    first = origin.commit(9)
    register(origin.directory, "b", origin.now)
    second = origin.commit(9)
    assert first is not None
    assert second is not None
    with pytest.raises(Gap, match="frame 2 came after frame 0"):
        apply(following, second)
    assert len(following.directory) == following.seq == 0
    apply(following, first)
    apply(following, second)
    following.directory.nodes.clear(0)
    apply(following, second)
    assert len(following.directory) == 1, "the second time it is not even looked at"


def test_a_replica_that_drifted_is_found_out_and_made_equal() -> None:
    origin = Origin(Random(1))
    following = follow(origin)
    for number in range(9):
        register(origin.directory, f"n{number}", origin.now)
    frames = list(origin.commit_all())
    frame = unpack(frames[0])
    with pytest.raises(Differs, match="after frame 1 the replica has"):
        apply(following, frame._replace(batch=frame.batch._replace(records=frame.batch.records[1:])))
    resync(following, origin.load())
    expect_equal(following, origin)


def test_a_load_alone_is_the_whole_directory(seed: int) -> None:
    origin = Origin(Random(seed))
    for _ in range(1_000):
        origin.act()
    for _ in origin.commit_all():
        pass
    following = follow(origin)
    expect_equal(following, origin)
    # The last slots lose their nodes, and the frames of that are lost, too.
    registry = origin.directory.nodes.registry
    for slot in registry.taken_slots()[-9:]:
        origin.directory.forget(registry.node_id(slot), origin.now)
    for _ in origin.commit_all():
        pass
    resync(following, origin.load())
    expect_equal(following, origin)


def test_a_long_frame_leaves_turns_to_others() -> None:
    origin = Origin(Random(1))
    for number in range(150):
        register(origin.directory, f"n{number}", origin.now)
    following = Following(make())
    batch = origin.directory.saving.take_changes(1_000, origin.now)
    assert batch is not None
    frame = origin.leading.frame(batch._replace(records=batch.records * 4), origin.now)
    assert sum(1 for _ in following.apply(frame)) >= 3


def test_signs_of_life_heard_here_outlast_a_record_and_a_resync() -> None:
    origin = Origin(Random(1))
    slot = register(origin.directory, "a", origin.now)
    frames = list(origin.commit_all())
    following = follow(origin)
    for frame in frames:
        apply(following, frame)
    beat(following.directory, "a", at(9.0))
    assert list(following.heard().last_seen_s) == [9.0]
    assert following.heard().slots == []
    origin.directory.revoke_all(slot)
    for frame in origin.commit_all():
        apply(following, frame)
    assert following.directory.nodes.registry.record(slot)[5:7] == (at(9.0).wall_s, 9.0)
    assert following.directory.nodes.registry.generation(slot) == 1
    assert len(following.heard().slots) == 1
    resync(following, origin.load())
    assert following.directory.nodes.registry.last_seen_s[slot] == 9.0
    assert list(following.heard().last_seen_s) == [9.0], "the leader may have refused it"
    # Another life of the name has not been heard.
    origin.directory.forget("a", origin.now)
    register(origin.directory, "a", at(2.0))
    for frame in origin.commit_all():
        apply(following, frame)
    assert following.directory.nodes.registry.last_seen_s[slot] == 2.0


def test_a_frame_tells_what_was_heard_at_the_leader_alone() -> None:
    origin = Origin(Random(1))
    slots = [register(origin.directory, name, origin.now) for name in ("a", "b", "c")]
    for _ in origin.commit_all():
        pass
    beat(origin.directory, "b", at(9.0))
    signs = SignColumns(slots[2:], [at(8.0).wall_s], [8.0], [60.0])
    heard = origin.merger.merge(signs, origin.directory.nodes.changes.last, at(9.0))
    assert heard == slots[2:]
    frame = unpack(*origin.commit_all())
    assert (frame.signs.slots, frame.signs.last_seen_s) == ([slots[1]], [9.0])
    beat(origin.directory, "a", at(9.5))
    frame = unpack(*origin.commit_all())
    assert frame.signs.slots == slots[:1]


def test_a_node_that_the_leader_took_for_another_is_told_again() -> None:
    origin = Origin(Random(1))
    following = Following(make())
    slot = register(origin.directory, "a", origin.now)
    # The load has the node, but its `as_of` is from before its registration.
    load(following, origin.load())
    assert not following.settled, "an older frame may still take it back"
    beat(following.directory, "a", at(9.0))
    assert origin.merger.merge(following.heard(), following.as_of, at(9.0)) == []
    for frame in origin.commit_all():
        apply(following, frame)
    assert following.settled
    assert origin.merger.merge(following.heard(), following.as_of, at(9.0)) == [slot]


def test_late_signs_of_life_are_not_those_of_the_next_node_in_their_slot() -> None:
    origin = Origin(Random(1))
    slot = register(origin.directory, "former", origin.now)
    following = follow(origin)
    beat(following.directory, "former", at(9.0))
    origin.directory.forget("former", at(2.0))
    assert register(origin.directory, "next", at(3.0)) == slot
    assert origin.merger.merge(following.heard(), following.as_of, at(10.0)) == []
    assert origin.directory.nodes.registry.last_seen_s[slot] == 3.0
    for frame in origin.commit_all():
        apply(following, frame)
    beat(following.directory, "next", at(9.5))
    assert origin.merger.merge(following.heard(), following.as_of, at(10.0)) == [slot]


def test_a_follower_writes_only_times(seed: int) -> None:
    origin = Origin(Random(seed))
    for _ in range(500):
        origin.act()
    following = follow(origin)
    replica, late = following.directory, at(origin.now.attended_s + 1_000)
    former = content(replica, late)
    for slot in replica.nodes.registry.taken_slots():
        if replica.nodes.registry.states[slot] == State.ACTIVE:
            assert replica.heartbeat(slot, late) is State.ACTIVE
        else:
            with pytest.raises(CallerError, match="503 no_leader"):
                replica.heartbeat(slot, late)
    replica.nodes.registry.last_seen_s[:] = origin.directory.nodes.registry.last_seen_s
    replica.nodes.registry.last_seen_at[:] = origin.directory.nodes.registry.last_seen_at
    replica.nodes.registry.usual_gap_s[:] = origin.directory.nodes.registry.usual_gap_s
    assert content(replica, late) == former
    assert check(replica, late) == []
    assert not replica.saving.pending_records


def test_a_replica_without_habits_follows() -> None:
    origin = make_directory()
    leading, following = Leading(origin), Following(make_directory())
    load(following, leading.load())
    register(origin, "a", at(1.0))
    batch = origin.saving.take_changes(9, at(2.0))
    assert batch is not None
    apply(following, pack(leading.frame(batch, at(2.0)), LINK_VERSION))
    assert following.directory.nodes.registry.records([0]) == origin.nodes.registry.records([0])

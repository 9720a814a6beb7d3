"""A replica that is kept in step by frames is what its origin is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from random import Random

from openred_central.clock import Now
from openred_central.directory.consistency import check
from openred_central.directory.directory import Directory
from openred_central.directory.following import Following
from openred_central.directory.frame import Check, Frame, LoadPart
from openred_central.directory.leading import Leading
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.errors import CallerError
from openred_central.storage.frames import pack, pack_part, unpack, unpack_part
from tests.support.building import (
    NEVER_HOLDS,
    SHORT_LIFE,
    DictStore,
    at,
    beat,
    make_directory,
    registration,
    run_until,
)

# The text of some key, and the services of some nodes.
KEY = "A" * 43 + "="
SERVICES = ("", "chat", "chat,files", "relay")


def make(silence: MassSilenceOptions = NEVER_HOLDS) -> Directory:
    return make_directory(
        life=SHORT_LIFE, silence=silence, forecast=True, nodes_max=60, patience_factor_max=2.0
    )


class Origin:
    """A directory in which everything happens, and the frames of its commits."""

    def __init__(self, random: Random, names: int = 40) -> None:
        self.random = random
        self.directory = make()
        self.store = DictStore()
        self.names = [f"node-{number}" for number in range(names)]
        self.now = at(1.0)
        assert self.directory.visiting is not None
        self.directory.visiting.begin()
        self.directory.visiting.resumed(0.0)
        self.leading = Leading(self.directory)

    def pass_time(self, seconds: float) -> None:
        self.now = at(self.now.attended_s + seconds)

    def act(self) -> None:
        """Let something happen."""
        random, directory, now = self.random, self.directory, self.now
        name = random.choice(self.names)
        with suppress(CallerError):
            match random.randrange(12):
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

    def visit(self) -> None:
        """Visit all nodes that are due for it."""
        visiting = self.directory.visiting
        assert visiting is not None
        for _ in range(10):
            if visiting.next_s(self.now.attended_s) <= self.now.attended_s:
                visiting.visit(self.now)

    def commit(self, limit: int) -> bytes | None:
        """Save a batch. Return its frame as bytes."""
        batch = self.directory.saving.take_changes(limit, self.now)
        if batch is None:
            return None
        self.store.commit(batch)
        return pack(self.leading.frame(batch, self.now))

    def commit_all(self) -> Iterator[bytes]:
        while (frame := self.commit(50)) is not None:
            yield frame

    def load(self) -> list[LoadPart]:
        return [unpack_part(pack_part(part)) for part in self.leading.load()]


def follow(origin: Origin) -> Following:
    following = Following(make())
    following.load(origin.load())
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
    assert not len(replica.nodes.changes)
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

"""One key signs at any time, peers have known it for an hour, and they can check all that it signs."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import orjson
import pytest

from openred_central.errors import InternalBug
from openred_central.security.directory_keys.keyring import DAY_S, HOUR_S, OFFLINE_SCHEDULE, Keyring, Schedule
from openred_central.security.directory_keys.keyset import (
    REVOKED_MAX,
    VERSION_AHEAD_MAX,
    KeySet,
    KeyStatus,
    excess,
)
from openred_central.security.directory_keys.suites import VerifyingKey
from tests.support.keys import NOW, directory_key

SCHEDULE = Schedule()
TICK_S = 5.0


def key(number: int) -> VerifyingKey:
    # A key that is gone may come again under another number: making each anew would be slow.
    return directory_key("r", number % 8).public


class Server:
    """A server with its keyring but without files: `disk` is the state it saved last."""

    def __init__(self, schedule: Schedule = SCHEDULE, disk: bytes = b"", now_s: float = NOW) -> None:
        self.ring = Keyring.decode(schedule, disk) if disk else Keyring(schedule)
        self.ring.resume(now_s)
        self.disk = disk
        self.saved_at = now_s
        self.made = 0
        self.served: KeySet | None = None

    def tick(self, now_s: float) -> KeySet | None:
        """Do one round of the rhythm. Return the key set that is served from now on, if it is new."""
        ring, before = self.ring, self.served
        ring.advance(now_s)
        while ring.needs_key(now_s) or ring.stale(now_s):
            if ring.needs_key(now_s):
                ring.add(key(self.made))
                self.made += 1
            self.served = ring.issue(now_s)
            assert excess(self.served) is None
            ring.published(self.served, now_s)
            ring.advance(now_s)
        ring.check()
        if ring.unsaved or (ring.waiting and now_s - self.saved_at >= 300):
            self.disk, self.saved_at, ring.unsaved = ring.encode(), now_s, False
        return None if self.served is before else self.served


def statuses(keyset: KeySet | None) -> list[KeyStatus]:
    assert keyset is not None
    return [published.status for published in keyset.keys]


def started() -> Server:
    server = Server()
    server.tick(NOW)
    return server


def test_the_first_key_signs_at_once() -> None:
    server = started()
    assert server.ring.active is key(0)
    assert statuses(server.served) == [KeyStatus.ACTIVE]
    assert server.served is not None
    (published,) = server.served.keys
    assert (published.not_before, published.not_after) == (NOW, NOW + 86_400 + 3_900)
    assert server.served.expires_at == NOW + 2 * 86_400


def test_a_day_of_a_key() -> None:
    """Published for an hour, active for a day, checking only for an hour and five minutes, gone."""
    server = started()
    assert server.tick(NOW + 82_799) is None
    announced = server.tick(NOW + 82_800)
    assert statuses(announced) == [KeyStatus.ACTIVE, KeyStatus.NEXT]
    assert announced is not None
    assert announced.keys[1].not_before == NOW + 86_400
    assert server.tick(NOW + 86_399) is None
    assert server.ring.active is key(0)
    assert server.ring.private_ids == {key(0).key_id, key(1).key_id}
    taken_over = server.tick(NOW + 86_400)
    assert server.ring.active is key(1)
    assert statuses(taken_over) == [KeyStatus.RETIRING, KeyStatus.ACTIVE]
    # Its private half is needed no more.
    assert server.ring.private_ids == {key(1).key_id}
    assert server.tick(NOW + 90_299) is None
    assert statuses(server.tick(NOW + 90_300)) == [KeyStatus.ACTIVE]


def test_versions_rise_with_every_key_set() -> None:
    server, versions = started(), []
    for hour in range(100):
        server.tick(NOW + hour * 3_600)
        assert server.served is not None
        versions.append(server.served.version)
    assert versions == sorted(versions)
    again = Server(disk=server.disk, now_s=NOW + 360_000)
    served = again.tick(NOW + 360_000)
    assert served is not None
    assert served.version > versions[-1]


def test_clock_that_was_ahead_leaves_acceptable_versions() -> None:
    """Peers with right clocks took none of the versions ahead of time, so lower ones roll nothing back."""
    server = Server(now_s=NOW + 400 * DAY_S)
    server.tick(NOW + 400 * DAY_S)
    again, versions = Server(disk=server.disk), []
    for round_s in range(3):
        again.ring.shift(0.0)
        served = again.tick(NOW + round_s)
        assert served is not None
        versions.append(served.version)
    assert versions == [NOW + VERSION_AHEAD_MAX + round_s for round_s in range(3)]


@pytest.mark.parametrize(
    "longer",
    [{"keyset_s": 60 * DAY_S + 1}, {"active_s": 60 * DAY_S}, {"lead_s": 31 * DAY_S, "active_s": 32 * DAY_S}],
)
def test_no_schedule_is_longer_than_peers_take(longer: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="peers take no key set"):
        Schedule(**longer)


def test_key_set_is_renewed_long_before_it_expires() -> None:
    server = Server(Schedule(active_s=30 * DAY_S))
    server.tick(NOW)
    assert server.tick(NOW + DAY_S - 1) is None
    assert server.tick(NOW + DAY_S + 1) is not None


def test_publication_time_pauses_while_the_server_is_down() -> None:
    server = started()
    server.tick(NOW + 82_800)
    again = Server(disk=server.disk, now_s=NOW + 200_000)
    again.tick(NOW + 200_000)
    assert again.ring.active is not None
    assert again.ring.active.key_id == key(0).key_id
    assert again.served is not None
    assert again.served.keys[0].not_after == NOW + 203_600 + 3_900
    again.tick(NOW + 203_599)
    assert again.ring.active.key_id == key(0).key_id
    again.tick(NOW + 203_600)
    assert again.ring.active.key_id == key(1).key_id


def test_a_clock_that_is_set_forward_makes_no_key_older() -> None:
    server = started()
    server.ring.shift(10 * DAY_S)
    assert server.tick(NOW + 10 * DAY_S) is not None
    assert statuses(server.served) == [KeyStatus.ACTIVE]


def test_clock_set_back_during_a_pause_stops_nothing() -> None:
    server = started()
    server.tick(NOW + 82_800)
    back = NOW - 1_000 * DAY_S
    again = Server(disk=server.disk, now_s=back)
    again.tick(back)
    again.tick(back + 3_600)
    assert again.ring.active is not None
    assert again.ring.active.key_id == key(1).key_id


def test_late_successor_is_published() -> None:
    """Without a successor the active key stays, and no key set says that its time is over."""
    server = started()
    ring = server.ring
    assert server.served is not None
    until = server.served.keys[0].not_after
    for minute in range(3 * 24 * 60):
        now_s = NOW + 60.0 * minute
        ring.advance(now_s)
        if ring.stale(now_s):
            keyset = ring.issue(now_s)
            ring.published(keyset, now_s)
            until = keyset.keys[0].not_after
        assert ring.active is key(0)
        assert until - now_s > 3_600 + 30
    assert ring.needs_key(now_s)


def test_requested_rotation_is_published_an_hour_ahead() -> None:
    server = started()
    server.ring.rotate(NOW + 1_000)
    server.tick(NOW + 1_000)
    assert statuses(server.served) == [KeyStatus.ACTIVE, KeyStatus.NEXT]
    server.tick(NOW + 4_599)
    assert server.ring.active is key(0)
    server.tick(NOW + 4_600)
    assert server.ring.active is key(1)


def test_a_revoked_key_is_replaced_at_once() -> None:
    server = started()
    server.ring.revoke(key(0).key_id, NOW + 1_000)
    assert server.ring.active is None
    served = server.tick(NOW + 1_000)
    assert served is not None
    assert served.revoked_key_ids == (key(0).key_id,)
    assert server.ring.active is key(1)
    # It is listed until no key set is left that says otherwise.
    server.tick(NOW + 1_000 + 2 * DAY_S - 1)
    assert server.served is not None
    assert server.served.revoked_key_ids == (key(0).key_id,)
    server.tick(NOW + 1_000 + 2 * DAY_S)
    assert server.served.revoked_key_ids == ()


def test_what_cannot_be_revoked_is_refused() -> None:
    server = started()
    with pytest.raises(ValueError, match=f"no key none; those there are: {key(0).key_id}"):
        server.ring.revoke("none", NOW)
    state = orjson.loads(server.ring.encode())
    state["revoked"] = {str(number): NOW + DAY_S for number in range(REVOKED_MAX)}
    ring = Keyring.decode(SCHEDULE, orjson.dumps(state))
    with pytest.raises(ValueError, match=f"{REVOKED_MAX} keys are revoked"):
        ring.revoke(key(0).key_id, NOW)


def test_a_lost_active_key_only_checks_what_it_has_signed() -> None:
    server = started()
    server.ring.lost(key(0).key_id, NOW + 1_000)
    served = server.tick(NOW + 1_000)
    assert statuses(served) == [KeyStatus.RETIRING, KeyStatus.ACTIVE]
    assert server.ring.active is key(1)


def test_a_lost_next_key_is_made_anew() -> None:
    server = started()
    server.tick(NOW + 82_800)
    server.ring.lost(key(1).key_id, NOW + 82_900)
    server.tick(NOW + 82_900)
    assert server.ring.private_ids == {key(0).key_id, key(2).key_id}


def test_unpublished_key_does_not_sign() -> None:
    """With an offline root key, a key waits until the key set that lists it is signed."""
    ring = Keyring(OFFLINE_SCHEDULE)
    ring.add(key(0))
    asked = ring.issue(NOW)
    for day in range(100):
        ring.advance(NOW + day * DAY_S)
        assert ring.active is None
        assert ring.unpublished
    ring.published(asked, NOW + 100 * DAY_S)
    ring.advance(NOW + 100 * DAY_S)
    assert ring.active is key(0)
    assert not ring.unpublished


def test_key_keeps_to_its_published_time() -> None:
    """A key set that took three days to be signed states the end of its key; the key lives no longer."""
    ring = Keyring(OFFLINE_SCHEDULE)
    ring.add(key(0))
    asked = ring.issue(NOW)
    ring.published(asked, NOW + 3 * DAY_S)
    ring.advance(NOW + 3 * DAY_S)
    assert not ring.needs_key(NOW + 23 * DAY_S - 2)
    assert ring.needs_key(NOW + 23 * DAY_S + 2)


def test_there_is_one_next_key() -> None:
    ring = Keyring(SCHEDULE)
    ring.add(key(0))
    assert not ring.needs_key(NOW)
    with pytest.raises(InternalBug):
        ring.add(key(1))


def test_a_keyring_survives_the_disk() -> None:
    server = started()
    for hour in range(26):
        server.tick(NOW + hour * 3_600)
    server.ring.revoke(key(0).key_id, NOW + 26 * 3_600)
    again = Keyring.decode(SCHEDULE, server.ring.encode())
    assert orjson.loads(again.encode()) == orjson.loads(server.ring.encode())
    assert [entry.key_id for entry in again.private_keys] == [key(1).key_id]
    assert Keyring.decode(SCHEDULE, Keyring(SCHEDULE).encode()).needs_key(NOW)


@pytest.mark.parametrize(
    "change",
    [
        (b'"active"', b'"next"'),
        (b'"next"', b'"active"'),
        (b'"next"', b'"retiring"'),
        (b'"next"', b'"spare"'),
        (b'"gone_at":null', b'"gone_at":5'),
        (b'"suite":"r"', b'"suite":"R"'),
        (b'"version"', b'"number"'),
        (b"{", b"["),
    ],
)
def test_a_state_that_cannot_be_is_refused(change: tuple[bytes, bytes]) -> None:
    server = started()
    server.tick(NOW + 82_800)
    with pytest.raises((ValueError, KeyError, TypeError)):
        Keyring.decode(SCHEDULE, server.ring.encode().replace(*change))


def test_a_key_cannot_be_there_twice() -> None:
    ring = Keyring(SCHEDULE)
    for _ in range(2):
        ring.add(key(0))
        ring.published(ring.issue(NOW), NOW)
        ring.advance(NOW)
        ring.lost(key(0).key_id, NOW)
    with pytest.raises(ValueError, match="a key is there twice"):
        ring.check()


@pytest.mark.parametrize(
    "times",
    [
        {"retiring_s": 3_600.0},
        {"published_s": 0.0},
        {"lead_s": 3_599.0},
        {"active_s": 3_600.0},
        {"keyset_s": 7_199.0},
    ],
)
def test_a_schedule_that_could_not_be_kept_is_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"retiring_s|published_s"):
        Schedule(**times)


@dataclass
class World:
    """A server, the true time, and by how much the wall clock of the server is wrong."""

    draw: random.Random
    true_s: float = NOW
    wrong_s: float = 0.0
    server: Server = field(default_factory=Server)
    # The key sets, each with the wall time until which it was served; endless for the newest.
    served: list[tuple[float, KeySet]] = field(default_factory=list)
    # True time for which each key has been served.
    told_s: dict[str, float] = field(default_factory=dict)
    tokens: list[tuple[str, float]] = field(default_factory=list)
    takeovers: int = 0
    last_active: str = ""

    @property
    def wall_s(self) -> float:
        return self.true_s + self.wrong_s

    def live(self, seconds: float) -> None:
        """Let the server run for so long, in ticks."""
        until_s = self.true_s + seconds
        while self.true_s < until_s:
            # A coarser grid than the server's own: a fortnight is long.
            self.true_s += min(60.0, until_s - self.true_s)
            for published in self.server.served.keys if self.server.served else ():
                key_id = published.key.key_id
                self.told_s[key_id] = self.told_s.get(key_id, 0.0) + 60.0
            self.tick()

    def tick(self) -> None:
        keyset = self.server.tick(self.wall_s)
        if keyset is not None:
            self.end_serving(self.wall_s)
            self.served.append((math.inf, keyset))
        active = self.server.ring.active
        assert active is not None
        if active.key_id != self.last_active:
            if self.last_active:
                assert self.told_s[active.key_id] >= HOUR_S, f"used after {self.told_s[active.key_id]} s"
                self.takeovers += 1
                self.told_s.pop(self.last_active)
            self.last_active = active.key_id
        self.tokens.append((active.short_id, self.wall_s))
        self.verify()

    def verify(self) -> None:
        """Every living token is accepted by a peer with any key set that was served within the last hour."""
        self.tokens = [token for token in self.tokens if self.wall_s < token[1] + HOUR_S]
        self.served = [row for row in self.served if row[0] > self.wall_s - HOUR_S]
        for short_id in {short_id for short_id, _ in self.tokens}:
            for _, keyset in self.served:
                assert keyset.find(short_id, self.wall_s)

    def end_serving(self, wall_s: float) -> None:
        self.served = [(min(until_s, wall_s), keyset) for until_s, keyset in self.served]

    def forget(self) -> None:
        """Forget tokens and key sets that were made by a wrong clock: peers refuse them."""
        self.tokens.clear()
        self.served.clear()

    def jump(self) -> None:
        jump_s = self.draw.choice([-1, 1]) * self.draw.choice([60.0, HOUR_S, 10 * DAY_S]) * self.draw.random()
        self.wrong_s += jump_s
        self.server.ring.shift(jump_s)
        self.forget()
        self.tick()

    def restart(self) -> None:
        pause_s = self.draw.choice([0.0, 60.0, HOUR_S, 5 * DAY_S]) * self.draw.random()
        self.end_serving(self.wall_s)
        self.true_s += pause_s
        if self.draw.random() < 0.3:
            self.wrong_s += self.draw.choice([-1, 1]) * 20 * DAY_S * self.draw.random()
            self.forget()
        made = self.server.made
        self.server = Server(disk=self.server.disk, now_s=self.wall_s)
        self.server.made = made
        self.tick()


def test_weeks_with_restarts_and_a_wrong_clock(seed: int) -> None:
    world = World(random.Random(seed))
    world.tick()
    for _ in range(60):
        world.live(world.draw.choice([600.0, HOUR_S, 6 * HOUR_S, DAY_S]) * world.draw.random())
        world.draw.choice([world.jump, world.restart, world.restart])()
    world.live(3 * DAY_S)
    assert world.takeovers >= 3

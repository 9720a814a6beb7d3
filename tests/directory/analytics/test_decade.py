"""A decade of a directory, and a naive oracle that remembers everything and counts each figure anew."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from openred_central.clock import Now
from openred_central.directory.analytics.analytics import Analytics
from openred_central.directory.analytics.tables import cohort_rows
from openred_central.directory.empathy.forecast import GRADES
from openred_central.directory.empathy.visiting import PIECE_SLOTS
from openred_central.directory.lifecycle import DAY_S, LIVE_STATES, State
from openred_central.directory.octaves import seconds_of
from openred_central.directory.state.node import Transition
from tests.simulation.model import Node
from tests.simulation.world import YEAR_S, World, WorldOptions
from tests.support.building import HOUR_S
from tests.support.options import lifecycle_options

YEARS = 10
TOLD_MIN = 5


def date_at(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d")


def months_between(earlier: str, later: str) -> int:
    return 12 * (int(later[:4]) - int(earlier[:4])) + int(later[5:7]) - int(earlier[5:7])


class Decade(World):
    """A world whose days are counted twice: by the directory, and here."""

    def __init__(self, seed: int) -> None:
        self.happened: defaultdict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        self.attended_by_day: defaultdict[str, float] = defaultdict(float)
        self.held_by_day: defaultdict[str, float] = defaultdict(float)
        self.registered: Counter[str] = Counter()
        # By month: what its last census found, by month of registration.
        self.found: dict[str, dict[str, tuple[int, int]]] = {}
        self.unread: list[Transition] = []
        self.open: str | None = None
        self.added_up: Now | None = None
        self.days_complete = 0
        options = WorldOptions(lifecycle_options(), names=50, nodes_max=200, tick_s=DAY_S, deeds=2)
        super().__init__(options, seed)

    def _take_transitions(self, transitions: Sequence[Transition]) -> None:
        self.unread += transitions
        super()._take_transitions(transitions)

    @property
    def analytics(self) -> Analytics:
        return self.directory.analytics

    def count(self) -> None:
        """Let the directory visit its nodes, and count what is due; do so here, too."""
        now, visiting = self.now, self.directory.visiting
        assert visiting is not None
        for _ in range(0, len(self.directory.nodes.habits.paces), PIECE_SLOTS):
            visiting.visit(now)
        registry = self.directory.nodes.registry
        for name, node in self.model.nodes.items():
            # Visits find how long nodes were away, which the model cannot know.
            node.longest_s = seconds_of(registry.longest[registry.slot_of(name) or 0])
        date, former = date_at(now.wall_s), self.open
        if former is None:
            former = self.open = date
        self._add_up(former, now)
        stock = self._stock()
        cohorts = self._cohorts(now.wall_s)
        while self.analytics.step(now) < 0.1:
            pass
        for name in {former, date}:
            month = name[:7]
            self.found[month] = {cohort: counts for cohort, counts in cohorts.items() if cohort <= month}
        self.expect(former, stock, complete=former != date)
        self.open = date

    def _add_up(self, date: str, now: Now) -> None:
        for one in self.unread:
            self.happened[date][one.from_state.wire, one.to_state.wire, one.reason] += 1
            if one.to_state is State.ACTIVE and one.from_state in (State.ABSENT, State.DEAD):
                self.registered[date[:7]] += 1
        self.unread.clear()
        former, self.added_up = self.added_up or now, now
        attended_s = now.attended_s - former.attended_s
        self.attended_by_day[date] += attended_s
        self.held_by_day[date] += now.monotonic_s - former.monotonic_s - attended_s

    def restart(self, *, crash: bool) -> None:
        """Stop and start, as the server does: what happened until now is in the row."""
        self.directory.nodes.transitions.report()
        now = self.now
        if self.open is not None:
            self._add_up(self.open, now)
        self.analytics.stop(now)
        super().restart(crash=crash)
        self.added_up = None

    def _stock(self) -> dict[str, Any]:
        """Count what the row of a day tells of this moment."""
        now_s, nodes = self.now.attended_s, self.model.nodes
        listed = {name: node for name, node in nodes.items() if node.said.discoverable and not node.left}
        silences_s = [now_s - node.last_seen_s for node in listed.values()]
        offered = Counter(name for node in listed.values() for name in node.said.services)
        states = Counter(node.state for node in nodes.values())
        return {
            "nodes": len(nodes),
            "by_state": {state.wire: states[state] for state in LIVE_STATES},
            "listed": len(listed),
            "heard": {f"{days}d": sum(s <= days * DAY_S for s in silences_s) for days in (1, 7, 30)},
            "services": sorted(
                ([name, count] for name, count in offered.items() if count >= TOLD_MIN),
                key=lambda each: (-each[1], each[0]),
            ),
            **self._expected(listed, now_s),
        }

    def _expected(self, listed: dict[str, Node], now_s: float) -> dict[str, Any]:
        forecast, habits = self.directory.forecast, self.directory.nodes.habits
        assert forecast is not None
        away = late = became_late = known = 0
        grades = [0] * (len(GRADES) + 1)
        for name, node in listed.items():
            slot = self.directory.nodes.registry.slot_of(name)
            assert slot is not None
            known += habits.days[slot] >= 14
            if node.away_until_s > now_s and self.directory.nodes.registry.is_away(slot, now_s):
                away += 1
            elif forecast.is_late(slot, now_s):
                late += 1
                became_late += now_s - habits.due_s[slot] < DAY_S
            else:
                (score,) = forecast.scores([slot], now_s)
                grades[sum(bound < score for bound in GRADES)] += 1
        return {
            "away": away,
            "late": late,
            "became_late": became_late,
            "known": known,
            "availability": grades,
        }

    def _cohorts(self, wall_s: float) -> dict[str, tuple[int, int]]:
        found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for node in self.model.nodes.values():
            if node.registered_at <= wall_s:
                counts = found[date_at(node.registered_at)[:7]]
                counts[0] += 1
                can_be_found = node.said.discoverable and not node.left
                counts[1] += can_be_found and self.now.attended_s - node.last_seen_s <= 30 * DAY_S
        return {month: (here, heard) for month, (here, heard) in found.items()}

    def expect(self, date: str, stock: dict[str, Any], *, complete: bool) -> None:
        """Compare the row of a day with what was counted here."""
        row = orjson.loads(self.analytics.days[date])
        flows = self.happened[date]
        assert {name: row[name] for name in stock} == stock
        assert row["complete"] is complete
        assert {tuple(flow[:3]): flow[3] for flow in row["flows"]} == flows
        assert row["attended_s"] == round(self.attended_by_day[date], 3)
        assert row["held_s"] == round(self.held_by_day[date], 3)
        assert row["registered"] == sum(
            count for (old, new, _), count in flows.items() if new == "active" and old in ("absent", "dead")
        )
        assert row["revived"] == sum(
            count
            for (old, new, _), count in flows.items()
            if new == "active" and old not in ("absent", "dead")
        )
        assert row["left"] == sum(count for (_, _, reason), count in flows.items() if reason == "left")
        for name, reason in (("died", "deadline"), ("forgotten", "forgotten")):
            found = sum(count for (_, new, why), count in flows.items() if (new, why) == ("dead", reason))
            assert row[name] == found
        self.days_complete += complete

    def cohort_table(self) -> list[dict[str, Any]]:
        """Return the table of cohorts, made of what was counted here."""
        months = sorted(self.found)
        cohorts = sorted({*months, *(cohort for found in self.found.values() for cohort in found)})
        rows = []
        for cohort in cohorts:
            registered = max(
                [self.registered[cohort], *(found.get(cohort, (0, 0))[0] for found in self.found.values())]
            )
            ages = months_between(cohort, months[-1]) + 1
            here: list[int | None] = [None] * ages
            heard: list[int | None] = [None] * ages
            for month, found in self.found.items():
                count, lately = found.get(cohort, (0, 0))
                if count >= TOLD_MIN:
                    here[months_between(cohort, month)] = count
                    heard[months_between(cohort, month)] = lately if lately >= TOLD_MIN else None
            if registered >= TOLD_MIN:
                rows.append(
                    {"registered_month": cohort, "registered": registered, "here": here, "heard": heard}
                )
        return rows


def live(world: Decade, years: float) -> None:
    """Let years pass with whatever nodes do; now and then the server restarts, or the wall clock jumps."""
    chance, until_s = world.chance, world.clock.monotonic_s() + years * YEAR_S
    while world.clock.monotonic_s() < until_s:
        world.pass_time(chance.choice((24, 25, 48, 72, 72, 96)) * HOUR_S)
        for number, name in enumerate(world.names):
            # Some beat every day, some once in years.
            if chance.random() < 0.5 ** (number % 11):
                world.beat(name)
        for name in chance.sample(world.names, world.options.deeds):
            act(world, chance, name)
        world.tick()
        world.directory.nodes.transitions.report()
        world.count()
        world.save(fails=False, limit=None)
        match chance.randrange(300):
            case 0:
                world.restart(crash=False)
            case 1:
                world.clock.jump_wall(chance.choice((-7 * HOUR_S, 7 * HOUR_S, -40 * DAY_S, YEAR_S)))


def act(world: Decade, chance: random.Random, name: str) -> None:
    match chance.randrange(40):
        case number if number < 12:
            world.register(name, world.said(name), proved=True)
        case 12:
            world.leave(name)
        case 13:
            world.forget(name)


def test_each_figure_of_a_decade_is_what_an_oracle_counts(seed: int) -> None:
    world = Decade(seed)
    live(world, YEARS)
    rows = [orjson.loads(row) for row in world.analytics.days.values()]
    assert world.days_complete > 0.25 * 365 * YEARS
    assert sum(not row["complete"] for row in rows) == 1
    for name in ("registered", "revived", "left", "late", "away", "held_s"):
        assert any(row[name] for row in rows), f"{name} is never more than 0: this tests nothing"
    assert list(cohort_rows(map(orjson.loads, world.analytics.months.values()))) == world.cohort_table()
    assert sum(row["returns"]["happened"] for row in rows) > 100

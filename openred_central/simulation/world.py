"""A world under one policy: machines come and go for years, and a real directory hears of them what it can.

Directory, scheduler and visits are those of a server, on a virtual clock. Signs of life come at their second;
everything else happens once a step of some hours, which makes years of very many nodes possible.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import not_
from random import Random
from typing import Final, NamedTuple, cast

from ..client.client import ADVICE_S_MAX
from ..clock import AttendedTime, Now
from ..directory.discovery import Query
from ..directory.lifecycle import LIVE_STATES, Event, State
from ..directory.registration import Registration
from ..directory.state.node import Profile, Transition
from ..errors import CallerError
from ..settings.config import Configuration
from .clock import VirtualClock
from .faults import Fault, Kind
from .machines import CUT_REGION, REGIONS, Machines
from .policies import Policy, WallTime, make_directory
from .population import HOUR_S, YEAR_S
from .process import Process
from .tally import Month, Tally

# Steps of the world: so many in the pace of heartbeats, within these bounds.
STEPS_PER_PACE: Final = 28
STEP_S_MIN: Final = 60
STEP_S_MAX: Final = 6 * 3_600
# Each node is visited once in so many paces.
PACES_PER_VISIT: Final = 10
# The wall time at which a world begins: a Monday at 0 h.
BEGIN_AT: Final = 1_800_230_400.0
# A flood registers so many nodes, and a directory has so much room, as a share of all machines.
FLOOD_SHARE: Final = 0.05
ROOM_SHARE: Final = 1.5
ROOM_MIN: Final = 100
# One machine in so many is seen at its address, and so counts where networks are judged.
OBSERVED_EVERY: Final = 8
# Questions to discovery a week, and the results of each.
QUESTIONS: Final = 8
RESULTS: Final = 10
SERVICE: Final = "storage"
QUERY: Final = Query(
    frozenset([SERVICE]), tuple(state for state in LIVE_STATES if state is not State.COMA), RESULTS
)
WEEK_S: Final = 7 * 86_400
MONTH_S: Final = int(YEAR_S / 12)
NOWHERE: Final = -1
# The names of the nodes of machines and of floods begin so.
MACHINE: Final = "m"
FLOOD: Final = "f"


class Setting(NamedTuple):
    """The ingredients of a world; `pace_s` is the pace of heartbeats that is advised."""

    machines: Machines
    faults: Sequence[Fault]
    settings: Configuration
    pace_s: float
    seed: int

    @property
    def step_s(self) -> int:
        """The length of a step of the world."""
        return max(STEP_S_MIN, min(STEP_S_MAX, int(self.pace_s / STEPS_PER_PACE)))

    @property
    def steps(self) -> int:
        """The number of steps until the end."""
        return self.machines.length_s // self.step_s


class World:
    """A world; `run` lets it go. All its times are seconds since its begin, whole ones for machines."""

    def __init__(self, setting: Setting, policy: Policy) -> None:
        self.setting, self.policy, self.machines = setting, policy, setting.machines
        self.step_s, count = setting.step_s, setting.machines.count
        self.tally = Tally()
        self.clock = VirtualClock(wall_s=BEGIN_AT, monotonic_s=0.0)
        self.directory = make_directory(
            policy,
            setting.settings,
            nodes_max=int(ROOM_SHARE * count) + ROOM_MIN,
            paces_s=(setting.pace_s, setting.pace_s),
            random=Random(f"{setting.seed} directory").random,
        )
        self.directory.nodes.transitions.observers.append(self._take_transitions)
        if self.directory.visiting is not None:
            self.directory.visiting.begin()
        # Attended time when the directory last knew it.
        self._attended_s = 0.0
        self.process = self._start()
        self._chance = Random(f"{setting.seed} clients")
        # Arrays, because the numbers of a list lie all over the memory, which takes longer to fetch.
        self._slots = array("i", [NOWHERE]) * count
        # The next sign of life of each machine, and the end and the place of the time up in which it lies.
        self._next_at, self._end_at, self._places = (array("I", [0]) * count for _ in range(3))
        # The machines that send a sign of life in each step.
        self._calendar = [array("I") for _ in range(setting.steps + 1)]
        # Nodes visited at the end of each step ahead of their turn: late by a pace, or back from that.
        self._visits_ahead: defaultdict[int, array[int]] = defaultdict(lambda: array("I"))
        # Machines whose nodes died by silence.
        self._dead = bytearray(count)
        # The steps from which the directory runs, all clients reach it, and those of the region do.
        self._down_until = self._cut_until = self._region_until = 0
        self._flooded = 0
        for number in range(count):
            self._plan(number, self.machines.first(number, self._chance))

    def run(self) -> Iterator[int]:
        """Let the years pass. Yield the number of steps that are done, after each."""
        step_s, faults = self.step_s, list(self.setting.faults)
        for step in range(self.setting.steps):
            begin, end = step * step_s, (step + 1) * step_s
            while faults and faults[0].start_s < end:
                self._begin(faults.pop(0), step)
            self._pass_step(step)
            if end // WEEK_S > begin // WEEK_S and step >= self._down_until:
                self._ask(end, step)
            if end // MONTH_S > begin // MONTH_S:
                self._note_month(end)
            self.tally.node_years += self.machines.count * step_s / YEAR_S
            yield step + 1

    def _start(self) -> Process:
        """Return the process of the directory, which goes on with what it knew."""
        attended: AttendedTime
        if self.policy.by_wall:
            attended = WallTime(self.clock, BEGIN_AT, self._attended_s)
        else:
            attended = AttendedTime(self.clock, attended_s=self._attended_s, tick_s=self.step_s)
        return Process(self.directory, attended, tick_s=self.step_s, commit=None)

    def _pass_step(self, step: int) -> None:
        step_s, calling = self.step_s, self._calendar[step]
        self._calendar[step] = array("I")
        if step < self._down_until:
            self._fail(calling, self._down_until)
            self.clock.advance(step_s)
            self.tally.down_h += step_s / HOUR_S
            return
        if step and step == self._down_until:
            self.process = self._start()
            self.process.tick()
        if step < self._cut_until:
            self._fail(calling, self._cut_until)
        else:
            self._hear(calling, step)
        self.clock.advance(step_s)
        self.process.tick()
        ahead = (self._slots[number] for number in self._visits_ahead.pop(step, ()))
        self.process.visit(
            step_s,
            apart_s=PACES_PER_VISIT * self.setting.pace_s,
            ahead=(slot for slot in ahead if slot != NOWHERE),
        )
        self._attended_s = self.process.attended.now().attended_s
        self._count_hours(step_s / HOUR_S)

    def _begin(self, fault: Fault, step: int) -> None:
        """Let a fault begin in a step."""
        until = step + max(1, round(fault.length_s / self.step_s))
        match fault.kind:
            case Kind.OUTAGES:
                self._down_until = max(self._down_until, until)
            case Kind.UPLINK:
                self._cut_until = max(self._cut_until, until)
            case Kind.REGION:
                self._region_until = max(self._region_until, until)
            case Kind.JUMPS:
                self.clock.jump_wall(fault.jump_s)
            case Kind.FLOODS if step >= max(self._down_until, self._cut_until):
                self._flood()

    # Machines, and their signs of life.

    def _hear(self, calling: Sequence[int], step: int) -> None:
        """Let machines send their signs of life of a step, in which most reach the directory."""
        now = self.process.attended.now()
        runs = self.process.attended.attending
        ahead_s = now.wall_s - now.monotonic_s
        attended_s, begin = now.attended_s, now.attended_s - now.monotonic_s
        directory, new, step_s, calendar = self.directory, tuple.__new__, self.step_s, self._calendar
        hear, paces = directory.hear, directory.nodes.habits.paces
        # Advice is whole at the paces of a world.
        advise = cast("Sequence[Callable[[int, float], int]]", directory.paces.advise)
        states, slots = directory.nodes.registry.states, self._slots
        next_at, end_at = self._next_at, self._end_at
        # Plain whole numbers compare faster.
        active, advice_s_max, refused = int(State.ACTIVE), int(ADVICE_S_MAX), 0
        if step < self._region_until:
            calling = self._without_cut_region(calling)
        for number in calling:
            at, slot = next_at[number], slots[number]
            if runs:
                attended_s = begin + at
            moment = new(Now, (attended_s, ahead_s + at, at))
            if slot >= 0 and states[slot] == active:
                hear(slot, moment)
            else:
                slot = self._revive(number, moment)
                if slot == NOWHERE:
                    refused += 1
                    self._plan(number, self.machines.again(number, (step + 1) * step_s, self._chance))
                    continue
            advice_s = advise[paces[slot]](slot, attended_s)
            at += advice_s if advice_s < advice_s_max else advice_s_max
            if at < end_at[number]:
                next_at[number] = at
                calendar[at // step_s].append(number)
            else:
                self._miss(number, at)
        self.tally.heartbeats += len(calling) - refused

    def _miss(self, number: int, at: int) -> None:
        """Plan the next sign of life of a machine that is down when it is due, and the visits for that."""
        call = self.machines.after(number, self._places[number], at, self._chance)
        if call is None or call[0] >= at + self.setting.pace_s:
            self._visits_ahead[at // self.step_s + 1].append(number)
            if call is not None:
                self._visits_ahead[call[0] // self.step_s].append(number)
        self._plan(number, call)

    def _without_cut_region(self, calling: Sequence[int]) -> Sequence[int]:
        """Return the machines whose calls reach the directory, and let the others fail."""
        is_cut = [self.machines.regions[number] == CUT_REGION for number in calling]
        self._fail(list(compress(calling, is_cut)), self._region_until)
        return list(compress(calling, map(not_, is_cut)))

    def _fail(self, calling: Sequence[int], until: int) -> None:
        """Let machines call in vain, again and again until a step begins."""
        for number in calling:
            self._plan(number, self.machines.again(number, until * self.step_s, self._chance))

    def _plan(self, number: int, call: tuple[int, int] | None) -> None:
        """Note the next sign of life of a machine, and the end and the place of the time up there."""
        if call is not None:
            at, place = call
            self._next_at[number], self._end_at[number] = at, self.machines.ends[place]
            self._places[number] = place
            self._calendar[at // self.step_s].append(number)

    def _revive(self, number: int, now: Now) -> int:
        """Take a sign of life of a machine whose node is not active. Return its slot, if it finds a place."""
        slot = self._slots[number]
        if slot != NOWHERE:
            self.directory.heartbeat(slot, now)
            self.tally.needless += 1
            return slot
        region = self.machines.regions[number]
        is_observed = number % OBSERVED_EVERY == 0
        slot = self._register(f"{MACHINE}{number}", number, region, now, is_observed=is_observed)
        self._slots[number] = slot
        if slot == NOWHERE:
            self.tally.refused += 1
            return slot
        self.tally.registrations += 1
        if self._dead[number]:
            self._dead[number] = False
            self.tally.needless += 1
            self.tally.false_deaths += 1
        return slot

    def _flood(self) -> None:
        """Register many nodes that are never heard again."""
        now = self.process.attended.now()
        for _ in range(int(FLOOD_SHARE * self.machines.count)):
            self._flooded += 1
            self._register(f"{FLOOD}{self._flooded}", self._flooded, REGIONS, now, is_observed=True)

    def _register(self, name: str, number: int, region: int, now: Now, *, is_observed: bool) -> int:
        """Register a node. Return its slot, or `NOWHERE` if there is no place for it."""
        address = f"{20 + region}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        profile = Profile(address, 7_000, f"key of {name}", metadata={})
        new = Registration(name, profile, SERVICE, f"region-{region}", is_observed=is_observed)
        try:
            slot = self.directory.register(new, proved=False, now=now).slot
        except CallerError:
            return NOWHERE
        # A node that made room is gone before its slot is used again.
        self.directory.nodes.transitions.report()
        return slot

    # Nodes and their fates.

    def _take_transitions(self, transitions: Sequence[Transition]) -> None:
        tally, at = self.tally, int(self.clock.monotonic_s())
        for _, _, name, _, state, reason in transitions:
            if name[0] != MACHINE or state is State.ACTIVE:
                continue
            number = int(name[1:])
            if state is State.DEAD:
                self._slots[number] = NOWHERE
                if reason == Event.DEADLINE:
                    self._dead[number] = True
                    tally.deaths += 1
                else:
                    tally.crowded_out += 1
            elif state is State.COMA:
                tally.comas += 1
                tally.false_comas += self.machines.is_up(number, at)

    def _count_hours(self, hours: float) -> None:
        expiry, tally = self.directory.expiry, self.tally
        if expiry.silence.hold is not None:
            tally.held_h += hours
        elif expiry.attendance.hold is not None:
            tally.unheard_h += hours
        else:
            tally.attended_h += hours

    def _note_month(self, end: int) -> None:
        counts = self.directory.nodes.registry.state_counts
        active, coma = counts[State.ACTIVE], counts[State.COMA]
        silent = sum(counts[state] for state in LIVE_STATES) - active - coma
        self.tally.months.append(Month(round(end / YEAR_S, 3), active, silent, coma))

    def _ask(self, at: int, step: int) -> None:
        """Ask for peers, as many callers do, and see whether the first one answers."""
        now, node_id = self.process.attended.now(), self.directory.nodes.registry.node_id
        for _ in range(QUESTIONS):
            draw, found = self.directory.discover(QUERY, now), None
            while found is None:
                found = draw.step()
            if not found.slots:
                continue
            self.tally.asked += 1
            name = node_id(found.slots[0])
            if name[0] == MACHINE:
                number = int(name[1:])
                is_cut = step < self._region_until and self.machines.regions[number] == CUT_REGION
                self.tally.answered += self.machines.is_up(number, at) and not is_cut

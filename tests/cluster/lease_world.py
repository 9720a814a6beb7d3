"""A model of runs that share one row: statements on their way, lost answers, pauses, clocks, rollbacks.

`World.moves` lists all that may happen next. A pause of a run is that nothing happens at it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from openred_central.cluster.lease import Lease, LeaseTimes, Role
from openred_central.storage.postgres.leasing import LeaseRow

# One thing that may happen, in words, and a function that lets it happen in a world.
Move = tuple[str, Callable[["World"], None]]

EMPTY = LeaseRow("", 0, "", 0, 0, 0, 0.0, 0.0, {})


class Broken(AssertionError):
    """A promise that does not hold."""


class Kind(Enum):
    WATCH = "watch"
    TAKE = "take"
    TAKE_AGAIN = "other take"
    RENEW = "renew"
    COMMIT = "commit"
    GOODBYE = "goodbye"


@dataclass(slots=True)
class Statement:
    """A statement on its way to the database, or its answer on the way back.

    `term` and `tag` are what its sender relies on, `seen` is the row that it takes the lease from. Without
    `heeded` its sender does not wait for the answer any more; the statement may still arrive. `row` is the
    row as the answer tells it.
    """

    kind: Kind
    sent_s: float
    attended_s: float
    seen: LeaseRow | None
    term: int
    tag: int
    new_tag: int
    heeded: bool = True
    accepted: bool = False
    row: LeaseRow | None = None


@dataclass(slots=True)
class Run:
    """One run: its lease, the tag of its last commit, its clock, and a request that waits for a proof.

    `own` are the tag at which its term began, and those of its commits in it. `told_s` is the highest
    attended time that it was ever told.
    """

    lease: Lease
    tag: int = 0
    own: frozenset[int] = frozenset()
    attended_s: float = 0.0
    told_s: float = 0.0
    clock_s: float = 0.0
    asked_s: float | None = None
    proved: bool = False
    statements: list[Statement] = field(default_factory=list)

    def may_send(self, kind: Kind) -> bool:
        """Return whether no statement before it is waited for; readings have a connection of their own."""
        watches = kind is Kind.WATCH
        return not any(each.heeded and (each.kind is Kind.WATCH) == watches for each in self.statements)


@dataclass(slots=True)
class Rules:
    """How the world works: properties that a test may take out, and how often things may go wrong.

    With `clocks_stopped`, a run that has caught up never notices that its lease has run out.
    """

    lease: type[Lease] = Lease
    fenced_by_tag: bool = True
    counted_from_sending: bool = True
    proved_by_sending: bool = True
    looks_again: bool = True
    clocks_stopped: bool = False
    losses: int = 0
    commits: int = 0
    wrong_ticks: int = 0
    rollbacks: int = 0
    questions: int = 0
    goodbyes: int = 0


BOUNDED = ("losses", "commits", "wrong_ticks", "rollbacks", "questions", "goodbyes")


class World:
    """Runs and one row; `Broken` is raised when one of these promises does not hold.

    - At most one run may change at a moment, unless the database went back.
    - Each commit that is let in continues exactly what its sender knows.
    - One at most proves anything, if several leaders are asked at one moment.
    - Attended time never falls from one leader to the next.
    """

    def __init__(self, names: Sequence[str], times: LeaseTimes, rules: Rules) -> None:
        self.rules = rules
        self.times = times
        self.row = EMPTY
        self.standby: LeaseRow | None = None
        self.runs = {name: Run(rules.lease(name, times, may_lead=True)) for name in names}
        self.tags = 0
        # How often each may still happen.
        self.left = {each: getattr(rules, each) for each in BOUNDED}
        self.went_back = False

    def copy(self) -> World:
        """Return a world that goes its own way from here."""
        other = copy.copy(self)
        other.left = self.left.copy()
        other.runs = {}
        for name, run in self.runs.items():
            other.runs[name] = run = copy.copy(run)
            run.lease = copy.copy(run.lease)
            run.statements = [copy.copy(each) for each in run.statements]
        return other

    def moves(self, *, slow_readings: bool = False) -> Iterator[Move]:
        """Yield all that may happen next, but the passing of time."""
        for name, run in self.runs.items():
            if slow_readings and run.may_send(Kind.WATCH):
                yield f"{name} reads", _at(name, World.send, Kind.WATCH)
            elif run.may_send(Kind.TAKE):
                yield f"{name} looks", _at(name, World.observe)
            yield from self._moves_of_holder(name, run)
            yield from self._moves_of_statements(name, run)
        if self.left["rollbacks"]:
            if self.standby is None:
                yield "the standby stands still", World.stand_still
            elif self.standby != self.row:
                yield "the standby is promoted", World.roll_back
        if self.left["questions"] and len(self.leaders()) > self.rules.clocks_stopped:
            yield "all leaders are asked", World.ask

    def _moves_of_holder(self, name: str, run: Run) -> Iterator[Move]:
        if run.lease.term is None or not run.may_send(Kind.RENEW):
            return
        yield f"{name} renews", _at(name, World.send, Kind.RENEW)
        if run.lease.role(run.clock_s) is Role.CATCHING_UP:
            yield f"{name} has caught up", _at(name, World.catch_up)
        elif self.left["commits"]:
            yield f"{name} commits", _at(name, World.send, Kind.COMMIT)
        if self.left["goodbyes"]:
            yield f"{name} says goodbye", _at(name, World.say_goodbye)

    def _moves_of_statements(self, name: str, run: Run) -> Iterator[Move]:
        for at, each in enumerate(run.statements):
            what = each.kind.value
            if each.row is None:
                yield f"{what} of {name} arrives", _at(name, World.arrive, at)
            else:
                yield f"{what} of {name} is answered", _at(name, World.answer, at)
            if each.heeded and self.left["losses"]:
                yield f"{name} gives up its {what}", _at(name, World.give_up, at)

    def pass_time(self, seconds: float, *, wrong: str = "", by_s: float = 0.0) -> None:
        """Let time pass; the clock of the run `wrong` is `by_s` ahead of the others afterwards."""
        self.left["wrong_ticks"] -= bool(wrong)
        for name, run in self.runs.items():
            passed_s = seconds + (by_s if name == wrong else 0.0)
            if run.lease.may_change(run.clock_s):
                run.attended_s += passed_s
            run.clock_s += passed_s
        self.judge()

    def observe(self, name: str, row: LeaseRow | None = None) -> None:
        """Let a run see the row, or what that was, and take the lease if it may."""
        run, row = self.runs[name], row or self.row
        run.told_s = max(run.told_s, row.attended_s)
        if run.lease.observe(row, run.clock_s) and run.may_send(Kind.TAKE):
            self.send(name, Kind.TAKE)
        self.judge()

    def catch_up(self, name: str) -> None:
        """Let a holder know all that was committed before."""
        lease = self.runs[name].lease
        assert lease.term is not None
        lease.caught_up(lease.term)
        self.judge()

    def send(self, name: str, kind: Kind) -> None:
        """Let a run send a statement."""
        run = self.runs[name]
        lease = run.lease
        self.tags += kind is Kind.COMMIT
        self.left["commits"] -= kind is Kind.COMMIT
        takes = kind in (Kind.TAKE, Kind.TAKE_AGAIN)
        term = lease.term_highest + 1 if takes else lease.term or 0
        seen = (lease.row if kind is Kind.TAKE else self.row) if takes else None
        run.statements.append(
            Statement(kind, run.clock_s, run.attended_s, seen, term, run.tag, new_tag=self.tags)
        )

    def lead(self, name: str) -> None:
        """Let a run take the lease and lead, without a delay."""
        self.observe(name)
        self.finish_taking(name)

    def finish_taking(self, name: str) -> None:
        """Let the last statement of a run, which takes the lease, succeed, and let the run lead."""
        at = len(self.runs[name].statements) - 1
        self.arrive(name, at)
        self.answer(name, at)
        self.catch_up(name)

    def say_goodbye(self, name: str) -> None:
        """Let a run give its lease back for good."""
        run = self.runs[name]
        self.left["goodbyes"] -= 1
        self.send(name, Kind.GOODBYE)
        run.lease.end()
        run.asked_s = None

    def arrive(self, name: str, at: int) -> None:
        """Let the database do a statement."""
        statement = self.runs[name].statements[at]
        if statement.kind in (Kind.TAKE, Kind.TAKE_AGAIN):
            self._take(name, statement)
        elif statement.kind is not Kind.WATCH:
            self._write(name, statement)
        statement.row = self.row
        if not statement.heeded:
            del self.runs[name].statements[at]

    def _take(self, name: str, statement: Statement) -> None:
        seen, row = statement.seen, self.row
        assert seen is not None
        if (row.term, row.renewals) == (seen.term, seen.renewals):
            term = max(row.term + 1, statement.term)
            self.row = row._replace(term=term, holder=name, renewals=row.renewals + 1)
            statement.accepted = True

    def _write(self, name: str, statement: Statement) -> None:
        row = self.row
        if (row.term, row.holder) != (statement.term, name):
            return
        if row.tag != statement.tag:
            if self.rules.fenced_by_tag:
                return
            if statement.kind is Kind.COMMIT:
                raise Broken(f"{name} committed after {row.tag}, and knows of {statement.tag}")
        self.row = row._replace(renewals=row.renewals + 1)
        if statement.kind is Kind.COMMIT:
            if statement.attended_s < row.attended_s:
                raise Broken(
                    f"{name} lets attended time fall from {row.attended_s} to {statement.attended_s}"
                )
            self.row = self.row._replace(
                seq=row.seq + 1, tag=statement.new_tag, attended_s=statement.attended_s
            )
        elif statement.kind is Kind.GOODBYE:
            self.row = self.row._replace(holder="")
        statement.accepted = True

    def answer(self, name: str, at: int, *, again: bool = False) -> None:
        """Let an answer reach its run; with `again` it comes once more later."""
        run = self.runs[name]
        statement = run.statements[at]
        if not again:
            del run.statements[at]
        row = statement.row
        assert row is not None
        if statement.kind is Kind.WATCH:
            self.observe(name, row)
        elif statement.kind is Kind.TAKE:
            if statement.accepted:
                run.lease.took(row.term, self._counted_s(run, statement))
                self._begins(run, row)
        elif statement.kind is Kind.TAKE_AGAIN:
            if statement.accepted:
                run.lease.took_again(row.term, self._counted_s(run, statement))
                self._goes_on(run, row)
        elif statement.accepted:
            self._succeeded(run, statement)
        elif row.term > statement.term or (row.term == statement.term and row.holder != name):
            run.lease.fenced(statement.term)
        elif row.term == run.lease.term:
            # A commit landed although its answer was lost, or the database went back: go on from there.
            run.tag = row.tag
            run.own |= {row.tag}
        elif statement.term == run.lease.term:
            # The database has forgotten the whole term.
            if (self.row if self.rules.looks_again else row).tag in run.own:
                self.send(name, Kind.TAKE_AGAIN)
            else:
                run.lease.end()
        if run.lease.term is None:
            run.asked_s = None
        self.judge()

    def _begins(self, run: Run, row: LeaseRow) -> None:
        """Let a run load what the row counts, and go on from the latest time that it knows."""
        if run.lease.term == row.term:
            run.tag, run.own = row.tag, frozenset({row.tag})
            run.attended_s = max(run.attended_s, run.lease.attended_s, row.attended_s)
            if run.attended_s < run.told_s:
                raise Broken(f"attended time falls from {run.told_s} to {run.attended_s}")

    def _goes_on(self, run: Run, row: LeaseRow) -> None:
        if run.lease.term == row.term:
            if row.tag not in run.own:
                raise Broken(f"{run.lease.run} goes on from {row.tag}, which it never saw")
            run.tag = row.tag

    def _succeeded(self, run: Run, statement: Statement) -> None:
        if statement.term != run.lease.term:
            return
        run.lease.succeeded(statement.term, self._counted_s(run, statement))
        if statement.kind is Kind.COMMIT and run.tag == statement.tag:
            run.tag = statement.new_tag
            run.own |= {run.tag}
        if run.asked_s is not None:
            run.proved |= statement.sent_s > run.asked_s or not self.rules.proved_by_sending

    def _counted_s(self, run: Run, statement: Statement) -> float:
        return statement.sent_s if self.rules.counted_from_sending else run.clock_s

    def give_up(self, name: str, at: int) -> None:
        """Let a run wait no longer; its statement may still arrive."""
        self.left["losses"] -= 1
        statements = self.runs[name].statements
        statements[at].heeded = False
        if statements[at].row is not None:
            del statements[at]

    def leaders(self) -> list[Run]:
        """Return the runs that believe that they may change records."""
        now_s = (lambda _: float("-inf")) if self.rules.clocks_stopped else (lambda run: run.clock_s)
        return [run for run in self.runs.values() if run.lease.may_change(now_s(run))]

    def ask(self) -> None:
        """Let a request come to all who believe themselves leader."""
        self.left["questions"] -= 1
        for run in self.leaders():
            run.asked_s = run.clock_s

    def stand_still(self) -> None:
        """Let the standby take no more commits."""
        self.standby = self.row

    def roll_back(self) -> None:
        """Let the standby be the database: all that it did not take is lost."""
        assert self.standby is not None
        self.left["rollbacks"] -= 1
        self.row, self.standby = self.standby, None
        self.went_back = True

    def judge(self) -> None:
        """Raise `Broken` if two runs lead, or prove something."""
        if not (self.went_back or self.rules.clocks_stopped) and len(self.leaders()) > 1:
            raise Broken("two runs may change records at one moment")
        if sum(run.proved for run in self.runs.values()) > 1:
            raise Broken("two runs proved something that was asked at one moment")

    def key(self) -> tuple[object, ...]:
        """Return all that makes a difference from now on, but attended time, which grows without end."""
        tags: dict[int, int] = {}
        return (
            self._row_key(self.row, tags),
            self._row_key(self.standby, tags),
            self.went_back,
            *self.left.values(),
            *(self._run_key(run, tags) for run in self.runs.values()),
            # Those that no row and no statement has are of no use any more.
            *(frozenset(tags[tag] for tag in run.own if tag in tags) for run in self.runs.values()),
        )

    def _row_key(self, row: LeaseRow | None, tags: dict[int, int]) -> object:
        if row is None:
            return None
        ago = max(row.renewals - self.row.renewals, -6)
        return self._term_key(row.term), row.holder, ago, tags.setdefault(row.tag, len(tags))

    def _term_key(self, term: int) -> int:
        return max(term - self.row.term, -3)

    def _run_key(self, run: Run, tags: dict[int, int]) -> object:
        lease, now_s = run.lease, run.clock_s
        known = vars(lease)
        statements = tuple(
            (
                each.kind,
                min(now_s - each.sent_s, self.times.valid_s + 1),
                run.asked_s is not None and each.sent_s > run.asked_s,
                self._term_key(each.term),
                tags.setdefault(each.tag, len(tags)),
                each.kind is Kind.COMMIT and tags.setdefault(each.new_tag, len(tags)),
                self._row_key(each.seen, tags),
                self._row_key(each.row, tags),
                each.heeded,
                each.accepted,
            )
            for each in run.statements
        )
        return (
            statements,
            self._row_key(lease.row, tags),
            None if lease.term is None else self._term_key(lease.term),
            self._term_key(lease.term_highest),
            lease.may_lead,
            known["_caught_up"],
            max(known["_valid_until_s"] - now_s, 0.0),
            min(now_s - known["_changed_s"], self.times.idle_s + 1),
            min(now_s - known["_looked_s"], self.times.gap_s + 1),
            tags.setdefault(run.tag, len(tags)),
            run.asked_s is None,
            run.proved,
        )


def _at(name: str, move: Callable[..., None], *arguments: object) -> Callable[[World], None]:
    return lambda world: move(world, name, *arguments)

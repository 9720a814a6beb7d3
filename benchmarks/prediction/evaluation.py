"""Evaluation of one replay: the answers of the directory and of every baseline, with what really happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from openred_central.clock import Now
from openred_central.directory.lifecycle import DAY_S
from openred_central.simulation.population import Presence

from .baselines import BASELINES, Baseline
from .replay import HOUR_S, Options, Question, Replay
from .scoring import Answers, Scores

DIRECTORY = "directory"
BASE = "base rate"
CURVE = "pooled curve"
# Orders of contacts, beside those by predictions.
RANDOM, LAST_SEEN = "random", "last seen"
# Horizons of "it is up again within", asked about late nodes.
HORIZONS_S = {
    "1 h": HOUR_S,
    "6 h": 6 * HOUR_S,
    "1 d": DAY_S,
    "7 d": 7 * DAY_S,
    "30 d": 30 * DAY_S,
    "180 d": 180 * DAY_S,
}
NOW = "now"
# Fewer questions than these have no scores.
QUESTIONS_MIN = 50


class Case(NamedTuple):
    """Nodes, how they are replayed, and the name of both; its weight is that in a fit."""

    name: str
    nodes: Sequence[Presence]
    options: Options
    weight: float = 1.0


class Contacts(NamedTuple):
    """Number of draws, and in how many of them the node that was ranked first was up."""

    draws: int
    answered: int

    @property
    def share(self) -> float:
        return self.answered / self.draws if self.draws else 0.0


class Result(NamedTuple):
    """The answers to a case by horizon and predictor, and how often the first node contacted was up."""

    case: Case
    answers: dict[str, dict[str, Answers]]
    contacts: dict[str, Contacts]
    beats: int
    late_share: float

    def scores(self, horizon: str, predictor: str = DIRECTORY) -> Scores:
        """Return the scores of one predictor."""
        return self.answers[horizon][predictor].scores()

    def document(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        options = self.case.options
        return {
            "case": self.case.name,
            "nodes": len(self.case.nodes),
            "options": options._asdict() | {"kinds": [str(kind) for kind in options.kinds]},
            "beats": self.beats,
            "late_share": self.late_share,
            "scores": {
                horizon: {name: answers.scores().document() for name, answers in rows.items()}
                for horizon, rows in self.answers.items()
            },
            "first_contacted": {name: contacts.share for name, contacts in self.contacts.items()},
        }


def evaluate(case: Case, seed: int, baselines: Sequence[Baseline] = BASELINES) -> Result:
    """Replay a case, and keep what the directory and some baselines said."""
    replay = Replay(case.nodes, case.options, seed)
    evaluation = _Evaluation(replay, baselines)
    replay.run(evaluation.ask)
    return evaluation.result(case)


class _Evaluation:
    def __init__(self, replay: Replay, baselines: Sequence[Baseline]) -> None:
        self._replay = replay
        self._baselines = baselines
        self._forecast = replay.forecast
        self._answers: dict[str, dict[str, Answers]] = {horizon: {} for horizon in (NOW, *HORIZONS_S)}
        self._draws = 0
        self._answered: Counter[str] = Counter()
        self._late = 0
        self._asked = 0

    def ask(self, now: Now, questions: list[Question]) -> None:
        """Ask everybody about the nodes of one draw."""
        if not questions:
            return
        now_s = now.attended_s
        slots = [question.slot for question in questions]
        said = {DIRECTORY: [self._forecast.chance(slot, now_s) for slot in slots]}
        for baseline in self._baselines:
            said[baseline.name] = [baseline.chance(question.heard, now_s) for question in questions]
        for name, chances in said.items():
            self._add(NOW, name, chances, [question.is_up for question in questions])
        # Discovery ranks by grades.
        said[DIRECTORY] = self._replay.directory.ranking.scores(slots, now_s)
        said[LAST_SEEN] = [question.heard.last_s for question in questions]
        late = [self._forecast.is_late(slot, now_s) for slot in slots]
        self._contact(said, questions)
        late_ones = [question for question, is_late in zip(questions, late, strict=True) if is_late]
        self._asked += len(questions)
        self._late += len(late_ones)
        for horizon, horizon_s in HORIZONS_S.items():
            self._ask_return(
                now_s, horizon, horizon_s, [one for one in late_ones if one.known_s >= horizon_s]
            )

    def _ask_return(self, now_s: float, horizon: str, horizon_s: float, questions: list[Question]) -> None:
        happened = [question.back_s <= horizon_s for question in questions]
        for baseline in self._baselines:
            chances = [baseline.back_within(question.heard, now_s, horizon_s) for question in questions]
            self._add(horizon, baseline.name, chances, happened)
        # A node that its client's pause or the directory's slack hides may be late only for some.
        lateness = [max(0.0, now_s - question.heard.due_s) for question in questions]
        self._add(
            horizon, CURVE, [self._replay.curve.back(late_s, horizon_s) for late_s in lateness], happened
        )
        told = [self._forecast.back_within(question.slot, now_s, horizon_s) for question in questions]
        self._add(horizon, DIRECTORY, told, happened)

    def _add(self, horizon: str, name: str, chances: list[float], happened: list[bool]) -> None:
        answers = self._answers[horizon].setdefault(name, Answers())
        for chance, came_true in zip(chances, happened, strict=True):
            answers.add(chance, came_true)

    def _contact(self, said: dict[str, list[float]], questions: list[Question]) -> None:
        """Contact the node that each one ranks first; equal ones are in random order."""
        self._draws += 1
        self._answered[RANDOM] += questions[0].is_up
        for name, chances in said.items():
            first = max(range(len(questions)), key=chances.__getitem__)
            self._answered[name] += questions[first].is_up

    def result(self, case: Case) -> Result:
        answers = {
            horizon: {BASE: rows[DIRECTORY].base(), **rows}
            for horizon, rows in self._answers.items()
            if DIRECTORY in rows and len(rows[DIRECTORY]) >= QUESTIONS_MIN
        }
        contacts = {name: Contacts(self._draws, self._answered[name]) for name in self._answered}
        late_share = self._late / max(1, self._asked)
        return Result(case, answers, contacts, self._replay.beats, late_share)

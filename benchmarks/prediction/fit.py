"""Fit of the weights of "is it up": logistic regression with one weight that both sets share, by Newton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from openred_central.clock import Now
from openred_central.directory.directory import Directory
from openred_central.directory.empathy.on_time import FADES_S, SMOOTHING, logit
from openred_central.directory.state.habits import HOURS, OBEYS_MIN
from openred_central.tables import aligned

from .evaluation import Case
from .replay import HOUR_S, Question, Replay
from .scoring import Answers

# 1; the logits of the profile at the hour, of the share of dues met, of the mean profile; e^(-silence/hour).
FEATURES = 5
RIDGE = 1e-3
STEPS_MAX = 40
FOLDS = 5
# So many questions of each case count.
EXAMPLES = 10_000.0
# Users of different cases have numbers so far apart.
USERS_MAX = 100_000

Features = tuple[float, ...]


class Example(NamedTuple):
    """One question: who was asked about, whether it obeys, the features, whether it was up, its weight."""

    user: int
    obeys: bool
    features: Features
    is_up: bool
    weight: float = 1.0


class Weights(NamedTuple):
    """The weights for nodes that obey and for those that do not; the last one is the same in both."""

    obeys: Features
    ignores: Features

    def chance(self, obeys: bool, features: Features) -> float:
        weights = self.obeys if obeys else self.ignores
        return sigmoid(math.fsum(map(float.__mul__, weights, features)))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def fit(examples: Sequence[Example]) -> Weights:
    """Return the weights of the least log-loss; the shared one is never negative."""
    solution = _newton(examples, shared=True)
    if solution[-1] < 0:
        solution = [*_newton(examples, shared=False), 0.0]
    own = FEATURES - 1
    return Weights((*solution[:own], solution[-1]), (*solution[own : 2 * own], solution[-1]))


def cross_fitted(examples: Sequence[Example]) -> list[tuple[float, Example]]:
    """Return for each example its chance by weights that were fitted without its user and some others."""
    answered = []
    for fold in range(FOLDS):
        weights = fit([example for example in examples if example.user % FOLDS != fold])
        answered += [
            (weights.chance(example.obeys, example.features), example)
            for example in examples
            if example.user % FOLDS == fold
        ]
    return answered


def _newton(examples: Sequence[Example], *, shared: bool) -> list[float]:
    """Return the weights of both sets, without the shared one at the end unless it is `shared`."""
    own = FEATURES - 1
    size = 2 * own + shared
    weights = [0.0] * size
    for _ in range(STEPS_MAX):
        gradient = [RIDGE * -weight for weight in weights]
        hessian = [[RIDGE * (row == column) for column in range(size)] for row in range(size)]
        for _, obeys, features, is_up, weight in examples:
            first = 0 if obeys else own
            places = [*range(first, first + own), *([2 * own] if shared else [])]
            # Without the shared weight the last feature counts for nothing.
            value = sum(weights[place] * feature for place, feature in zip(places, features, strict=False))
            chance = sigmoid(value)
            error, steepness = weight * (is_up - chance), weight * chance * (1 - chance)
            for row, feature in zip(places, features, strict=False):
                gradient[row] += error * feature
                slope = steepness * feature
                line = hessian[row]
                for column, other in zip(places, features, strict=False):
                    line[column] += slope * other
        step = _solved(hessian, gradient)
        weights = [weight + change for weight, change in zip(weights, step, strict=True)]
        if max(map(abs, step)) < 1e-6:
            break
    return weights


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Return the solution of linear equations, by elimination with pivots."""
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(column + 1, size):
            factor = rows[row][column] / rows[column][column]
            rows[row] = [value - factor * above for value, above in zip(rows[row], rows[column], strict=True)]
    solution = [0.0] * size
    for row in reversed(range(size)):
        known = sum(rows[row][column] * solution[column] for column in range(row + 1, size))
        solution[row] = (rows[row][size] - known) / rows[row][row]
    return solution


def report(cases: Sequence[Case], seed: int) -> str:
    """Return the weights fitted to all cases as constants to paste, and how well they do in each.

    The Brier scores are of nodes that are not late, by weights that were fitted without them.
    """
    examples = [
        example
        for number, case in enumerate(cases)
        for example in examples_of(case, seed, USERS_MAX * number)
    ]
    weights = fit(examples)
    answers = {(number, obeys): Answers() for number in range(len(cases)) for obeys in (True, False)}
    for chance, example in cross_fitted(examples):
        answers[example.user // USERS_MAX, example.obeys].add(chance, example.is_up)
    rows = []
    for (number, obeys), given in answers.items():
        if len(given):
            options, scores = cases[number].options, given.scores()
            base = scores.share * (1 - scores.share)
            rows.append(
                [
                    f"{cases[number].name}, {options.pace_s / HOUR_S:g} h",
                    "obey" if obeys else "ignore",
                    *(f"{scores.questions:,}", f"{scores.share:.3f}", f"{base:.4f}", f"{scores.brier:.4f}"),
                ]
            )
    return (
        aligned(["not late", "nodes that", "questions", "up", "base", "Brier, cross-fitted"], rows)
        + f"\nFOLLOWS: Final = {_constants(weights.obeys[:-1])}\n"
        f"IGNORES: Final = {_constants(weights.ignores[:-1])}\n"
        f"SILENCE: Final = {weights.obeys[-1]:.2f}"
    )


def _constants(values: Features) -> str:
    return f"({', '.join(f'{value:.2f}' for value in values)})"


def examples_of(case: Case, seed: int, first_user: int) -> list[Example]:
    """Replay a case and return the questions about nodes that were not late, which weigh `case.weight`.

    Users are numbered from `first_user` on.
    """
    replay = Replay(case.nodes, case.options, seed)
    found: list[Example] = []

    def ask(now: Now, questions: list[Question]) -> None:
        for number, slot, _, is_up, *_ in questions:
            if not replay.forecast.is_late(slot, now.attended_s):
                features, obeys = features_of(replay.directory, slot, now)
                found.append(Example(first_user + number, obeys, features, is_up))

    replay.run(ask)
    weight = case.weight * EXAMPLES / max(1, len(found))
    return [example._replace(weight=weight) for example in found]


def features_of(directory: Directory, slot: int, now: Now) -> tuple[Features, bool]:
    """Return the features of a node that is not late, and whether it counts as one that obeys."""
    habit = directory.nodes.habits.read(slot)
    hour, silent_s = int(now.wall_s // HOUR_S), now.attended_s - directory.nodes.registry.last_seen_s[slot]
    at_hour = sum(weight * habit.profile[(hour + offset) % HOURS] for offset, weight in SMOOTHING)
    features = (
        1.0,
        logit(at_hour / sum(weight for _, weight in SMOOTHING)),
        logit(habit.on_time),
        logit(math.fsum(habit.profile) / HOURS),
        math.exp(-silent_s / FADES_S),
    )
    return features, directory.nodes.habits.obeys[slot] >= OBEYS_MIN

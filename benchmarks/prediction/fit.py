"""Fit of the weights of "is it up": logistic regression with one weight that both sets share, by Newton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# 1; the logits of the profile at the hour, of the share of dues met, of the mean profile; e^(-silence/hour).
FEATURES = 5
RIDGE = 1e-3
STEPS_MAX = 40
FOLDS = 5

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


def logit(chance: float) -> float:
    clamped = min(max(chance, 0.01), 0.99)
    return math.log(clamped / (1 - clamped))


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
    """Return for each example its chance by weights that were fitted without its user's part of all users."""
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

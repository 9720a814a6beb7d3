"""Figures of a run, and how sure they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Final, NamedTuple

# A normal distribution has 95 of 100 cases within so many deviations.
Z: Final = 1.959964
# Counts are told for so many node-years.
PER_NODE_YEARS: Final = 100_000

Interval = tuple[float, float, float]


class Month(NamedTuple):
    """The nodes of the directory at the end of a month, `year` years after the begin.

    `active` nodes are not silent, `silent` ones are for long, and those in `coma` even longer.
    """

    year: float
    active: int
    silent: int
    coma: int


@dataclass
class Tally:
    """Counts of one run, in which nodes of floods do not count, but for `months`."""

    node_years: float = 0.0
    heartbeats: int = 0
    registrations: int = 0
    # Registrations that found no room, and nodes that had to make room.
    refused: int = 0
    crowded_out: int = 0
    # Each time that a node that silence had moved on was heard again.
    needless: int = 0
    comas: int = 0
    deaths: int = 0
    # Nodes in coma while their machines were up, and dead nodes that came back.
    false_comas: int = 0
    false_deaths: int = 0
    # Hours in which the directory aged its nodes, was down, held transitions, and heard nobody.
    attended_h: float = 0.0
    down_h: float = 0.0
    held_h: float = 0.0
    unheard_h: float = 0.0
    # Samples of discovery, and those in which the first node answers.
    asked: int = 0
    answered: int = 0
    months: list[Month] = field(default_factory=list)

    def rate(self, count: int) -> Interval:
        """Return a count per `PER_NODE_YEARS`, and the bounds of its 95 % interval."""
        scale = PER_NODE_YEARS / self.node_years if self.node_years else 0.0
        low, high = poisson(count)
        return count * scale, low * scale, high * scale

    def first_contact(self) -> Interval:
        """Return the share of samples in which the first node answers, and its 95 % interval."""
        return share(self.answered, self.asked)


def poisson(count: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of independent events of which `count` happened."""
    more = count + 1
    low = count * (1 - 1 / (9 * count) - Z / (3 * sqrt(count))) ** 3 if count else 0.0
    return low, more * (1 - 1 / (9 * more) + Z / (3 * sqrt(more))) ** 3


def share(hits: int, count: int) -> Interval:
    """Return the share of `hits`, and its 95 % interval; all of it where `count` is 0."""
    if not count:
        return 0.0, 0.0, 1.0
    found, weight = hits / count, Z * Z / count
    middle = (found + weight / 2) / (1 + weight)
    reach = Z * sqrt(found * (1 - found) / count + weight / (4 * count)) / (1 + weight)
    return found, middle - reach, middle + reach

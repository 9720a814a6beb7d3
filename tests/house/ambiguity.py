"""Finds regular expressions whose matching can take longer than in proportion to the length of the input.

A pattern that backtracks is slow where one text can be read in several ways, and more of them the longer the
text is. Read as an automaton: there are two of its positions, the second reachable from the first, and a text
that leads from the first to itself, from the first to the second, and from the second to itself (Weber and
Seidl, "On the degree of ambiguity of finite automata", 1991: infinite ambiguity). A sender that repeats that
text and then ends with something that does not fit has every split of it tried. A possessive repetition gives
nothing back, so what follows it cannot begin with what it would have taken itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as syntax  # type: ignore[attr-defined]
from typing import Any, NamedTuple

# The characters of Latin-1, and one for all others.
OTHERS = 256
EVERYTHING = frozenset(range(OTHERS + 1))
NOTHING: frozenset[int] = frozenset()
# A repetition that takes more at most counts as one without a bound.
BOUND_MAX = 1_000
# Methods that end with the first match: they try nothing else where the text behind it does not fit.
PREFIX_METHODS = {"match", "search", "sub", "findall"}
ANYWHERE_METHODS = {"search", "sub", "findall"}

Characters = frozenset[int]


class Part(NamedTuple):
    """A part of a pattern: the positions that it may begin and end with, and whether it may be empty.

    Each position, and emptiness, comes with the characters that must not come next, because a possessive
    repetition would have taken them: before the first position, or behind the last one. The first
    character tells whether a repetition takes it.
    """

    first: dict[int, Characters]
    last: dict[int, Characters]
    empty: Characters | None


class Automaton:
    """The positions of one pattern, and which may follow which, by which characters (Glushkov, 1961)."""

    def __init__(self, pattern: str | bytes, flags: int, *, anywhere: bool) -> None:
        self._characters: list[Characters] = []
        self._follows: list[dict[int, Characters]] = []
        self._ends_anchored = False
        # True if one text leads from one position to the next in two ways: this is ambiguous in itself.
        self._doubled = False
        tree = syntax.parse(pattern, flags)
        self._ignores_case = bool(tree.state.flags & re.IGNORECASE)
        whole = self._sequence(tree)
        if anywhere:
            skipped = self._repeated(self._position(EVERYTHING), minimum=0, endless=True, possessive=False)
            whole = self._joined(skipped, whole)
        self._whole = whole

    def is_ambiguous(self, *, prefix: bool) -> bool:
        """Return whether the ways to read a text grow with its length. With `prefix`, text may follow."""
        if self._doubled:
            return True
        # A position that may be the last one is a match already, wherever the rest fails.
        harmless = set(self._whole.last) if prefix and not self._ends_anchored else set()
        loops = [position for position in range(len(self._follows)) if self._reach(position, position)]
        return any(
            self._splits(first, second)
            for first in loops
            for second in loops
            if first != second and second not in harmless and self._reach(first, second)
        )

    def _reach(self, start: int, goal: int) -> bool:
        seen, waiting = set[int](), [start]
        while waiting:
            for follower in self._follows[waiting.pop()]:
                if follower == goal:
                    return True
                if follower not in seen:
                    seen.add(follower)
                    waiting.append(follower)
        return False

    def _splits(self, first: int, second: int) -> bool:
        """Return whether one text leads from `first` to itself, to `second`, and from there to itself."""
        start, goal = (first, first, second), (first, second, second)
        seen, waiting = {start}, [start]
        while waiting:
            one, two, three = waiting.pop()
            for a, by_a in self._follows[one].items():
                for b, by_b in self._follows[two].items():
                    if by_ab := by_a & by_b:
                        for c, by_c in self._follows[three].items():
                            if by_ab & by_c and (a, b, c) not in seen:
                                if (a, b, c) == goal:
                                    return True
                                seen.add((a, b, c))
                                waiting.append((a, b, c))
        return False

    # From the tree of a pattern to positions

    def _sequence(self, items: Iterable[Any]) -> Part:
        whole = Part({}, {}, NOTHING)
        for code, argument in items:
            whole = self._joined(whole, self._part(code, argument))
        return whole

    def _part(self, code: Any, argument: Any) -> Part:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            return self._repetition(code, *argument)
        if code is codes.SUBPATTERN:
            return self._sequence(argument[-1])
        if code is codes.ATOMIC_GROUP:
            return self._sequence(argument)
        if code is codes.BRANCH:
            return self._either([self._sequence(branch) for branch in argument[1]])
        if code is codes.AT:
            self._ends_anchored |= argument in (codes.AT_END, codes.AT_END_STRING)
            return Part({}, {}, NOTHING)
        if code in (codes.ASSERT, codes.ASSERT_NOT, codes.GROUPREF):
            # An assertion takes nothing; a reference to a group is one text, not many.
            return Part({}, {}, NOTHING)
        return self._position(self._taken(code, argument))

    def _repetition(self, code: Any, minimum: int, maximum: Any, items: Any) -> Part:
        possessive = code is codes.POSSESSIVE_REPEAT
        endless = maximum is codes.MAXREPEAT or maximum > BOUND_MAX
        if endless or maximum == 1:
            return self._repeated(
                self._sequence(items), minimum=minimum, endless=endless, possessive=possessive
            )
        # Twice stands for any number with a bound: it makes no loop of its own.
        again = self._sequence(items)
        if minimum < maximum:
            again = self._repeated(again, minimum=0, endless=False, possessive=possessive)
        twice = self._joined(self._sequence(items), again)
        return self._repeated(twice, minimum=minimum, endless=False, possessive=possessive)

    def _repeated(self, part: Part, *, minimum: int, endless: bool, possessive: bool) -> Part:
        if endless:
            self._connect(part.last, part.first)
        refused = NOTHING
        if possessive:
            refused = frozenset().union(
                *(self._characters[position] - barred for position, barred in part.first.items())
            )
        last = (
            {position: barred | refused for position, barred in part.last.items()} if endless else part.last
        )
        return Part(part.first, last, refused if minimum == 0 else part.empty)

    def _joined(self, one: Part, two: Part) -> Part:
        self._connect(one.last, two.first)
        first, last = dict(one.first), dict(two.last)
        if one.empty is not None:
            first |= {position: barred | one.empty for position, barred in two.first.items()}
        if two.empty is not None:
            last |= {position: barred | two.empty for position, barred in one.last.items()}
        empty = None if one.empty is None or two.empty is None else one.empty | two.empty
        return Part(first, last, empty)

    def _either(self, parts: list[Part]) -> Part:
        empties = [part.empty for part in parts if part.empty is not None]
        return Part(
            {position: barred for part in parts for position, barred in part.first.items()},
            {position: barred for part in parts for position, barred in part.last.items()},
            frozenset.intersection(*empties) if empties else None,
        )

    def _connect(self, last: dict[int, Characters], first: dict[int, Characters]) -> None:
        for before, barred_behind in last.items():
            for after, barred_before in first.items():
                by = self._characters[after] - barred_behind - barred_before
                known = self._follows[before].get(after, NOTHING)
                self._doubled |= bool(by & known)
                if by:
                    self._follows[before][after] = known | by

    def _position(self, characters: Characters) -> Part:
        self._characters.append(characters)
        self._follows.append({})
        here = {len(self._characters) - 1: NOTHING}
        return Part(here, dict(here), None)

    def _taken(self, code: Any, argument: Any) -> Characters:
        """Return the characters that one item of a pattern takes."""
        if code is codes.ANY:
            return EVERYTHING
        if code is codes.LITERAL:
            return self._cased({min(argument, OTHERS)})
        if code is codes.NOT_LITERAL:
            return EVERYTHING - self._cased({argument})
        if code is codes.RANGE:
            return self._cased(range(argument[0], min(argument[1], OTHERS) + 1))
        if code is codes.CATEGORY:
            return _category(str(argument))
        if code is codes.IN:
            negated = argument[0][0] is codes.NEGATE
            taken = frozenset().union(*(self._taken(*item) for item in argument[negated:]))
            # Some of the others are named and some are not.
            return (EVERYTHING - taken) | {OTHERS} if negated else taken
        raise NotImplementedError(f"{code} is in no pattern yet")

    def _cased(self, characters: Iterable[int]) -> Characters:
        taken = set(characters)
        if self._ignores_case:
            letters = [chr(each) for each in taken if each < OTHERS]
            taken |= {min(ord(cased), OTHERS) for each in letters for cased in each.lower() + each.upper()}
        return frozenset(taken)


def _category(name: str) -> Characters:
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[name.rpartition("_")[2]]
    letter = letter.upper() if "_NOT_" in name else letter
    return frozenset(each for each in range(OTHERS) if re.match(rf"\{letter}", chr(each))) | {OTHERS}


def is_slow(pattern: str | bytes, flags: int = 0, methods: Iterable[str] = ("fullmatch",)) -> bool:
    """Return whether one of `methods` of `pattern` can take longer than in proportion to the text."""
    return any(
        Automaton(pattern, flags, anywhere=method in ANYWHERE_METHODS).is_ambiguous(
            prefix=method in PREFIX_METHODS
        )
        for method in methods
    )

"""How long files and functions of the package may be. What does not fit into a head does not fit here."""

from __future__ import annotations

import ast

from .project import expect_none, sources

FILE_LINES_MAX = 400
# Never more than this, whatever the reason.
FILE_LINES_MAX_ARGUED = 450
FUNCTION_LINES_MAX = 70

# Files that may be a little too long, and why.
ARGUED: dict[str, str] = {}


def long_file(path: str, source: str, *, argued: bool = False) -> list[str]:
    """What is wrong with the length of a file."""
    lines = len(source.splitlines())
    lines_max = FILE_LINES_MAX_ARGUED if argued else FILE_LINES_MAX
    if lines <= lines_max:
        return []
    return [
        f"{path} has {lines} lines, allowed are {lines_max}; move one of its concerns to a file of its own"
    ]


def long_functions(path: str, source: str) -> list[str]:
    """The functions of a file that are too long, from `def` to the last line of the body."""
    breaches = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                breaches.append(
                    f"{path}:{node.lineno} {node.name} has {lines} lines, allowed are {FUNCTION_LINES_MAX}; "
                    "name a step of it and make that a function"
                )
    return breaches


def test_no_file_is_too_long() -> None:
    expect_none(
        breach
        for path, source in sources().items()
        for breach in long_file(path, source, argued=path in ARGUED)
    )


def test_no_function_is_too_long() -> None:
    expect_none(breach for path, source in sources().items() for breach in long_functions(path, source))


def test_no_file_is_excused_that_is_short_enough() -> None:
    expect_none(
        f"{path} is short enough; take it out of ARGUED"
        for path in ARGUED
        if not long_file(path, sources().get(path, ""))
    )


def test_a_file_that_is_too_long_is_named_with_its_length() -> None:
    assert long_file("a.py", "\n" * 400) == []
    (breach,) = long_file("a.py", "\n" * 401)
    assert breach.startswith("a.py has 401 lines, allowed are 400")


def test_an_argued_file_may_be_a_little_longer_and_no_more() -> None:
    assert long_file("a.py", "\n" * 450, argued=True) == []
    assert len(long_file("a.py", "\n" * 451, argued=True)) == 1


def test_a_function_that_is_too_long_is_named_with_its_length() -> None:
    method = "class Node:\n    @property\n    async def life(self):\n" + "        self.beat()\n" * 70
    (breach,) = long_functions("a.py", method)
    assert breach.startswith("a.py:3 life has 71 lines, allowed are 70")
    assert long_functions("a.py", "def life():\n" + "    beat()\n" * 69) == []

"""What lies where: the top level, a test file beside each module, three dependencies."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable

from .project import ROOT, expect_none, ignored, sources
from .test_imports import RUN_TIME_DEPENDENCIES

TOP_LEVEL = {
    "openred_central",
    "tests",
    "benchmarks",
    "pyproject.toml",
    "Makefile",
    "Dockerfile",
    "README.md",
    "LICENSE",
    "MANIFEST.in",
}
# Modules without a test file of their own, and why.
TESTED_ELSEWHERE = {"openred_central/__main__.py": "lines that start cli.py, run by tests/test_cli.py"}


def strangers(entries: Iterable[str]) -> list[str]:
    """The entries that have no place at the top level. Dot-files have."""
    return [
        f"{entry} has no place at the top level; move it into one of {', '.join(sorted(TOP_LEVEL))}"
        for entry in sorted(entries)
        if entry not in TOP_LEVEL and not entry.startswith(".")
    ]


def does_something(source: str) -> bool:
    """Whether a file holds a function with a body. Pure declarations leave nothing to test."""
    return any(
        not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for statement in (node.body if isinstance(node.body, list) else [node.body])
    )


def untested(modules: dict[str, str], tests: Iterable[str]) -> list[str]:
    """The modules, path → source, that have no test file in the mirrored place."""
    present = set(tests)
    breaches = []
    for path, source in modules.items():
        folder, _, file = path.removeprefix("openred_central/").rpartition("/")
        test = "/".join(["tests", *([folder] if folder else []), f"test_{file}"])
        if test not in present and path not in TESTED_ELSEWHERE and does_something(source):
            breaches.append(f"{path} has no test file of its own; write {test}")
    return breaches


def dependencies(pyproject: str) -> set[str]:
    """The names of the run-time dependencies in the text of a pyproject.toml."""
    wanted = tomllib.loads(pyproject)["project"]["dependencies"]
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in wanted}


def test_the_top_level_holds_what_belongs_there_and_nothing_more() -> None:
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    expect_none(strangers(entry.name for entry in ROOT.iterdir() if not ignored(entry.name, patterns)))


def test_every_module_has_its_own_test_file() -> None:
    expect_none(untested(sources(), sources(ROOT / "tests")))


def test_there_are_three_run_time_dependencies() -> None:
    assert dependencies((ROOT / "pyproject.toml").read_text(encoding="utf-8")) == RUN_TIME_DEPENDENCIES


def test_a_stranger_at_the_top_level_is_named() -> None:
    (breach,) = strangers([".ci", "Makefile", "notes.md", "tests"])
    assert breach.startswith("notes.md has no place")


def test_what_git_ignores_is_no_stranger() -> None:
    patterns = ["*.egg-info/", "data/", ""]
    assert [ignored(name, patterns) for name in ("data", "a.egg-info", "notes.md")] == [True, True, False]


def test_a_module_without_its_test_file_is_named_with_the_place_to_write_it() -> None:
    modules = dict.fromkeys(["openred_central/api/nodes.py", "openred_central/clock.py"], "def f(): return 1")
    assert untested(modules, ["tests/test_clock.py", "tests/test_nodes.py"]) == [
        "openred_central/api/nodes.py has no test file of its own; write tests/api/test_nodes.py"
    ]


def test_a_module_that_only_declares_needs_no_test_file() -> None:
    assert not does_something(
        'class Store(Protocol):\n    def open(self) -> None:\n        """Open."""\nSIZE = 3'
    )
    assert not does_something("class Store(Protocol):\n    def open(self) -> None: ...")
    assert does_something('def f():\n    """Do."""\n    return 1')
    assert does_something("double = lambda x: 2 * x")


def test_a_fourth_dependency_would_be_seen() -> None:
    assert dependencies('[project]\ndependencies = ["uvloop>=0.19", "Rich"]') == {"uvloop", "rich"}

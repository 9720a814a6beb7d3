"""The top level of the project, its dependencies, and the length of functions."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import warnings
from collections.abc import Iterable, Iterator

from tests.support.project import ROOT, expect_none, ignored, sources

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
RUN_TIME_DEPENDENCIES = {"uvloop", "orjson", "cryptography"}
# Each library of an extra, and the folder in which alone it is used.
OPTIONAL = {"asyncpg": "openred_central/storage/postgres/"}
FUNCTION_LINES_MAX = 70
# Advice, not a rule: a report names longer files.
FILE_LINES_ADVISED = 550


def strangers(entries: Iterable[str]) -> list[str]:
    """Return a complaint for each entry that has no place at the top level. Dot-files have."""
    return [
        f"{entry} has no place at the top level; move it into one of {', '.join(sorted(TOP_LEVEL))}"
        for entry in sorted(entries)
        if entry not in TOP_LEVEL and not entry.startswith(".")
    ]


def dependencies(pyproject: str) -> set[str]:
    """Return the names of the run-time dependencies in the text of a pyproject.toml."""
    wanted = tomllib.loads(pyproject)["project"]["dependencies"]
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in wanted}


def foreign_imports(path: str, source: str) -> Iterator[str]:
    """Yield a complaint for each import of neither the standard library, a dependency nor the package."""
    allowed = sys.stdlib_module_names | RUN_TIME_DEPENDENCIES
    allowed |= {name for name, folder in OPTIONAL.items() if path.startswith(folder)}
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] not in allowed:
                yield f"{path} imports {name}; write imports of the package relative, and add no dependency"


def long_functions(path: str, source: str) -> Iterator[str]:
    """Yield a complaint for each function that is too long, from `def` to the last line of its body."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno} {node.name} has {lines} lines; the limit is {FUNCTION_LINES_MAX}"


def test_top_level_holds_nothing_more() -> None:
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    expect_none(strangers(entry.name for entry in ROOT.iterdir() if not ignored(entry.name, patterns)))


def test_there_are_three_run_time_dependencies() -> None:
    assert dependencies((ROOT / "pyproject.toml").read_text(encoding="utf-8")) == RUN_TIME_DEPENDENCIES
    expect_none(breach for path, source in sources().items() for breach in foreign_imports(path, source))


def test_no_function_is_too_long() -> None:
    expect_none(breach for path, source in sources().items() for breach in long_functions(path, source))


def test_long_files_are_reported() -> None:
    for path, source in sources().items():
        if (lines := len(source.splitlines())) > FILE_LINES_ADVISED:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.warn(f"{path} has {lines} lines; {FILE_LINES_ADVISED} are advised", stacklevel=1)


def test_breaches_are_named() -> None:
    assert "notes.md has no place" in strangers([".ci", "Makefile", "notes.md", "tests"])[0]
    assert dependencies('[project]\ndependencies = ["uvloop>=0.19", "Rich"]') == {"uvloop", "rich"}
    assert len(list(foreign_imports("a.py", "import ssl, requests.adapters\nfrom . import b"))) == 1
    assert len(list(foreign_imports("openred_central/storage/store.py", "import asyncpg"))) == 1
    assert not list(foreign_imports("openred_central/storage/postgres/store.py", "import asyncpg"))
    assert next(long_functions("a.py", "async def life():\n" + "    beat()\n" * 70)).startswith(
        "a.py:1 life has 71"
    )
    assert not list(long_functions("a.py", "def life():\n" + "    beat()\n" * 69))

"""Who may import whom. Imports point one way, from the shell of the server to its core."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from .project import ROOT, expect_none, module_name, sources

NAME = "openred_central"

RUN_TIME_DEPENDENCIES = {"uvloop", "orjson", "cryptography"}
TEST_DEPENDENCIES = RUN_TIME_DEPENDENCIES | {
    *("pytest", "hypothesis", "http_message_signatures", "cryptography_vectors", "prometheus_client"),
    *("jsonschema", "openapi_spec_validator", "referencing", "schemathesis"),
    *(NAME, "tests", "benchmarks"),
}
# What the benchmarks compare with: the `bench` extra, for the peers alone.
PEERS = "benchmarks/peers/"
PEER_DEPENDENCIES = TEST_DEPENDENCIES | {"fastapi", "uvicorn", "aiohttp", "granian"}


class Import(NamedTuple):
    """`name`: what is imported, in full; `level`: how many dots it was written with; `line`: where."""

    name: str
    level: int
    line: int


def imports(path: str, source: str) -> Iterator[Import]:
    """Every import in a file, also those inside functions. Relative ones are resolved."""
    package = module_name(path).split(".")
    if not path.endswith("__init__.py"):
        package.pop()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, 0, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{module}.{alias.name}", node.level, node.lineno)


def foreign_imports(path: str, source: str, allowed: set[str]) -> list[str]:
    """What a file imports from outside the standard library and `allowed`."""
    return [
        f"{path}:{line} imports {name}; allowed are the standard library and {', '.join(sorted(allowed))}"
        for name, level, line in imports(path, source)
        if not level and name.partition(".")[0] not in sys.stdlib_module_names | allowed
    ]


def cycle(files: Mapping[str, str]) -> list[str]:
    """The modules of one import cycle among `files`, in order, the first one again at the end; or nothing."""
    modules = {module_name(path): path for path in files}
    graph: dict[str, list[str]] = {}
    for module, path in modules.items():
        names = [name for name, _, _ in imports(path, files[path])]
        # `from .a import b` imports the module a.b if there is one, and a otherwise.
        targets = [name if name in modules else name.rpartition(".")[0] for name in names]
        graph[module] = [target for target in targets if target in modules and target != module]
    done: set[str] = set()

    def search(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module not in done:
            done.add(module)
            for target in graph[module]:
                if found := search(target, [*trail, module]):
                    return found
        return []

    return next((found for module in graph if (found := search(module, []))), [])


def test_the_package_needs_only_its_three_dependencies() -> None:
    expect_none(
        breach
        for path, source in sources().items()
        for breach in foreign_imports(path, source, RUN_TIME_DEPENDENCIES)
    )


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_tests_and_benchmarks_need_only_the_test_extra(folder: str) -> None:
    expect_none(
        breach
        for path, source in sources(ROOT / folder).items()
        for breach in foreign_imports(
            path, source, PEER_DEPENDENCIES if path.startswith(PEERS) else TEST_DEPENDENCIES
        )
    )


def test_no_modules_import_each_other_in_a_circle() -> None:
    circle = " imports ".join(cycle(sources()))
    expect_none([f"{circle}; move what both need to a third file"] if circle else [])


def test_a_fourth_dependency_is_named() -> None:
    (breach,) = foreign_imports(f"{NAME}/api/nodes.py", "import ssl, requests.adapters", {"orjson"})
    assert breach.startswith("openred_central/api/nodes.py:1 imports requests.adapters; allowed are")


def test_a_circle_is_named_with_all_its_modules() -> None:
    files = {
        "p/a.py": "from .b import x",
        "p/b.py": "def f():\n    from . import c",
        "p/c.py": "from . import a",
        "p/d.py": "from . import a",
    }
    assert cycle(files) == ["p.a", "p.b", "p.c", "p.a"]
    assert cycle({**files, "p/c.py": "import os"}) == []

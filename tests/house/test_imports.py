"""Who may import whom. Imports point one way, from the shell of the server to its core."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from .project import ROOT, expect_none, module_name, sources

NAME = "openred_central"

# A file imports only from strictly lower ranks, or from its own folder.
RANKS = {
    "errors": 0,
    "clock": 0,
    "early": 0,
    "terminal": 1,
    "encoding": 0,
    "histogram": 0,
    "patterns": 0,
    "plain": 0,
    "wording": 0,
    "setting_kinds": 1,
    "log_writer": 1,
    "micro_engine": 1,
    "directory": 1,
    "security": 1,
    "dashboard": 1,
    "client": 2,
    "storage": 2,
    "logs": 2,
    "listening": 2,
    "descriptors": 2,
    "transition_log": 2,
    "setting_table": 2,
    "exit_codes": 3,
    "api": 3,
    "tasks": 3,
    "config": 4,
    "loading": 4,
    "reporting": 4,
    "operators": 4,
    # Above `config`.
    "vault": 5,
    "setting_texts": 5,
    "assembly": 5,
    "server": 6,
    # Above `vault`.
    "commands": 6,
    "maintenance": 5,
    "health": 5,
    "service_unit": 5,
    "cli": 7,
    # Two lines that start `cli`.
    "__main__": 8,
}
RUN_TIME_DEPENDENCIES = {"uvloop", "orjson", "cryptography"}
TEST_DEPENDENCIES = RUN_TIME_DEPENDENCIES | {
    *("pytest", "hypothesis", "http_message_signatures", "cryptography_vectors", "prometheus_client"),
    *("jsonschema", "openapi_spec_validator", "referencing", "schemathesis"),
    *(NAME, "tests", "benchmarks"),
}
# What the benchmarks compare with: the `bench` extra, for the peers alone.
PEERS = "benchmarks/peers/"
PEER_DEPENDENCIES = TEST_DEPENDENCIES | {"fastapi", "uvicorn", "aiohttp", "granian"}
# The HTTP engine could be published alone.
ENGINE_MAY_IMPORT = {"errors", "clock", "histogram", "patterns", "plain", "micro_engine"}


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


def part(module: str) -> str:
    """The part of the package that a dotted name lies in: ``openred_central.api.routes.x`` is in ``api``."""
    return module.split(".")[1] if "." in module else ""


def rank_breaches(path: str, source: str) -> list[str]:
    """What a file of the package imports from parts that it must not import from."""
    own = part(module_name(path))
    if own and own not in RANKS:
        return [f"{path}: {own} has no rank; give it one in RANKS, in {__name__}"]
    breaches = []
    for name, level, line in imports(path, source):
        if name.partition(".")[0] != NAME:
            continue
        other = part(name)
        if not level:
            breaches.append(f"{path}:{line} imports {name}; write the import relative, with leading dots")
        elif other in RANKS and other != own and RANKS[other] >= RANKS.get(own, 0):
            breaches.append(
                f"{path}:{line} imports {name}, but {own} has rank {RANKS.get(own, 0)} and {other} rank "
                f"{RANKS[other]}; move what both need to a lower rank, or pass it in from server.py"
            )
        elif own == "micro_engine" and other not in ENGINE_MAY_IMPORT:
            breaches.append(
                f"{path}:{line} imports {name}; the engine knows "
                "only errors, clock, histogram, patterns, plain and itself"
            )
    return breaches


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


def test_the_package_imports_only_from_lower_ranks() -> None:
    expect_none(breach for path, source in sources().items() for breach in rank_breaches(path, source))


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


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("directory/node.py", "from ..storage.store import Store", "directory has rank 1 and storage rank 2"),
        ("directory/node.py", "from ..security import keys", "security rank 1"),
        ("api/nodes.py", "from ..tasks.saver import Saver", "tasks rank 3"),
        ("api/nodes.py", "def f():\n    from ..server import serve", "nodes.py:2 imports"),
        ("config.py", "from .cli import main", "config has rank 4 and cli rank 7"),
        ("errors.py", "from . import clock", "clock rank 0"),
        ("server.py", "from openred_central.config import load", "write the import relative"),
        (
            "micro_engine/parser.py",
            "from ..encoding import base64url",
            "only errors, clock, histogram, patterns, plain and itself",
        ),
        ("newcomer/door.py", "", "newcomer has no rank"),
        ("__init__.py", "from .cli import main", "cli rank 7"),
    ],
)
def test_an_import_against_the_ranks_is_named(path: str, source: str, complaint: str) -> None:
    (breach,) = rank_breaches(f"{NAME}/{path}", source)
    assert complaint in breach


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("api/nodes.py", "from ..directory.directory import Directory\nfrom .problems import problem"),
        ("micro_engine/parser.py", "import orjson\nfrom ..errors import CallerError\nfrom . import limits"),
        ("cli.py", "from . import __version__\nfrom .config import load"),
        ("__main__.py", "from .cli import main"),
    ],
)
def test_an_import_along_the_ranks_is_let_pass(path: str, source: str) -> None:
    assert rank_breaches(f"{NAME}/{path}", source) == []


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

"""What the package must not call, and what to use instead."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from .project import expect_none, sources


class Ban(NamedTuple):
    """`name`, and all that is under it, is banned outside the files `allowed_in`; `instead` is what to do."""

    name: str
    instead: str
    allowed_in: tuple[str, ...] = ()


COMPOSITION_ROOT = ("server.py", "cli.py")
TIME = "time is an argument; ask clock.py, and let the composition root pass it in"
RANDOM = "randomness is passed in: take a random.Random, or a function that returns bytes"
TASK = "asyncio.get_running_loop().create_task, and keep the task"

BANS = (
    Ban("time", TIME, ("clock.py",)),
    Ban("datetime.datetime.now", TIME),
    Ban("datetime.datetime.utcnow", TIME),
    Ban("datetime.datetime.today", TIME),
    Ban("datetime.date.today", TIME),
    Ban("email.utils.localtime", TIME),
    Ban("random", RANDOM, COMPOSITION_ROOT),
    Ban("secrets", RANDOM, COMPOSITION_ROOT),
    # A client is begun by others, in their first line: randomness is passed in, but has a default.
    Ban("os.urandom", RANDOM, (*COMPOSITION_ROOT, "client/client.py")),
    Ban("uuid.uuid1", RANDOM, COMPOSITION_ROOT),
    Ban("uuid.uuid4", RANDOM, COMPOSITION_ROOT),
    Ban("print", "the log, or return the text and let cli.py print it", ("cli.py", "__main__.py")),
    Ban("sys.exit", "raise, and let cli.py choose the exit code", ("cli.py", "__main__.py")),
    Ban("eval", "parse what is expected and refuse the rest"),
    Ban("exec", "parse what is expected and refuse the rest"),
    Ban("pickle", "orjson, or struct: reading a pickle runs whatever is in it"),
    Ban("marshal", "orjson, or struct: marshal reads no data that is not trusted"),
    Ban("shelve", "the store: a shelf is made of pickles"),
    Ban("dataclasses", "plain, of which a class costs each start a tenth"),
    Ban(
        "typing.NamedTuple",
        "NamedTuple of plain, which costs each start half of that",
        ("clock.py", "plain.py"),
    ),
    Ban("asyncio.get_event_loop", "asyncio.get_running_loop"),
    Ban("asyncio.ensure_future", TASK),
    Ban("asyncio.run", "uvloop.run, once, in the composition root"),
)
# Not randomness itself, but what randomness is passed in as.
PASSED_IN = {"random.Random"}

# How many handlers of a file may catch everything, and why.
MAY_CATCH_ALL = {
    "directory/expiry.py": (1, "one broken record is set aside; the life of all others goes on"),
    "logs.py": (1, "a line that cannot be made must not end what was to be told"),
    "micro_engine/connection.py": (2, "whatever a handler or a shortcut raises, the request is answered"),
    "tasks/prober.py": (1, "a result that cannot be taken must not end the probing of all others"),
    "tasks/snapshotter.py": (2, "whatever keeps a snapshot from being taken, the server goes on"),
    "tasks/supervisor.py": (1, "whatever one background task meets, all others go on"),
    "tasks/saver.py": (3, "whatever a store raises, the batch is put back and the saver goes on"),
    "tasks/revocation_saver.py": (2, "whatever a store raises, what was revoked is tried again"),
}
LOGGERS = {"log", "logger", "logging"}
LOG_CALLS = {"debug", "info", "warning", "error", "exception", "critical"}


def dotted(node: ast.expr, imported: dict[str, str]) -> str:
    """The full name that an expression such as ``dt.now`` stands for; nothing if it is not a plain name."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (base := dotted(node.value, imported)):
        return f"{base}.{node.attr}"
    return ""


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Local name → full name for each absolute import of a file."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def own_names(tree: ast.Module) -> set[str]:
    """The names that a file binds itself, as arguments or by assignment: they shadow built-in functions."""
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return names | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def uses(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Full name and line of everything from outside the file that it makes use of."""
    imported = imported_names(tree)
    local = own_names(tree) - imported.keys()
    unseeded = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and not (node.args or node.keywords)
    }
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, ast.Name | ast.Attribute):
            continue
        name = dotted(node, imported)
        if name.partition(".")[0] in local or (name in PASSED_IN and id(node) not in unseeded):
            continue
        yield name, node.lineno


def banned_uses(path: str, source: str) -> list[str]:
    """The banned names that a file of the package uses."""
    file = path.removeprefix("openred_central/")
    return [
        f"{path}:{line} uses {name}; use instead: {ban.instead}"
        for name, line in uses(ast.parse(source))
        for ban in BANS
        if (name == ban.name or name.startswith(f"{ban.name}.")) and file not in ban.allowed_in
    ]


def hides_nothing(handler: ast.ExceptHandler) -> bool:
    """Whether a handler cleans up and then raises again what it caught."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def catch_alls(path: str, source: str, allowed: int = 0) -> list[str]:
    """The handlers of a file that catch errors they cannot know, if they are more than `allowed`."""
    bare, all_catching = [], []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if node.type is None:
            bare.append(f"{path}:{node.lineno} has a bare except; name the errors that are expected")
            continue
        names = {getattr(kind, "id", "") for kind in caught}
        if names & {"Exception", "BaseException"} and not hides_nothing(node):
            all_catching.append(
                f"{path}:{node.lineno} catches everything; name the errors that are expected, or raise "
                f"again at the end, or argue a place in MAY_CATCH_ALL, in {__name__}"
            )
    return bare + (all_catching if len(all_catching) > allowed else [])


def formatted_logs(path: str, source: str) -> list[str]:
    """The log calls of a file that format their message themselves."""
    return [
        f'{path}:{node.lineno} logs an f-string; write log.info("... %s", value), which is put together only '
        "where the line is wanted"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOG_CALLS
        and isinstance(node.func.value, ast.Name | ast.Attribute)
        and getattr(node.func.value, "id", getattr(node.func.value, "attr", "")).strip("_").lower() in LOGGERS
        and node.args
        and isinstance(node.args[0], ast.JoinedStr)
    ]


def test_nothing_in_the_package_uses_a_banned_name() -> None:
    expect_none(breach for path, source in sources().items() for breach in banned_uses(path, source))


def test_nothing_in_the_package_catches_what_it_cannot_know() -> None:
    allowed = {f"openred_central/{path}": count for path, (count, _) in MAY_CATCH_ALL.items()}
    expect_none(
        breach
        for path, source in sources().items()
        for breach in catch_alls(path, source, allowed.get(path, 0))
    )


def test_no_file_may_catch_everything_more_often_than_it_does() -> None:
    found = {path: len(catch_alls(path, source)) for path, source in sources().items()}
    expect_none(
        f"{path} catches everything {found.get(f'openred_central/{path}', 0)} times; correct MAY_CATCH_ALL"
        for path, (count, _) in MAY_CATCH_ALL.items()
        if found.get(f"openred_central/{path}", 0) < count
    )


def test_log_messages_are_formatted_only_when_wanted() -> None:
    expect_none(breach for path, source in sources().items() for breach in formatted_logs(path, source))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import time\ntime.monotonic()", "time.monotonic"),
        ("import time as t\nnow = t.time", "time.time"),
        ("from time import sleep as pause\npause(1)", "time.sleep"),
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("import datetime\ndatetime.date.today()", "datetime.date.today"),
        ("import random\nrandom.choice(nodes)", "random.choice"),
        ("import random\nsource = random.Random()", "random.Random"),
        ("from random import Random\nsource = Random()", "random.Random"),
        ("import secrets\nsecrets.token_hex()", "secrets.token_hex"),
        ("from os import urandom\nurandom(8)", "os.urandom"),
        ("from dataclasses import dataclass\n@dataclass\nclass A: ...", "dataclasses.dataclass"),
        ("print('hello')", "print"),
        ("import sys\nsys.exit(1)", "sys.exit"),
        ("eval(text)", "eval"),
        ("from pickle import loads\nloads(text)", "pickle.loads"),
        ("import asyncio\nasyncio.get_event_loop()", "asyncio.get_event_loop"),
        ("import asyncio\nasyncio.ensure_future(f())", "asyncio.ensure_future"),
    ],
)
def test_a_banned_name_is_found_however_it_is_imported(source: str, name: str) -> None:
    (breach,) = banned_uses("openred_central/directory/node.py", source)
    assert f"uses {name}; use instead: " in breach


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("clock.py", "import time\ntime.time()"),
        ("server.py", "import random, os\nrandom.Random()\nos.urandom(16)"),
        ("cli.py", "import sys\nprint('hello', file=sys.stderr)"),
        ("api/nodes.py", "from datetime import UTC, datetime\ndatetime.fromtimestamp(wall_s, UTC)"),
        ("directory/discovery.py", "import random\ndef draw(source: random.Random): source.sample(nodes, 3)"),
        ("directory/discovery.py", "from random import Random\nsource = Random(seed)"),
        ("directory/node.py", "def wait(time): return time.wait()"),
        ("directory/node.py", "import re\nre.compile('a')\nself.time.now()"),
    ],
)
def test_what_is_not_banned_is_let_pass(path: str, source: str) -> None:
    assert banned_uses(f"openred_central/{path}", source) == []


@pytest.mark.parametrize(
    ("handler", "complaint"),
    [
        ("except:\n    raise", "bare except"),
        ("except Exception:\n    pass", "catches everything"),
        ("except (OSError, BaseException) as error:\n    log(error)", "catches everything"),
        ("except Exception as error:\n    raise ValueError from error", "catches everything"),
    ],
)
def test_a_handler_that_catches_everything_is_found(handler: str, complaint: str) -> None:
    (breach,) = catch_alls("openred_central/api/nodes.py", f"try:\n    f()\n{handler}")
    assert complaint in breach


@pytest.mark.parametrize(
    "handler", ["except OSError:\n    pass", "except BaseException:\n    undo()\n    raise"]
)
def test_a_handler_that_hides_nothing_is_let_pass(handler: str) -> None:
    assert catch_alls("openred_central/api/nodes.py", f"try:\n    f()\n{handler}") == []


def test_one_handler_more_than_argued_is_found() -> None:
    source = "try:\n    f()\nexcept Exception as error:\n    note(error)\n"
    assert catch_alls("openred_central/tasks/saver.py", source, 1) == []
    assert len(catch_alls("openred_central/tasks/saver.py", source * 2, 1)) == 2


def test_a_formatted_log_message_is_found() -> None:
    source = 'self._log.info(f"node {node}")\nlog.warning("node %s", node)\nreply.error(f"no {name}")'
    (breach,) = formatted_logs("openred_central/api/nodes.py", source)
    assert breach.startswith("openred_central/api/nodes.py:1 logs an f-string")

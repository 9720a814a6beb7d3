"""The documents match the code: settings, commands, error codes, endpoints, links, transcripts.

The documents are ``README.md`` and ``openred_central/docs/*.md``, read as one body. They hold:

- the table that ``openred-central config --markdown`` prints, in ``settings.md``;
- every command in code as ``openred-central <command>``, every target of the Makefile as ``make <target>``;
- every error code in the first column of a table headed ``error``;
- every method and path in the first column of a table headed ``endpoint`` or ``operators' endpoint``, and
  every older path in code;
- two Python programs: the engine alone, and a client, which the transcripts run as ``node.py``.
"""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from openred_central.api.admin.routes import ADMIN_ENDPOINTS, METRICS
from openred_central.api.routes import ENDPOINTS
from openred_central.cli.main import MODULES, commands
from openred_central.settings.config import PREFIX, SETTINGS
from openred_central.settings.texts import CLIENT_VARIABLES, settings_markdown
from openred_central.storage.sqlite.schema import SCHEMA_VERSION
from tests.support.parts import needs_program
from tests.support.project import PACKAGE, ROOT, documents, expect_none, sources, text_files
from tests.support.running import Client, until
from tests.support.serving import closed_port

from .transcripts import mismatches, run, transcripts

# Variables of the tests, and flags that are no settings.
TEST_VARIABLES = {"OPENRED_SEED", "OPENRED_PROFILE", "OPENRED_NO_SKIP", "OPENRED_TEST_PG_BIN"}
FLAGS = {flag.names[0] for command in commands().values() for flag in command.flags} | {"--help", "--version"}
# Programs with flags of their own, although their arguments may contain ours.
FOREIGN_PROGRAMS = ("docker ", "systemctl ")
ERRORS = {"CallerError", "ProtocolError"}
# The server and its operators' listener in the examples.
ADDRESS = "localhost:8000"
ADMIN_ADDRESS = "localhost:8001"
# Every other transcript begins where this one ends.
QUICK_START = "README.md"
# Its transcripts need a database.
CLUSTER = "openred_central/docs/cluster.md"
BYTES_MAX = {"README.md": 10_000, "benchmarks/README.md": 10_000}
# The folders that begin a path in the documents: those of the project and of the package.
ROOMS = [path.name for folder in (ROOT, PACKAGE) for path in folder.iterdir() if path.is_dir()]

_BLOCK = re.compile(r"^ *```.*?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_TRANSCRIBED = [path for path, text in documents().items() if transcripts(text) and path != CLUSTER]


def error_codes(path: str, source: str) -> tuple[set[str], list[str]]:
    """Return the codes of the errors that a file makes, and the places where a code is no literal."""
    codes: set[str] = set()
    unreadable = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if getattr(node.func, "id", getattr(node.func, "attr", "")) not in ERRORS:
            continue
        given = [word.value for word in node.keywords if word.arg == "code"] or node.args[1:2]
        for code in given:
            choices = [code.body, code.orelse] if isinstance(code, ast.IfExp) else [code]
            for choice in choices:
                if isinstance(choice, ast.Constant) and isinstance(choice.value, str):
                    codes.add(choice.value)
                else:
                    unreadable.append(
                        f"{path}:{node.lineno} makes an error; write its code as a literal there"
                    )
    return codes, unreadable


def all_codes() -> set[str]:
    return {code for path, source in sources().items() for code in error_codes(path, source)[0]}


def gaps(kind: str, documented: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Return a complaint for each name that is `known` or `documented`, but not both.

    `documented` maps each name to the file that holds it.
    """
    known = set(known)
    missing = known - documented.keys()
    invented = {name: path for name, path in documented.items() if name not in known}
    return [
        *(f"no document names the {kind} {name}; add it" for name in missing),
        *(f"{path} names the {kind} {name}, which does not exist" for name, path in invented.items()),
    ]


def first_column(text: str, *headings: str) -> set[str]:
    """Return what stands in code in the first column of the tables with one of these headings."""
    found: set[str] = set()
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0].lower() in headings:
            inside = True
        elif inside:
            found.update(re.findall(r"`([^`]+)`", cells[0]))
    return found


def in_tables(texts: Mapping[str, str], *headings: str) -> dict[str, str]:
    """Return the names in the first column of these tables, each with its file."""
    return {name: path for path, text in texts.items() for name in first_column(text, *headings)}


def code_in(text: str) -> str:
    """Return what stands in code, inline or in blocks, one piece a line."""
    return "\n".join([*_BLOCK.findall(text), *re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))])


def words_after(program: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the words that follow `program` wherever it begins a line of code, each with its file."""
    pattern = rf"^(?:\$ )?(?:[A-Z_]+=\S+ )*{program} ([a-z][a-z-]*)"
    return {
        word: path
        for path, text in texts.items()
        for word in re.findall(pattern, code_in(text), re.MULTILINE)
    }


def variables_in(texts: Mapping[str, str]) -> dict[str, str]:
    pattern = rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]"
    return {name: path for path, text in texts.items() for name in re.findall(pattern, text)}


def flags_in(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the flags in the commands of this project, each with its file."""
    return {
        flag: path
        for path, text in texts.items()
        for line in code_in(text).replace("\\\n", " ").splitlines()
        if ("openred-central" in line or "make run" in line) and not line.startswith(FOREIGN_PROGRAMS)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line)
    }


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def link_gaps(path: str, text: str, texts: Mapping[str, str], present: Iterable[str]) -> list[str]:
    """Return the links of one file that lead to no heading of `texts` and to no file in `present`."""
    prose = _BLOCK.sub("", text)
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"", prose):
        target, _, anchor = "".join(link).partition("#")
        if "://" in target:
            continue
        place = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        if place not in present or (anchor and anchor not in anchors(texts[place])):
            found.append(f"{path} links to {''.join(link)}, which does not exist")
    return found


def make_targets(makefile: str) -> set[str]:
    """Return the targets that `make help` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def programs_with(module: str) -> list[str]:
    """Return the Python programs in the documents that import `module`."""
    blocks = [
        block
        for text in documents().values()
        for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    return [block for block in blocks if f"from {module} import" in block]


def named_programs() -> dict[str, str]:
    """Return the Python programs in the documents that have the name of a file."""
    named = r"^This is `(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```"
    return dict(re.findall(named, "\n".join(documents().values()), re.MULTILINE | re.DOTALL))


def programs(folder: Path) -> Path:
    """Return `folder` with the programs that transcripts call."""
    needs_program("curl")
    for name, arguments in (("openred-central", "-m openred_central"), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def replaced(text: str, words: Mapping[str, str]) -> str:
    for word, instead in words.items():
        text = text.replace(word, instead)
    return text


def test_error_codes_are_literals() -> None:
    expect_none(gap for path, source in sources().items() for gap in error_codes(path, source)[1])


def test_documents_name_what_exists_and_invent_nothing() -> None:
    texts = documents()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    served = {f"{row.method} {row.path}" for row in (*ENDPOINTS, *ADMIN_ENDPOINTS, METRICS)}
    variables = {setting.variable for setting in SETTINGS.values()}
    known_variables = variables | TEST_VARIABLES | CLIENT_VARIABLES
    expect_none(
        [
            *gaps("endpoint", in_tables(texts, "endpoint", "operators' endpoint"), served),
            *gaps("error", in_tables(texts, "error"), all_codes()),
            *gaps("command", words_after("openred-central", texts), set(MODULES)),
            *gaps("target of make", words_after("make", texts), make_targets(makefile)),
            *gaps("setting", variables_in(texts), known_variables),
            *gaps("flag", flags_in(texts), FLAGS & flags_in(texts).keys()),
        ]
    )
    aliases = {path for endpoint in ENDPOINTS for path in endpoint.aliases}
    assert [path for path in aliases if f"`{path}`" not in texts["openred_central/docs/http-api.md"]] == []


def test_the_table_of_settings_is_current() -> None:
    """Replace the table with what `openred-central config --markdown` prints if this fails."""
    assert settings_markdown() in documents()["openred_central/docs/settings.md"]


def test_every_schema_version_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \|", documents()["openred_central/docs/upgrade.md"], re.MULTILINE)
    assert rows == [str(version) for version in range(1, SCHEMA_VERSION + 1)]


def test_links_of_documents_lead_somewhere() -> None:
    texts = {path: text for path, text in text_files().items() if path.endswith(".md")}
    present = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if ".venv" not in path.parts}
    expect_none(gap for path, text in texts.items() for gap in link_gaps(path, text, texts, present))


def test_paths_in_documents_exist() -> None:
    architecture = (PACKAGE / "README.md").read_text(encoding="utf-8")
    texts = {**documents(), "openred_central/README.md": architecture}
    expect_none(
        f"{path} names {name}, which does not exist"
        for path, text in texts.items()
        for name in re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./-]*)`", text)
        if not any((folder / name).exists() for folder in (ROOT, PACKAGE))
    )


def test_the_architecture_names_every_room() -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    rooms = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    loose = [path for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]
    names = [*(f"{room.relative_to(PACKAGE)}/" for room in rooms), *(path.name for path in loose)]
    expect_none(f"the architecture does not name {name}" for name in names if f"`{name}`" not in text)


@pytest.mark.parametrize(("path", "bytes_max"), BYTES_MAX.items())
def test_overviews_stay_short(path: str, bytes_max: int) -> None:
    assert (ROOT / path).stat().st_size <= bytes_max


@pytest.mark.parametrize("document", _TRANSCRIBED)
def test_transcripts_of_the_documents_are_true(document: str, tmp_path: Path) -> None:
    """Run the quick start, and then the transcripts of `document`, against one server."""
    texts = documents()
    for name, program in named_programs().items():
        (tmp_path / name).write_text(program)
    path = f"{programs(tmp_path)}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    ports = {"--port": closed_port(), "--admin-port": closed_port()}
    arguments = ["--host", "127.0.0.1", "--database", str(tmp_path / "data" / "openred.db")]
    arguments += [str(word) for pair in ports.items() for word in pair]
    addresses = {ADDRESS: f"127.0.0.1:{ports['--port']}", ADMIN_ADDRESS: f"127.0.0.1:{ports['--admin-port']}"}
    back = {instead: word for word, instead in addresses.items()}
    server = subprocess.Popen([sys.executable, "-m", "openred_central", *arguments], env=environment)
    wrong = []
    try:
        until(lambda: listens(ports["--port"]), "the server to listen")
        for name in dict.fromkeys((QUICK_START, document)):
            for steps in transcripts(texts[name]):
                at_address = [step._replace(command=replaced(step.command, addresses)) for step in steps]
                printed = run(at_address, tmp_path, environment)
                wrong += mismatches(name, steps, [[replaced(line, back) for line in out] for out in printed])
    finally:
        server.terminate()
        assert server.wait(60) == 0
    expect_none(wrong)


def test_the_engine_alone_runs_as_shown(tmp_path: Path) -> None:
    (program,) = programs_with("openred_central.micro_engine.engine")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    port = closed_port()
    (tmp_path / "hello.py").write_text(program.replace("port=8080", f"port={port}"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([sys.executable, "hello.py"], cwd=tmp_path, env=environment)
    try:
        until(lambda: listens(port), "the engine to listen")
        with Client(("127.0.0.1", port)) as client:
            assert client.ask("GET", "/hello/world").document == {"hello": "world"}
    finally:
        server.terminate()
        assert server.wait(60) == 0


def test_missing_and_invented_names_are_reported_with_their_file() -> None:
    assert gaps("error", {"gone": "a.md", "node_dead": "a.md"}, {"node_dead", "bad_request"}) == [
        "no document names the error bad_request; add it",
        "a.md names the error gone, which does not exist",
    ]


def test_names_are_found_in_tables_commands_and_prose() -> None:
    texts = {
        "a.md": "| Error |\n|---|\n| `node_dead`, `gone` |\n\n| other |\n|---|\n| `no` |\n",
        "b.md": "`make run`\n```sh\n$ OPENRED_PORT=1 openred-central serve --port 1 \\\n  --por 2\n```\n",
        "c.md": "`curl --data x`, OPENRED_PROT\n",
    }
    assert in_tables(texts, "error") == {"node_dead": "a.md", "gone": "a.md"}
    assert words_after("make", texts) == {"run": "b.md"}
    assert words_after("openred-central", texts) == {"serve": "b.md"}
    assert flags_in(texts) == {"--port": "b.md", "--por": "b.md"}
    assert variables_in(texts) == {"OPENRED_PORT": "b.md", "OPENRED_PROT": "c.md"}


def test_links_that_lead_nowhere_are_reported() -> None:
    texts = {
        "README.md": "# Who may do what?\n[a](#who-may-do-what) [b](#who) [c](LICENSE) [e](https://x.example)",
        "docs/a.md": '[a](../README.md#who-may-do-what) [b](../README.md#what) [c](b.md) <img src="p.png">',
    }
    present = {*texts, "LICENSE"}
    assert [gap for path, text in texts.items() for gap in link_gaps(path, text, texts, present)] == [
        "README.md links to #who, which does not exist",
        "docs/a.md links to ../README.md#what, which does not exist",
        "docs/a.md links to b.md, which does not exist",
        "docs/a.md links to p.png, which does not exist",
    ]


def test_error_codes_are_found_however_they_are_passed() -> None:
    source = """
raise CallerError(404, "node_not_found", "There is none.")
raise errors.ProtocolError(400, code="bad_request", message="No.")
raise CallerError(410, "node_dead" if dead else "gone", "It is dead.")
raise Other(500, "no_code", "No.")
raise CallerError(status, code, message)
"""
    codes = {"node_not_found", "bad_request", "node_dead", "gone"}
    assert error_codes("a.py", source) == (
        codes,
        ["a.py:6 makes an error; write its code as a literal there"],
    )


def test_the_targets_of_make_are_found() -> None:
    assert make_targets("run: x ## Run\n\t@echo ## no\ntest-all: ## Test\n.hidden: ## no\n") == {
        "run",
        "test-all",
    }

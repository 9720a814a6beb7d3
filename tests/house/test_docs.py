"""The README says what the code does: settings, commands, error codes, transcripts. No more, no less.

What it must hold: the table that ``openred-central config --markdown`` prints; every command in code, as
``openred-central <command>``; every target of the Makefile in code, as ``make <target>``; a table whose first
column is headed ``error`` and holds every error code in code; a table whose first column is headed
``endpoint`` and holds every method and path in code, one headed ``operators' endpoint`` with those that only
operators have; every older path in code; and programs in Python: the engine alone, and a client, which the
transcripts run as ``node.py``.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from openred_central.api.admin.routes import ADMIN_ENDPOINTS, METRICS
from openred_central.api.routes import ENDPOINTS
from openred_central.cli.completion import commands_of
from openred_central.cli.main import COMMANDS, _parser
from openred_central.settings.config import PREFIX, SETTINGS
from openred_central.settings.texts import CLIENT_VARIABLES, settings_markdown

from . import curl
from .project import README, ROOT, expect_none, sources
from .transcripts import mismatches, run, transcripts

# Variables of the tests, and flags that are no settings.
TEST_VARIABLES = {"OPENRED_SEED", "OPENRED_PROFILE", "OPENRED_NO_SKIP"}
FLAGS = {flag.name for command in commands_of(_parser()) for flag in command.flags} | {"--version"}
# Programs whose flags are theirs, though they may be given ours to run.
FOREIGN_PROGRAMS = ("docker ", "systemctl ")
ERRORS = {"CallerError", "ProtocolError"}
# Where the README's examples find their server, and where its operators are heard.
ADDRESS = "localhost:8000"
ADMIN_ADDRESS = "localhost:8001"


def error_codes(path: str, source: str) -> tuple[set[str], list[str]]:
    """The codes of the errors that a file makes, and the places where the code cannot be read there."""
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


def first_column(readme: str, heading: str) -> set[str]:
    """What is in code in the first column of the README's tables of that heading."""
    found: set[str] = set()
    inside = False
    for line in readme.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0].lower() == heading:
            inside = True
        elif inside:
            found.update(re.findall(r"`([^`]+)`", cells[0]))
    return found


def endpoint_gaps(readme: str) -> list[str]:
    """Endpoints that stand in the README and are not served, or the other way round."""
    documented = first_column(readme, "endpoint") | first_column(readme, "operators' endpoint")
    served = {f"{row.method} {row.path}" for row in (*ENDPOINTS, *ADMIN_ENDPOINTS, METRICS)}
    aliases = {path for endpoint in ENDPOINTS for path in endpoint.aliases}
    return [
        *(f"README.md says nothing of {name}; add a row" for name in sorted(served - documented)),
        *(f"README.md knows {name}, which is not served" for name in sorted(documented - served)),
        *(f"README.md says nothing of {path}" for path in sorted(aliases) if f"`{path}`" not in readme),
    ]


def code_gaps(readme: str, codes: set[str]) -> list[str]:
    """Error codes that stand in the README and not in the code, or the other way round."""
    documented = first_column(readme, "error")
    return [
        *(f"README.md says nothing of the error {code}; add a row" for code in sorted(codes - documented)),
        *(
            f"README.md knows an error {code} that the code does not make"
            for code in sorted(documented - codes)
        ),
    ]


def setting_gaps(readme: str) -> list[str]:
    """What the README says wrongly of the settings, or not at all."""
    gaps = []
    if settings_markdown() not in readme:
        gaps.append(
            "README.md lacks the table of settings; paste what `openred-central config --markdown` prints"
        )
    known = {setting.variable for setting in SETTINGS.values()} | TEST_VARIABLES | CLIENT_VARIABLES
    variables = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]", readme))
    gaps += [f"README.md names {variable}, which is no setting" for variable in sorted(variables - known)]
    commands = code_in(readme).replace("\\\n", " ").splitlines()
    lines = [
        line
        for line in commands
        if ("openred-central" in line or "make run" in line) and not line.startswith(FOREIGN_PROGRAMS)
    ]
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join(lines)))
    return gaps + [f"README.md names the flag {flag}, which is none" for flag in sorted(flags - FLAGS)]


def code_in(readme: str) -> str:
    """What stands in code in the README, inline or in blocks, one piece a line."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?\n.*?^```", "", readme, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", rest)])


def named_after(program: str, code: str) -> set[str]:
    """The words that stand behind a program wherever it is the command of a line."""
    line_start = r"^(?:\$ )?(?:[A-Z_]+=\S+ )*"
    return set(re.findall(rf"{line_start}{program} ([a-z][a-z-]*)", code, re.MULTILINE))


def command_gaps(readme: str, commands: Iterable[str], targets: Iterable[str]) -> list[str]:
    """Commands and targets of make that the README lacks, or has invented."""
    code = code_in(readme)
    gaps = []
    for program, known in (("openred-central", set(commands)), ("make", set(targets))):
        named = named_after(program, code)
        gaps += [f"README.md says nothing of `{program} {word}`" for word in sorted(known - named)]
        gaps += [f"README.md names `{program} {word}`, which there is not" for word in sorted(named - known)]
    return gaps


def link_gaps(readme: str, present: Callable[[str], bool]) -> list[str]:
    """Links within the README that lead nowhere: to no heading of it, and to no file that is `present`."""
    prose = re.sub(r"^```.*?\n.*?^```", "", readme, flags=re.MULTILINE | re.DOTALL)
    # As GitHub makes them: lower case, spaces become hyphens, other signs are left out.
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    }
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [
        f"README.md links to {target}, which there is not"
        for target in targets
        if "://" not in target
        and not (target[1:] in headings if target.startswith("#") else present(target.partition("#")[0]))
    ]


def make_targets(makefile: str) -> set[str]:
    """The targets that `make help` lists."""
    return set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))


def all_codes() -> set[str]:
    return {code for path, source in sources().items() for code in error_codes(path, source)[0]}


def programs(folder: Path) -> Path:
    """A folder with the programs that transcripts call, made in `folder`."""
    stand_ins = {"openred-central": "-m openred_central", "python": ""}
    if shutil.which("curl") is None:
        stand_ins["curl"] = curl.__file__
    for name, arguments in stand_ins.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def start_server(
    database: Path, environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start the server on free ports; return it, once it can be connected to, with what stands for what."""
    port, admin_port = free_port(), free_port()
    ports = ["--port", str(port), "--admin-port", str(admin_port)]
    arguments = ["--host", "127.0.0.1", *ports, "--database", str(database)]
    server = subprocess.Popen([sys.executable, "-m", "openred_central", *arguments], env=environment)
    wait_for(server, port)
    return server, {ADDRESS: f"127.0.0.1:{port}", ADMIN_ADDRESS: f"127.0.0.1:{admin_port}"}


def replaced(text: str, words: dict[str, str]) -> str:
    """`text` with other words in the place of some."""
    for word, instead in words.items():
        text = text.replace(word, instead)
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until `server` listens on `port`; fail where it ends instead, or does not in half a minute."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert server.poll() is None, "the server has ended instead of listening"
            time.sleep(0.05)
    server.kill()
    raise AssertionError("the server does not listen")


def programs_with(module: str) -> list[str]:
    """The programs in Python in the README that import `module`."""
    blocks = re.findall(r"^```python\n(.*?)^```", readme_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if f"from {module} import" in block]


def readme_text() -> str:
    """The README, or nothing as long as there is none."""
    return README.read_text(encoding="utf-8") if README.exists() else ""


def test_every_error_code_can_be_read_where_the_error_is_made() -> None:
    expect_none(gap for path, source in sources().items() for gap in error_codes(path, source)[1])


def test_the_readme_knows_every_setting_command_and_error_and_invents_none() -> None:
    if readme := readme_text():
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        expect_none(
            [
                *setting_gaps(readme),
                *command_gaps(readme, COMMANDS, make_targets(makefile)),
                *code_gaps(readme, all_codes()),
                *endpoint_gaps(readme),
            ]
        )


def test_the_transcripts_of_the_readme_are_true(tmp_path: Path) -> None:
    """One server hears them all, in their order, from an empty database."""
    blocks = transcripts(readme_text())
    for program in programs_with("openred_central.client"):
        (tmp_path / "node.py").write_text(program)
    path = f"{programs(tmp_path)}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    server, addresses = None, dict[str, str]()
    if any(ADDRESS in step.command for steps in blocks for step in steps):
        server, addresses = start_server(tmp_path / "data" / "openred.db", environment)
    wrong = []
    try:
        for steps in blocks:
            at_address = [step._replace(command=replaced(step.command, addresses)) for step in steps]
            printed = run(at_address, tmp_path, environment)
            back = {instead: word for word, instead in addresses.items()}
            outputs = [[replaced(line, back) for line in lines] for lines in printed]
            wrong += mismatches("README.md", steps, outputs)
    finally:
        if server is not None:
            server.terminate()
            assert server.wait(60) == 0
    expect_none(wrong)


def test_the_engine_alone_is_what_the_readme_shows(tmp_path: Path) -> None:
    (program,) = programs_with("openred_central.micro_engine")
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    port = free_port()
    (tmp_path / "hello.py").write_text(program.replace("port=8080", f"port={port}"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([sys.executable, "hello.py"], cwd=tmp_path, env=environment)
    try:
        wait_for(server, port)
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/hello/world")
        assert connection.getresponse().read() == b'{"hello":"world"}'
        connection.close()
    finally:
        server.terminate()
        assert server.wait(60) == 0


def test_endpoints_that_the_readme_lacks_or_invents_are_named() -> None:
    rows = (*ENDPOINTS[1:], *ADMIN_ENDPOINTS, METRICS)
    served = "\n".join(f"| `{endpoint.method} {endpoint.path}` |" for endpoint in rows)
    aliases = " ".join(f"`{path}`" for endpoint in ENDPOINTS for path in endpoint.aliases[1:])
    gaps = endpoint_gaps(f"| endpoint |\n|---|\n{served}\n| `GET /lunch` |\n\n{aliases}")
    missing = ENDPOINTS[0]
    assert f"README.md says nothing of {missing.method} {missing.path}; add a row" in gaps
    assert "README.md knows GET /lunch, which is not served" in gaps


def test_the_links_of_the_readme_lead_somewhere() -> None:
    expect_none(link_gaps(readme_text(), lambda path: (ROOT / path).exists()))


def test_links_that_lead_nowhere_are_named() -> None:
    readme = (
        "# Who may do what?\n[a](#who-may-do-what) [b](#who) [c](LICENSE) [d](NONE) [e](https://x.example)"
    )
    assert link_gaps(readme, {"LICENSE"}.__contains__) == [
        "README.md links to #who, which there is not",
        "README.md links to NONE, which there is not",
    ]


def test_codes_are_found_however_they_are_passed() -> None:
    source = """
raise CallerError(404, "node_not_found", "There is none.")
raise errors.ProtocolError(400, code="bad_request", message="No.")
raise CallerError(410, "node_dead" if dead else "gone", "It is dead.")
raise Other(500, "no_code", "No.")
"""
    assert error_codes("a.py", source) == ({"node_not_found", "bad_request", "node_dead", "gone"}, [])


def test_a_code_that_is_no_literal_is_named() -> None:
    assert error_codes("a.py", "\nraise CallerError(status, code, message)") == (
        set(),
        ["a.py:2 makes an error; write its code as a literal there"],
    )


def test_codes_that_the_readme_lacks_or_invents_are_named() -> None:
    readme = "| Error | status |\n|---|---|\n| `node_dead`, `gone` | 410 |\n\n| other |\n|---|\n| `free` |\n"
    assert first_column(readme, "error") == {"node_dead", "gone"}
    assert code_gaps(readme, {"node_dead", "gone"}) == []
    assert code_gaps(readme, {"node_dead", "bad_request"}) == [
        "README.md says nothing of the error bad_request; add a row",
        "README.md knows an error gone that the code does not make",
    ]


def test_a_readme_with_the_table_of_settings_is_complete() -> None:
    assert setting_gaps(f"Settings:\n\n{settings_markdown()}\n`OPENRED_SEED=7 make test`\n") == []


def test_a_readme_with_another_default_is_wrong() -> None:
    (gap,) = setting_gaps(settings_markdown().replace("`8000`", "`8080`"))
    assert "lacks the table of settings" in gap


def test_settings_and_flags_that_the_readme_invents_are_named() -> None:
    invented = "`OPENRED_PROT=1 openred-central --prot 1`, `make run ARGS='--por 2'`, `curl --data x`\n"
    assert setting_gaps(settings_markdown() + invented) == [
        "README.md names OPENRED_PROT, which is no setting",
        "README.md names the flag --por, which is none",
        "README.md names the flag --prot, which is none",
    ]


def test_commands_that_the_readme_lacks_or_invents_are_named() -> None:
    readme = "To make sure: `make run`.\n```sh\n$ OPENRED_PORT=1 openred-central serve\nmake lunch\n```\n"
    assert command_gaps(readme, ["serve", "config"], ["run", "test"]) == [
        "README.md says nothing of `openred-central config`",
        "README.md says nothing of `make test`",
        "README.md names `make lunch`, which there is not",
    ]


def test_the_targets_of_make_are_found() -> None:
    targets = make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert {"run", "test", "check"} <= targets
    assert make_targets("run: x ## Run\n\t@echo ## no\n.hidden: ## no\n") == {"run"}


def test_transcripts_find_the_program_of_this_checkout(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{programs(tmp_path)}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    (steps,) = transcripts(
        "```console\n$ openred-central config --port 9000\n...\nport ... flag --port\n...\n```"
    )
    assert mismatches("README.md", steps, run(steps, tmp_path, environment)) == []


def test_a_server_that_does_not_start_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="has ended instead of listening"):
        start_server(
            tmp_path / "openred.db", {**os.environ, "PYTHONPATH": str(ROOT), "OPENRED_SHARDS": "none"}
        )

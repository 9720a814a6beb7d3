"""The command line reads arguments, runs a command and returns its exit code."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import orjson
import pytest

from openred_central import __version__
from openred_central.cli import main as cli
from openred_central.cli.main import MODULES, commands, guard_values, make_parser
from openred_central.security.directory_keys.keyset import KeySet, KeyStatus, PublishedKey
from openred_central.security.directory_keys.suites import generate_key
from openred_central.server import server as composition
from openred_central.server.crew import Crew
from openred_central.settings.config import SETTINGS, Configuration
from openred_central.settings.texts import settings_markdown
from tests.support.maintenance import fill
from tests.support.records import record
from tests.support.serving import closed_port


class Server:
    """A stand-in for the server; it records its configurations."""

    def __init__(self) -> None:
        self.exit_code = 0
        self.started: list[Configuration] = []
        self.begun_anew = False
        self.front: partial[Crew] | None = None

    def serve(
        self, configuration: Configuration, *, begin_anew: bool, make_front: partial[Crew] | None = None
    ) -> int:
        self.started.append(configuration)
        self.begun_anew = begin_anew
        self.front = make_front
        return self.exit_code


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(composition, "serve", server.serve)
    return server


def run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a process; `given` is its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "openred_central", *arguments],
        env=os.environ | environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [["--port", "9000"], ["--port=9000"], ["serve", "--port", "9000"]], ids=" ".join
)
def test_serve_is_the_default_command(server: Server, arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    (configuration,) = server.started
    assert (configuration.port, configuration.given_as) == (9_000, {"port": "--port"})


@pytest.mark.parametrize("arguments", [["--begin-anew"], ["serve", "--port", "9000", "--begin-anew"]])
def test_begin_anew_is_for_one_start(server: Server, arguments: list[str]) -> None:
    assert cli.main(["--port", "9000"]) == 0
    assert not server.begun_anew
    assert cli.main(arguments) == 0
    assert server.begun_anew


def test_no_arguments_start_the_server_with_its_defaults(server: Server) -> None:
    assert cli.main([]) == 0
    (configuration,) = server.started
    assert vars(configuration) == vars(Configuration())


COMMANDS = commands()
PARSER = make_parser(COMMANDS.values())


def test_each_command_is_in_the_file_of_its_name() -> None:
    assert [command.name for command in COMMANDS.values()] == list(MODULES)


def words_of(example: str) -> list[str]:
    """Return the arguments of an example, without redirections and pipes."""
    line = example.strip().removeprefix('eval "$(').split(" > ")[0].split(')"')[0]
    (part,) = [part for part in line.split("|") if "openred-central" in part]
    words = shlex.split(part)
    return words[words.index("openred-central") + 1 :]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_command_are_valid(name: str) -> None:
    for example in COMMANDS[name].examples.splitlines():
        options, unknown = PARSER.parse_known_args(words_of(example))
        assert (options.command, unknown) == (name, [])


@pytest.mark.parametrize("name", MODULES)
def test_the_help_of_a_command_is_complete(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main([name, "--help"])
    assert exited.value.code == 0
    printed, command = capsys.readouterr().out, COMMANDS[name]
    assert command.examples in printed
    assert command.notes in printed
    shown = " ".join(printed.split())
    for flag in command.flags:
        assert flag.names[0] in shown
    for setting in SETTINGS.values() if command.settings else ():
        assert f"{setting.flag} VALUE" in shown
        assert f"Default: {setting.kind.show(setting.default) or 'nothing'}." in shown


# A key id that begins with a dash.
KEY_ID = "-h" + "Z_-9" * 10 + "A"


@pytest.mark.parametrize("key_id", [KEY_ID, f"-{KEY_ID[:-1]}"])
@pytest.mark.parametrize("settings", [[], ["--port", "9000"]])
def test_a_key_id_may_begin_with_a_dash(key_id: str, settings: list[str]) -> None:
    for words in (["keys", "revoke", key_id, *settings], ["keys", "revoke", *settings, key_id]):
        options, unknown = PARSER.parse_known_args(guard_values(words))
        assert (options.action, options.request, unknown) == ("revoke", key_id, [])
        assert vars(options).get("port") == (settings[1] if settings else None)
    words = ["register", "192.0.2.1", "7000", "--next-key", key_id, "--key", "node.pem"]
    options, unknown = PARSER.parse_known_args(guard_values(words))
    assert (options.next_key, options.key, unknown) == (key_id, "node.pem", [])


def test_a_claim_may_begin_with_a_dash() -> None:
    for claim in (KEY_ID[:22], f"-{KEY_ID[:21]}", f"--{KEY_ID[:20]}"):
        words = ["heartbeat", "--node-id", "alice", "--claim", claim, "--port", "9001"]
        options, unknown = PARSER.parse_known_args(guard_values(words))
        assert (options.claim, options.port, unknown) == (claim, 9001, [])


def test_words_other_than_values_are_unchanged() -> None:
    words = ["serve", "--port", "9000", "-x", "--max-node", KEY_ID[:-1], f"{KEY_ID}A", f"--key={KEY_ID}"]
    assert guard_values([*words, KEY_ID]) == [*words, KEY_ID]
    assert guard_values(words) == words


def test_serve_returns_the_exit_code_of_the_server(server: Server) -> None:
    server.exit_code = 1
    assert cli.main(["serve"]) == 1


def test_an_early_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def serve(configuration: Configuration, *, begin_anew: bool) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(composition, "serve", serve)
    assert cli.main([]) == 130


def test_variables_are_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENRED_DATABASE", "memory:")
    cli.main([])
    assert server.started[0].database == "memory:"


def test_every_setting_has_its_flag(server: Server) -> None:
    values = {"port": "9000", "tls_key": "key.pem", "tls_certificate": "chain.pem", "flush_interval_s": "0.5"}
    given = {name: values.get(name, setting.kind.show(setting.default)) for name, setting in SETTINGS.items()}
    cli.main(["serve", *(f"{SETTINGS[name].flag}={value}" for name, value in given.items())])
    assert server.started[0].given_as == {name: setting.flag for name, setting in SETTINGS.items()}
    assert (server.started[0].port, server.started[0].flush_interval_s) == (9_000, 0.5)


def test_a_wrong_value_is_reported_in_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--port", "many"]) == 2
    assert server.started == []
    assert capsys.readouterr() == (
        "",
        "openred-central: --port is 'many', allowed is 0 to 65535 (a whole number)\n",
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prot", "9000"], "--prot is not known to serve; the nearest flag is --port"),
        (["--po", "9000"], "--po is not known to serve; the nearest flag is --port"),
        (["config", "--max-node=3"], "--max-node is not known to config; the nearest flag is --max-nodes"),
        (["serve", "now"], "now is not known to serve; flags begin with --"),
        (["serve", "--markdown"], "--markdown is not known to serve"),
        (["sevre"], "invalid choice: 'sevre'"),
        (["--port"], "--port: expected one argument"),
        (["discover", "--ner", "eu"], "--ner is not known to discover; the nearest flag is --near"),
        (["register", "a", "1"], "the following arguments are required: --key"),
        (["register", "a", "x", "--key", "f"], "argument PORT: invalid int value: 'x'"),
        (["keygen", "f", "--kind", "dsa"], "argument --kind: invalid choice: 'dsa'"),
        (["export"], "the following arguments are required: FILE"),
        (["verify", "--url"], "--url: expected one argument"),
        (["snapshot", "x"], "x is not known to snapshot; flags begin with --"),
    ],
)
def test_wrong_usage_is_explained(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments)
    assert exited.value.code == 2
    assert server.started == []
    assert complaint in capsys.readouterr().err


def test_an_unknown_variable_does_not_prevent_the_start(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENRED_PROT", "9000")
    assert cli.main([]) == 0
    warning = "OPENRED_PROT is not a setting and is ignored; the nearest is OPENRED_PORT"
    assert capsys.readouterr().err == f"openred-central: warning: {warning}\n"


def test_config_prints_every_setting_with_its_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENRED_PORT", "9000")
    assert cli.main(["config", "--coma-s", "24h"]) == 0
    printed = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in printed] == list(SETTINGS)
    assert ["port", "9000", "environment OPENRED_PORT"] in printed
    assert ["coma_s", "1d", "flag --coma-s"] in printed
    assert ["grace_s", "2d", "default"] in printed
    assert ["unix_socket", "nothing", "default"] in printed


def test_config_refuses_settings_that_serve_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--tls-key", "key.pem"]) == 2
    assert capsys.readouterr().out == ""


def test_config_prints_the_table_in_spite_of_wrong_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENRED_PORT", "many")
    assert cli.main(["config", "--markdown"]) == 0
    assert capsys.readouterr().out == settings_markdown()


def test_the_help_shows_commands_examples_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(["--help"])
    assert exited.value.code == 0
    shown = capsys.readouterr().out
    for word in ("serve", "config", "examples:", "--host 0.0.0.0", "15m, 48h, 180d", "in bytes"):
        assert word in shown


def test_the_examples_of_the_help_are_valid(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [line.strip().split("  ")[0].split() for line in cli.EXAMPLES.splitlines() if "  " in line]
    for words in examples:
        while "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        assert words[0] == "openred-central"
        assert cli.main(words[1:]) == 0
    assert len(examples) == 5
    assert "environment OPENRED_PORT" in capsys.readouterr().out


def test_workers_get_the_settings_of_the_command_line(server: Server) -> None:
    assert cli.main(["--workers", "2", "--port", "9000"]) == 0
    assert server.front is not None
    assert server.front.func is Crew
    assert server.front.keywords == {"flags": {"workers": "2", "port": "9000"}}


def test_one_process_has_no_crew(server: Server) -> None:
    assert cli.main(["--workers", "1"]) == 0
    assert server.front is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["export", "-"], "there is no database"),
        (["snapshot"], "there is no database"),
        (["verify", "--database", "memory:"], "memory: keeps nothing"),
        (["import", "missing.jsonl"], "cannot read missing.jsonl: No such file or directory"),
    ],
)
def test_a_failed_command_is_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("openred-central: ")
    assert complaint in line


def test_health_without_a_server_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["health", "--port", str(closed_port())]) == 1
    assert "is the server running on" in capsys.readouterr().err
    assert cli.main(["health", "--live", "--url", "nowhere"]) == 2
    assert "'nowhere' is no address of a server" in capsys.readouterr().err


def test_systemd_unit_prints_the_given_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/openred/bin/python")
    assert cli.main(["systemd-unit", "--port", "9000"]) == 0
    printed = capsys.readouterr()
    assert "ExecStart=/opt/openred/bin/python -m openred_central serve\n" in printed.out
    assert "Environment=OPENRED_PORT=9000\n" in printed.out
    assert printed.err == ""
    assert cli.main(["systemd-unit", "--socket", "--port", "9000"]) == 0
    assert "ListenStream=127.0.0.1:9000\n" in capsys.readouterr().out
    assert cli.main(["systemd-unit", "--socket", "--port", "0"]) == 2


def test_systemd_unit_warns_if_the_unit_hides_the_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/home/me/venv/bin/python")
    assert cli.main(["systemd-unit"]) == 0
    assert "install it elsewhere" in capsys.readouterr().err


def test_commands_work_in_a_pipe(tmp_path: Path) -> None:
    """Export one database through a pipe into another one, and verify it."""
    fill(tmp_path / "first.db", [record(slot) for slot in range(3)])
    database = ("--database", str(tmp_path / "first.db"))
    assert run("snapshot", *database).returncode == 0
    exported = run("export", "-", *database)
    assert (exported.returncode, exported.stderr) == (0, "")
    second = ("--database", str(tmp_path / "second.db"))
    imported = run("import", "-", *second, given=exported.stdout)
    assert (imported.returncode, imported.stderr) == (0, "")
    verified = run("verify", *database)
    assert verified.returncode == 0
    assert verified.stdout.endswith("all agree\n")
    (tmp_path / "second.db").write_bytes(b"")
    verified = run("verify", *second)
    assert verified.returncode == 1
    assert verified.stdout.endswith("1 of these are wrong\n")


def test_the_program_prints_its_version() -> None:
    finished = run("--version")
    assert (finished.returncode, finished.stdout) == (0, f"openred-central {__version__}\n")


def test_the_process_ends_with_the_exit_code_of_the_command() -> None:
    finished = run("config", OPENRED_PORT="many")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("openred-central: OPENRED_PORT is 'many'")


def test_config_does_not_import_the_server() -> None:
    libraries = "{'openred_central.server.server', 'openred_central.client', 'cryptography'}"
    program = f"""if True:
        import sys
        from openred_central.cli import main
        main.main(["config"])
        print({libraries} & set(sys.modules))
        """
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.endswith("set()\n")


def test_keygen_prints_the_key_to_register(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["keygen", str(tmp_path / "node.pem")]) == 0
    rows = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["node id"] == f"k-{rows['key id']}"
    assert cli.main(["keygen", str(tmp_path / "node.pem"), "--json"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_example_is_printed_and_a_wrong_url_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["example", "sign", "--url", "http://directory.example"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/sh\n")
    assert cli.main(["example", "sign", "--url", "nowhere"]) == 2
    assert "'nowhere' is not where a directory is" in capsys.readouterr().err


def test_known_answers_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["example", "vectors"]) == 0
    assert {"nodes", "pair", "keyset", "session"} <= orjson.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize(("language", "platform"), [("javascript", "Node.js"), ("browser", "browsers")])
def test_a_node_is_printed_as_one_file(
    capsys: pytest.CaptureFixture[str], language: str, platform: str
) -> None:
    assert cli.main(["example", "node", "--language", language]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"// A node of an OpenRed directory, for {platform}")
    assert text.count("\nexport class Node {") == 1
    assert ("node:crypto" in text) == (language == "javascript")


def test_keys_are_listed_and_sign_a_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = ["--key-folder", str(tmp_path / "keys")]
    assert cli.main(["keys", "show", *folder]) == 1
    assert "a server makes them when they are needed" in capsys.readouterr().err
    assert cli.main(["keys", "sign-keyset", *folder]) == 2
    assert "needs the file keyset-request.json" in capsys.readouterr().err
    key = generate_key("R").public
    now, day_s = int(time.time()), 86_400
    published = PublishedKey(key, now, now + day_s, KeyStatus.NEXT)
    request = tmp_path / "keyset-request.json"
    request.write_bytes(KeySet(now, now, now + day_s, (published,)).encode())
    assert cli.main(["keys", "sign-keyset", str(request), *folder]) == 0
    printed = capsys.readouterr()
    assert f"{key.key_id} rsa3072-pss-sha256 next from 2" in printed.err
    assert printed.out.startswith('{"keyset":')
    assert cli.main(["keys", "show", *folder]) == 0
    assert capsys.readouterr().out.endswith(" root\n")


def test_a_request_without_an_answer_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("OPENRED_URL", url)
    assert cli.main(["stats"]) == 3
    assert capsys.readouterr() == (
        "",
        f"openred-central: connection refused: is the server running on {url}?\n",
    )
    assert cli.main(["stats", "--url", "nowhere"]) == 2


@pytest.mark.parametrize("command", [["completion", "bash"], ["example", "sign"]], ids=" ".join)
def test_a_closed_pipe_is_no_error(command: list[str]) -> None:
    """The reader of a pipe may close it early, as in ``openred-central config | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        finished = subprocess.run(
            [sys.executable, "-m", "openred_central", *command],
            # The output must stay in its buffer until the end.
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (finished.returncode, finished.stderr) == (0, "")

"""``python -m benchmarks load``: refused servers and options, and short runs against a real server."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import command
from benchmarks.load.requests import KINDS, LoadError, LoadOptions
from benchmarks.load.running import shares
from benchmarks.load.tally import Tally
from tests.support.running import ROOT, environment, servers_in


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(given)


def test_only_addresses_of_this_machine_are_loopback() -> None:
    assert all(map(command.is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "::1%lo")))
    assert not any(map(command.is_loopback, ("192.0.2.1", "10.0.0.1", "::", "0.0.0.0", "fe80::1%eth0")))


def test_server_elsewhere_is_refused_without_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(arguments("--url", "http://192.0.2.1/")) == 2
    assert "--i-own-this-server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--url", "ftp://127.0.0.1"], r"allowed is http\[s\]://HOST:PORT and a path"),
        (["--fresh", "lunch"], "'lunch' is no kind of request"),
        (["--url", "127.0.0.1:8000"], "cannot be used"),
        (["--url", "http://127.0.0.1:99999"], "cannot be used"),
        (["--duration", "86400"], "--duration is 86400, allowed is 0.1 to 3600"),
        (["--rate", "0"], "--rate is 0, allowed is 0.1 to 1e"),
        (["--processes", "4", "--connections", "3"], "--connections is 3, allowed is 4 to 50000"),
        (["--nodes", "0"], "--nodes is 0"),
        (["--mix", "token", "--duration", "300"], "so at most 290 s are allowed"),
        (["--mix", "token_pair", "--nodes", "1"], "a pair of tokens needs two nodes"),
    ],
)
def test_wrong_options_are_refused(given: list[str], complaint: str) -> None:
    with pytest.raises(LoadError, match=complaint):
        command.load_options(arguments(*given))


def test_path_of_the_url_is_a_prefix() -> None:
    options = command.load_options(arguments("--url", "http://127.0.0.1:81/directory/"))
    assert (options.host, options.port, options.prefix) == ("127.0.0.1", 81, "/directory")


def test_url_and_flags_choose_tls_and_fresh_connections() -> None:
    options = command.load_options(arguments("--url", "https://127.0.0.1", "--fresh", "heartbeat,session"))
    assert (options.port, options.tls, options.fresh) == (443, True, ("heartbeat", "session"))
    assert not command.load_options(arguments()).tls


def test_exit_code_reports_missing_answers() -> None:
    tally = Tally(["root"])
    assert command.exit_code(tally) == 1
    tally.statuses[0][200] = 5
    assert command.exit_code(tally) == 0
    tally.unanswered = 1
    assert command.exit_code(tally) == 1


def test_duration_may_have_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    options = command.load_options(arguments("--duration", "5m", "--warm-up", "0.5"))
    assert (options.duration_s, options.warm_up_s) == (300, 0.5)
    with pytest.raises(SystemExit):
        arguments("--duration", "5 parsecs")
    assert (
        "'5 parsecs' is no duration; allowed are seconds, or a number and its unit" in capsys.readouterr().err
    )


def test_processes_share_connections_and_rate() -> None:
    parts = shares(LoadOptions("h", 1, {}, rate=90.0, connections=7, idle_connections=2), 3)
    assert [part.connections for part in parts] == [3, 2, 2]
    assert [part.idle_connections for part in parts] == [1, 1, 0]
    assert [(part.generator, part.generators, part.rate) for part in parts] == [
        (n, 3, 90.0) for n in range(3)
    ]


def test_real_server_is_loaded_and_reported(tmp_path: Path) -> None:
    with servers_in(tmp_path) as start:
        server = start("--database", "memory:")
        written, chart = tmp_path / "load.json", tmp_path / "load.svg"
        given = ["--url", f"http://127.0.0.1:{server.address[1]}", "--nodes", "50", "--connections", "4"]
        given += ["--rate", "200", "--duration", "1", "--warm-up", "0.1", "--processes", "2"]
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks", "load", *given, "--json", written, "--chart", chart],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    found = json.loads(written.read_text())
    # On a busy machine some may be unanswered at the end, and the exit code says so.
    assert ran.returncode == (1 if found["unanswered"] else 0), ran.stderr
    assert found["kinds"].keys() == {"heartbeat", "discover", "register"}
    assert (found["refused"], found["failed"], found["error"]) == (0, 0, "")
    # Requests due before the measured time add some, more on a slow machine, which must take none away.
    assert 195 <= found["answered"] + found["unanswered"] < 600
    assert "heartbeat" in ran.stdout
    assert "requests/s   p50" in ran.stderr
    assert chart.read_text().startswith("<svg")


def test_real_server_accepts_every_proof(tmp_path: Path) -> None:
    mix = {"own_heartbeat", *(kind for kind, each in KINDS.items() if each.key)}
    with servers_in(tmp_path) as start:
        server = start("--database", "memory:", "--rate-limit-exempt", "127.0.0.0/8")
        written = tmp_path / "load.json"
        given = ["--url", f"http://127.0.0.1:{server.address[1]}", "--nodes", "20", "--connections", "4"]
        # The server refuses signatures of the second of its start, which the warm-up sends.
        given += ["--rate", "100", "--duration", "1", "--warm-up", "1", "--processes", "2"]
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks", "load", *given, "--mix", ",".join(mix), "--json", written],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    found = json.loads(written.read_text())
    # On a busy machine some may be unanswered at the end, and the exit code says so.
    assert ran.returncode == (1 if found["unanswered"] else 0), ran.stderr
    assert found["kinds"].keys() == mix
    assert all(each["answered"] for each in found["kinds"].values())
    assert (found["refused"], found["failed"], found["error"]) == (0, 0, "")
    assert "signers" not in found["options"]


def test_rate_limit_error_names_the_exempting_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with servers_in(tmp_path) as start:
        server = start("--database", "memory:", "--rate-limit-exempt", "")
        given = ["--url", f"http://127.0.0.1:{server.address[1]}", "--nodes", "50", "--connections", "1"]
        assert command.run(arguments(*given)) == 2
    message = capsys.readouterr().err
    assert "40 times 429" in message
    assert "--rate-limit-exempt=127.0.0.0/8,::1/128" in message

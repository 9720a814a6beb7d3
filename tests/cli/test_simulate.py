"""The time machine as a command: figures that repeat, and one clear line for arguments that are wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from openred_central.cli.main import main
from openred_central.exit_codes import ExitCode
from openred_central.simulation.world import World

SMALL = ("simulate", "--nodes", "60", "--years", "1")


def test_same_seed_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No hash of this process, and nothing else of it, has an effect."""
    found = []
    for name in ("one", "two"):
        files = [tmp_path / f"{name}.{kind}" for kind in ("json", "svg")]
        arguments = [*SMALL, "--seed", "7", "--json", str(files[0]), "--chart", str(files[1])]
        if name == "one":
            assert main(arguments) == ExitCode.DONE
            printed = capsys.readouterr()
        else:
            program = [sys.executable, "-m", "openred_central", *arguments]
            done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=True)
            assert (done.stdout, done.stderr) == printed
        found.append([file.read_bytes() for file in files])
    assert found[0] == found[1]
    assert list(orjson.loads(found[0][0])["policies"]) == ["wall", "lifecycle", "adaptive"]
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nodes", "-1"], "--nodes: '-1' was given, allowed is 0 to 10,000,000"),
        (["--years", "forever"], "--years: 'forever' was given, allowed is 0.1 to 100"),
        (["--pace", "1s"], "--pace: '1s' was given, allowed is 1h to 30d"),
        (["--faults", "outages,rain"], "'rain' is not one of outages, uplink, region, jumps, floods"),
        (["--policies", "mercy"], "'mercy' is not one of wall, lifecycle, adaptive"),
        (["--json", "/nowhere/at/all.json"], "the folder of /nowhere/at/all.json does not exist"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main([*SMALL, *arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == ExitCode.USAGE
    assert complaint in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("nodes", ["0", "1"])
def test_tiny_populations_have_a_report(nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--nodes", nodes]) == ExitCode.DONE
    assert "per 100,000 node-years" in capsys.readouterr().out


@pytest.mark.parametrize(("faults", "is_harmed"), [("jumps", True), ("none", False)])
def test_faults_are_those_that_are_named(tmp_path: Path, faults: str, *, is_harmed: bool) -> None:
    file = tmp_path / "figures.json"
    wanted = ["--faults", faults, "--policies", "wall", "--json", str(file)]
    assert main([*SMALL, *wanted]) == ExitCode.DONE
    found = orjson.loads(file.read_bytes())["policies"]["wall"]["counts"]
    assert bool(found["false_comas"]) is is_harmed


def test_interrupt_ends_it_without_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: World) -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    monkeypatch.setattr(World, "run", interrupted)
    assert main([*SMALL]) == ExitCode.INTERRUPTED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "openred-central: interrupted, so there is no report, and no file was written\n"

"""The time machine as a command: figures that repeat, and one clear line for arguments that are wrong."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from openred_central.cli.main import main
from openred_central.exit_codes import ExitCode

SMALL = ("simulate", "--nodes", "60", "--years", "2")


def test_same_seed_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name in ("one", "two"):
        files = [tmp_path / f"{name}.{kind}" for kind in ("json", "svg")]
        flags = ("--json", str(files[0]), "--chart", str(files[1]))
        assert main([*SMALL, "--seed", "7", *flags]) == ExitCode.DONE
        found.append((capsys.readouterr(), [file.read_bytes() for file in files]))
    assert found[0] == found[1]
    document = orjson.loads(found[0][1][0])
    assert list(document["policies"]) == ["wall", "lifecycle", "adaptive"]
    assert found[0][0].err == ""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nodes", "-1"], "--nodes: '-1' is not allowed, but 0 to 10,000,000"),
        (["--years", "forever"], "--years: 'forever' is not allowed, but 0.1 to 100"),
        (["--pace", "1s"], "--pace: '1s' is not allowed, but 1h to 30d"),
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

"""The promises of tests: no test is skipped unseen, none hangs, and a random run can be repeated."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import conftest

SKIPPING = """
import pytest

@pytest.{mark}(reason="tired")
def test_marked(): pass

def test_running(): pytest.{call}("half-way")

@pytest.fixture
def tired(): pytest.{call}("tired")

def test_fixture(tired): pass

@pytest.{expected}
def test_expected(): raise ValueError
""".format(mark="mark." + "skip", call="sk" + "ip", expected="mark.x" + "fail")
DRAWING = """
from hypothesis import given, strategies

drawn = []

@given(strategies.binary(min_size=8))
def test_luck(content): drawn.append(content)

def test_showing():
    print("drawn:", drawn)
    raise ValueError
"""
ABSENT = 'import pytest\npytest.{call}("no_such_module")\n'.format(call="import" + "orskip")


# Nothing that takes long to import.
PLUGINS = ("-p", "no:cacheprovider", "-p", "no:schemathesis")


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in `folder` under the project's own conftest.py."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGINS, str(folder)],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_skipped_test_fails_where_skips_are_forbidden(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(SKIPPING)
    finished = run(tmp_path, OPENRED_NO_SKIP="1")
    summary = finished.stdout.splitlines()[-1]
    assert finished.returncode == 1
    assert summary.startswith("2 failed, 2 errors in")
    assert "test_marked did not run to its end" in finished.stdout


def test_a_skipped_file_fails_where_skips_are_forbidden(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(ABSENT + "def test_nothing(): pass\n")
    assert run(tmp_path, OPENRED_NO_SKIP="1").stdout.splitlines()[-1].startswith("1 error in")


def test_the_seed_is_printed_first_and_again_beside_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_luck(seed): assert seed != 7\n")
    printed = run(tmp_path, OPENRED_SEED="7").stdout.splitlines()
    assert printed[0] == "seed 7: repeat with OPENRED_SEED=7"
    assert "repeat with OPENRED_SEED=7" in printed[1:]
    assert printed[-1].startswith("1 failed")


def test_without_a_given_seed_every_run_has_its_own(tmp_path: Path, seed: int) -> None:
    (tmp_path / "test_a.py").write_text("def test_luck(seed): assert seed >= 0\n")
    first = run(tmp_path, OPENRED_SEED="").stdout.splitlines()[0]
    assert first.startswith("seed ")
    assert f"OPENRED_SEED={seed}" not in first


def test_a_seed_repeats_the_examples_of_hypothesis(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(DRAWING)

    def drawn(seed: int) -> str:
        finished = run(tmp_path, OPENRED_SEED=str(seed), CI="true")
        return finished.stdout.partition("drawn: ")[2].splitlines()[0]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_settings_of_the_keyboard_do_not_reach_servers_under_test(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import os\ndef test_port(): assert 'OPENRED_PORT' not in os.environ\n"
    )
    assert run(tmp_path, OPENRED_PORT="1").returncode == 0


def test_the_environment_of_the_tests_holds_no_settings() -> None:
    assert [name for name in os.environ if name.startswith("OPENRED_")] == []


async def test_a_coroutine_test_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "TEST_S_MAX", 0.0)
    with pytest.raises(TimeoutError):
        await conftest.bounded(asyncio.Event().wait)()


@pytest.mark.both_loops
async def test_a_marked_test_runs_on_both_loops(request: pytest.FixtureRequest) -> None:
    named = request.node.name.partition("[")[2].rstrip("]")
    assert type(asyncio.get_running_loop()).__module__.startswith(named)

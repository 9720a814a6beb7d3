"""Every command in bad surroundings: an exit code that means something, a line at most, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openred_central.cli.main import MODULES
from openred_central.exit_codes import ExitCode
from tests.support.running import environment

# With words that need no server, or find none; no command of the settings can start one.
NOWHERE = "http://127.0.0.1:1"
WORDS: dict[str, tuple[str, ...]] = {
    "serve": ("--port", "0", "--database", "/dev/null/x"),
    "snapshot": ("--database", "none/x.db"),
    "export": ("nodes.jsonl", "--database", "none/x.db"),
    "import": ("nodes.jsonl", "--database", "none/x.db"),
    "verify": ("--database", "none/x.db"),
    "keys": ("show", "--database", "none/x.db"),
    "health": ("--url", NOWHERE),
    "register": ("192.0.2.1", "7000", "--key", "node.pem", "--url", NOWHERE),
    "heartbeat": ("--node-id", "alice", "--url", NOWHERE),
    "discover": ("storage", "--url", NOWHERE),
    "node": ("alice", "--url", NOWHERE),
    "stats": ("--url", NOWHERE),
    "watch": ("--url", NOWHERE),
    "leave": ("--key", "node.pem", "--url", NOWHERE),
    "keygen": ("new.pem",),
    "example": ("sign",),
    "completion": ("bash",),
    "simulate": ("--nodes", "10", "--years", "1"),
    "analytics": ("--url", NOWHERE),
    "restore": ("none", "--database", "none/x.db"),
}
EXIT_CODES = {0, 1, 2, 3, 4, 78}
# Changes into a folder, removes that, and becomes the program that follows.
WITHOUT_FOLDER = """
import os, sys
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


def run(
    folder: Path, *words: str | bytes, output: str = "", prefix: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[bytes]:
    command = [*prefix, sys.executable, "-m", "openred_central", *words]
    with open(output or os.devnull, "wb") as file:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment(PYTHONUNBUFFERED="", **variables),
            stdin=subprocess.DEVNULL,
            stdout=file if output else subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )


def expect_sound(done: subprocess.CompletedProcess[bytes], codes: set[int] = EXIT_CODES) -> None:
    told = (done.stdout or b"") + done.stderr
    assert done.returncode in codes, told
    assert b"Traceback" not in told
    assert b"Exception ignored" not in told


@pytest.mark.parametrize("name", MODULES)
def test_each_command_does_with_a_poor_encoding(name: str, tmp_path: Path) -> None:
    expect_sound(run(tmp_path, name, *WORDS.get(name, ()), LC_ALL="C", PYTHONIOENCODING="ascii"))
    helped = run(tmp_path, name, "--help", PYTHONIOENCODING="ascii")
    expect_sound(helped, {0})


@pytest.mark.parametrize("name", MODULES)
def test_each_command_reports_a_full_disk(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, name, *WORDS.get(name, ()), output="/dev/full")
    expect_sound(done, EXIT_CODES - {0})
    helped = run(tmp_path, name, "--help", output="/dev/full")
    expect_sound(helped, {1})
    assert helped.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", MODULES)
def test_each_command_takes_any_bytes_as_arguments(name: str, tmp_path: Path) -> None:
    expect_sound(run(tmp_path, name, *WORDS.get(name, ()), b"\xff"))
    expect_sound(run(tmp_path, name, *WORDS.get(name, ()), b"--url", b"http://\xff"))
    words = [b"\xff" if word in ("alice", "storage") else word for word in WORDS.get(name, ())]
    if b"\xff" in words:
        expect_sound(run(tmp_path, name, *words))


@pytest.mark.parametrize("name", MODULES)
def test_each_command_does_in_a_folder_that_is_gone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    gone = (sys.executable, "-c", WITHOUT_FOLDER, str(folder))
    done = run(tmp_path, name, *WORDS.get(name, ()), prefix=gone, PYTHONPATH=str(Path(__file__).parents[2]))
    expect_sound(done)


@pytest.mark.parametrize("name", ["stats", "watch", "keygen", "config"])
def test_ctrl_c_at_any_moment_sets_only_the_exit_code(name: str, tmp_path: Path) -> None:
    """Sent by the program itself once the first lines of the package have run, with most not yet imported."""
    program = (
        "import os, signal, sys\n"
        "import openred_central.early as early\n"
        "begin = early.begin\n"
        "def interrupted(arguments):\n"
        "    begin(arguments)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "early.begin = interrupted\n"
        "sys.argv[0] = 'openred-central'\n"
        "from openred_central.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name, *WORDS.get(name, ())],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, b"", b"")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""Before anything else of the program standard descriptors are open, and signals end nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import orjson
import pytest

from openred_central.early import IGNORED, serves
from openred_central.exit_codes import ExitCode

# Closes the descriptors named first, and becomes the program that follows.
WITHOUT = """
import os, sys
for descriptor in map(int, sys.argv[1].split(",")):
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# Tells what each standard descriptor is, to descriptor 9.
TELL = """
import json, os, sys
from openred_central.early import open_standard_descriptors
{call}
print("nobody reads this", file=sys.{stream})
told = [os.path.realpath(f"/proc/self/fd/{{number}}") for number in range(3)]
os.write(9, json.dumps(told).encode())
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], True),
        (["serve"], True),
        (["--port", "9000"], True),
        (["serve", "--help"], True),
        (["--help"], False),
        (["--version"], False),
        (["-h"], False),
        (["watch"], False),
        (["health", "serve"], False),
    ],
)
def test_the_server_starts_without_another_command(arguments: Sequence[str], expected: bool) -> None:
    assert serves(arguments) is expected


@pytest.mark.parametrize("closed", ["0", "1", "2", "0,1,2", "1,2"])
def test_a_closed_standard_descriptor_is_the_null_device(closed: str) -> None:
    reading, writing = os.pipe()
    program = TELL.format(call="open_standard_descriptors()", stream="stderr" if "2" in closed else "stdout")
    # The pipe to tell by gets a number that nothing else takes.
    begins = f"import os; os.dup2({writing}, 9)\n"
    outcome = subprocess.run(
        [sys.executable, "-c", WITHOUT, closed, "-c", begins + program],
        pass_fds=[writing],
        stdin=subprocess.PIPE,
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    with open(reading, encoding="utf-8") as told:
        descriptors = orjson.loads(told.read())
    assert outcome.returncode == 0, outcome.stderr
    for number, path in enumerate(descriptors):
        assert (path == os.devnull) is (str(number) in closed.split(",")), descriptors


def test_meaningless_signals_are_ignored_from_the_start() -> None:
    tell = (
        "import signal\nfrom openred_central.early import IGNORED, begin\n"
        "begin({words})\n"
        "print([signal.getsignal(getattr(signal, name)) is signal.SIG_IGN "
        "for name in IGNORED if hasattr(signal, name)])"
    )
    for words, ignored in ((["--port", "1"], True), (["watch"], False)):
        run = subprocess.run(
            [sys.executable, "-c", tell.format(words=words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        expected = [ignored for name in IGNORED if hasattr(signal, name)]
        assert run.stdout.strip() == str(expected)
    assert signal.getsignal(signal.SIGUSR2) is not signal.SIG_IGN


def test_a_late_ctrl_c_shows_no_traceback() -> None:
    program = (
        "import atexit, os, signal, sys\nfrom openred_central.cli.console import guarded\n"
        "interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "atexit.register(interrupt)\n"
        "sys.exit(guarded(interrupt, print, serving=True))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (ExitCode.INTERRUPTED, b"", b"")

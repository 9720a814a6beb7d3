"""The process around a command: its streams and clock, and how a full disk or Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final, NamedTuple, TextIO

from ..clock import Clock, SystemClock
from ..early import begun, interrupted
from ..exit_codes import ExitCode
from ..logs import takes_colours

PROGRAM: Final = "openred-central"


class Style(NamedTuple):
    """The style of output: laid out for a terminal, and in colour."""

    terminal: bool = False
    colour: bool = False


class Console(NamedTuple):
    """The process around a command, as the command uses it.

    `say` prints a line to standard output, `complain` prints one to standard error. `input` and `output` are
    the standard streams, and `errors` is the stream for progress. `entropy` returns random bytes.
    """

    say: Callable[[str], None]
    complain: Callable[[str], None]
    input: BinaryIO
    output: BinaryIO
    errors: TextIO
    clock: Clock
    entropy: Callable[[int], bytes]
    environment: Mapping[str, str]
    style: Style


def system_console() -> Console:
    """Return the console of this process."""
    terminal = sys.stdout.isatty()
    return Console(
        say=lambda line: print(line, flush=True),
        complain=complain,
        input=sys.stdin.buffer,
        output=sys.stdout.buffer,
        errors=sys.stderr,
        clock=SystemClock(),
        entropy=os.urandom,
        environment=os.environ,
        style=Style(terminal, terminal and takes_colours(os.environ)),
    )


def complain(line: str) -> None:
    """Print a line to standard error. If that fails, the exit code still reports the error."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{PROGRAM}: {line}\n")


def guarded(run: Callable[[], int], complain: Callable[[str], None], *, serving: bool) -> int:
    """Run a command and return its exit code; report an error of the process around it in one line.

    While `serving`, an `OSError` is a bug and raised again, since its traceback shows where; only a missing
    working folder is reported.
    """
    _escape_unencodable()
    try:
        begun()
        try:
            code = run()
        except SystemExit:
            # `argparse` raises this after help and after wrong usage.
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except KeyboardInterrupt:
        return interrupted()
    except BrokenPipeError:
        # The reader has seen enough.
        _forget_output()
        return ExitCode.DONE
    except OSError as error:
        if not _has_folder():
            complain("the working folder is gone: change into one that exists, and try again")
        elif serving:
            raise
        else:
            where = f"{error.filename}: " if error.filename else "the output cannot be written: "
            complain(f"{where}{error.strerror or error}")
        _forget_output()
        return ExitCode.FAILED
    return code


@contextlib.contextmanager
def checked_output() -> Iterator[None]:
    """Raise `OSError` if the printed text cannot be written; `argparse` would ignore that."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(printed.getvalue())


def _escape_unencodable() -> None:
    """Let the standard output escape characters that its encoding lacks."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _forget_output() -> None:
    """Discard buffered output, so that writing it does not fail once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

"""The surroundings of a command: an output that lacks characters or room, a folder that is gone, Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Final

from .early import begun, interrupted

PROGRAM: Final = "openred-central"
FAILED: Final = 1


def complain(line: str) -> None:
    """Tell what is wrong where errors go; where nobody can be told, the exit code still tells."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{PROGRAM}: {line}\n")


def guarded(run: Callable[[], int], complain: Callable[[str], None], *, serving: bool) -> int:
    """Run a command and return its exit code; what its surroundings lack is told by `complain` in one line.

    An `OSError` of a server that is `serving` is raised on, unless the working folder is gone: it is a bug,
    and its log shall show where.
    """
    show_anything()
    try:
        begun()
        try:
            code = run()
        except SystemExit:
            # `argparse` ends so, after help as after wrong usage.
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except KeyboardInterrupt:
        return interrupted()
    except BrokenPipeError:
        # The reader has seen enough.
        _forget_output()
        return 0
    except OSError as error:
        if not _has_folder():
            complain("the working folder is gone: change into one that exists, and try again")
        elif serving:
            raise
        else:
            where = f"{error.filename}: " if error.filename else "the output cannot be written: "
            complain(f"{where}{error.strerror or error}")
        _forget_output()
        return FAILED
    return code


def show_anything() -> None:
    """Let the standard output show characters that its encoding lacks as escapes."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def printed_aloud() -> Iterator[None]:
    """Have what is printed within raise where there is no room for it: `argparse` passes over that."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            yield
    finally:
        sys.stdout.write(told.getvalue())


def layout() -> tuple[bool, bool]:
    """Whether the standard output is a terminal, for people, and whether it takes colours."""
    terminal = sys.stdout.isatty()
    return terminal, terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _forget_output() -> None:
    """Let what is still buffered go nowhere: it must not fail once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

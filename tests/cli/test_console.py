"""An error of the process around a command is one line and an exit code, never a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from openred_central.cli.console import Style, guarded, system_console


class Full(io.StringIO):
    """A standard output on a device that is full."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raising(error: BaseException) -> int:
    raise error


def test_a_command_decides_its_exit_code() -> None:
    assert guarded(lambda: 4, pytest.fail, serving=False) == 4


def test_ctrl_c_and_a_closed_pipe_print_nothing() -> None:
    assert guarded(lambda: raising(KeyboardInterrupt()), pytest.fail, serving=False) == 130
    assert guarded(lambda: raising(BrokenPipeError()), pytest.fail, serving=False) == 0


@pytest.mark.parametrize("ends", [0, SystemExit(0)])
def test_a_full_disk_under_the_output_is_reported(
    monkeypatch: pytest.MonkeyPatch, ends: int | SystemExit
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    complaints: list[str] = []
    code = guarded(
        lambda: raising(ends) if isinstance(ends, SystemExit) else ends, complaints.append, serving=False
    )
    assert (code, complaints) == (1, ["the output cannot be written: No space left on device"])


def test_an_exit_by_argparse_is_kept() -> None:
    with pytest.raises(SystemExit):
        guarded(lambda: raising(SystemExit(2)), pytest.fail, serving=False)


def test_an_os_error_names_its_file_and_a_server_raises_it() -> None:
    error, complaints = PermissionError(errno.EACCES, "Permission denied", "/x"), list[str]()
    assert guarded(lambda: raising(error), complaints.append, serving=False) == 1
    assert complaints == ["/x: Permission denied"]
    with pytest.raises(PermissionError):
        guarded(lambda: raising(error), pytest.fail, serving=True)


def test_a_lost_working_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    complaints: list[str] = []
    for serving in (True, False):
        code = guarded(
            lambda: raising(FileNotFoundError(2, "No such file")), complaints.append, serving=serving
        )
        assert code == 1
    assert complaints == ["the working folder is gone: change into one that exists, and try again"] * 2


def test_characters_without_encoding_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="latin-1"))
    assert guarded(lambda: print("é → \udcff") or 0, pytest.fail, serving=False) == 0
    assert output.getvalue() == b"\xe9 \\u2192 \\udcff\n"


@pytest.mark.parametrize(
    ("variables", "terminal", "expected"),
    [
        ({}, True, (True, True)),
        ({"TERM": "dumb"}, True, (True, False)),
        ({"NO_COLOR": "1"}, True, (True, False)),
        ({}, False, (False, False)),
    ],
)
def test_only_capable_terminals_get_colours(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], terminal: bool, expected: tuple[bool, bool]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert system_console().style == Style(*expected)

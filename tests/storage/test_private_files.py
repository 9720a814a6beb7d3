"""Private files are written whole or not at all, and what is unfinished never looks finished."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from openred_central.storage import private_files
from openred_central.storage.private_files import (
    clear,
    create_folder,
    describe,
    discard,
    scratch_folder,
    write_whole,
    written_whole,
)
from tests.support.records import ROOT


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def test_a_file_is_private_and_replaces_the_former_one(old: Path) -> None:
    before = os.umask(0)
    try:
        write_whole(old, b"new")
    finally:
        os.umask(before)
    assert old.read_text() == "new"
    assert mode(old) == 0o600
    assert list(old.parent.iterdir()) == [old]


def test_a_file_is_synced_before_it_gets_its_name(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, str]] = []
    monkeypatch.setattr(private_files, "sync", lambda path: synced.append((path.name, old.read_text())))
    write_whole(old, b"new")
    assert synced == [("file", "old"), (old.parent.name, "new")]


def test_a_failed_write_leaves_the_former_file(old: Path) -> None:
    for raised in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError()):
        with pytest.raises(type(raised)) as error, written_whole(old) as new:  # noqa: PT012
            new.write_text("half")
            raise raised
        if isinstance(error.value, OSError):
            assert describe(error.value, Path()) == f"{old}: No space left on device; make room on that disk"
        assert old.read_text() == "old"
        assert list(old.parent.iterdir()) == [old]


def test_a_killed_write_leaves_the_former_file(old: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from openred_central.storage.private_files import written_whole;"
        "whole = written_whole(Path(sys.argv[1])); new = whole.__enter__();"
        "new.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(old)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert old.read_text() == "old"
    assert len(list(old.parent.iterdir())) == 2
    write_whole(old, b"new")
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_new_file_replaces_nothing(old: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refuse(source: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    (old.parent / "link").symlink_to(old.parent / "missing")
    for taken in (old, old.parent / "link"):
        with pytest.raises(FileExistsError) as error:
            write_whole(taken, b"new", replace=False)
        assert describe(error.value, Path()) == f"{taken}: File exists; remove it, or choose another path"
    write_whole(old.parent / "other", b"new", replace=False)
    assert old.read_text() == "old"
    assert (old.parent / "other").read_text() == "new"
    assert (old.parent / "other").stat().st_nlink == 1


def test_a_file_that_cannot_be_written_is_named_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(OSError, match="No such file") as error:
        write_whole(path, b"new")
    assert describe(error.value, Path()).startswith(
        f"{path}: No such file or directory; create it, or choose"
    )


def test_a_new_folder_is_private_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(private_files, "sync", synced.append)
    create_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert synced == [tmp_path, tmp_path / "a"]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    create_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_scratch_folder_is_private_and_removed_with_its_content(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("half")
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_it_goes_away_where_the_work_fails(tmp_path: Path) -> None:
    with contextlib.suppress(RuntimeError), scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_renamed_scratch_folder_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("whole")
        folder.rename(tmp_path / "finished")
    assert (tmp_path / "finished" / "file").read_text() == "whole"


def test_a_folder_that_is_worked_in_is_left_alone(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first:
        (first / "file").write_text("half")
        clear(tmp_path)
        with scratch_folder(tmp_path) as second:
            assert second != first
        assert (first / "file").read_text() == "half"


def test_the_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from openred_central.storage.private_files import scratch_folder;"
        "scratch = scratch_folder(Path(sys.argv[1])); folder = scratch.__enter__();"
        "(folder / 'file').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, timeout=60, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_removes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = tempfile.mkdtemp, list[str]()

    def removed_once(**options: Any) -> str:
        made.append(make(**options))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", removed_once)
    with scratch_folder(tmp_path) as scratch:
        assert str(scratch) == made[1]


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "openred.db").write_text("data")
    (tmp_path / "folder").mkdir()
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "openred.db"]
    clear(tmp_path / "missing")


def test_a_finished_folder_is_removed_as_a_whole(tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "file").write_text("whole")
    discard(finished)
    assert list(tmp_path.iterdir()) == []
    # Two processes that take snapshots may both remove the older ones.
    discard(finished)
    assert list(tmp_path.iterdir()) == []

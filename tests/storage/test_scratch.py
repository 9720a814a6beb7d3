"""What is unfinished never looks finished, and does not stay when its process has ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from openred_central.storage.scratch import clear, discard, scratch_folder

from .records import ROOT


def test_a_folder_is_ours_alone_and_goes_away_with_what_is_in_it(tmp_path: Path) -> None:
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


def test_what_is_renamed_stays(tmp_path: Path) -> None:
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


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from openred_central.storage.scratch import scratch_folder;"
        "scratch = scratch_folder(Path(sys.argv[1])); folder = scratch.__enter__();"
        "(folder / 'file').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, timeout=60, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


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

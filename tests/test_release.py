"""A release sets version, changelog and schema notes together, or changes nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parts import needs_program
from tests.support.project import ROOT

FILES = (
    "openred_central/__init__.py",
    "openred_central/docs/changelog.md",
    "openred_central/docs/upgrade.md",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the present source, a changelog with one entry, and one new schema."""
    needs_program("git")
    folder = tmp_path / "clone"
    for name in (".ci/release.py", *(path.relative_to(ROOT).as_posix() for path in python_files())):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "openred_central/docs").mkdir()
    for name in FILES[1:]:
        (folder / name).write_bytes((ROOT / name).read_bytes())
    edit(folder, FILES[0], r'__version__ = ".*"', '__version__ = "3.4.5"')
    edit(folder, FILES[1], r"(?s)## Unreleased\n.*", "## Unreleased\n\n- News.\n\n## 3.4.5\n\nOld.\n")
    edit(folder, FILES[2], r"(?m)^\| 7 \| \S+ \|", "| 7 | unreleased |")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


def python_files() -> list[Path]:
    return sorted((ROOT / "openred_central").rglob("*.py"))


def edit(folder: Path, name: str, pattern: str, text: str) -> None:
    path = folder / name
    path.write_text(re.sub(pattern, text, path.read_text("utf-8")), "utf-8")


def git(folder: Path, *words: str) -> str:
    return run(folder, "git", *words).stdout


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    person = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **person, "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def release(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, ".ci/release.py", *words)


def test_a_release_is_one_tagged_commit(clone: Path) -> None:
    done = release(clone, "3.5.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert git(clone, "log", "--format=%s", "-1") == "Release 3.5.0\n"
    assert git(clone, "tag", "--points-at", "HEAD") == "v3.5.0\n"
    assert git(clone, "diff", "--name-only", "HEAD~1").splitlines() == sorted(FILES)
    assert '__version__ = "3.5.0"' in (clone / FILES[0]).read_text()
    changelog = (clone / FILES[1]).read_text()
    form = (
        r"## Unreleased\n\n## 3\.5\.0\n\nWire contract `openred-3`, database schema \d+, in PostgreSQL \d+, "
        r"link \d+, export format \d+\.\n\n- News\.\n\n## 3\.4\.5\n\nOld\.\n"
    )
    assert re.search(form, changelog), changelog
    upgrade = (clone / FILES[2]).read_text()
    assert "| 7 | 3.5.0 |" in upgrade
    assert "unreleased" not in upgrade
    # Nothing is new since.
    again = release(clone, "3.6.0")
    assert (again.returncode, "nothing under Unreleased" in again.stderr) == (1, True)


WRONG = {
    **dict.fromkeys(("", "3.5", "03.5.0"), "expected is MAJOR.MINOR.PATCH"),
    **dict.fromkeys(("3.4.5", "3.3.9"), "name a later one"),
    "3.4.6": "must raise MINOR",
}


def test_a_wrong_version_changes_nothing(clone: Path) -> None:
    for version, told in WRONG.items():
        done = release(clone, version)
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    # Changes that are not committed would be released unseen.
    edit(clone, FILES[1], "News", "Other news")
    done = release(clone, "3.5.0")
    assert (done.returncode, "not committed" in done.stderr) == (1, True)
    assert git(clone, "log", "--format=%s") == "Begin\n"
    assert git(clone, "diff", "--name-only") == f"{FILES[1]}\n"

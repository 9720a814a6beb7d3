"""The files of the project, as paths and as text, for the house rules."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "openred_central"


def sources(folder: Path = PACKAGE) -> dict[str, str]:
    """Return the text of every Python file in `folder`, by its path from the project's root."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.py"))
    }


def documents() -> dict[str, str]:
    """Return the text of each document for users, by its path from the project's root."""
    paths = [ROOT / "README.md", *sorted((PACKAGE / "docs").glob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def module_name(path: str) -> str:
    """Return the dotted name of a module: ``a/b.py`` is ``a.b``, ``a/__init__.py`` is ``a``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def ignored(name: str, patterns: Iterable[str]) -> bool:
    """Return whether the lines of a ``.gitignore`` keep an entry called `name` out of the project."""
    return any(fnmatch.fnmatch(name, pattern.strip().rstrip("/")) for pattern in patterns if pattern.strip())


def text_files(root: Path = ROOT) -> dict[str, str]:
    """Return the text of every file of the project that is text, by its path from `root`."""
    # In a working tree of its own `.git` is a file, which tells where the repository lies.
    patterns = [".git", *(root / ".gitignore").read_text(encoding="utf-8").splitlines()]
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not ignored(name, patterns)]
        for path in (Path(folder, name) for name in names if not ignored(name, patterns)):
            content = path.read_bytes()
            if b"\0" not in content:
                found[path.relative_to(root).as_posix()] = content.decode("utf-8")
    return found


def expect_none(breaches: Iterable[str]) -> None:
    """Fail the test with all `breaches` of a rule, one a line, if there are any."""
    found = sorted(breaches)
    if found:
        pytest.fail("\n".join(found), pytrace=False)

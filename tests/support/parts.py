"""Parts of the system that some tests need. A test that lacks one is skipped with its reason."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import unittest
from pathlib import Path
from typing import Any


def needs_program(*names: str, path: Path | None = None) -> str:
    """Return where the first of these programs lies, by default in PATH, or skip the test."""
    for name in names:
        if found := shutil.which(name, path=path and str(path)):
            return found
    raise unittest.SkipTest(f"not installed in {path or 'PATH'}: {' or '.join(names)}")


def needs_module(name: str) -> Any:
    """Return a module of the extra `e2e`, or skip the test."""
    try:
        return importlib.import_module(name)
    except ImportError:
        reason = f"{name} is not installed; the extra e2e brings it"
        raise unittest.SkipTest(reason) from None


def needs_disk(folder: Path, size_bytes: int, user: int) -> None:
    """Mount a disk in memory at `folder`, which belongs to the user of that number, or skip the test."""
    options = f"size={size_bytes},mode=700,uid={user},gid={user}"
    mounting = ["mount", "-t", "tmpfs", "-o", options, "openred-test", str(folder)]
    done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise unittest.SkipTest(f"no small disk can be mounted, as root may: {done.stderr.strip()}")

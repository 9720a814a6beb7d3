"""Parts of the system that some tests need. A test that lacks one is skipped with its reason."""

from __future__ import annotations

import importlib
import shutil
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

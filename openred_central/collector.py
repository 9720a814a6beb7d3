"""The one place that tunes the garbage collector of Python."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing meanwhile: what imports make, and what a store holds, stays in memory anyway."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def exempt_all() -> None:
    """Never walk the objects that exist now: the nodes that were loaded, and all modules."""
    gc.freeze()

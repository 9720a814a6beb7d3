"""Waiting for a condition in a coroutine; `running.until` waits in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PAUSE_S = 0.005
# Only what hangs takes so long.
WAIT_S_MAX = 30.0


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as `condition` holds."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():
            await asyncio.sleep(PAUSE_S)

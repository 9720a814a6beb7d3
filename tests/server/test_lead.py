"""A leader that begins waits for its store, and what it serves does not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from openred_central.server.assembly import Assembly
from openred_central.server.lead import Lead
from openred_central.settings.config import Configuration
from openred_central.storage.store import PassingError
from tests.support.building import DictStore
from tests.support.waiting import until

# Longer than a loop that goes on takes to notice.
HANGS_S = 10.0


class Hanging(DictStore):
    """A store that does not answer until it is told that its server is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.ended = Event(), Event()

    def load_secret(self, name: str) -> bytes | None:
        self.asked.set()
        assert self.ended.wait(HANGS_S), "nobody had a turn meanwhile"
        raise PassingError("the connection broke")


async def test_a_store_that_hangs_when_a_lead_begins_holds_up_no_request() -> None:
    store, assembly = Hanging(), Assembly.here(Configuration())
    others: Any = None
    with ThreadPoolExecutor(max_workers=1) as writer:
        directory, attended = assembly.load(store)
        lead = Lead(assembly, others, others, asyncio.Event())
        serving = asyncio.create_task(lead.serve(directory, attended, None, store, writer, others))
        # Requests have their turn as this test has.
        await until(store.asked.is_set)
        store.ended.set()
        with pytest.raises(PassingError, match="the connection broke"):
            await serving

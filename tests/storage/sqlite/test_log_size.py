"""A log that a reader lets grow is told of once, and does not grow without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.storage.sqlite.log_size import LOG_BYTES_MAX, LOG_BYTES_WARNED, LogSize
from openred_central.storage.store import StoreError


def test_passing_the_first_bound_is_told_once_each_way(caplog: pytest.LogCaptureFixture) -> None:
    size = LogSize(Path("/data/openred.db"))
    for log_bytes in (0, LOG_BYTES_WARNED, LOG_BYTES_WARNED + 1, LOG_BYTES_MAX, 4_096, 0):
        size.see(log_bytes)
        assert size.bytes == log_bytes
        assert size.is_long == (log_bytes > LOG_BYTES_WARNED)
    grown, short = caplog.messages
    assert grown.startswith(f"the log of /data/openred.db has grown to {LOG_BYTES_WARNED + 1} bytes: ")
    assert "find that one and end it" in grown
    assert short == "the log of /data/openred.db is short again: 4096 bytes"


def test_beyond_the_second_bound_nothing_more_is_taken() -> None:
    size = LogSize(Path("/data/openred.db"))
    size.see(LOG_BYTES_MAX)
    size.refuse_more()
    size.see(LOG_BYTES_MAX + 1)
    with pytest.raises(StoreError, match=rf"has {LOG_BYTES_MAX + 1} bytes, allowed are {LOG_BYTES_MAX}: "):
        size.refuse_more()

"""A look at who leads, without a server: for commands."""

from __future__ import annotations

from pathlib import Path

from .address import parse
from .connecting import Server
from .leasing import LeaseRow
from .link import Link
from .thread import LoopThread
from .writing import look


def read_row(url: str, password_file: Path | None, *, is_pooled: bool) -> LeaseRow:
    """Return the row of the cluster in the database at `url`, which has one. Raises `StoreError`."""
    thread = LoopThread("database")
    try:
        return thread.run(_read(Link(Server(parse(url), password_file, is_pooled=is_pooled))))
    finally:
        thread.close()


async def _read(link: Link) -> LeaseRow:
    try:
        return await look(link)
    finally:
        link.drop()

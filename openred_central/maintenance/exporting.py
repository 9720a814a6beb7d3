"""The export of a database as JSON Lines, also while a server uses it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..security.sessions import CLAIM_KEY
from ..security.tokens.revocations import encode_revocations
from ..storage.loading import REVOCATIONS, load_revocations
from ..storage.private_files import written_whole
from ..storage.store import Loads, StoreError
from .portable import Item, LineError, Secret, Totals, encode, encode_footer, encode_header, is_carried
from .reading import READ_ROWS


def export(
    store: Loads,
    output: BinaryIO,
    *,
    secrets: bool,
    created_at: float,
    progress: Callable[[int, int], None],
) -> Totals:
    """Write the content of `store` to `output`, and return its totals.

    With `secrets` false, secrets are left out. Raises `StoreError` where a row cannot be exported.
    """
    output.write(encode_header(created_at) + b"\n")
    totals = Totals()
    for item in _items(store, secrets=secrets, created_at=created_at):
        try:
            line = encode(item)
        except LineError as error:
            raise StoreError(f"cannot export {_name(item)}: {error}; see `openred-central verify`") from error
        output.write(line + b"\n")
        totals = totals.with_line(item, line)
        if not totals.nodes % READ_ROWS:
            progress(totals.nodes, 0)
    output.write(encode_footer(totals) + b"\n")
    output.flush()
    return totals


@contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a private file to write to that becomes `path` when it is complete, see `written_whole`.

    A `path` that exists and is no regular file, such as a device, is written directly.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with path.open("wb") as output:
            yield output
        return
    # A link leads to the file to replace.
    with written_whole(Path(os.path.realpath(path))) as new, new.open("wb") as output:
        yield output


def _items(store: Loads, *, secrets: bool, created_at: float) -> Iterator[Item]:
    vitals = store.load_vitals()
    if vitals is not None:
        yield vitals
    claim_key = store.load_secret(CLAIM_KEY)
    if secrets and claim_key is not None:
        yield Secret(CLAIM_KEY, claim_key)
    # Revoked tokens stay revoked wherever the directory goes; their ids are no secret.
    revoked, damaged = load_revocations(store)
    if damaged:
        raise StoreError(f"cannot export the revocations: {damaged[0]}; see `openred-central verify`")
    current = {token_id: expires_at for token_id, expires_at in revoked.items() if expires_at > created_at}
    if current:
        yield Secret(REVOCATIONS, encode_revocations(current))
    # Blocks hold there, too, and the years go on.
    for name, value in store.load_kept():
        if is_carried(name):
            yield Secret(name, value)
    for tombstones in store.load_tombstones(READ_ROWS):
        yield from tombstones
    for records in store.load_records(READ_ROWS):
        yield from records


def _name(item: Item) -> str:
    return f"{type(item).__name__.lower()} {item[0]!r}"

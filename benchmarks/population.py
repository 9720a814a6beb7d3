"""The nodes of every benchmark, with the same names and data as JSON and as records of a store.

A node has an id of 15 characters, an IPv4 address, an Ed25519 key, two services and two metadata entries.
One in ten offers `index` and `storage`, the others `relay` and `storage`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from openred_central.directory.lifecycle import State
from openred_central.directory.state.changes import Batch, Vitals
from openred_central.directory.state.node import DISCOVERABLE, KEYED, Profile, Record
from openred_central.directory.state.pages import PageRun
from openred_central.storage.sqlite.sqlite import SqliteStore

BATCH_ROWS = 5_000
# The directory has been up for so long, and has seen every node within the last minute.
ATTENDED_S = 1_000_000.0
HEARD_WITHIN_S = 60.0
REGISTERED_AT = 1_800_000_000.0
PORT = 8_000
METADATA = {"version": "1.2.3", "os": "linux"}


def node_id(number: int) -> str:
    """Return the id of a node: 15 characters."""
    return f"node-{number:010d}"


def address(number: int) -> str:
    return f"192.0.{number // 256 % 256}.{number % 256}"


def public_key(number: int) -> str:
    """Return an Ed25519 key in base64 whose private key nobody has."""
    return b64encode(sha256(b"%d" % number).digest()).decode()


def services(number: int) -> list[str]:
    """Return the two services of a node, sorted."""
    return ["relay", "storage"] if number % 10 else ["index", "storage"]


def document(number: int, name: str | None = None) -> dict[str, Any]:
    """Return the registration of a node, with another `name` if one is given."""
    return {
        "node_id": name or node_id(number),
        "address": address(number),
        "port": PORT,
        "public_key": public_key(number),
        "services": services(number),
        "metadata": METADATA,
    }


def profile(number: int, key: str | None = None) -> Profile:
    """Return the profile of a node, with another `key` if one is given."""
    return Profile(address(number), PORT, key or public_key(number), metadata=METADATA)


def record(slot: int, last_seen_s: float | None = None, state: State = State.ACTIVE) -> Record:
    """Return a record some time after the registration. `last_seen_s` is attended time.

    A node in another state has been in it since then.
    """
    if last_seen_s is None:
        last_seen_s = ATTENDED_S - slot * 0.765_432 % HEARD_WITHIN_S
    return Record(
        slot=slot,
        node_id=node_id(slot),
        state=state,
        flags=DISCOVERABLE | KEYED,
        registered_at=REGISTERED_AT + slot * 0.123_456,
        last_seen_at=REGISTERED_AT + last_seen_s,
        last_seen_s=last_seen_s,
        since_s=last_seen_s,
        usual_gap_s=86_400.5,
        revision=slot,
        services=",".join(services(slot)),
        region="",
        profile=profile(slot).encode(),
        away_from_s=0.0,
        away_until_s=0.0,
        # A first life has no history.
        history="",
    )


def records(
    count: int, last_seen_s: float | None = None, state: State = State.ACTIVE
) -> Iterator[list[Record]]:
    """Yield the records of so many nodes, in batches."""
    return batches(record(slot, last_seen_s, state) for slot in range(count))


def batches(made: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield records in batches for a store."""
    pending = iter(made)
    while rows := list(islice(pending, BATCH_ROWS)):
        yield rows


def batch(records: list[Record], pages: Sequence[PageRun] = (), revision: int = 0) -> Batch:
    """Return a batch of these changes alone."""
    return Batch(records, [], [], [], Vitals(ATTENDED_S, revision, 0.0), 0, pages)


def filled(path: Path, made: Iterable[list[Record]]) -> SqliteStore:
    """Return an open store with the batches of nodes in `made`, as a server leaves it."""
    store = SqliteStore(path)
    store.open()
    for rows in made:
        store.commit(batch(rows, [], rows[-1].slot + 1))
        if store.tidy_due:
            store.tidy()
    return store

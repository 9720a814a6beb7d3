"""The calls to the store by which a leader begins, before it serves. They block, so they run in a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..security.sessions import CLAIM_KEY, CLAIM_KEY_BYTES, SESSION_KEY, SESSION_KEY_BYTES
from ..storage.copies.runs import RUN_BYTES, begin_run
from ..storage.loading import load_revocations
from ..storage.store import Store

log = logging.getLogger("openred.server")

# The log lists so many rows that cannot be served, and counts the others.
UNSERVED_LOGGED_MAX = 50


class Begun(NamedTuple):
    """The name of a new run, and the secrets with which it serves; `revoked` is token id → expiry."""

    run: bytes
    claim_key: bytes
    session_key: bytes
    revoked: dict[str, float]


def begin(store: Store, entropy: Callable[[int], bytes], nodes: int, *, is_shared: bool) -> Begun:
    """Mark a new run in `store`, which holds so many nodes, and read its secrets. Raises `StoreError`.

    `is_shared`: another instance may lead next.
    """
    begin_run(store, run := entropy(RUN_BYTES))
    revoked, damaged = load_revocations(store)
    log_unusable(damaged, store.location)
    return Begun(run, _claim_key(store, entropy, nodes), _session_key(store, entropy, is_shared), revoked)


def log_unusable(unserved: Sequence[object], location: str) -> None:
    """Log rows of the store at `location` that cannot be used: the first ones, and how many more."""
    for row in unserved[:UNSERVED_LOGGED_MAX]:
        log.error("unusable row in %s, where it stays as it is: %s", location, row)
    more = len(unserved) - UNSERVED_LOGGED_MAX
    if more > 0:
        log.error("%d more rows are unusable; `openred-central verify` names them all", more)


def _session_key(store: Store, entropy: Callable[[int], bytes], is_shared: bool) -> bytes:
    """Return the key of sessions.

    The store keeps it only for the next leader of instances that share it. For others it is in memory alone:
    a restart voids all sessions, and nodes sign once more.
    """
    key = store.load_secret(SESSION_KEY) if is_shared else None
    if key is None or len(key) != SESSION_KEY_BYTES:
        key = entropy(SESSION_KEY_BYTES)
        if is_shared:
            store.save_secret(SESSION_KEY, key)
    return key


def _claim_key(store: Store, entropy: Callable[[int], bytes], nodes: int) -> bytes:
    """Return the key of claims; make one if there is none or it is damaged."""
    key = store.load_secret(CLAIM_KEY)
    if key is not None and len(key) == CLAIM_KEY_BYTES:
        return key
    if key is not None or nodes:
        found = "missing" if key is None else f"damaged, with {len(key)} of {CLAIM_KEY_BYTES} bytes"
        log.error(
            "the key of claims in %s is %s: the server made a new one, so earlier claims are void; "
            "to make them valid again, restore a snapshot that holds the former key",
            store.location,
            found,
        )
    key = entropy(CLAIM_KEY_BYTES)
    store.save_secret(CLAIM_KEY, key)
    return key

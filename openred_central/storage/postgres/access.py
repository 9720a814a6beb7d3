"""How a process uses a database that several instances share. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol


class Sealer(Protocol):
    """The encryption of secrets, by a secret that is not in the database."""

    def seal(self, name: str, value: bytes) -> bytes:
        """Return `value` sealed, so that only `unseal` with this name opens it."""

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """Return the value. Raises `ValueError` where it was not sealed by this secret for this name."""

    def renewed(self, name: str, sealed: bytes) -> bytes | None:
        """Return the value sealed anew where a former secret sealed it, else None; raises as `unseal`."""


class Timing(NamedTuple):
    """How a lease is renewed: each `renew_s`, as long as the main loop was seen within `shown_s`."""

    renew_s: float = 0.4
    shown_s: float = 2.0


class Access(NamedTuple):
    """The part of a store on a server that its process provides.

    `run` is a random name of this process, by which it holds the lease. `new_tag` returns a random integer of
    63 bits; `elapsed_s` and `wall_s` are those of a `Clock`. `password_file` is read at each connection.
    `is_pooled`: a pooler may serve each transaction by another session.
    """

    run: str
    sealer: Sealer
    new_tag: Callable[[], int]
    elapsed_s: Callable[[], float]
    wall_s: Callable[[], float]
    password_file: Path | None = None
    is_pooled: bool = False
    timing: Timing = Timing()

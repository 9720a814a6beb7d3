"""Where operators are heard, and what admits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OperatorsOptions:
    """At `host` and `port`, 0 for any that is free, None for none; at the path `socket`, None for none.

    `names` are what they call this server, beside `host` and the names of loopback.
    `secret_file` holds what admits operators over TCP; None: it lies beside the database.
    """

    host: str = "127.0.0.1"
    port: int | None = 8_001
    socket: Path | None = None
    secret_file: Path | None = None
    names: tuple[str, ...] = ()

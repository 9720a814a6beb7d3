"""What the operators' endpoints share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..service import Api


@dataclass(frozen=True, slots=True)
class Desk:
    """The operators' view of the server.

    `metrics` makes the text of ``GET /metrics``; `snapshot` takes one and returns what to tell of it;
    `rotate_keys` has the key that signs tokens replaced, `revoke_key` lets one count no more, by its id. All
    but the first raise `CallerError`.
    """

    api: Api
    metrics: Callable[[], bytes]
    snapshot: Callable[[], Awaitable[Mapping[str, Any]]]
    rotate_keys: Callable[[], Awaitable[None]]
    revoke_key: Callable[[str], Awaitable[None]]

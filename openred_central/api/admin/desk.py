"""Shared by the operators' endpoints: their view of the server, and how each is declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from ...micro_engine.wire.messages import Response
from ..service import Api


class Desk(NamedTuple):
    """The operators' view of the server.

    `metrics` makes the text of ``GET /metrics``; `snapshot` takes a snapshot and returns its description;
    `rotate_keys` replaces the key that signs tokens; `revoke_key` revokes a key by its id. All but `metrics`
    raise `CallerError`.
    """

    api: Api
    metrics: Callable[[], bytes]
    snapshot: Callable[[], Awaitable[Mapping[str, Any]]]
    rotate_keys: Callable[[], Awaitable[None]]
    revoke_key: Callable[[str], Awaitable[None]]


class AdminEndpoint(NamedTuple):
    """One endpoint for operators, declared beside its handler; `action` is its name in the audit log."""

    method: str
    path: str
    handler: Callable[..., Coroutine[Any, Any, Response]]
    action: str

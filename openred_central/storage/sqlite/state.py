"""How the store keeps up: told to the operator and to whoever asks whether the server is ready."""

from __future__ import annotations

from enum import StrEnum


class StoreState(StrEnum):
    """`OK`; `BEHIND`, with changes waiting longer than they should; `DETACHED`, taking none at all."""

    OK = "ok"
    BEHIND = "behind"
    DETACHED = "detached"

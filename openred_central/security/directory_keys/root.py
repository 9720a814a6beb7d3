"""The choice of the root key at a start: the anchor that peers have pinned must not change silently."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from .keyring import OFFLINE_SCHEDULE, Schedule
from .suites import SUITES

COMPOSITE = "h"
CLASSICAL = "R"


class QuantumPolicy(StrEnum):
    """The operator's demand on the root key, `OPENRED_PQ`."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


class RootRefused(Exception):
    """No right root key can be used. The message is one line for the operator."""


class RootChoice(NamedTuple):
    """The suite of the root key, and a warning for the operator or an empty text."""

    suite: str
    warning: str


def choose_root(policy: QuantumPolicy, on_disk: Collection[str], *, supported: bool) -> RootChoice:
    """Return the suite of the root key to use or make.

    `on_disk`: the suites of which there is a root key; `supported`: whether this installation can make
    composite signatures. Raises `RootRefused`.
    """
    lacking = "this installation has no ML-DSA-65, which comes with cryptography 48 or newer"
    if policy is QuantumPolicy.OFF:
        if COMPOSITE in on_disk:
            return RootChoice(
                CLASSICAL,
                "OPENRED_PQ=off: the composite root key on the disk is not used; peers that pinned it will "
                "refuse this server's keys",
            )
        return RootChoice(CLASSICAL, "")
    if COMPOSITE in on_disk and not supported:
        raise RootRefused(
            f"the root key is composite, but {lacking}; install that, or set OPENRED_PQ=off, which gives up "
            "the root key: all peers that pinned it will refuse this server's keys"
        )
    if COMPOSITE in on_disk:
        return RootChoice(COMPOSITE, "")
    if policy is QuantumPolicy.REQUIRE:
        if not supported:
            raise RootRefused(f"OPENRED_PQ=require, but {lacking}")
        replaced = (
            "OPENRED_PQ=require: a new, composite root key takes the place of the classical one; peers "
        )
        return RootChoice(COMPOSITE, replaced + "must pin it anew" if CLASSICAL in on_disk else "")
    if CLASSICAL in on_disk:
        upgrade = "; OPENRED_PQ=require makes a composite one, which peers must pin anew" if supported else ""
        return RootChoice(CLASSICAL, f"the root key is classical, not quantum-safe{upgrade}")
    if supported:
        return RootChoice(COMPOSITE, "")
    return RootChoice(CLASSICAL, f"the root key will be classical, not quantum-safe: {lacking}")


@dataclass(frozen=True, eq=False)
class KeyOptions:
    """The kinds of keys that a directory uses.

    `token_suite`: the suite of the signing keys; `quantum`: the demand on the root key; `offline_root`: the
    root key lies on another machine; `classical_root`: beside the root key, a classical one signs key sets,
    for peers without ML-DSA.
    """

    token_suite: str
    quantum: QuantumPolicy
    offline_root: bool
    classical_root: bool

    def __post_init__(self) -> None:
        if self.token_suite not in SUITES:
            raise ValueError(f"no suite is called {self.token_suite!r}; there are {', '.join(SUITES)}")
        if self.offline_root and self.token_suite == "r":
            raise ValueError(
                "with an offline root key, signing keys live a month, for which RSA-2048 is too short; "
                "choose R, e or hybrid"
            )

    @property
    def schedule(self) -> Schedule:
        return OFFLINE_SCHEDULE if self.offline_root else Schedule()

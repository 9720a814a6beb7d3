"""What those who hand out tokens ask of whoever signs them, and what they may be told."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from ..directory_keys.keyset import KeySet
    from .tokens import PeerToken

RETRY_AFTER_S = 1


class Busy(Exception):
    """No token can be signed at the moment; in `retry_after_s` seconds one probably can."""

    retry_after_s = RETRY_AFTER_S


class NoKey(Busy):
    """There is no signing key: the keys cannot be used as they are, or the key set is still to be signed."""


class Publication(NamedTuple):
    """The key set that is served, the bytes of its document, and their entity tag (RFC 9110 §8.8.3)."""

    keyset: KeySet
    document: bytes
    etag: str


class Mint(Protocol):
    """Signs tokens."""

    async def ready(self) -> None:
        """Return when the keys are open, or cannot be opened. Whoever wants the publication waits for it."""

    @property
    def publication(self) -> Publication | None:
        """The key set by which peers check what is signed; None before there are keys."""

    @property
    def root_suite(self) -> str | None:
        """The letter of the suite in which the key set is signed; None before there are keys."""

    @property
    def public_key(self) -> str | None:
        """The public key that checks what is signed now: base64 of PEM; None before there are keys."""

    def mint(self, *tokens: PeerToken) -> Awaitable[tuple[str, ...]]:
        """The text of `tokens`, signed together. Raises `Busy`."""

"""Keys of the directory for tests: made once, since that is slow and nothing depends on their values."""

from __future__ import annotations

from functools import cache

from openred_central.security.directory_keys.keyset import KeySet, KeyStatus, PublishedKey
from openred_central.security.directory_keys.suites import DirectoryKey, generate_key

NOW = 1_800_000_000


@cache
def directory_key(suite: str = "r", number: int = 0) -> DirectoryKey:
    """Return one key of that suite; other numbers are other keys."""
    return generate_key(suite)


def keyset(*keys: DirectoryKey, version: int = 1, revoked: tuple[str, ...] = ()) -> KeySet:
    """Return the key set of these keys, valid from `NOW` on for a day."""
    published = (PublishedKey(key.public, NOW, NOW + 86_400, KeyStatus.ACTIVE) for key in keys)
    return KeySet(version, NOW, NOW + 172_800, tuple(published), revoked)

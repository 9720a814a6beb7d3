"""The keys of a directory, as far as its root key vouches for them."""

from __future__ import annotations

import orjson

from ..security.directory_keys.keyset import KeySet, read_document
from ..security.refused import Refused
from .errors import untrusted


class TrustedKeys:
    """The newest key set that was seen, and the root key that has to have signed it.

    `root_key_id` is what is known of the root key beforehand. Where nothing is, the first key set decides who
    the root is, which is only as good as the connection it came by: keep `root_key_id` from then on.
    `key_set`, `document` (which can be kept, and taken again after a restart) and `etag` are the newest.
    """

    def __init__(self, root_key_id: str | None = None) -> None:
        self.root_key_id = root_key_id
        self.key_set: KeySet | None = None
        self.document = b""
        self.etag: str | None = None

    def take(self, document: bytes, now_s: float, etag: str | None = None) -> KeySet:
        """The key set in `document`, which was served as `etag`. Raises `Untrusted` as `read_document` does.

        An older one than was seen before is refused, and so is one by another root key.
        """
        version_min = 0 if self.key_set is None else self.key_set.version
        with untrusted():
            root_key_id = self.root_key_id or _root_of(document)
            key_set = read_document(document, root_key_id, now_s, version_min=version_min)
        self.root_key_id, self.key_set, self.document, self.etag = root_key_id, key_set, document, etag
        return key_set


def _root_of(document: bytes) -> str:
    """The id of the root key that a document names."""
    try:
        return str(orjson.loads(document)["root"]["kid"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("malformed", f"not the document of a key set: {error}") from None

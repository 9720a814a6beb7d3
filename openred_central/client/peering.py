"""Checks that two nodes can make of each other, and of the directory's keys, without the directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import orjson

from ..encoding import base64url, decode_base64url
from ..security.directory_keys.keyset import KeySet, read_document
from ..security.node_keys import load_node_key, verify
from ..security.refusals import VerificationError
from ..security.signing import PrivateKey
from ..security.tokens import holder
from ..security.tokens.link import Pair, cross_verify
from ..security.tokens.tokens import TokenKeys
from .errors import Untrusted, untrusted

log = logging.getLogger("openred.client")


class TrustedKeys:
    """The newest key set of a directory that was seen, and the root key that must have signed it.

    `root_key_id` is the id of the root key, if known beforehand. Otherwise the first key set decides it,
    which is only as good as the connection it came by: keep `root_key_id` from then on. `key_set`,
    `document` (which can be kept, and taken again after a restart) and `etag` are the newest.

    Those who cannot verify the root key's signature may choose, in its place, the directory's classical root
    key, `classical_root_key_id`, whose signature is not quantum-safe. Raises `ValueError` where both are
    given.
    """

    def __init__(self, root_key_id: str | None = None, *, classical_root_key_id: str | None = None) -> None:
        if root_key_id is not None and classical_root_key_id is not None:
            raise ValueError("both a root key and a classical root key are given; pin one of them")
        if classical_root_key_id is not None:
            log.warning("the key set is verified by its classical root key, which is not quantum-safe")
        self.root_key_id = root_key_id
        self.classical_root_key_id = classical_root_key_id
        self.key_set: KeySet | None = None
        self.document = b""
        self.etag: str | None = None

    def take(self, document: bytes, now_s: float, etag: str | None = None) -> KeySet:
        """Return the key set in `document`, which was served as `etag`, and keep it.

        Raises `Untrusted` as `read_document` does; an older key set than the newest, and one by another root
        key, are refused.
        """
        version_min = 0 if self.key_set is None else self.key_set.version
        classical = self.classical_root_key_id
        with untrusted():
            if classical is not None:
                key_set = read_document(document, classical, now_s, version_min=version_min, classical=True)
            else:
                # An empty id is not known beforehand, but forgotten: it trusts nobody.
                root_key_id = _root_of(document) if self.root_key_id is None else self.root_key_id
                key_set = read_document(document, root_key_id, now_s, version_min=version_min)
                self.root_key_id = root_key_id
        self.key_set, self.document, self.etag = key_set, document, etag
        return key_set


def verify_pair(token_a: str, token_b: str, keys: TokenKeys, now_s: float) -> Pair:
    """Return the two tokens, which must be valid at wall time `now_s` and made for each other.

    `keys` is the directory's key set. Raises `Untrusted` with the reason ``unlinked`` and a message that says
    why. Only the directory knows whether one was revoked since.
    """
    result = cross_verify(token_a, token_b, keys, now_s)
    if result.pair is None:
        raise Untrusted("unlinked", result.reason)
    return result.pair


def answer_challenge(pair: Pair, node_id: str, challenged: bytes, key: PrivateKey) -> dict[str, str]:
    """Return the answer by which the node called `node_id` shows that it holds the `key` of its token.

    `challenged` are the 32 random bytes that the peer sent. The answer is ready for JSON: ``public_key`` and
    ``signature``. Raises `ValueError` where the challenge has another length or the node is not of the pair.
    """
    proof = holder.prove(pair, node_id, challenged, key.public.spki, key.sign)
    return {"public_key": key.public_text, "signature": base64url(proof.signature)}


def check_answer(pair: Pair, node_id: str, challenged: bytes, answer: Mapping[str, object]) -> None:
    """Raise unless `answer` shows that its sender is the node called `node_id` of the pair.

    `challenged` is the challenge that was sent, once. Raises `Untrusted` with the reason ``malformed``,
    ``no_key``, ``wrong_key`` or ``proof``.
    """
    try:
        spki = load_node_key(str(answer["public_key"])).spki
        signature = decode_base64url(str(answer["signature"]))
    except (ValueError, KeyError) as error:
        raise Untrusted("malformed", f"this is no answer to a challenge: {error}") from None
    with untrusted():
        holder.check_holder(pair, node_id, challenged, holder.PossessionProof(spki, signature), verify)


def _root_of(document: bytes) -> str:
    """Return the id of the root key that a document names."""
    try:
        return str(orjson.loads(document)["root"]["kid"])
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError("malformed", f"not the document of a key set: {error}") from None

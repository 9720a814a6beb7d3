"""The key set: the keys that the directory signs tokens with, signed by its root key.

Peers know the id of the root key beforehand and need the network only to fetch the document. The id covers
suite and key, so a root of a weaker suite is another root, and is refused. `version` rises with every key
set, so that a peer that has seen a newer one refuses an older one. It is the time of issue, or a little more
where several were made in one second: after one far ahead, peers would refuse every later one.
"""

from __future__ import annotations

import base64
import hmac
from enum import StrEnum
from typing import NamedTuple

import orjson

from ...encoding import base64url, decode_base64, decode_base64url, pre_authentication_encoding
from ..refusals import CLOCK_SKEW_S, VerificationError
from .suites import SuiteUnsupported, VerifyingKey, directory_key_id

LABEL = b"openred/3 keyset"
CLASSICAL_LABEL = b"openred/3 keyset classical"
# The only suite of a classical root key.
CLASSICAL_SUITE = "R"
DOCUMENT_BYTES_MAX = 65_536
KEYS_MAX = 16
REVOKED_MAX = 256
# The last second of the year 9999, the last that a date can express.
TIME_MAX = 253_402_300_799
# Limits counted from the time of issue: for the version of a key set, and for its end and that of its keys. A
# directory with an offline root key needs 60 days.
VERSION_AHEAD_MAX = 3_600
KEYSET_S_MAX = 60 * 86_400


class KeyStatus(StrEnum):
    """The state of a signing key: published ahead, signing, or only checking what it has signed."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"


class PublishedKey(NamedTuple):
    """A signing key and the whole seconds since the Unix epoch between which tokens by it are valid."""

    key: VerifyingKey
    not_before: int
    not_after: int
    status: KeyStatus


class KeySet(NamedTuple):
    """The keys of one version. Times are whole seconds since the Unix epoch.

    `revoked_key_ids` are whole ids of keys that are void even where `keys` lists them.
    """

    version: int
    issued_at: int
    expires_at: int
    keys: tuple[PublishedKey, ...]
    revoked_key_ids: tuple[str, ...] = ()

    def find(self, short_id: str, now_s: float) -> VerifyingKey:
        """Return the key whose id begins with `short_id`, which must be valid at wall time `now_s`.

        Raises `VerificationError` with the reason ``keyset_expired``, ``unknown_key``, ``revoked_key`` or
        ``key_time``. The remedy for each is to fetch the key set again.
        """
        if now_s >= self.expires_at:
            raise VerificationError("keyset_expired", "the key set is too old; fetch it again")
        for revoked in self.revoked_key_ids:
            if revoked.startswith(short_id):
                raise VerificationError("revoked_key", f"the directory has revoked its key {short_id}")
        for published in self.keys:
            if published.key.short_id == short_id:
                if not published.not_before - CLOCK_SKEW_S <= now_s < published.not_after:
                    raise VerificationError(
                        "key_time", f"key {short_id} is not valid now; fetch the key set again"
                    )
                return published.key
        raise VerificationError("unknown_key", f"the key set has no key {short_id}; fetch it again")

    def encode(self) -> bytes:
        """Return the key set as the JSON that is signed."""
        keys = [
            {
                "kid": published.key.key_id,
                "suite": published.key.suite.letter,
                "public_key": base64.b64encode(published.key.spki).decode("ascii"),
                "not_before": published.not_before,
                "not_after": published.not_after,
                "status": published.status.value,
            }
            for published in self.keys
        ]
        return orjson.dumps(
            {
                "version": self.version,
                "issued_at": self.issued_at,
                "expires_at": self.expires_at,
                "keys": keys,
                "revoked_kids": list(self.revoked_key_ids),
            }
        )


def excess(keyset: KeySet) -> str | None:
    """Return how a key set exceeds all that a directory issues, or None."""
    ahead = keyset.version - keyset.issued_at
    if ahead > VERSION_AHEAD_MAX:
        return f"its version is {ahead} ahead of its time of issue, allowed is {VERSION_AHEAD_MAX}"
    valid_s = keyset.expires_at - keyset.issued_at
    if valid_s > KEYSET_S_MAX:
        return f"it is valid for {valid_s} s from its time of issue, allowed is {KEYSET_S_MAX}"
    for published in keyset.keys:
        key_s = published.not_after - keyset.issued_at
        if key_s > KEYSET_S_MAX:
            return (
                f"its key {published.key.short_id} is valid for {key_s} s from the time of issue, "
                f"allowed is {KEYSET_S_MAX}"
            )
    return None


def message(keyset: bytes, *, classical: bool = False) -> bytes:
    """Return what a root key signs: the pre-authentication encoding of a label and the encoded key set.

    The label of a classical root key is another one, so that neither signature can pass for the other.
    """
    return pre_authentication_encoding(CLASSICAL_LABEL if classical else LABEL, keyset)


def document(
    keyset: bytes, signature: bytes, root: VerifyingKey, classical: tuple[bytes, VerifyingKey] | None = None
) -> bytes:
    """Return the served document: the encoded key set, the signature of its `message`, and the root key.

    `classical` is the signature of its classical `message`, and the classical root key, where there is one.
    """
    fields = {"keyset": base64url(keyset), **_signed(signature, root)}
    if classical is not None:
        fields["classical"] = _signed(*classical)
    return orjson.dumps(fields)


def read_document(
    content: bytes, root_key_id: str, now_s: float, *, version_min: int = 0, classical: bool = False
) -> KeySet:
    """Return the key set in a document that the root key called `root_key_id` has signed.

    It must be valid at wall time `now_s`, and no older than `version_min`, the version of the newest key set
    that was seen before. `classical`: the key is the classical root key, whose signature is not quantum-safe,
    and nothing else proves the key set. Raises `VerificationError` with the reason ``malformed``,
    ``no_classical``, ``root``, ``signature``, ``excess``, ``rollback``, ``not_yet`` or ``keyset_expired``;
    ``unsupported`` where it needs a suite that this installation lacks.
    """
    try:
        keyset_bytes, signature, suite, spki = _parse(content, classical=classical)
        # Compare the id before anything is done with a key that anybody may have sent.
        found = directory_key_id(suite, spki)
        if not hmac.compare_digest(found.encode(), root_key_id.encode()):
            raise VerificationError(
                "root", f"the key set is signed by root key {found}, the one known is {root_key_id}"
            )
        signed = message(keyset_bytes, classical=classical)
        if not VerifyingKey(suite, spki).verify(signature, signed):
            raise VerificationError(
                "signature", "the key set was not signed by the root key, or was changed since"
            )
        keyset = decode_keyset(keyset_bytes)
    except SuiteUnsupported as error:
        raise VerificationError("unsupported", f"the key set cannot be checked here: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError("malformed", f"not the document of a key set: {error}") from None
    beyond = excess(keyset)
    if beyond is not None:
        raise VerificationError("excess", f"no directory issues such a key set: {beyond}")
    if keyset.version < version_min:
        raise VerificationError(
            "rollback", f"key set {keyset.version} is older than {version_min}, which was seen before"
        )
    if now_s < keyset.issued_at - CLOCK_SKEW_S:
        raise VerificationError(
            "not_yet", f"the key set is valid from {keyset.issued_at} on; is your clock right?"
        )
    if now_s >= keyset.expires_at:
        raise VerificationError(
            "keyset_expired", f"the key set was valid until {keyset.expires_at}; fetch it again"
        )
    return keyset


def decode_keyset(content: bytes) -> KeySet:
    """Return the key set that `KeySet.encode` wrote. Raises `ValueError`, `KeyError` or `TypeError`."""
    fields = orjson.loads(content)
    rows, revoked = fields["keys"], fields["revoked_kids"]
    if not isinstance(rows, list) or len(rows) > KEYS_MAX:
        raise ValueError(f"keys is no list of at most {KEYS_MAX}")
    if not isinstance(revoked, list) or len(revoked) > REVOKED_MAX:
        raise ValueError(f"revoked_kids is no list of at most {REVOKED_MAX}")
    keys = tuple(_published(row) for row in rows)
    if len({published.key.short_id for published in keys}) < len(keys):
        raise ValueError("two keys begin alike")
    return KeySet(
        version=_whole(fields["version"]),
        issued_at=_whole(fields["issued_at"]),
        expires_at=_whole(fields["expires_at"]),
        keys=keys,
        revoked_key_ids=tuple(_text(kid) for kid in revoked),
    )


def _signed(signature: bytes, root: VerifyingKey) -> dict[str, object]:
    """Return the members of a document that show a signature and the root key that made it."""
    return {
        "signature": base64url(signature),
        "root": {
            "kid": root.key_id,
            "suite": root.suite.letter,
            "public_key": base64.b64encode(root.spki).decode("ascii"),
        },
    }


def _parse(content: bytes, *, classical: bool) -> tuple[bytes, bytes, str, bytes]:
    """Return the encoded key set, the signature, and suite and DER of the root key of a document."""
    if len(content) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"it has {len(content)} bytes, allowed are {DOCUMENT_BYTES_MAX}")
    fields = orjson.loads(content)
    keyset = decode_base64url(_text(fields["keyset"]))
    if classical and "classical" not in fields:
        raise VerificationError(
            "no_classical",
            "the directory publishes no classical signature; its operator may set OPENRED_CLASSICAL_ROOT",
        )
    shown = fields["classical"] if classical else fields
    signature = decode_base64url(_text(shown["signature"]))
    root = shown["root"]
    suite = _text(root["suite"])
    if classical and suite != CLASSICAL_SUITE:
        raise ValueError(f"a classical root key is of suite {CLASSICAL_SUITE}, this one of {suite}")
    return keyset, signature, suite, decode_base64(_text(root["public_key"]))


def _published(row: dict[str, object]) -> PublishedKey:
    return PublishedKey(
        _key(row), _whole(row["not_before"]), _whole(row["not_after"]), KeyStatus(_text(row["status"]))
    )


def _key(row: dict[str, object]) -> VerifyingKey:
    key = VerifyingKey(_text(row["suite"]), decode_base64(_text(row["public_key"])))
    if key.key_id != row["kid"]:
        raise ValueError(f"the key called {row['kid']} is {key.key_id}")
    return key


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= TIME_MAX:
        raise ValueError(f"{str(value)[:40]} is no whole number from 0 to {TIME_MAX}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value

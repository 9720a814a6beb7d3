"""Peers take the directory's keys from nobody but the root they know, and never go back to older ones."""

from __future__ import annotations

import base64
import random
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central import crypto
from openred_central.encoding import base64url, decode_base64url, pre_authentication_encoding
from openred_central.security.directory_keys.keyset import (
    KEYS_MAX,
    TIME_MAX,
    KeySet,
    KeyStatus,
    PublishedKey,
    decode_keyset,
    document,
    message,
    read_document,
)
from openred_central.security.directory_keys.suites import DirectoryKey
from openred_central.security.refusals import VerificationError
from tests.support.keys import NOW, directory_key, keyset

REVOKED = "R" * 43
KEYS = keyset(directory_key(), directory_key("R"), version=7, revoked=(REVOKED,))


def signed(keys: KeySet | bytes = KEYS, root: DirectoryKey | None = None) -> bytes:
    root = root or directory_key("h", 9)
    encoded = keys if isinstance(keys, bytes) else keys.encode()
    return document(encoded, root.sign(message(encoded)), root.public)


def read(
    content: bytes, now_s: float = NOW, root: DirectoryKey | None = None, version_min: int = 0
) -> KeySet:
    pinned = (root or directory_key("h", 9)).public.key_id
    return read_document(content, pinned, now_s, version_min=version_min)


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(VerificationError) as refused:
        call()
    return refused.value.reason


def told(keys: KeySet) -> list[object]:
    """Return a key set as values that can be compared."""
    return [*keys[:3], *((key.key.key_id, *key[1:]) for key in keys.keys), keys.revoked_key_ids]


@pytest.mark.parametrize("suite", ["h", "R"])
def test_a_key_set_is_read_as_it_was_signed(suite: str) -> None:
    root = directory_key(suite, 9)
    assert told(read(signed(root=root), root=root)) == told(KEYS)


def test_neither_root_signature_passes_for_the_other() -> None:
    root, classical = directory_key("h", 9), directory_key("R", 8)
    encoded = KEYS.encode()
    second = classical.sign(message(encoded, classical=True)), classical.public
    content = document(encoded, root.sign(message(encoded)), root.public, second)
    assert told(read(content)) == told(KEYS)
    pinned = classical.public.key_id
    assert told(read_document(content, pinned, NOW, classical=True)) == told(KEYS)
    fields = orjson.loads(content)
    as_root = orjson.dumps({"keyset": fields["keyset"], **fields["classical"]})
    assert reason(lambda: read_document(as_root, pinned, NOW)) == "signature"
    as_classical = orjson.dumps(
        {**fields, "classical": {name: fields[name] for name in ("signature", "root")}}
    )
    known = root.public.key_id
    assert reason(lambda: read_document(as_classical, known, NOW, classical=True)) == "malformed"
    plain = document(encoded, classical.sign(message(encoded)), classical.public, second)
    swapped = {**fields, "classical": {**fields["classical"], "signature": orjson.loads(plain)["signature"]}}
    assert reason(lambda: read_document(orjson.dumps(swapped), pinned, NOW, classical=True)) == "signature"
    assert reason(lambda: read_document(signed(), pinned, NOW, classical=True)) == "no_classical"


@pytest.mark.parametrize("classical", [None, [], {}, {"signature": ""}, {"signature": "", "root": None}])
def test_a_damaged_classical_signature_is_refused(classical: object) -> None:
    content = orjson.dumps({**orjson.loads(signed()), "classical": classical})
    assert reason(lambda: read_document(content, "K" * 43, NOW, classical=True)) == "malformed"
    assert told(read(content)) == told(KEYS)


def test_a_document_is_written_as_documented() -> None:
    root = directory_key("h", 9)
    fields = orjson.loads(signed())
    assert fields.keys() == {"keyset", "signature", "root"}
    assert fields["root"] == {
        "kid": root.public.key_id,
        "suite": "h",
        "public_key": base64.b64encode(root.public.spki).decode(),
    }
    content = decode_base64url(fields["keyset"])
    signed_bytes = pre_authentication_encoding(b"openred/3 keyset", content)
    assert root.public.verify(decode_base64url(fields["signature"]), signed_bytes)
    keys = orjson.loads(content)
    assert (keys["version"], keys["issued_at"], keys["expires_at"]) == (7, NOW, NOW + 172_800)
    assert keys["revoked_kids"] == [REVOKED]
    assert keys["keys"][0] == {
        "kid": directory_key().public.key_id,
        "suite": "r",
        "public_key": base64.b64encode(directory_key().public.spki).decode(),
        "not_before": NOW,
        "not_after": NOW + 86_400,
        "status": "active",
    }


def test_a_key_set_of_another_root_is_refused() -> None:
    assert reason(lambda: read(signed(root=directory_key("h", 8)))) == "root"


def test_classical_root_cannot_replace_a_pinned_composite_one() -> None:
    """Not even the classical half of the root itself is accepted, nor the root under another suite."""
    assert reason(lambda: read(signed(root=directory_key("R", 9)))) == "root"
    fields = orjson.loads(signed())
    fields["root"]["suite"] = "R"
    assert reason(lambda: read(orjson.dumps(fields))) == "root"


def test_root_that_claims_the_pinned_id_is_refused() -> None:
    fields = orjson.loads(signed(root=directory_key("h", 8)))
    fields["root"]["kid"] = directory_key("h", 9).public.key_id
    assert reason(lambda: read(orjson.dumps(fields))) == "root"


def test_a_changed_key_set_is_refused() -> None:
    fields = orjson.loads(signed())
    fields["keyset"] = base64url(KEYS._replace(version=8).encode())
    assert reason(lambda: read(orjson.dumps(fields))) == "signature"


def test_signature_for_another_use_is_refused() -> None:
    root, encoded = directory_key("h", 9), KEYS.encode()
    other_use = pre_authentication_encoding(b"openred/3 token", encoded)
    assert reason(lambda: read(document(encoded, root.sign(other_use), root.public))) == "signature"


def test_no_document_with_one_character_changed_is_read_as_another(seed: int) -> None:
    """Every character that carries meaning counts; where the text of JSON may differ, the keys do not."""
    draw, content = random.Random(seed), signed()
    for _ in range(1_500):
        place = draw.randrange(len(content))
        changed = content[:place] + draw.choice(b'AbZ09-_"}{ ').to_bytes(1, "big") + content[place + 1 :]
        try:
            assert told(read(changed)) == told(KEYS)
        except VerificationError:
            continue
        assert orjson.loads(changed).get("keyset") == orjson.loads(content)["keyset"]


def test_an_older_key_set_is_refused() -> None:
    assert read(signed(), version_min=7).version == 7
    assert reason(lambda: read(signed(), version_min=8)) == "rollback"


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [(NOW - 31, "not_yet"), (NOW + 172_800, "keyset_expired"), (NOW + 1e9, "keyset_expired")],
)
def test_a_key_set_has_its_time(now_s: float, expected: str) -> None:
    assert reason(lambda: read(signed(), now_s)) == expected
    assert read(signed(), NOW - 30).version == read(signed(), NOW + 172_799).version == 7


def test_keys_are_found_by_the_beginning_of_their_id() -> None:
    key = directory_key("R").public
    assert KEYS.find(key.short_id, NOW).key_id == key.key_id
    assert reason(lambda: KEYS.find("x" * 16, NOW)) == "unknown_key"
    assert reason(lambda: KEYS.find(REVOKED[:16], NOW)) == "revoked_key"
    assert reason(lambda: KEYS.find(key.short_id, NOW + 172_800)) == "keyset_expired"


def test_revoked_key_is_void_even_if_listed() -> None:
    key = directory_key().public
    assert (
        reason(lambda: keyset(directory_key(), revoked=(key.key_id,)).find(key.short_id, NOW))
        == "revoked_key"
    )


@pytest.mark.parametrize(
    ("now_s", "found"), [(NOW - 31, False), (NOW - 30, True), (NOW + 86_399, True), (NOW + 86_400, False)]
)
def test_a_key_has_its_time(now_s: float, found: bool) -> None:
    key = directory_key().public
    if found:
        assert KEYS.find(key.short_id, now_s) is KEYS.keys[0].key
    else:
        assert reason(lambda: KEYS.find(key.short_id, now_s)) == "key_time"


@pytest.mark.parametrize(
    "most",
    [
        {"version": NOW + 3_600},
        {"expires_at": NOW + 60 * 86_400},
        {"keys": (KEYS.keys[0]._replace(not_after=NOW + 60 * 86_400),)},
    ],
)
def test_what_no_directory_issues_is_refused_at_any_time(most: dict[str, Any]) -> None:
    """A peer that took such a version once would refuse all that come after it, for ever."""
    keys = KEYS._replace(**most)
    assert told(read(signed(keys))) == told(keys)
    ((name, value),) = most.items()
    more = (value[0]._replace(not_after=value[0].not_after + 1),) if name == "keys" else value + 1
    beyond = signed(KEYS._replace(**{name: more}))
    assert reason(lambda: read(beyond)) == "excess"
    assert reason(lambda: read(beyond, NOW + 86_400)) == "excess"


@pytest.mark.parametrize("name", ["version", "issued_at", "expires_at"])
def test_no_time_is_later_than_the_last_date(name: str) -> None:
    encoded = orjson.dumps({**orjson.loads(KEYS.encode()), name: TIME_MAX + 1})
    assert reason(lambda: read(signed(encoded))) == "malformed"


def test_composite_key_is_refused_without_ml_dsa(monkeypatch: pytest.MonkeyPatch) -> None:
    root, composite_key = directory_key("R", 9), directory_key("h")
    classical, composite = signed(root=root), signed(keyset(composite_key), root)
    of_a_composite_root = signed()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    monkeypatch.delattr(crypto, "mldsa", raising=False)
    assert read(classical, root=root).version == 7
    assert reason(lambda: read(composite, root=root)) == "unsupported"
    assert reason(lambda: read(of_a_composite_root)) == "unsupported"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"keyset":1,"signature":2,"root":3}',
        b'{"keyset":"!","signature":"","root":{}}',
        b"[" * 2_000,
        b" " * 100_000,
    ],
)
def test_what_is_no_document_is_refused(content: bytes) -> None:
    assert reason(lambda: read(content)) == "malformed"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_nothing_worse(content: bytes) -> None:
    with pytest.raises(VerificationError):
        read(content)


@pytest.mark.parametrize(
    "change",
    [
        {"version": -1},
        {"version": True},
        {"issued_at": 1.5},
        {"expires_at": None},
        {"keys": {}},
        {"keys": [5]},
        {"keys": [{}]},
        {"revoked_kids": [5]},
        {"revoked_kids": "all"},
        {"revoked_kids": ["x"] * 257},
    ],
)
def test_signed_invalid_key_set_is_refused(change: dict[str, object]) -> None:
    encoded = orjson.dumps({**orjson.loads(KEYS.encode()), **change})
    assert reason(lambda: read(signed(encoded))) == "malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "R"},
        {"suite": "x"},
        {"kid": "x" * 43},
        {"public_key": "AAAA"},
        {"status": "spare"},
        {"not_after": -1},
    ],
)
def test_even_a_signed_key_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    fields = orjson.loads(KEYS.encode())
    fields["keys"][0].update(change)
    assert reason(lambda: read(signed(orjson.dumps(fields)))) == "malformed"


def test_a_key_set_is_small() -> None:
    row = PublishedKey(directory_key().public, NOW, NOW + 1, KeyStatus.NEXT)
    with pytest.raises(ValueError, match=f"keys is no list of at most {KEYS_MAX}"):
        decode_keyset(KEYS._replace(keys=(row,) * (KEYS_MAX + 1)).encode())
    with pytest.raises(ValueError, match="two keys begin alike"):
        decode_keyset(KEYS._replace(keys=(row, row)).encode())

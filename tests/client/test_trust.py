"""Whose keys are believed."""

from __future__ import annotations

import pytest

from openred_central.client.trust import TrustedKeys
from openred_central.security.directory_keys.keyset import KeySet, document, message
from openred_central.security.directory_keys.suites import DirectoryKey
from openred_central.security.refused import Refused
from tests.support.keys import NOW, directory_key, keyset

ROOT = directory_key("R", 1)
OTHER_ROOT = directory_key("R", 2)


def vouched(key_set: KeySet, root: DirectoryKey = ROOT) -> bytes:
    encoded = key_set.encode()
    return document(encoded, root.sign(message(encoded)), root.public)


def test_the_first_root_is_trusted_and_no_other_one_after_it() -> None:
    trusted = TrustedKeys()
    assert (
        trusted.take(vouched(keyset(directory_key())), NOW, '"1"').encode()
        == keyset(directory_key()).encode()
    )
    assert (trusted.root_key_id, trusted.etag) == (ROOT.public.key_id, '"1"')
    with pytest.raises(Refused, match="root key"):
        trusted.take(vouched(keyset(directory_key(), version=2), OTHER_ROOT), NOW)
    assert (trusted.root_key_id, trusted.etag) == (ROOT.public.key_id, '"1"')
    assert trusted.key_set is not None
    assert trusted.key_set.encode() == keyset(directory_key()).encode()


def test_a_root_that_is_known_beforehand_is_the_only_one() -> None:
    trusted = TrustedKeys(OTHER_ROOT.public.key_id)
    with pytest.raises(Refused, match="root key"):
        trusted.take(vouched(keyset(directory_key())), NOW)
    assert trusted.key_set is None


def test_what_is_older_than_what_was_seen_is_refused() -> None:
    trusted = TrustedKeys()
    trusted.take(vouched(keyset(directory_key(), version=5)), NOW)
    trusted.take(vouched(keyset(directory_key(), version=5)), NOW)
    with pytest.raises(Refused, match="older than 5"):
        trusted.take(vouched(keyset(directory_key(), version=4)), NOW)


def test_a_version_of_the_future_does_not_shut_out_those_that_follow() -> None:
    trusted = TrustedKeys(ROOT.public.key_id)
    for version in (NOW + 86_400, 2**53 - 1):
        with pytest.raises(Refused):
            trusted.take(vouched(keyset(directory_key(), version=version)), NOW)
    assert trusted.take(vouched(keyset(directory_key(), version=NOW + 1)), NOW).version == NOW + 1


def test_a_kept_document_can_be_taken_again() -> None:
    trusted = TrustedKeys()
    trusted.take(vouched(keyset(directory_key())), NOW)
    again = TrustedKeys(trusted.root_key_id)
    assert trusted.key_set is not None
    assert again.take(trusted.document, NOW + 60).encode() == trusted.key_set.encode()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"root":{}}', b'{"root":{"kid":"x"}}', b"\xff"])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match="not the document of a key set"):
        TrustedKeys().take(content, NOW)

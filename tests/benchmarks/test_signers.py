"""Nodes whose keys the load holds look to a server like nodes that have signed."""

from __future__ import annotations

import pytest

from benchmarks import population
from benchmarks.signers import ED25519, RSA, RSA_KEYS, Signers, new_signers
from openred_central.directory.state.node import DISCOVERABLE, KEYED, PROVEN, Profile
from openred_central.encoding import spki_of
from openred_central.security.node_keys import load_node_key, verify


@pytest.fixture(scope="module")
def signers() -> Signers:
    return new_signers("")


@pytest.mark.parametrize("kind", [ED25519, RSA])
def test_node_signs_with_its_registered_key(kind: str, signers: Signers) -> None:
    record, document = signers.record(kind, 7, slot=20), signers.document(kind, 7)
    assert record.node_id == document["node_id"] == signers.node_id(kind, 7)
    assert len(record.node_id) == 15
    assert record.flags == DISCOVERABLE | KEYED | PROVEN
    kept = Profile.decode(record.profile).public_key
    assert kept == document["public_key"] == load_node_key(kept).text
    assert verify(spki_of(kept), signers.key(kind, 7).sign(b"m"), b"m")
    assert record.services.split(",") == population.services(20)


def test_ed25519_keys_are_unique_and_rsa_keys_shared(signers: Signers) -> None:
    assert len({signers.key(ED25519, number).key_id for number in range(50)}) == 50
    assert len({signers.key(RSA, number).key_id for number in range(50)}) == RSA_KEYS


def test_another_process_has_the_same_keys(signers: Signers) -> None:
    other = Signers(*signers)
    assert other.key(ED25519, 3).public_text == signers.key(ED25519, 3).public_text


def test_unneeded_rsa_keys_are_not_made() -> None:
    assert new_signers("load-", rsa=False).rsa_pems == ()

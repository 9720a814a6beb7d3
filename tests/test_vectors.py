"""The known answers in ``vectors.json``, by which programs in other languages check themselves, hold here."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from openred_central.encoding import (
    ED25519_SPKI_PREFIX,
    base64url,
    key_id,
    key_text,
    pre_authentication_encoding,
    spki_of,
)
from openred_central.security.directory_keys.keyset import KeySet, KeyStatus, PublishedKey, read_document
from openred_central.security.directory_keys.suites import DirectoryKey
from openred_central.security.sessions import Sessions
from openred_central.security.signatures import Message, check_proof, read_signature, request_base
from openred_central.security.signing import PrivateKey, known_answers, signed_headers
from openred_central.security.tokens.holder import PossessionProof, check_holder, message, prove
from openred_central.security.tokens.link import Pair, cross_verify, link, triple_hash
from openred_central.security.tokens.tokens import ANYONE, unsigned, verify_token

VECTORS: dict[str, Any] = json.loads(known_answers())
PAIR, PROOFS = VECTORS["pair"], VECTORS["proof_of_possession"]
SIGNED_FIELDS = ("Content-Digest", "Signature-Input", "Signature")
NODES = {node["node_id"]: node for node in VECTORS["nodes"]}


def keys() -> KeySet:
    vector = VECTORS["keyset"]
    return read_document(orjson.dumps(vector["document"]), vector["root_kid"], vector["now"])


def pair() -> Pair:
    found = cross_verify(PAIR["token_a"], PAIR["token_b"], keys(), PAIR["now"]).pair
    assert found is not None
    return found


def private_key(node_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(NODES[node_id]["private_key_seed_hex"]))


def verify(spki: bytes, signature: bytes, content: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(spki.removeprefix(ED25519_SPKI_PREFIX)).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def test_pre_authentication_encoding() -> None:
    vector = VECTORS["pre_authentication_encoding"]
    encoded = pre_authentication_encoding(*(piece.encode() for piece in vector["pieces"]))
    assert encoded.hex() == vector["encoding_hex"]


@pytest.mark.parametrize("vector", VECTORS["triple_hash"])
def test_triple_hash(vector: dict[str, str]) -> None:
    assert triple_hash(vector["data"], vector["salt"]) == vector["digest"]


@pytest.mark.parametrize("node", NODES.values(), ids=list(NODES))
def test_nodes(node: dict[str, str]) -> None:
    spki = ED25519_SPKI_PREFIX + private_key(node["node_id"]).public_key().public_bytes_raw()
    assert (key_text(spki), key_id(spki)) == (node["public_key"], node["kid"])


def test_signed_register() -> None:
    vector = VECTORS["signed_register"]
    given = [(name, vector[name.lower().replace("-", "_")]) for name in SIGNED_FIELDS]
    signer = private_key(vector["node_id"])
    key = PrivateKey.from_pem(signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    where = [vector[name] for name in ("method", "authority", "path")]
    body = vector["body"].encode()
    # Ed25519 is deterministic, so that signing can be checked as well.
    assert signed_headers(*where, body, key, vector["created"], vector["nonce"]) == given
    fields = [("host", vector["authority"]), *((name.lower(), value) for name, value in given)]
    request = Message(where[0], where[1], where[2], "", body, tuple(fields))
    signature = read_signature(request)
    base = request_base(*where, vector["content_digest"], signature.parameters)
    assert base.decode() == vector["signature_base"]
    registered = spki_of(orjson.loads(body)["public_key"])
    assert check_proof(signature, request, registered).key_id == NODES[vector["node_id"]]["kid"]


def test_session() -> None:
    vector = VECTORS["session"]
    sessions = Sessions(bytes.fromhex(vector["key_hex"]))
    whose = (vector["node_id"], vector["kid"], vector["now"])
    assert sessions.mint(*whose, vector["signed"], vector["generation"]) == vector["session"]
    expires, signed = vector["now"] + 300, vector["signed"]
    session = sessions.check(vector["session"], *whose, vector["generation"])
    assert (session.expires_s, session.signed_s) == (expires, signed)
    stated, _, mac = vector["session"].rpartition(".")
    assert vector["mac_content"] == f"{vector['node_id']} {vector['kid']} {stated}"
    key = bytes.fromhex(vector["key_hex"])
    assert mac == base64url(hashlib.blake2b(vector["mac_content"].encode(), digest_size=16, key=key).digest())


def test_keyset() -> None:
    assert orjson.loads(keys().encode()) == VECTORS["keyset"]["content"]


def test_pair() -> None:
    a, b = pair().a, pair().b
    for token, claims in ((a, PAIR["claims_a"]), (b, PAIR["claims_b"])):
        assert claims["t"] == "peer"
        assert [*token] == [value for name, value in claims.items() if name != "t"]
    assert a.link == b.link == PAIR["link"] == link(a, b, PAIR["claims_a"]["pair"])
    encoded = base64url(bytes.fromhex(PAIR["link_encoding_hex"]))
    assert triple_hash(encoded, PAIR["claims_a"]["pair"]) == PAIR["link"]


def test_tokens_of_two_pairs_do_not_belong_together() -> None:
    result = cross_verify(PAIR["token_a"], PAIR["token_b_of_another_pair"], keys(), PAIR["now"])
    assert (result.valid, result.linked) == (True, False)


def test_hybrid_token() -> None:
    vector = VECTORS["hybrid_token"]
    token = verify_token(vector["token"], keys(), vector["now"])
    assert token.audience == ANYONE
    assert [*token[:9]] == [value for name, value in vector["claims"].items() if name != "t"]


def test_ed25519_token() -> None:
    vector = VECTORS["ed25519_token"]
    seed = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["private_key_seed_hex"]))
    key = DirectoryKey(vector["key"]["suite"], seed)
    spki = base64.b64encode(key.public.spki).decode()
    assert vector["key"] == {"kid": key.public.key_id, "suite": "e", "public_key": spki}
    now = vector["now"]
    published = PublishedKey(key.public, now, now + 86_400, KeyStatus.ACTIVE)
    token = verify_token(vector["token"], KeySet(1, now, now + 86_400, (published,)), now)
    assert [*token[:9]] == [value for name, value in vector["claims"].items() if name != "t"]
    # Ed25519 is deterministic, so that signing can be checked as well.
    body = unsigned(token, key.public)
    assert body.assemble(key.sign(body.message)) == vector["token"]


@pytest.mark.parametrize("vector", PROOFS, ids=[vector["prover"] for vector in PROOFS])
def test_proof_of_possession(vector: dict[str, str]) -> None:
    prover, challenged = vector["prover"], bytes.fromhex(vector["challenge_hex"])
    assert message(pair(), prover, challenged).hex() == vector["message_hex"]
    proof = PossessionProof(spki_of(vector["public_key"]), base64.b64decode(vector["signature"]))
    check_holder(pair(), prover, challenged, proof, verify)
    # Ed25519 is deterministic, so that signing can be checked as well.
    assert prove(pair(), prover, challenged, proof.spki, private_key(prover).sign) == proof

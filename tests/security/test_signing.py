"""Private keys are made, kept and signed with; the directory reads what they sign."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from openred_central.security.node_keys import InvalidKey, load_node_key, verify
from openred_central.security.signatures import (
    Message,
    check_proof,
    check_time,
    content_digest,
    read_signature,
    request_base,
)
from openred_central.security.signing import PrivateKey, sign_example
from tests.support.parts import needs_program
from tests.support.signed_requests import (
    BODY,
    ed25519_key,
    field,
    rsa_key,
    signed,
)

URL = "http://directory.example:8000"
SHELL_BODY = '{"node_id":"node-1","note":"it\'s \\"so\\" — %s $HOME `id` \\\\n"}'


@pytest.mark.parametrize("make", [PrivateKey.generate_ed25519, PrivateKey.generate_rsa])
def test_a_new_key_signs_and_is_accepted(make: type[PrivateKey]) -> None:
    key = make()  # type: ignore[call-arg]
    assert load_node_key(key.public_text) == key.public
    assert key.key_id == key.public.key_id
    assert verify(key.public.spki, key.sign(b"message"), b"message")


@pytest.mark.parametrize("bits", [1_024, 2_047, 4_097, 16_384])
def test_an_rsa_key_that_no_directory_accepts_is_not_made(bits: int) -> None:
    with pytest.raises(ValueError, match="allowed for an RSA key are 2048 to 4096"):
        PrivateKey.generate_rsa(bits)


@pytest.mark.parametrize("password", [None, b"a long and random password"])
def test_a_key_kept_as_pem_is_the_same_key(password: bytes | None) -> None:
    for key in (ed25519_key(), rsa_key()):
        pem = key.to_pem(password)
        assert (b"ENCRYPTED" in pem) == (password is not None)
        assert PrivateKey.from_pem(pem, password).public == key.public


def test_password_errors_are_named() -> None:
    encrypted = ed25519_key().to_pem(b"secret")
    with pytest.raises(ValueError, match="its password is needed"):
        PrivateKey.from_pem(encrypted)
    with pytest.raises(ValueError, match="no private key can be read"):
        PrivateKey.from_pem(encrypted, b"guess")
    with pytest.raises(ValueError, match="is not encrypted"):
        PrivateKey.from_pem(ed25519_key().to_pem(), b"secret")


@pytest.mark.parametrize(
    "pem", [b"", b"\xff", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_private_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match="no private key can be read"):
        PrivateKey.from_pem(pem)


def test_keys_that_no_directory_accepts_are_refused() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    short = rsa.generate_private_key(65_537, 1_024)
    pems = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in (curve, short)]
    with pytest.raises(ValueError, match="neither Ed25519 nor RSA"):
        PrivateKey.from_pem(pems[0])
    with pytest.raises(InvalidKey, match="1024 bits"):
        PrivateKey.from_pem(pems[1])


def test_a_signed_request_is_written_as_the_profile_says() -> None:
    request = signed(ed25519_key())
    parameters = (
        '("@method" "@authority" "@path" "content-digest");created=1800000000;nonce="0123456789abcdef";'
        f'keyid="{ed25519_key().key_id}";tag="openred-3"'
    )
    assert field(request, "signature-input") == f"sig1={parameters}"
    # The digest of this body stands in RFC 9530, appendix D.
    assert field(request, "content-digest") == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    base = request_base("POST", "directory.example", "/register", content_digest(BODY), parameters)
    assert base.decode().split("\n") == [
        '"@method": POST',
        '"@authority": directory.example',
        '"@path": /register',
        '"content-digest": sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:',
        f'"@signature-params": {parameters}',
    ]
    check_proof(read_signature(request), request, ed25519_key().public.spki)


def test_a_request_without_a_body_has_no_digest() -> None:
    request = signed(rsa_key(), path="/heartbeat/node-1", body=b"")
    assert "content-digest" not in dict(request.fields)
    check_proof(read_signature(request), request, rsa_key().public.spki)


def sign(folder: Path, key: PrivateKey, *arguments: str, url: str = URL) -> list[str]:
    """Run the example in `folder` and return the arguments that it calls curl with."""
    needs_program("openssl")
    (folder / "node.pem").write_bytes(key.to_pem())
    (folder / "sign.sh").write_text(sign_example(url, "node-1"))
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "curl").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\0" "$word"; done\n')
    (programs / "curl").chmod(0o755)
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder)}
    command = ["sh", "sign.sh", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


def sent(words: list[str], authority: str) -> Message:
    """Return the request that curl would send."""
    assert words[:2] == ["-s", "-X"]
    headers = [words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H"]
    body = words[words.index("--data-raw") + 1].encode() if "--data-raw" in words else b""
    path = words[-1].removeprefix("http://").removeprefix("https://").partition("/")[2]
    fields = tuple((name.lower(), value) for name, value in headers)
    return Message(words[2], authority, f"/{path}", "", body, (("host", authority), *fields))


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize(
    "arguments",
    [("POST", "/register", SHELL_BODY), ("POST", "/heartbeat/node-1"), ("DELETE", "/nodes/node-1")],
)
def test_what_the_example_sends_is_proven(kind: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    key = ed25519_key() if kind == "ed25519" else rsa_key()
    before_s = time.time()
    request = sent(sign(tmp_path, key, *arguments), "directory.example:8000")
    assert (request.method, request.path) == arguments[:2]
    assert request.body.decode() == "".join(arguments[2:])
    signature = read_signature(request)
    check_time(signature, time.time(), before_s - 1)
    check_proof(signature, request, key.public.spki)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["node.pem", "programs", "sign.sh"]


def test_each_request_has_its_own_nonce(tmp_path: Path) -> None:
    nonces = {
        read_signature(sent(sign(tmp_path, ed25519_key(), "POST", "/heartbeat/node-1"), "d")).nonce
        for _ in range(3)
    }
    assert len(nonces) == 3


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://Directory.Example", "directory.example"),
        ("http://directory.example:80/", "directory.example"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_host_is_signed_as_curl_sends_it(url: str, authority: str, tmp_path: Path) -> None:
    words = sign(tmp_path, ed25519_key(), "POST", "/heartbeat/node-1", url=url)
    request = sent(words, authority)
    check_proof(read_signature(request), request, ed25519_key().public.spki)
    assert words[-1].startswith(url.rstrip("/"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "directory.example",
        "ftp://a",
        "http://",
        "http://a/b",
        "http://a;id",
        "http://$(id)",
        "http://a@b",
    ],
)
def test_a_url_of_no_directory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not where a directory is"):
        sign_example(url, "node-1")


@pytest.mark.parametrize("node_id", ["", "a b", "$(id)", "a\nid", "'", "-a"])
def test_a_name_that_is_none_is_refused(node_id: str) -> None:
    with pytest.raises(ValueError, match="is no node id"):
        sign_example(URL, node_id)


def test_the_example_can_be_taken_in_at_a_glance() -> None:
    code = [line for line in sign_example(URL, "node-1").splitlines() if not line.startswith("#")]
    assert len(code) <= 18
    assert "node-1" in sign_example(URL, "node-1")

"""The example signer runs in a plain shell, and what it sends is accepted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openred_central.security.example import sign_example
from openred_central.security.signatures import Message, check_proof, check_time, read_signature
from openred_central.security.signing import PrivateKey
from tests.support.signed_requests import ed25519_key, rsa_key

from . import openssl

ROOT = Path(__file__).parents[2]
URL = "http://directory.example:8000"
BODY = '{"node_id":"node-1","note":"it\'s \\"so\\" — %s $HOME `id` \\\\n"}'


def has_openssl() -> bool:
    """Whether this machine has an openssl that signs with Ed25519 keys in files."""
    program = shutil.which("openssl")
    if program is None:
        return False
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    return re.match(r"OpenSSL ([3-9]|\d\d)\.", version) is not None


def sign(folder: Path, key: PrivateKey, *arguments: str, url: str = URL, stand_in: bool = False) -> list[str]:
    """Run the example in `folder`; returns what it calls curl with. openssl is real where there is one."""
    (folder / "node.pem").write_bytes(key.to_pem())
    (folder / "sign.sh").write_text(sign_example(url, "node-1"))
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "curl").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\0" "$word"; done\n')
    if stand_in or not has_openssl():
        run = f'exec "{sys.executable}" "{openssl.__file__}" "$@"'
        (programs / "openssl").write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" {run}\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder)}
    command = ["sh", "sign.sh", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


def sent(words: list[str], authority: str) -> Message:
    """The request that curl would send."""
    assert words[:2] == ["-s", "-X"]
    headers = [words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H"]
    body = words[words.index("--data-raw") + 1].encode() if "--data-raw" in words else b""
    path = words[-1].removeprefix("http://").removeprefix("https://").partition("/")[2]
    fields = tuple((name.lower(), value) for name, value in headers)
    return Message(words[2], authority, f"/{path}", "", body, (("host", authority), *fields))


@pytest.mark.parametrize("stand_in", [False, True], ids=["openssl", "stand-in"])
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize(
    "arguments", [("POST", "/register", BODY), ("POST", "/heartbeat/node-1"), ("DELETE", "/nodes/node-1")]
)
def test_what_the_example_sends_is_proven(
    kind: str, arguments: tuple[str, ...], stand_in: bool, tmp_path: Path
) -> None:
    key = ed25519_key() if kind == "ed25519" else rsa_key()
    before_s = time.time()
    request = sent(sign(tmp_path, key, *arguments, stand_in=stand_in), "directory.example:8000")
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

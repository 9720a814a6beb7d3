"""Private keys of nodes: made, kept as PEM, and signed with. Clients have them; the server has none.

The headers made here are those that `signatures` reads. For people with a shell there is a signer in POSIX
sh, and for authors of nodes in other languages there are known answers.
"""

from __future__ import annotations

import base64
import re
import shlex
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .. import crypto
from .authority import signed_authority
from .node_keys import RSA_BITS_MAX, RSA_BITS_MIN, RSA_EXPONENT, NodeKey, load_node_key, rsa_padding
from .signatures import (
    LABEL,
    NEW_LABEL,
    OLD_LABEL,
    TAG,
    WITH_BODY,
    WITHOUT_BODY,
    content_digest,
    request_base,
)

if TYPE_CHECKING:
    from ..crypto import ed25519, rsa

_SCRIPT = r"""#!/bin/sh
# Save this as sign.sh. It signs one request with the key in node.pem, and sends it. Make the key once:
#   openssl genpkey -algorithm ed25519 -out node.pem
#   (or: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out node.pem)
# Then register, and send heartbeats:
#   key=$(openssl pkey -in node.pem -pubout -outform DER | openssl base64 -A)
#   sh sign.sh POST /register '{"node_id":"NODE","address":"192.0.2.1","port":9000,"public_key":"'"$key"'"}'
#   sh sign.sh POST /heartbeat/NODE
set -eu
method=$1 path=$2 body=${3-} base=$(mktemp) lf='
'
id=$(openssl pkey -in node.pem -pubout -outform DER | openssl dgst -sha256 -binary | openssl base64 -A | tr +/ -_ | tr -d =)
digest="sha-256=:$(printf %s "$body" | openssl dgst -sha256 -binary | openssl base64 -A):"
covered='WITHOUT_BODY' line=
if [ -n "$body" ]; then covered='WITH_BODY' line="\"content-digest\": $digest$lf"; fi
input="$covered;created=$(date +%s);nonce=\"$(openssl rand -hex 16)\";keyid=\"$id\";tag=\"TAG\""
printf '"@method": %s\n"@authority": %s\n"@path": %s\n%s"@signature-params": %s' "$method" AUTHORITY "$path" "$line" "$input" >"$base"
case $(openssl pkey -in node.pem -noout -text) in
ED25519*) signature=$(openssl pkeyutl -sign -inkey node.pem -rawin -in "$base" | openssl base64 -A) ;;
*) signature=$(openssl dgst -sha512 -sign node.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:64 "$base" | openssl base64 -A) ;;
esac
rm "$base"
set -- -H "Signature-Input: LABEL=$input" -H "Signature: LABEL=:$signature:"
if [ -n "$body" ]; then set -- "$@" -H "Content-Digest: $digest" -H 'Content-Type: application/json' --data-raw "$body"; fi
curl -s -X "$method" "$@" URL"$path"
"""  # noqa: E501

# Characters that mean nothing to a shell.
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+", re.ASCII)
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)


class PrivateKey:
    """A node's key with its private half. `public` is the half that the directory receives.

    Raises `InvalidKey` for a key that no directory would accept.
    """

    def __init__(self, key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> None:
        encodings = crypto.serialization
        pem = key.public_key().public_bytes(
            encodings.Encoding.PEM, encodings.PublicFormat.SubjectPublicKeyInfo
        )
        self._key = key
        self.public: NodeKey = load_node_key(pem.decode("ascii"))

    @classmethod
    def generate_ed25519(cls) -> PrivateKey:
        """Return a new Ed25519 key."""
        return cls(crypto.ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def generate_rsa(cls, bits: int = RSA_BITS_MIN) -> PrivateKey:
        """Return a new RSA key of `bits` bits; large ones take a second. Raises `ValueError`."""
        if not RSA_BITS_MIN <= bits <= RSA_BITS_MAX:
            raise ValueError(f"{bits} bits; allowed for an RSA key are {RSA_BITS_MIN} to {RSA_BITS_MAX}")
        return cls(crypto.rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=bits))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> PrivateKey:
        """Return the key in `pem` (PKCS#8, or an older form that OpenSSL writes).

        Raises `InvalidKey` for a key that no directory would accept, `ValueError` for anything that is no
        key or does not open with `password`.
        """
        try:
            key = crypto.serialization.load_pem_private_key(pem, password)
        except TypeError:
            need = "is encrypted: its password is needed" if password is None else "is not encrypted"
            raise ValueError(f"the private key {need}") from None
        except (ValueError, crypto.exceptions.UnsupportedAlgorithm):
            raise ValueError("no private key can be read from this; allowed is PEM (PKCS#8)") from None
        if not isinstance(key, crypto.ed25519.Ed25519PrivateKey | crypto.rsa.RSAPrivateKey):
            raise ValueError("the private key is neither Ed25519 nor RSA")
        return cls(key)

    def to_pem(self, password: bytes | None = None) -> bytes:
        """Return the key as PEM (PKCS#8), encrypted where a `password` is given.

        The library stretches a password by few rounds only (2,048 of PBKDF2): take a long random one.
        """
        encodings = crypto.serialization
        return self._key.private_bytes(
            encodings.Encoding.PEM,
            encodings.PrivateFormat.PKCS8,
            encodings.NoEncryption() if password is None else encodings.BestAvailableEncryption(password),
        )

    @property
    def public_text(self) -> str:
        """The value of ``public_key`` in a registration: the canonical text of the public half."""
        return self.public.text

    @property
    def key_id(self) -> str:
        """The name of the key, 43 characters."""
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """Return a signature of `message` that `node_keys.verify` accepts."""
        if isinstance(self._key, crypto.ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, rsa_padding(), crypto.hashes.SHA512())


def signed_headers(
    method: str, authority: str, path: str, body: bytes, key: PrivateKey, created: int, nonce: str
) -> list[tuple[str, str]]:
    """Return the headers that sign one request with `key`.

    `authority` is the host and port of the URL, `path` its path, without a query; `body` is empty where
    there is none; `created` is now in seconds of Unix time; `nonce` is 16 to 64 characters not used with this
    key within a minute, such as the base64url of 16 random bytes.
    """
    return _headers(method, authority, path, body, {LABEL: key}, created, nonce)


def rotation_headers(
    authority: str, path: str, body: bytes, old: PrivateKey | None, new: PrivateKey, created: int, nonce: str
) -> list[tuple[str, str]]:
    """Return the headers of a ``POST`` that exchanges the key `old` of a node for the key `new`.

    `old` is None where the key is lost and the id of `new` was registered in advance. The other arguments are
    as in `signed_headers`.
    """
    keys = {NEW_LABEL: new} if old is None else {OLD_LABEL: old, NEW_LABEL: new}
    return _headers("POST", authority, path, body, keys, created, nonce)


def _headers(
    method: str,
    authority: str,
    path: str,
    body: bytes,
    keys: dict[str, PrivateKey],
    created: int,
    nonce: str,
) -> list[tuple[str, str]]:
    digest = content_digest(body) if body else ""
    inputs, signatures = [], []
    for label, key in keys.items():
        parameters = (
            f"{WITH_BODY if body else WITHOUT_BODY};created={created};"
            f'nonce="{nonce}";keyid="{key.key_id}";tag="{TAG}"'
        )
        signature = key.sign(request_base(method, signed_authority(authority), path, digest, parameters))
        inputs.append(f"{label}={parameters}")
        signatures.append(f"{label}=:{base64.b64encode(signature).decode('ascii')}:")
    fields = [("Signature-Input", ", ".join(inputs)), ("Signature", ", ".join(signatures))]
    return [("Content-Digest", digest), *fields] if digest else fields


def known_answers() -> str:
    """Return the JSON text by which a node in another language checks its keys, signatures and tokens."""
    return files("openred_central").joinpath("vectors.json").read_text(encoding="utf-8")


def sign_example(url: str, node_id: str) -> str:
    """Return a shell script that signs requests to the directory at `url`, such as ``http://host:8000``.

    It needs POSIX sh, openssl 3 or newer, and curl. It signs with the Ed25519 or RSA key in ``node.pem``, by
    RFC 9421 in the profile of `signatures`. `node_id` is the name in its examples. Raises `ValueError` for a
    `url` or a name of another form.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc) or parts.path.strip("/"):
        raise ValueError(f"{url!r} is not where a directory is; allowed is a URL such as http://host:8000")
    if not _NODE_ID.fullmatch(node_id):
        raise ValueError(f"{node_id!r} is no node id; allowed are letters, digits, and any of _.:-")
    words = {
        "WITHOUT_BODY": WITHOUT_BODY,
        "WITH_BODY": WITH_BODY,
        "AUTHORITY": shlex.quote(signed_authority(parts.netloc)),
        "LABEL": LABEL,
        "TAG": TAG,
        "NODE": node_id,
        "URL": shlex.quote(f"{parts.scheme}://{parts.netloc}"),
    }
    return re.sub("|".join(words), lambda match: words[match[0]], _SCRIPT)

"""As much of openssl as the example signer needs, for machines that have none, or one before version 3."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from openred_central.security.signing import PrivateKey


def main(arguments: list[str]) -> None:
    """Do what one of the commands of the example does, and write what it writes."""

    def option(name: str) -> str:
        return arguments[arguments.index(name) + 1]

    def key() -> PrivateKey:
        path = option("-sign" if command == "dgst" else "-inkey" if command == "pkeyutl" else "-in")
        return PrivateKey.from_pem(Path(path).read_bytes())

    command = arguments[0]
    if command == "rand":
        output = secrets.token_hex(int(option("-hex"))).encode() + b"\n"
    elif command == "base64":
        output = base64.b64encode(sys.stdin.buffer.read())
    elif command == "pkey" and "-pubout" in arguments:
        private = load_pem_private_key(Path(option("-in")).read_bytes(), None)
        output = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    elif command == "pkey":
        output = b"ED25519 Private-Key:\n" if key().public.kind == "ed25519" else b"Private-Key: (2048 bit)\n"
    elif command == "pkeyutl":
        output = key().sign(Path(option("-in")).read_bytes())
    elif command == "dgst" and "-sign" in arguments:
        assert arguments.count("-sigopt") == 2
        output = key().sign(Path(arguments[-1]).read_bytes())
    else:
        assert arguments == ["dgst", "-sha256", "-binary"], arguments
        output = hashlib.sha256(sys.stdin.buffer.read()).digest()
    sys.stdout.buffer.write(output)


if __name__ == "__main__":
    main(sys.argv[1:])

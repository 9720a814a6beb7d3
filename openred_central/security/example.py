"""A signer of requests for people with a shell: POSIX sh, openssl 3 or newer, and curl. No library needed."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from urllib.parse import urlsplit

from .authority import signed_authority
from .signatures import LABEL, TAG, WITH_BODY, WITHOUT_BODY

_SCRIPT = r"""#!/bin/sh
# Save this as sign.sh. It signs one request with the key in node.pem, and sends it. Make the key once:
#   openssl genpkey -algorithm ed25519 -out node.pem
#   (or: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out node.pem)
# Then register, and beat:
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

# Nothing that a shell would take for more than text.
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]+", re.ASCII)
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)


def known_answers() -> str:
    """Return the JSON text by which a node in another language checks its keys, signatures and tokens."""
    return files("openred_central").joinpath("vectors.json").read_text(encoding="utf-8")


def sign_example(url: str, node_id: str) -> str:
    """The text of a shell script that signs requests to the directory at `url`, such as ``http://host:8000``.

    It signs as RFC 9421 in the profile of `signatures` says, with Ed25519 or RSA, by the key it finds in
    ``node.pem``. `node_id` is the name in its examples. Raises `ValueError` for a `url` or a name
    that cannot be one.
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

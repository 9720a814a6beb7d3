"""Facts about the API that its description does not hold, for schemathesis.

JSON Schema cannot say how values depend on one another, on the time, or on what was answered before. So a
request that is valid by the description is made valid altogether, and what was claimed is proved.
"""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import schemathesis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALIASES = {"ip_address": "address", "capabilities": "services"}
KEY = base64.b64encode(
    Ed25519PrivateKey.from_private_bytes(bytes(32))
    .public_key()
    .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
).decode()
CLAIMS_MAX = 10_000

# Room is left for what is taken though it was not meant to be valid.
METADATA_BYTES_MAX = 3_000

# Node id → the claim that its registration was answered with.
claims: dict[str, str] = {}
# Node id → at most so many bytes of metadata that its heartbeats have been merged to.
metadata_bytes: dict[str, int] = {}


def fix(fields: dict[str, Any]) -> None:
    """Make `fields`, of a body or query, fit together."""
    for older, name in ALIASES.items():
        if older in fields and name in fields:
            del fields[older]
    if fields.get("away_until"):
        fields["away_until"] = datetime.fromtimestamp(time.time() + 3_600, UTC).isoformat()
    if "peer_id" in fields and fields["peer_id"] == fields.get("node_id"):
        del fields["peer_id"]


def within_64_bits(value: Any) -> Any:
    """Return a JSON value in which no whole number is beyond 64 bits, wherever it stands."""
    if isinstance(value, dict):
        return {name: within_64_bits(one) for name, one in value.items()}
    if isinstance(value, list):
        return [within_64_bits(one) for one in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return 0
    return value


def bound_metadata(fields: dict[str, Any], beats_for: str | None) -> None:
    """Leave `metadata` away where what it comes to, merged by the heartbeats so far, could be too large."""
    node_id = beats_for or str(fields.get("node_id"))
    before = metadata_bytes.get(node_id, 0) if beats_for else 0
    after = before + len(json.dumps(fields.get("metadata", {})))
    if after > METADATA_BYTES_MAX:
        fields.pop("metadata", None)
    else:
        metadata_bytes[node_id] = after


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    # Made up, it is no proof.
    case.headers.pop("Signature", None)
    if isinstance(case.body, dict) and "mode" in case.body:
        case.query.pop("mode", None)
    for fields in (case.body, case.query):
        if isinstance(fields, dict):
            fix(fields)
    if isinstance(case.body, dict):
        case.body = within_64_bits(case.body)
        bound_metadata(case.body, (case.path_parameters or {}).get("node_id"))
        if case.operation.path == "/nodes/{node_id}/key":
            case.body["public_key"] = KEY
        else:
            # Only who signs may name the next key.
            case.body.pop("next_key", None)


@schemathesis.auth(refresh_interval=None)
class ClaimAuth:
    """Proves to be a node that this run has registered."""

    def get(self, case: Any, context: Any) -> str | None:
        body = case.body if isinstance(case.body, dict) else {}
        node_id = (case.path_parameters or {}).get("node_id") or body.get("node_id")
        return claims.get(node_id) if isinstance(node_id, str) else None

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["Authorization"] = f"Claim {data}"


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    if response.status_code == 201 and len(claims) < CLAIMS_MAX:
        document = response.json()
        if "claim" in document:
            claims[document["node_id"]] = document["claim"]

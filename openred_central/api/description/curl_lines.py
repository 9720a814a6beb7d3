"""One line of curl for each endpoint, for people who try it from a shell."""

from __future__ import annotations

import shlex

import orjson

from ..endpoint import CLAIM, Endpoint

BASE = '"$OPENRED_URL"'
NODE_ID = "alice"
# Its answer does not end, so curl may not wait for more of it.
STREAM = "followEvents"


def curl_line(endpoint: Endpoint) -> str:
    """Return a line that calls `endpoint` as its example says.

    The shell fills in two variables: where the directory is, and the claim where a proof is needed.
    """
    target = endpoint.path.replace("{node_id}", NODE_ID)
    if endpoint.example_query:
        target += f"?{endpoint.example_query}"
    words = ["curl", "-sN" if endpoint.name == STREAM else "-s"]
    if endpoint.method not in ("GET", "POST") or (endpoint.method == "POST" and not endpoint.example_body):
        words += ["-X", endpoint.method]
    words.append(f"{BASE}{shlex.quote(target)}")
    if endpoint.proofs and None not in endpoint.proofs:
        words += ["-H", f'"Authorization: {CLAIM.title()} $CLAIM"']
    if endpoint.example_body:
        body = orjson.dumps(endpoint.example_body).decode()
        words += ["-H", shlex.quote("Content-Type: application/json"), "-d", shlex.quote(body)]
    return " ".join(words)

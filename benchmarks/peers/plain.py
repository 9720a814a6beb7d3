"""The plain directory: dictionaries in memory, and replies like ours by orjson.

It has no states, deadlines, history or file, and checks little: the same requests are less work for a peer
than for our server. All peers use it, so that only their engines differ.
"""

from __future__ import annotations

import argparse
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ..population import document

HEARTBEAT_ADVICE_S = 86_400.0
TOLERANCE = timedelta(days=180)
RESULTS_DEFAULT = 50
NEEDED = ("node_id", "address", "port", "public_key", "services")

Answer = tuple[int, bytes]


def problem(status: int, code: str) -> Answer:
    return status, orjson.dumps({"status": status, "code": code})


def read_options() -> argparse.Namespace:
    """Return the `port` on loopback and the number of `nodes` at the start, from the command line.

    `closing` is for the bare protocol, `server` for peers over WSGI.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--closing", action="store_true")
    parser.add_argument("--server", choices=("bjoern", "fastwsgi"))
    return parser.parse_args()


class PlainDirectory:
    """A directory whose methods return a status and a body of JSON."""

    def __init__(self, nodes: int) -> None:
        self._nodes: dict[str, dict[str, Any]] = {}
        self._listed: dict[str, list[str]] = {}
        self._offering: dict[str, set[str]] = {}
        for number in range(nodes):
            self._add(document(number), datetime.now(UTC))

    def heartbeat(self, node_id: str) -> Answer:
        node = self._nodes.get(node_id)
        if node is None:
            return problem(404, "node_not_found")
        node["last_seen"] = now = datetime.now(UTC)
        return 200, _encode(
            {
                "status": "heartbeat_received",
                "node_id": node_id,
                "current_state": "active",
                "previous_state": "active",
                "last_heartbeat": now,
                "next_heartbeat_due": now + TOLERANCE,
                "heartbeat_advice_s": HEARTBEAT_ADVICE_S,
                "message": "Noted.",
            }
        )

    def discover(self, services: str, max_results: int = RESULTS_DEFAULT) -> Answer:
        """Return a fair draw of nodes that offer all services, which are separated by commas."""
        names = services.split(",")
        if len(names) == 1:
            candidates = self._listed.get(names[0], [])
        else:
            # Python intersects over the smaller set.
            candidates = list(set.intersection(*(self._offering.get(name, set()) for name in names)))
        chosen = random.sample(candidates, min(max_results, len(candidates)))
        return 200, _encode(
            {
                "nodes": [self._nodes[node_id] for node_id in chosen],
                "total_found": len(candidates),
                "returned": len(chosen),
                "query_time_ms": 0.0,
                "degraded": False,
            }
        )

    def register(self, body: bytes) -> Answer:
        try:
            registration = orjson.loads(body)
        except orjson.JSONDecodeError:
            return problem(400, "bad_request")
        if not isinstance(registration, dict) or any(name not in registration for name in NEEDED):
            return problem(400, "bad_request")
        known, now = self._nodes.get(registration["node_id"]), datetime.now(UTC)
        if known is not None and known["public_key_fingerprint"] != registration["public_key"]:
            return problem(409, "node_id_taken")
        if known is None:
            self._add(registration, now)
        return 201, _encode(
            {
                "status": "registered",
                "node_id": registration["node_id"],
                "state": "active",
                "registered_at": now,
                "last_seen": now,
                "next_heartbeat_due": now + TOLERANCE,
                "heartbeat_advice_s": HEARTBEAT_ADVICE_S,
                "observed_address": "127.0.0.1",
                "identity": "unproven",
                "durable": False,
                "revision": len(self._nodes),
                "message": "Welcome.",
            }
        )

    def _add(self, registration: dict[str, Any], now: datetime) -> None:
        node_id = registration["node_id"]
        self._nodes[node_id] = {
            "node_id": node_id,
            "address": registration["address"],
            "port": registration["port"],
            "addresses": [],
            "services": registration["services"],
            "state": "active",
            "last_seen": now,
            "metadata": registration.get("metadata", {}),
            "public_key_fingerprint": registration["public_key"],
            "identity": "unproven",
            "region": None,
            "availability": 1.0,
        }
        for service in registration["services"]:
            self._listed.setdefault(service, []).append(node_id)
            self._offering.setdefault(service, set()).add(node_id)


def _encode(reply: dict[str, Any]) -> bytes:
    return orjson.dumps(reply, option=orjson.OPT_UTC_Z)

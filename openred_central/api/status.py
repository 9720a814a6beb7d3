"""``GET /``, ``GET /stats`` and the health endpoints: the server about itself."""

from __future__ import annotations

from typing import Any

from ..directory.directory import Directory
from ..directory.lifecycle import LIVE_STATES, State
from ..directory.state.columns import DIGEST_MASK
from ..micro_engine.wire.messages import Request, Response
from ..storage.sqlite.state import StoreState
from .discovering import RESULTS_DEFAULT
from .service import Api
from .wire import values
from .wire.times import rfc3339

SERVICE_NAME = "OpenRed Central"


async def welcome(api: Api, request: Request) -> Response:
    """Answer 200 with what this server is and what it offers."""
    document = {
        "name": SERVICE_NAME,
        "version": api.version,
        "endpoints": list(api.endpoints),
        "limits": {
            "nodes_max": api.directory.options.nodes_max,
            "services_max": values.SERVICES_MAX,
            "addresses_max": values.ADDRESSES_MAX,
            "metadata_bytes_max": values.METADATA_BYTES_MAX,
            "metadata_depth_max": values.METADATA_DEPTH_MAX,
            "public_key_bytes_max": values.PUBLIC_KEY_BYTES_MAX,
            "lookup_ids_max": values.LOOKUP_IDS_MAX,
            "results_default": RESULTS_DEFAULT,
            "results_max": values.RESULTS_MAX,
        },
        "auth": "strict" if api.prover.strict else "open",
        "quantum": _quantum(api.mint.root_suite),
    }
    return Response.json(document)


def _quantum(root_suite: str | None) -> dict[str, Any]:
    """How the key set is signed; ``root`` is null until there are keys."""
    if root_suite is None:
        return {"root": None, "pq": False}
    from ..security.directory_keys.suites import SUITES

    suite = SUITES[root_suite]
    return {"root": suite.name, "pq": suite.quantum_safe}


async def stats(api: Api, request: Request) -> Response:
    """Answer 200 with figures of the directory, its life cycle, its performance and its empathy."""
    now = api.now()
    document = {
        "directory": _directory_figures(api),
        "lifecycle": _lifecycle_figures(api),
        "empathy": _empathy_figures(api, now.attended_s),
        "performance": dict(api.figures()),
        "time": rfc3339(now.wall_s),
        "version": api.version,
    }
    return Response.json(document)


async def live(api: Api, request: Request) -> Response:
    """Answer 200: the process is up."""
    return Response.json({"status": "ok"})


async def ready(api: Api, request: Request) -> Response:
    """Answer 200 where the store takes changes and the server is not about to stop, else 503."""
    store, stopping = api.store_state(), api.stopping()
    document = {
        "status": "ok" if store is StoreState.OK and not stopping else "degraded",
        "checks": {"directory": "stopping" if stopping else "ok", "store": store.value},
    }
    return Response.json(document, status=503 if stopping or store is StoreState.DETACHED else 200)


def _directory_figures(api: Api) -> dict[str, Any]:
    nodes = api.directory.nodes
    return {
        "nodes": len(nodes.registry),
        "nodes_max": api.directory.options.nodes_max,
        "nodes_bytes": nodes.registry.bytes_held,
        "nodes_bytes_max": api.directory.options.bytes_max,
        "by_state": {state.wire: nodes.registry.state_counts[state] for state in LIVE_STATES},
        "tombstones": len(nodes.tombstones),
        "service_sets": len(nodes.registry.sets),
        "nodes_in_rare_sets": nodes.index.ungrouped_count,
        "shards": nodes.registry.shards_count,
        "revision": nodes.revision,
        "digest": f"{sum(nodes.registry.shard_digests) & DIGEST_MASK:016x}",
    }


def _lifecycle_figures(api: Api) -> dict[str, Any]:
    directory = api.directory
    transitions = [
        {"from": from_state.wire, "to": to_state.wire, "reason": reason, "count": count}
        for (from_state, to_state, reason), count in directory.nodes.transitions.counts.items()
    ]
    return {
        "dwell_s": {state.wire: directory.lifecycle.dwell_s(state) for state in (*LIVE_STATES, State.DEAD)},
        "transitions": transitions,
        "set_aside": len(directory.expiry.set_aside),
    }


def _empathy_figures(api: Api, attended_s: float) -> dict[str, Any]:
    directory = api.directory
    counts = directory.nodes.registry.state_counts
    revived = sum(
        count
        for (from_state, to_state, _), count in directory.nodes.transitions.counts.items()
        if to_state is State.ACTIVE and from_state in LIVE_STATES
    )
    return {
        "patience_left_for": sum(counts[state] for state in LIVE_STATES if state is not State.ACTIVE),
        "revived": revived,
        "attended_s": round(attended_s, 3),
        "mass_silence": mass_silence_figures(directory),
    }


def mass_silence_figures(directory: Directory) -> dict[str, Any]:
    """Whether transitions are held, since when and why."""
    silence = directory.expiry.silence
    hold = silence.hold
    return {
        "held": hold is not None,
        "since": rfc3339(hold.since_at) if hold is not None else None,
        "reason": hold.reason if hold is not None else None,
        "waiting": directory.expiry.waiting_count,
        "releasing": silence.releasing,
        "transitions_last_hour": silence.recent,
        "transitions_usual_per_h": round(silence.usual_per_h, 3),
    }

"""``GET /stats``, the health endpoints, ``GET /openapi.json`` and ``/docs``: the server about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

from ..directory.directory import Directory
from ..directory.empathy.groups import Group, is_public, name_of
from ..directory.lifecycle import LIVE_STATES, State
from ..directory.state.columns import DIGEST_MASK
from ..micro_engine.wire.messages import HTML_TYPE, Request, Response
from ..security.directory_keys.suites import SUITES
from ..storage.store import StoreState
from ..wording import rfc3339
from .discovering import RESULTS_DEFAULT
from .endpoint import CACHED, UNCHANGED, Endpoint, Reply, Where
from .service import Api
from .wire import values
from .wire.cluster import CLUSTER, LEADER
from .wire.fields import only, or_null
from .wire.schemas import AMOUNT, ANY_STATE, COUNT, DURATION_S, FLAG, SHARE, TEXT, TIME, listing, thing

SERVICE_NAME = "OpenRed Central"

_LIMITS = {
    "services_max": values.SERVICES_MAX,
    "addresses_max": values.ADDRESSES_MAX,
    "metadata_bytes_max": values.METADATA_BYTES_MAX,
    "metadata_depth_max": values.METADATA_DEPTH_MAX,
    "public_key_bytes_max": values.PUBLIC_KEY_BYTES_MAX,
    "lookup_ids_max": values.LOOKUP_IDS_MAX,
    "results_default": RESULTS_DEFAULT,
    "results_max": values.RESULTS_MAX,
}
WELCOME = thing(
    "Welcome",
    {
        "name": TEXT,
        "version": TEXT,
        "endpoints": listing(TEXT),
        "limits": thing("Limits", dict.fromkeys(("nodes_max", *_LIMITS), COUNT)),
        "auth": {"enum": ["open", "strict"]},
        "quantum": thing("Quantum", {"root": or_null(TEXT), "pq": FLAG}),
    },
)
MASS_SILENCE = thing(
    "MassSilence",
    {
        "held": FLAG,
        "since": or_null(TIME),
        "reason": or_null(TEXT),
        "waiting": COUNT,
        "releasing": FLAG,
        "transitions_last_hour": COUNT,
        "transitions_usual_per_h": AMOUNT,
    },
)
HOLDS = listing(
    thing(
        "Hold",
        {"kind": {"enum": ["transitions", "onset"]}, "group": TEXT, "since": TIME, "reason": TEXT},
    )
)
DARK = listing(
    thing(
        "DarkGroup",
        {
            "group": TEXT,
            "since": TIME,
            "expected": AMOUNT,
            "heard": COUNT,
            "members": COUNT,
        },
    )
)
# Dark networks and regions in one answer, those that are dark for longest.
DARK_SHOWN_MAX = 50
FIGURES = thing(
    "Stats",
    {
        "directory": thing(
            "DirectoryFigures",
            {
                "nodes": COUNT,
                "nodes_max": COUNT,
                "nodes_bytes": COUNT,
                "nodes_bytes_max": COUNT,
                "by_state": thing("NodesByState", {state.wire: COUNT for state in LIVE_STATES}),
                "tombstones": COUNT,
                "service_sets": COUNT,
                "nodes_in_rare_sets": COUNT,
                "shards": COUNT,
                "revision": COUNT,
                "digest": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
            },
        ),
        "lifecycle": thing(
            "LifecycleFigures",
            {
                "dwell_s": thing(
                    "DwellTimes", {state.wire: DURATION_S for state in (*LIVE_STATES, State.DEAD)}
                ),
                "transitions": listing(
                    thing(
                        "TransitionCount",
                        {"from": ANY_STATE, "to": ANY_STATE, "reason": TEXT, "count": COUNT},
                    )
                ),
                "set_aside": COUNT,
            },
        ),
        "empathy": thing(
            "EmpathyFigures",
            {
                "patience_left_for": COUNT,
                "revived": COUNT,
                "attended_s": DURATION_S,
                "mass_silence": MASS_SILENCE,
                "holds": HOLDS,
                "dark": DARK,
                "forecast": or_null(
                    thing(
                        "ForecastFigures",
                        {
                            "late": {**COUNT, "description": "Nodes whose sign of life is overdue."},
                            "obeying": {**COUNT, "description": "Nodes that follow the advice."},
                            "advised_per_s": {**AMOUNT, "description": "Heartbeats that nodes are advised."},
                            "visits": COUNT,
                            "dues": {**COUNT, "description": "Dues compared with what was expected."},
                            "brier": or_null(SHARE),
                            "calibration_error": or_null(SHARE),
                        },
                    )
                ),
            },
        ),
        "cluster": or_null(CLUSTER),
        "performance": {
            "type": "object",
            "description": "Figures of the parts of this server; their names may change.",
            "additionalProperties": True,
        },
        "time": TIME,
        "version": TEXT,
    },
)
READINESS = thing(
    "Health",
    {
        "status": {"enum": ["ok", "degraded"]},
        "checks": thing(
            "Checks",
            {
                "directory": {"enum": ["ok", "stopping"]},
                "store": {"enum": ["ok", "behind", "detached"]},
            },
        ),
    },
)
LEADERSHIP = thing("Leadership", {"status": {"enum": ["ok", "degraded"]}, "leader": or_null(TEXT)})


def welcome(api: Api) -> Response:
    """Return the description of this server: what it is and offers."""
    suite = SUITES[api.mint.root_suite] if api.mint.root_suite is not None else None
    document = {
        "name": SERVICE_NAME,
        "version": api.version,
        "endpoints": list(api.endpoints),
        "limits": {"nodes_max": api.directory.options.nodes_max, **_LIMITS},
        "auth": "strict" if api.prover.strict else "open",
        # Null until there are keys.
        "quantum": {"root": suite and suite.name, "pq": suite is not None and suite.quantum_safe},
    }
    return Response.json(document)


async def stats(api: Api, request: Request) -> Response:
    now, cluster = api.now(), api.cluster()
    document = {
        "directory": _directory_figures(api),
        "lifecycle": _lifecycle_figures(api),
        "empathy": _empathy_figures(api, now.attended_s),
        "cluster": cluster.document() if cluster is not None else None,
        "performance": dict(api.figures()),
        "time": rfc3339(now.wall_s),
        "version": api.version,
    }
    return Response.json(document)


STATS = Endpoint(
    "GET",
    "/stats",
    stats,
    name="getStats",
    tag="Server",
    summary="See the figures",
    description="Figures of the directory, the life cycle of its nodes, its patience, and this process.",
    replies={200: Reply("The figures.", FIGURES)},
)


async def live(api: Api, request: Request) -> Response:
    return Response.json({"status": "ok"})


LIVE = Endpoint(
    "GET",
    "/health/live",
    live,
    name="isLive",
    tag="Server",
    summary="Check that the process is up",
    description="Liveness probe: restart the server if this fails.",
    replies={200: Reply("The process is up.", thing("Live", {"status": only("ok")}))},
    where=Where.ANYWHERE,
)


async def ready(api: Api, request: Request) -> Response:
    store, stopping, cluster = api.store_state(), api.stopping(), api.cluster()
    document = {
        "status": "ok" if store is StoreState.OK and not stopping else "degraded",
        "checks": {"directory": "stopping" if stopping else "ok", "store": store.value},
    }
    # While nobody leads, no instance would do better: all of them stay, for what needs no leader.
    others_can = cluster is None or cluster.leader is not None
    unready = stopping or (store is StoreState.DETACHED and others_can)
    return Response.json(document, status=503 if unready else 200)


READY = Endpoint(
    "GET",
    "/health/ready",
    ready,
    name="isReady",
    tag="Server",
    summary="Check that the server takes changes",
    description="Readiness probe: send requests only while this succeeds.",
    replies={
        200: Reply("The server is ready, or no instance of its cluster leads now.", READINESS),
        503: Reply("The server is stopping, or its store takes no changes.", READINESS),
    },
    where=Where.ANYWHERE,
)
HEALTH = replace(
    READY,
    path="/health",
    name="isHealthy",
    summary="Check the health of the server",
    description="Answers as `/health/ready` does.",
    aliases=("/api/v3/health",),
)


async def leads(api: Api, request: Request) -> Response:
    cluster = api.cluster()
    is_leader = cluster is None or cluster.role == LEADER
    document = {
        "status": "ok" if is_leader else "degraded",
        "leader": cluster.leader if cluster is not None else None,
    }
    return Response.json(document, status=200 if is_leader else 503)


LEADS = Endpoint(
    "GET",
    "/health/leader",
    leads,
    name="isLeader",
    tag="Server",
    summary="Check that this server changes records itself",
    description="For balancers that spare changes a hop. A server that is in no cluster leads by itself.",
    replies={
        200: Reply("This server leads.", LEADERSHIP),
        503: Reply("Another instance leads, or none does. Send changes to any of them.", LEADERSHIP),
    },
    where=Where.ANYWHERE,
)


async def openapi(api: Api, request: Request) -> Response:
    return (await api.documents()).openapi.answer(request)


OPENAPI = Endpoint(
    "GET",
    "/openapi.json",
    openapi,
    name="getDescription",
    tag="Server",
    summary="Get this description",
    description="OpenAPI 3.1, for programs.",
    replies={200: Reply("The description.", {"type": "object"}, headers=CACHED), 304: UNCHANGED},
    caches=True,
    where=Where.ANYWHERE,
)


async def reference(api: Api, request: Request) -> Response:
    return (await api.documents()).reference.answer(request)


REFERENCE = Endpoint(
    "GET",
    "/docs",
    reference,
    name="readDescription",
    tag="Server",
    summary="Read this description",
    description="This description for people: one page that needs no other server.",
    replies={200: Reply("The page.", {"type": "string"}, HTML_TYPE, CACHED), 304: UNCHANGED},
    caches=True,
    where=Where.ANYWHERE,
)


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
        "holds": hold_figures(directory),
        "dark": dark_figures(directory, is_public),
        "forecast": forecast_figures(directory),
    }


def forecast_figures(directory: Directory) -> dict[str, Any] | None:
    """Return how good the expectations of nodes are; None if the directory keeps no habits."""
    visiting = directory.visiting
    if visiting is None:
        return None
    quality = visiting.calibration.quality()
    return {
        "late": visiting.late,
        "obeying": visiting.obeying,
        "advised_per_s": round(visiting.advised_per_s, 3),
        "visits": visiting.visits,
        "dues": visiting.calibration.samples,
        "brier": _rounded(quality.brier),
        "calibration_error": _rounded(quality.error),
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def hold_figures(directory: Directory) -> list[dict[str, Any]]:
    """Return what keeps attended time from running: silence at the deadlines, or from the onset on."""
    expiry = directory.expiry
    return [
        {"kind": kind, "group": "all", "since": rfc3339(hold.since_at), "reason": hold.reason}
        for kind, hold in (("transitions", expiry.silence.hold), ("onset", expiry.attendance.hold))
        if hold is not None
    ]


def dark_figures(directory: Directory, shows: Callable[[Group], bool]) -> list[dict[str, Any]]:
    """Return the networks and regions that fell silent as a whole, and that `shows` admits."""
    dark = directory.watch.dark if directory.watch is not None else []
    return [
        {
            "group": name_of(each.group),
            "since": rfc3339(each.since_at),
            "expected": round(each.expected, 1),
            "heard": each.heard,
            "members": each.members,
        }
        for each in islice((each for each in dark if shows(each.group)), DARK_SHOWN_MAX)
    ]


def mass_silence_figures(directory: Directory) -> dict[str, Any]:
    """Return whether mass silence holds transitions, since when and why."""
    silence = directory.expiry.silence
    hold = silence.hold
    return {
        "held": hold is not None,
        "since": rfc3339(hold.since_at) if hold is not None else None,
        "reason": hold.reason if hold is not None else None,
        "waiting": len(directory.expiry.waiting),
        "releasing": silence.releasing,
        "transitions_last_hour": silence.recent,
        "transitions_usual_per_h": round(silence.usual_per_h, 3),
    }

"""``GET /discover``: peers by service, in a fair draw, the more available first."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

import orjson

from ..directory.discovery import Query
from ..directory.lifecycle import LIVE_STATES, State
from ..micro_engine.wire.messages import Request, Response
from .endpoint import LIMITED, Endpoint, Reply, Where
from .service import Api
from .wire import values
from .wire.describing import descriptions
from .wire.fields import Field, Fields
from .wire.schemas import COUNT, IGNORED, NODE, listing, thing

RESULTS_DEFAULT = 50
# Nodes ask few different questions, each of them often.
QUERIES_KEPT_MAX = 256
EXCLUDED_BY_DEFAULT = frozenset({State.COMA, State.DEAD})

SERVICES = Field(
    "services",
    values.service_query,
    f"At most {values.SERVICES_MAX} names joined by commas; the nodes offer all of them.",
    alias="capabilities",
)
MAX_RESULTS = Field(
    "max_results", values.max_results, f"The largest number of nodes to return; {RESULTS_DEFAULT} by default."
)
STATES = Field("states", values.states, "Only nodes in these states: names joined by commas, in any case.")
EXCLUDE_STATES = Field(
    "exclude_states",
    values.states,
    "No nodes in these states; `coma,dead` if neither this nor `states` is sent.",
)
MIN_LAST_SEEN = Field("min_last_seen", values.time, "Only nodes with a sign of life since this time.")
MIN_AVAILABILITY = Field(
    "min_availability", values.share, "Only nodes that answer with this chance or more, from 0 to 1."
)
REGION = Field("region", values.region_query, "Only nodes of this region.")
NEAR = Field("near", values.region_query, "Nodes of this region first.")
FIELDS: tuple[Field[Any], ...] = (
    *(SERVICES, MAX_RESULTS, STATES, EXCLUDE_STATES),
    *(MIN_LAST_SEEN, MIN_AVAILABILITY, REGION, NEAR),
)
DISCOVERED = thing(
    "Discovered",
    {
        "nodes": listing(NODE),
        "total_found": {**COUNT, "description": "All nodes that match services and states."},
        "returned": COUNT,
        "query_time_ms": {"type": "number", "minimum": 0},
        "degraded": {"type": "boolean", "description": "Whether no node matched states, time and chance."},
        "ignored": IGNORED,
    },
    optional=("ignored",),
)


async def discover(api: Api, request: Request) -> Response:
    started = api.now()
    query, ignored = read_query(request.query)
    if query.near is None:
        query = query._replace(near=api.near)
    draw = api.directory.discover(query, started)
    found = draw.step()
    if found is None:
        # One walk at a time: several would all take their steps in each turn of the loop.
        async with api.walks:
            while found is None:
                await asyncio.sleep(0)
                found = draw.step()
    nodes = descriptions(api.directory, found.slots, started, found.scores)
    query_time_ms = round((api.now().monotonic_s - started.monotonic_s) * 1_000, 3)
    more = f',"ignored":{orjson.dumps(ignored).decode()}' if ignored else ""
    text = (
        f'{{"nodes":[{",".join(nodes)}],"total_found":{found.total},"returned":{len(nodes)},'
        f'"query_time_ms":{query_time_ms},"degraded":{"true" if found.degraded else "false"}{more}}}'
    )
    return Response(text.encode())


DISCOVER = Endpoint(
    "GET",
    "/discover",
    discover,
    name="discover",
    example_query="services=storage",
    tag="Nodes",
    summary="Find peers by the services they offer",
    description="A fair draw among all matching nodes, the more available first. If no node matches "
    "`states`, `min_last_seen` and `min_availability`, others come with `degraded`, but in no state that "
    "`exclude_states` of the request names. Each request gets a draw of its own.",
    query=FIELDS,
    replies={200: Reply("Peers, perhaps none.", DISCOVERED, headers=LIMITED)},
    problems=("rate_limited",),
    aliases=("/api/v3/nodes/discover",),
    limit="discover",
    where=Where.ANYWHERE,
)


@lru_cache(QUERIES_KEPT_MAX)
def read_query(text: str) -> tuple[Query, tuple[str, ...]]:
    """Return the query of a request, and the parameters in it that are ignored.

    Raises `CallerError` 400 ``bad_request``.
    """
    fields = Fields.of_query(text, FIELDS)
    asked = fields.take(STATES)
    refused = fields.take(EXCLUDE_STATES)
    # A caller that names states wants them, also those that are excluded by default.
    excluded = refused if refused is not None else frozenset() if asked else EXCLUDED_BY_DEFAULT
    wanted = asked or frozenset(LIVE_STATES)
    states = tuple(state for state in LIVE_STATES if state in wanted and state not in excluded)
    query = Query(
        names=fields.take(SERVICES, frozenset[str]()),
        states=states,
        # States excluded by name are no answer, not even if no other node is left.
        fallback_states=tuple(state for state in LIVE_STATES if state not in (refused or ()))
        if states
        else (),
        max_results=fields.take(MAX_RESULTS, RESULTS_DEFAULT),
        min_last_seen_at=fields.take(MIN_LAST_SEEN),
        # Late nodes have scores below 0.
        min_score=fields.take(MIN_AVAILABILITY) or None,
        region=fields.take(REGION) or None,
        near=fields.take(NEAR) or None,
    )
    fields.finish()
    return query, tuple(fields.ignored)

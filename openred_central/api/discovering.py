"""``GET /discover``: peers by service, a fair draw, the better available first."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from ..directory.discovery import Query
from ..directory.lifecycle import LIVE_STATES, State
from ..micro_engine.wire.messages import Request, Response
from .service import Api
from .wire import values
from .wire.describing import descriptions
from .wire.fields import Field, Fields

RESULTS_DEFAULT = 50
EXCLUDED_BY_DEFAULT = frozenset({State.COMA, State.DEAD})

SERVICES = Field(
    "services",
    values.service_query,
    f"Names joined by commas, at most {values.SERVICES_MAX}; the nodes offer all of them.",
    alias="capabilities",
)
MAX_RESULTS = Field(
    "max_results", values.max_results, f"So many nodes at most; {RESULTS_DEFAULT} where it is not said."
)
STATES = Field("states", values.states, "Names of states, joined by commas, in any case: only these.")
EXCLUDE_STATES = Field(
    "exclude_states",
    values.states,
    "States that do not count; `coma,dead` where neither this nor `states` is said.",
)
MIN_LAST_SEEN = Field("min_last_seen", values.time, "Only nodes that were heard since.")
REGION = Field("region", values.region_query, "Only nodes of this region.")
NEAR = Field("near", values.region_query, "Nodes of this region first.")
FIELDS: tuple[Field[Any], ...] = (
    *(SERVICES, MAX_RESULTS, STATES, EXCLUDE_STATES),
    *(MIN_LAST_SEEN, REGION, NEAR),
)


async def discover(api: Api, request: Request) -> Response:
    """Answer 200 with up to ``max_results`` nodes."""
    started = api.now()
    query, ignored = read_query(request.query)
    draw = api.directory.discover(query, started)
    found = draw.step()
    if found is None:
        # One walk at a time: many together would each take their step in the same turn of the loop.
        async with api.walks:
            while found is None:
                await asyncio.sleep(0)
                found = draw.step()
    nodes = descriptions(api.directory, found.slots, started, found.availabilities)
    query_time_ms = round((api.now().monotonic_s - started.monotonic_s) * 1_000, 3)
    end = (
        f'],"total_found":{found.total},"returned":{len(nodes)},'
        f'"query_time_ms":{query_time_ms},"degraded":{"true" if found.degraded else "false"}'
    ).encode()
    if ignored:
        end += b',"ignored":%b' % orjson.dumps(ignored)
    return Response(b'{"nodes":[%b%b}' % (b",".join(nodes), end))


def read_query(text: str) -> tuple[Query, list[str]]:
    """Return the query of a request, and the parameters in it that are ignored.

    Raises `CallerError` 400 ``bad_request``.
    """
    fields = Fields.of_query(text, FIELDS)
    asked = fields.take(STATES)
    refused = fields.take(EXCLUDE_STATES)
    # Whoever names states wants them, also those that are left out by default.
    excluded = refused if refused is not None else frozenset() if asked else EXCLUDED_BY_DEFAULT
    wanted = asked or frozenset(LIVE_STATES)
    states = tuple(state for state in LIVE_STATES if state in wanted and state not in excluded)
    query = Query(
        names=fields.take(SERVICES, frozenset[str]()),
        states=states,
        # Who was refused by name is no answer, not even where nobody else is left.
        fallback_states=tuple(state for state in LIVE_STATES if state not in (refused or ()))
        if states
        else (),
        max_results=fields.take(MAX_RESULTS, RESULTS_DEFAULT),
        min_last_seen_at=fields.take(MIN_LAST_SEEN),
        region=fields.take(REGION) or None,
        near=fields.take(NEAR) or None,
    )
    fields.finish()
    return query, fields.ignored

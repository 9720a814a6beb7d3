"""``GET /discover``: peers by service, a fair draw, the better available first."""

from __future__ import annotations

import asyncio

from ..directory.discovery import Query
from ..directory.lifecycle import LIVE_STATES, State
from ..micro_engine.messages import Request, Response
from ..micro_engine.target import parse_query
from . import values
from .describing import descriptions
from .fields import Fields
from .service import Api

RESULTS_DEFAULT = 50
EXCLUDED_BY_DEFAULT = frozenset({State.COMA, State.DEAD})


async def discover(api: Api, request: Request) -> Response:
    """Answer 200 with up to ``max_results`` nodes."""
    query, started = read_query(request.query), api.now()
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
    return Response(
        f'{{"nodes":[{",".join(nodes)}],"total_found":{found.total},"returned":{len(nodes)},'
        f'"query_time_ms":{query_time_ms},"degraded":{"true" if found.degraded else "false"}}}'.encode()
    )


def read_query(text: str) -> Query:
    """The query of a request. Raises `CallerError` 400 ``bad_request``."""
    fields = Fields(parse_query(text), "query")
    asked = fields.take("states", values.states)
    refused = fields.take("exclude_states", values.states)
    # Whoever names states wants them, also those that are left out by default.
    excluded = refused if refused is not None else frozenset() if asked else EXCLUDED_BY_DEFAULT
    wanted = asked or frozenset(LIVE_STATES)
    states = tuple(state for state in LIVE_STATES if state in wanted and state not in excluded)
    query = Query(
        names=fields.take("services", values.service_query, frozenset[str](), alias="capabilities"),
        states=states,
        # Who was refused by name is no answer, not even where nobody else is left.
        fallback_states=tuple(state for state in LIVE_STATES if state not in (refused or ()))
        if states
        else (),
        max_results=fields.take("max_results", values.max_results, RESULTS_DEFAULT),
        min_last_seen_at=fields.take("min_last_seen", values.time),
        region=fields.take("region", values.region) or None,
        near=fields.take("near", values.region) or None,
    )
    fields.finish()
    return query

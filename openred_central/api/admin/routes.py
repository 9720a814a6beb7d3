"""The table of the operators' endpoints, which the public listener does not serve."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ...micro_engine.engine import Engine
from ...micro_engine.router import READING_METHODS
from ...micro_engine.wire.messages import Request, Response
from . import acting, blocking, clustering, listing, page
from .admission import AdminEndpoint, Admission, Desk

METRICS = acting.METRICS
ADMIN_ENDPOINTS = (
    *(listing.LIST_NODES, listing.GET_NODE, listing.COUNT_NODES, listing.LIST_DARK),
    *(acting.WAKE_NODE, acting.HOLD_NODE, acting.RELEASE_NODE, acting.PURGE_NODE),
    *(acting.SNAPSHOT, acting.RELEASE_MASS_SILENCE, acting.ROTATE_KEYS, acting.REVOKE_KEY),
    *(blocking.BLOCK, blocking.UNBLOCK, blocking.LIST_BLOCKS),
    *(acting.FORGET_INSTANCE, clustering.ACCEPT_DATABASE, clustering.LIST_LOST),
)


def install(engine: Engine, desk: Desk, admission: Admission) -> None:
    """Let `engine` serve every endpoint to callers that `admission` admits."""
    for endpoint in ADMIN_ENDPOINTS:
        # No page in a browser may read an answer, and no body is read.
        engine.route(endpoint.path, [endpoint.method], body="none", cors=False)(
            _admitted(endpoint, desk, admission)
        )

    async def metrics(request: Request) -> Response:
        # Not audited: it is no action, and scrapers send it every few seconds.
        admission.check_host(request)
        if not admission.metrics_open:
            admission.require(request)
        return await METRICS.handler(desk, request)

    engine.route(METRICS.path, [METRICS.method], cors=False)(metrics)

    async def open_page(request: Request) -> Response:
        # Not audited: the page holds nothing, and what it does is audited.
        admission.check_host(request)
        return page.operators_page().answer(request)

    engine.route(page.PATH, ["GET"], cors=False)(open_page)


def _admitted(
    endpoint: AdminEndpoint, desk: Desk, admission: Admission
) -> Callable[..., Coroutine[Any, Any, Response]]:
    """Wrap the handler of `endpoint`: it is admitted and audited."""

    async def act(request: Request, *names: str) -> Response:
        if desk.refusal is not None and endpoint.method not in READING_METHODS and not endpoint.anywhere:
            raise desk.refusal()
        return await endpoint.handler(desk, request, *names)

    async def admitted(request: Request, *names: str) -> Response:
        subject = " ".join(names) or None
        return await admission.audited(request, endpoint.action, subject, lambda: act(request, *names))

    return admitted

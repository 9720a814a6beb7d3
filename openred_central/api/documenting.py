"""``GET /openapi.json`` and ``GET /docs``: the description of the API, for programs and for people."""

from __future__ import annotations

from ..micro_engine.wire.messages import Request, Response
from .service import Api


async def openapi(api: Api, request: Request) -> Response:
    """Answer 200 with the OpenAPI document, 304 where the caller has it."""
    return (await api.documents()).openapi.answer(request)


async def reference(api: Api, request: Request) -> Response:
    """Answer 200 with the reference page, 304 where the caller has it."""
    return (await api.documents()).reference.answer(request)

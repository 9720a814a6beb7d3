"""``POST /heartbeat/{node_id}``: a sign of life, and with a body a change of what may change so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from ..clock import Now
from ..directory.lifecycle import WIRE_NAMES, State
from ..directory.registration import Registration
from ..directory.state.node import DISCOVERABLE, KEYED, OBSERVED, Profile
from ..micro_engine.wire.messages import Request, Response
from . import registering
from .caller.limiting import HeaderFields
from .caller.proving import NOTHING, Means, Shown
from .registering import check_addresses, is_observed
from .service import Api
from .wire import values
from .wire.fields import Field, Fields, Wrong
from .wire.moments import times_told

NOTED = "Noted."
_WELCOME_BACK = "Welcome back. Your identity was kept."
METADATA = Field("metadata", values.merge_patch, "What changes of the metadata.")
ADDRESS = replace(registering.ADDRESS, required=False)
PORT = replace(registering.PORT, required=False)
SERVICES = replace(registering.SERVICES, description="What the node offers now, instead of what it did.")
FIELDS: tuple[Field[Any], ...] = (SERVICES, METADATA, ADDRESS, PORT)


async def heartbeat(api: Api, request: Request, node_id: str) -> Response:
    """Answer 200 from memory, or once a change that came along is durable; 202 where the store fails.

    A signature that binds the node to its key is such a change, also without a body.
    """
    now = api.now()
    if request.body:
        return await _update(api, request, node_id, now)
    slot = api.directory.slot(node_id, now)
    shown = api.prover.for_sign_of_life(request, slot, now)
    limits = api.limits.charge_heartbeat(request, slot, proved=bool(shown))
    previous = api.directory.heartbeat(slot, now)
    session, change = _grant(api, shown, slot, now) if shown is not NOTHING else (None, None)
    body = _describe(api, node_id, slot, previous, now, session)
    if change is None:
        return Response(body, headers=limits)
    return await _answer_change(api, slot, body, {}, change, limits)


async def _update(api: Api, request: Request, node_id: str, now: Now) -> Response:
    slot = api.directory.slot(node_id, now)
    registration = _read_update(api, request, slot, Fields.of_body(request.json()))
    changed = api.directory.amended(slot, registration, now)
    # An asleep node that changes its data has to prove itself before it is revived by that.
    shown = (api.prover.require if changed else api.prover.for_sign_of_life)(request, slot, now)
    limits = api.limits.charge_heartbeat(request, slot, proved=bool(shown))
    # First, because there may be no room for it; then nothing has happened.
    change = api.directory.amend(changed) if changed else None
    body = _describe(api, node_id, slot, api.directory.heartbeat(slot, now), now)
    session, bound = _grant(api, shown, slot, now)
    more: dict[str, Any] = {} if session is None else {"session": session}
    if change is None and bound is None:
        return Response(_with(body, more), headers=limits)
    return await _answer_change(api, slot, body, more, max(change or 0, bound or 0), limits)


async def _answer_change(
    api: Api, slot: int, body: bytes, more: dict[str, Any], change: int, limits: HeaderFields
) -> Response:
    """Answer with `body` and `more` when `change` is durable, or 202 where it is not yet."""
    more["revision"] = api.directory.nodes.registry.record(slot).revision
    more["durable"] = await api.saved(change)
    return Response(_with(body, more), status=api.status(200, durable=more["durable"]), headers=limits)


def _grant(api: Api, shown: Shown, slot: int, now: Now) -> tuple[str | None, int | None]:
    """Give a session to who has `shown` to be the node in `slot`, and bind it to the key that it signed with.

    Returns the session and the number of the change, each None where there is none.
    """
    session = api.prover.fresh_session(shown, slot, now)
    if shown.means is Means.KEY and not api.prover.is_bound(slot):
        return session, api.directory.bind(slot)
    return session, None


def _read_update(api: Api, request: Request, slot: int, fields: Fields) -> Registration:
    """Return what the node in `slot` says of itself, with the fields of the body applied."""
    registry = api.directory.nodes.registry
    record = registry.record(slot)
    profile = Profile.decode(record.profile)
    patch = fields.take(METADATA)
    if patch is not None:
        try:
            profile = profile._replace(metadata=values.metadata(_merged(profile.metadata, patch)))
        except Wrong as wrong:
            fields.reject(METADATA.name, f"after merging, it {wrong}")
    address = fields.take(ADDRESS, profile.address)
    port = fields.take(PORT, profile.port)
    services = fields.take(SERVICES, record.services)
    fields.finish()
    moved = address != profile.address
    profile = profile._replace(address=address, port=port)
    if moved:
        # Further endpoints are not named here, and were looked at when they were.
        check_addresses(api, request, profile._replace(addresses=()))
    return Registration(
        node_id=record.node_id,
        profile=profile,
        services=services,
        region=record.region,
        discoverable=bool(record.flags & DISCOVERABLE),
        is_keyed=bool(record.flags & KEYED),
        is_observed=is_observed(api, request, profile) if moved else bool(record.flags & OBSERVED),
    )


def _merged(target: Any, patch: Any) -> Any:
    """`target` with a JSON merge patch applied (RFC 7396 §2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _describe(
    api: Api, node_id: str, slot: int, previous: State, now: Now, session: str | None = None
) -> bytes:
    """Return the answer to a sign of life that found the node in state `previous`, as JSON."""
    message = NOTED if previous is State.ACTIVE else _WELCOME_BACK
    told = times_told(now.wall_s, api.directory.heartbeat_due_at(now, slot))
    return reply(node_id, WIRE_NAMES[previous], told, api.heartbeat_advice_s(), message, session)


def reply(
    node_id: str, previous: str, told: str, advice_s: float, message: str, session: str | None
) -> bytes:
    """Return the answer from its parts; `told` holds both times as JSON.

    It is joined by hand, since nothing in it needs escaping and every heartbeat makes one.
    """
    granted = "" if session is None else f',"session":"{session}"'
    return (
        f'{{"status":"heartbeat_received","node_id":"{node_id}","current_state":"active",'
        f'"previous_state":"{previous}",{told},"heartbeat_advice_s":{advice_s},"message":"{message}"{granted}}}'
    ).encode()


def _with(body: bytes, more: dict[str, Any]) -> bytes:
    """Return the JSON object `body`, which has members already, with those of `more` behind them."""
    return b"%b,%b" % (body[:-1], orjson.dumps(more)[1:]) if more else body

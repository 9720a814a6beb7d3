"""``POST /heartbeat/{node_id}``: a sign of life; with a body also a change of the node's data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from ..clock import Now
from ..directory.lifecycle import WIRE_NAMES, State
from ..directory.registration import Registration
from ..directory.state.node import DISCOVERABLE, KEYED, OBSERVED, UNREMEMBERED, Profile
from ..micro_engine.wire.messages import Request, Response
from . import registering
from .caller.addresses import check_addresses, is_observed
from .caller.limiting import HeaderFields
from .caller.proving import NOTHING, Means, Shown
from .endpoint import CLAIM, LIMITED, PENDING, PROOF, SESSION, SIGNATURE, Endpoint, Reply, Where
from .fast_heartbeat import NOTED, prepare, reply
from .service import Api, heartbeat_times
from .wire import schemas, values
from .wire.fields import Field, Fields, Wrong, only

_WELCOME_BACK = "Welcome back. Your identity was kept."
METADATA = Field("metadata", values.merge_patch, "Changes to the metadata.")
ADDRESS = replace(registering.ADDRESS, required=False)
PORT = replace(registering.PORT, required=False)
SERVICES = replace(registering.SERVICES, description="The services that the node offers from now on.")
RECEIVED = schemas.thing(
    "HeartbeatReceived",
    {
        "status": only("heartbeat_received"),
        "node_id": schemas.NODE_ID,
        "current_state": only(State.ACTIVE.wire),
        "previous_state": schemas.STATE,
        "last_heartbeat": schemas.TIME,
        "next_heartbeat_due": schemas.TIME,
        "heartbeat_advice_s": schemas.ADVICE_S,
        "message": schemas.TEXT,
        "session": schemas.SESSION,
        "revision": {**schemas.COUNT, "description": "Present if the record changed."},
        "durable": schemas.DURABLE,
    },
    optional=("session", "revision", "durable"),
)


async def heartbeat(api: Api, request: Request, node_id: str) -> Response:
    """Take a sign of life. The first signature changes the record even without a body: it binds the key."""
    now = api.now()
    if request.body:
        return await _update(api, request, node_id, now)
    slot = api.directory.open_slot(node_id, now)
    shown = api.prover.for_sign_of_life(request, slot, now)
    limits = api.limits.charge_heartbeat(request, slot, proved=shown is not NOTHING)
    previous = api.directory.heartbeat(slot, now)
    session, change = _grant(api, shown, slot, now) if shown is not NOTHING else (None, None)
    body = _describe(api, node_id, slot, previous, now, session)
    if change is None:
        return Response(body, headers=limits)
    return await _answer_change(api, slot, body, {}, change, limits)


HEARTBEAT = Endpoint(
    "POST",
    "/heartbeat/{node_id}",
    heartbeat,
    name="heartbeat",
    tag="Nodes",
    summary="Give a sign of life",
    description="Revives a node in any state but `dead`. With a body it also changes the fields sent: "
    "`services` are replaced, `metadata` is merged. The answer to a change comes once it is durable.",
    body=(SERVICES, METADATA, ADDRESS, PORT),
    body_required=False,
    replies={
        200: Reply("The sign of life was received.", RECEIVED, headers=LIMITED),
        202: Reply(PENDING, RECEIVED, headers=LIMITED),
    },
    problems=(*PROOF, "directory_full"),
    proofs=(None, SIGNATURE, SESSION, CLAIM),
    prepare=prepare,
    where=Where.SIGN_OF_LIFE,
)


async def _update(api: Api, request: Request, node_id: str, now: Now) -> Response:
    slot = api.directory.open_slot(node_id, now)
    registration = _read_update(api, request, slot, Fields.of_body(request.json()))
    changed = api.directory.amended(slot, registration, now)
    # A change needs a proof also from a node that is asleep, before the change revives it.
    prove = api.prover.for_sign_of_life if changed is None else api.prover.require
    shown = prove(request, slot, now)
    limits = api.limits.charge_heartbeat(request, slot, proved=shown is not NOTHING)
    # Amends first: if there is no room, nothing has happened.
    change = None if changed is None else api.directory.amend(changed)
    body = _describe(api, node_id, slot, api.directory.heartbeat(slot, now), now)
    session, bound = _grant(api, shown, slot, now)
    more: dict[str, Any] = {} if session is None else {"session": session}
    if change is None and bound is None:
        return Response(_with(body, more), headers=limits)
    return await _answer_change(api, slot, body, more, max(change or 0, bound or 0), limits)


async def _answer_change(
    api: Api, slot: int, body: bytes, more: dict[str, Any], change: int, limits: HeaderFields
) -> Response:
    """Answer with `body` and `more` once `change` is durable, or 202 if the store fails."""
    more["revision"] = api.directory.nodes.registry.revision(slot)
    more["durable"] = await api.saved(change)
    return Response(_with(body, more), status=api.status(200, durable=more["durable"]), headers=limits)


def _grant(api: Api, shown: Shown, slot: int, now: Now) -> tuple[str | None, int | None]:
    """Grant a session for what was `shown`, and bind the node in `slot` to the key that it signed with.

    Returns the session and the number of the change, or None for each.
    """
    session = api.prover.fresh_session(shown, slot, now)
    if shown.means is Means.KEY and not api.prover.is_bound(slot):
        return session, api.directory.bind(slot)
    return session, None


def _read_update(api: Api, request: Request, slot: int, fields: Fields) -> Registration:
    """Return the registration of the node in `slot` with the fields of the body applied."""
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
    origin = api.limits.origin(request)
    profile = profile._replace(address=address, port=port)
    if moved:
        # The further endpoints were checked when they were registered.
        check_addresses(origin, profile._replace(addresses=()), strict=api.prover.strict)
    return Registration(
        node_id=record.node_id,
        profile=profile,
        services=services,
        region=record.region,
        discoverable=bool(record.flags & DISCOVERABLE),
        habits=not record.flags & UNREMEMBERED,
        is_keyed=bool(record.flags & KEYED),
        is_observed=is_observed(origin, profile) if moved else bool(record.flags & OBSERVED),
    )


def _merged(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON merge patch applied (RFC 7396 §2)."""
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
    """Return the reply to a sign of life that found the node in state `previous`, as JSON."""
    message = NOTED if previous is State.ACTIVE else _WELCOME_BACK
    times = heartbeat_times(now.wall_s, api.directory.heartbeat_due_at(now, slot))
    advice_s = api.directory.advice_s(slot, now)
    return reply(node_id, WIRE_NAMES[previous], times, advice_s, message, session)


def _with(body: bytes, more: dict[str, Any]) -> bytes:
    """Return the JSON object `body`, which has members, with those of `more` appended."""
    return b"%b,%b" % (body[:-1], orjson.dumps(more)[1:]) if more else body

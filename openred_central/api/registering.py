"""``POST /register``: add, update or revive a node. ``POST /nodes/{node_id}/key``: give it another key."""

from __future__ import annotations

from typing import Any

from ..clock import Now
from ..directory.directory import Registered
from ..directory.lifecycle import WIRE_NAMES
from ..directory.registration import Registration, repeats_first
from ..directory.state.node import PROVEN, Profile
from ..errors import CallerError
from ..limits.origins import Origin
from ..micro_engine.wire.messages import Request, Response
from ..security.node_keys import InvalidKey, NodeKey, RefusedKey, load_node_key
from ..wording import rfc3339
from .caller.addresses import check_addresses, is_observed
from .caller.proving import NOTHING, Means, Shown
from .endpoint import CLAIM, LIMITED, PENDING, PROOF, SIGNATURE, Endpoint, Reply
from .fast_registration import register_plainly
from .service import Api
from .wire import schemas, values
from .wire.describing import address_source_of, identity_of, key_status_of
from .wire.fields import Field, Fields, only, or_null
from .wire.schemas import TEXT, thing

NODE_ID = Field("node_id", values.node_id, "The name of the node.", required=True)
ADDRESS = Field("address", values.address, "Where the node listens.", required=True, alias="ip_address")
PORT = Field("port", values.port, "The port on which it listens.", required=True)
PUBLIC_KEY = Field("public_key", values.public_key, "The public key of the node.", required=True)
SERVICES = Field("services", values.services, "What the node offers.", alias="capabilities")
METADATA = Field("metadata", values.metadata, "Anything else that peers should know.")
REGION = Field("region", values.region, "The region of the node, named as the operator of the node likes.")
ADDRESSES = Field("addresses", values.addresses, "More endpoints of the node.")
DISCOVERABLE = Field("discoverable", values.flag, "Whether others may find the node, as by default.")
HABITS = Field(
    "habits",
    values.flag,
    "Whether the directory may remember when the node is there, as by default; false erases what it has.",
)
AWAY_UNTIL = Field(
    "away_until",
    values.time_or_none,
    "Announces an absence: the node stays active until this time, which is at most a coma ahead; null "
    "withdraws it.",
)
NEXT_KEY = Field(
    "next_key",
    values.next_key,
    "The id of the node's next key: commits the node to it. Only that key may follow, and only the change to "
    "it names another. Needs a signature.",
)
NEW_KEY = Field("public_key", values.public_key, "The new key of the node.", required=True)
FOLLOWING_KEY = Field(
    "next_key",
    values.next_key,
    "The id of the key after the new one: commits the node to it; none by default.",
)
REGISTERED = thing(
    "Registered",
    {
        "status": {"enum": ["registered", "updated", "revived"]},
        "node_id": schemas.NODE_ID,
        "state": schemas.STATE,
        "registered_at": schemas.TIME,
        "last_seen": schemas.TIME,
        "next_heartbeat_due": schemas.TIME,
        "heartbeat_advice_s": schemas.ADVICE_S,
        "observed_address": {**or_null(TEXT), "description": "The address that the request came from."},
        "identity": schemas.IDENTITY,
        "address_source": schemas.ADDRESS_SOURCE,
        "key_status": schemas.KEY_STATUS,
        "durable": schemas.DURABLE,
        "revision": schemas.COUNT,
        "message": TEXT,
        "claim": {
            "type": "string",
            "description": "Proves later changes, as `Authorization: Claim <secret>`. Sent to a new node, "
            "and again if it repeats its registration within a minute from its address.",
        },
        "session": schemas.SESSION,
        "previous_state": schemas.STATE,
        "asleep_s": schemas.DURATION_S,
    },
    optional=("claim", "session", "previous_state", "asleep_s"),
)
KEY_CHANGED = thing(
    "KeyChanged",
    {
        "status": only("key_changed"),
        "node_id": TEXT,
        "public_key_fingerprint": TEXT,
        "key_generation": schemas.COUNT,
        "next_key": or_null(TEXT),
        "revision": schemas.COUNT,
        "session": or_null(schemas.SESSION),
        "message": TEXT,
        "durable": schemas.DURABLE,
        "everywhere": schemas.EVERYWHERE,
    },
    optional=("everywhere",),
)


async def register(api: Api, request: Request) -> Response:
    body, origin, now = request.json(), api.limits.origin(request), api.now()
    registered = register_plainly(api, request, body, origin, now) if api.fast_path else None
    shown, again = NOTHING, False
    if registered is None:
        registered, shown, again = _register(api, request, body, origin, now)
    if registered.outcome == "registered":
        api.limits.node_added(origin, registered.slot)
    document = _describe(api, origin, registered, now, again=again)
    if session := api.prover.fresh_session(shown, registered.slot, now):
        document["session"] = session
    durable = document["durable"] = await api.saved(registered.change)
    status = api.status(201 if registered.outcome == "registered" else 200, durable=durable)
    if status == 202:
        document["message"] += " It is not on disk yet: the store is catching up."
    elif not durable:
        document["message"] += " This directory keeps nothing over a restart."
    return Response.json(document, status=status)


def _register(
    api: Api, request: Request, body: Any, origin: Origin, now: Now
) -> tuple[Registered, Shown, bool]:
    """Register the node of a `body`.

    Return the result, the proof in the request, and whether it only repeats the registration of a new node.
    """
    registration, key = _read_registration(api, Fields.of_body(body), origin, now)
    check_addresses(origin, registration.profile, strict=api.prover.strict)
    registry = api.directory.nodes.registry
    known = registry.slot_of(registration.node_id)
    again = known is not None and repeats_first(
        registry.record(known), registration, now, api.directory.lifecycle.coma_s
    )
    permit = api.prover.for_registration(request, registration, key, known, now)
    if known is None:
        api.limits.charge_new_node(origin)
    registered = api.directory.register(registration, proved=permit.proved, signed=permit.signed, now=now)
    return registered, permit.shown, again


# The public key of RFC 8032 §7.1, test 1, whose private key all the world knows.
EXAMPLE_KEY = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    "-----END PUBLIC KEY-----"
)

REGISTER = Endpoint(
    "POST",
    "/register",
    register,
    name="register",
    tag="Nodes",
    summary="Add a node, or update or revive it",
    description="A proof updates a known node, and revives it if it was silent. Repeating known data needs "
    "no proof, unless the node is bound to its key.",
    body=(
        *(NODE_ID, ADDRESS, PORT, PUBLIC_KEY, SERVICES, METADATA, REGION),
        *(ADDRESSES, DISCOVERABLE, HABITS, AWAY_UNTIL, NEXT_KEY),
    ),
    example_body={
        "node_id": "alice",
        "address": "192.0.2.1",
        "port": 7000,
        "public_key": "alices-key",
        "services": ["storage"],
    },
    replies={
        200: Reply("The node was updated or revived.", REGISTERED, headers=LIMITED),
        201: Reply("The node was registered.", REGISTERED, headers=LIMITED),
        202: Reply(PENDING, REGISTERED, headers=LIMITED),
    },
    problems=(
        *("invalid_key", "proof_required", "forbidden", "node_id_taken", "rate_limited"),
        "directory_full",
    ),
    proofs=(None, SIGNATURE, CLAIM),
    leads_to=("heartbeat", "getNode", "deleteNode", "changeKey"),
    aliases=("/api/v3/nodes/register",),
    limit="register",
)


async def change_key(api: Api, request: Request, node_id: str) -> Response:
    fields, now = Fields.of_body(request.json()), api.now()
    given = fields.take(NEW_KEY, "")
    next_key = fields.take(FOLLOWING_KEY, "")
    fields.finish()
    try:
        key = load_node_key(given, rsa_bits_min=api.rsa_bits_min)
    except InvalidKey as error:
        raise invalid_key(error) from None
    slot = api.directory.open_slot(node_id, now)
    api.prover.for_key_change(request, slot, key, now)
    # A crash must not bring a former key back.
    api.require_store()
    change = api.directory.change_key(slot, key.text, next_key)
    record = api.directory.nodes.registry.record(slot)
    document = {
        "status": "key_changed",
        "node_id": node_id,
        "public_key_fingerprint": key.key_id,
        "key_generation": record.generation,
        "next_key": next_key or None,
        "revision": record.revision,
        "session": api.prover.fresh_session(Shown(Means.KEY, key_id=key.key_id), slot, now),
        "message": "The new key counts; the former key and its grants are void.",
    }
    durable = document["durable"] = await api.saved(change)
    document |= await api.spread()
    return Response.json(document, status=api.status(200, durable=durable))


CHANGE_KEY = Endpoint(
    "POST",
    "/nodes/{node_id}/key",
    change_key,
    name="changeKey",
    tag="Security",
    summary="Give the node another key",
    description="Signed by both keys, under the labels `old` and `new`; by the new key alone if it was "
    "named as the next. Grants of the former key are void from then on.",
    body=(NEW_KEY, FOLLOWING_KEY),
    example_body={"public_key": EXAMPLE_KEY},
    replies={200: Reply("The key was changed.", KEY_CHANGED), 202: Reply(PENDING, KEY_CHANGED)},
    problems=("invalid_key", *PROOF, "store_unavailable"),
    proofs=(SIGNATURE, CLAIM),
)


def _read_registration(
    api: Api, fields: Fields, origin: Origin, now: Now
) -> tuple[Registration, NodeKey | None]:
    """Return the registration in the fields of a body, and its key, None if that is only text.

    Raises `CallerError` 400 ``bad_request`` and ``invalid_key``.
    """
    address, port, given = fields.take(ADDRESS, ""), fields.take(PORT, 0), fields.take(PUBLIC_KEY, "")
    addresses, metadata = fields.take(ADDRESSES, ()), fields.take(METADATA, {})
    node_id, services, region = fields.take(NODE_ID, ""), fields.take(SERVICES, ""), fields.take(REGION, "")
    discoverable, habits = fields.take(DISCOVERABLE, True), fields.take(HABITS, True)
    away_until_at = _read_away(fields, now, api.directory.lifecycle.coma_s)
    next_key = fields.take(NEXT_KEY)
    fields.finish()
    key = _load_key(api, given)
    profile = Profile(address, port, given if key is None else key.text, addresses, metadata)
    registration = Registration(
        node_id,
        profile,
        services,
        region,
        discoverable,
        habits,
        away_until_at,
        is_keyed=key is not None,
        key_as_given=given,
        next_key=next_key,
        is_observed=is_observed(origin, profile),
    )
    return registration, key


def _load_key(api: Api, given: str) -> NodeKey | None:
    """Return the key in a ``public_key``, or None if it is some text and that is allowed."""
    try:
        return load_node_key(given, rsa_bits_min=api.rsa_bits_min)
    except InvalidKey as error:
        if api.prover.strict or isinstance(error, RefusedKey):
            raise invalid_key(error) from None
        return None


def invalid_key(error: InvalidKey) -> CallerError:
    """Make the error for a ``public_key`` that is refused."""
    return CallerError(
        400,
        "invalid_key",
        str(error),
        suggestion="Make one with `openred-central keygen`, or `openssl genpkey -algorithm ed25519`.",
        fields={"public_key": str(error)},
    )


def _read_away(fields: Fields, now: Now, away_s_max: float) -> float | None:
    if not fields.has(AWAY_UNTIL):
        return None
    away_until_at = fields.take(AWAY_UNTIL)
    if away_until_at is None:
        # Null withdraws an announcement.
        return 0.0
    if away_until_at <= now.wall_s:
        fields.reject(AWAY_UNTIL.name, "has to lie ahead; null withdraws an announced absence")
    if away_until_at > now.wall_s + away_s_max:
        fields.reject(AWAY_UNTIL.name, f"may be at most {away_s_max:.0f} seconds ahead")
    return away_until_at


def _describe(api: Api, origin: Origin, registered: Registered, now: Now, *, again: bool) -> dict[str, Any]:
    registry, slot = api.directory.nodes.registry, registered.slot
    node_id, flags, registered_at = registry.node_id(slot), registry.flags[slot], registry.registered_at[slot]
    last_seen = rfc3339(registry.last_seen_at[slot])
    document: dict[str, Any] = {
        "status": registered.outcome,
        "node_id": node_id,
        "state": WIRE_NAMES[registry.states[slot]],
        "registered_at": last_seen if registered.outcome == "registered" else rfc3339(registered_at),
        "last_seen": last_seen,
        "next_heartbeat_due": rfc3339(api.directory.heartbeat_due_at(now, slot)),
        "heartbeat_advice_s": api.directory.advice_s(slot, now),
        "observed_address": origin.address or None,
        "identity": identity_of(flags),
        "address_source": address_source_of(flags),
        "key_status": key_status_of(flags),
        "durable": False,
        "revision": registry.revision(slot),
    }
    if registered.outcome == "registered":
        if flags & PROVEN:
            document["message"] = "Welcome. The node is bound to its key: sign every change from now on."
        else:
            document["claim"] = api.prover.claims.claim(node_id, registered_at)
            document["message"] = "Welcome. Keep the claim: it proves later changes."
    elif registered.outcome == "revived":
        document["previous_state"] = registered.previous_state.wire
        document["asleep_s"] = round(registered.slept_s, 3)
        document["message"] = "Welcome back. Your identity was kept."
    elif again and not flags & PROVEN:
        # The answer with the claim may have been lost on its way to this address.
        document["claim"] = api.prover.claims.claim(node_id, registered_at)
        document["message"] = "The node is registered already. Keep the claim: it proves later changes."
    else:
        document["message"] = "The record is up to date."
    return document

"""``POST /register``: add a node, or update or revive the one that is already there."""

from __future__ import annotations

from typing import Any

from ..clock import Now
from ..directory.directory import Registered
from ..directory.registration import Registration
from ..directory.state.node import PROVEN, Profile
from ..errors import CallerError
from ..limits.origins import is_at, may_be_at
from ..micro_engine.wire.messages import Request, Response
from ..security.node_keys import InvalidKey, NodeKey, RefusedKey, load_node_key
from .caller.proving import Means, Shown
from .service import Api
from .wire import values
from .wire.describing import address_source_of, identity_of, key_status_of
from .wire.fields import Field, Fields
from .wire.times import rfc3339

NODE_ID = Field("node_id", values.node_id, "The name of the node.", required=True)
ADDRESS = Field("address", values.address, "Where the node listens.", required=True, alias="ip_address")
PORT = Field("port", values.port, "The port on which it listens.", required=True)
PUBLIC_KEY = Field("public_key", values.public_key, "The key that the node signs with.", required=True)
SERVICES = Field("services", values.services, "What the node offers.", alias="capabilities")
METADATA = Field("metadata", values.metadata, "Whatever else peers should know.")
REGION = Field("region", values.region, "Where in the world the node is, in a word of its own.")
ADDRESSES = Field("addresses", values.addresses, "More endpoints of the node.")
DISCOVERABLE = Field("discoverable", values.flag, "Whether others may find the node; they may by default.")
AWAY_UNTIL = Field(
    "away_until",
    values.time_or_none,
    "Nobody checks before this time. It lies ahead, and no further than a coma lasts; null takes it back.",
)
NEXT_KEY = Field(
    "next_key",
    values.next_key,
    "Commits the node to its next key, by its id: no other one may take over, and only the change to that "
    "names another. Only with a signature.",
)
FIELDS: tuple[Field[Any], ...] = (
    *(NODE_ID, ADDRESS, PORT, PUBLIC_KEY, SERVICES, METADATA, REGION),
    *(ADDRESSES, DISCOVERABLE, AWAY_UNTIL, NEXT_KEY),
)


async def register(api: Api, request: Request) -> Response:
    """Answer 201 ``registered``, 200 ``updated`` or ``revived``, 202 where it is not durable yet."""
    fields, now = Fields.of_body(request.json()), api.now()
    registration, key = read_registration(
        fields, now, api.directory.lifecycle.coma_s, api.rsa_bits_min, takes_text=not api.prover.strict
    )
    check_addresses(api, request, registration.profile)
    registration = registration._replace(is_observed=is_observed(api, request, registration.profile))
    known = api.directory.nodes.registry.slot_of(registration.node_id)
    means = Means.NOTHING
    # Who repeats what is known needs no proof, so a void one does not keep a node from coming back.
    if (
        known is None
        or api.prover.needs_proof(request, known)
        or api.directory.amended(known, registration, now)
    ):
        means = api.prover.for_registration(request, registration.node_id, key, known, now)
    if registration.next_key and means is not Means.KEY:
        raise _next_key_unsigned()
    if known is None:
        api.limits.charge_new_node(request)
    registered = api.directory.register(
        registration, proved=api.prover.proves(means, known, key), signed=means is Means.KEY, now=now
    )
    if registered.outcome == "registered":
        api.limits.node_added(request, registered.slot)
    document = _describe(api, request, registered, now)
    if session := api.prover.fresh_session(Shown(means), registered.slot, now):
        document["session"] = session
    durable = document["durable"] = await api.saved(registered.change)
    status = api.status(201 if registered.outcome == "registered" else 200, durable=durable)
    if status == 202:
        document["message"] += " It is not on disk yet: the store is catching up."
    elif not durable:
        document["message"] += " This directory keeps nothing over a restart."
    return Response.json(document, status=status)


def read_registration(
    fields: Fields, now: Now, away_s_max: float, rsa_bits_min: int, *, takes_text: bool
) -> tuple[Registration, NodeKey | None]:
    """The registration in the fields of a body, and its key; None where that is only text.

    An absence may be announced for at most `away_s_max` seconds ahead; an RSA key has at least `rsa_bits_min`
    bits; `takes_text` says that a ``public_key`` that cannot be read is taken as text. Raises `CallerError`
    400 ``bad_request`` and ``invalid_key``.
    """
    profile = Profile(
        address=fields.take(ADDRESS, ""),
        port=fields.take(PORT, 0),
        public_key=fields.take(PUBLIC_KEY, ""),
        addresses=fields.take(ADDRESSES, ()),
        metadata=fields.take(METADATA, {}),
    )
    given = profile.public_key
    registration = Registration(
        node_id=fields.take(NODE_ID, ""),
        profile=profile,
        services=fields.take(SERVICES, ""),
        region=fields.take(REGION, ""),
        discoverable=fields.take(DISCOVERABLE, True),
        away_until_at=_read_away(fields, now, away_s_max),
        key_as_given=given,
        next_key=fields.take(NEXT_KEY),
    )
    fields.finish()
    try:
        key = load_node_key(given, rsa_bits_min=rsa_bits_min)
    except InvalidKey as error:
        if takes_text and not isinstance(error, RefusedKey):
            return registration, None
        raise invalid_key(error) from None
    return registration._replace(profile=profile._replace(public_key=key.text), is_keyed=True), key


def check_addresses(api: Api, request: Request, named: Profile) -> None:
    """Raise `CallerError` 400 ``bad_request`` where a strict directory is told of another network's endpoint.

    `named` holds the endpoints that the request names. One in another network than the caller's may be a
    victim's. Names are not looked up, and only told as declared.
    """
    origin = api.limits.origin(request)
    if not api.prover.strict or origin.exempt:
        return
    told = [(ADDRESS.name, "", named.address)]
    told += [
        (ADDRESSES.name, f"[{place}] ", endpoint.address) for place, endpoint in enumerate(named.addresses)
    ]
    wrong = [each for each in told if not may_be_at(origin, each[2])]
    if wrong:
        rule = f"has to be in the network that you were seen in, as {origin.address} is"
        raise CallerError(
            400,
            "bad_request",
            f"You were seen at {origin.address}, and register {wrong[0][2]}, which is in another network.",
            suggestion="Register from the network of the address, or register a DNS name.",
            # Where one field has several, the reply names the first.
            fields={name: f"{place}{rule}" for name, place, _ in reversed(wrong)},
        )


def is_observed(api: Api, request: Request, profile: Profile) -> bool:
    """Whether the caller was seen at the one address of all endpoints of `profile`."""
    origin = api.limits.origin(request)
    addresses = (profile.address, *(endpoint.address for endpoint in profile.addresses))
    return all(is_at(origin, address) for address in addresses)


def invalid_key(error: InvalidKey) -> CallerError:
    """The error that tells why a ``public_key`` is not taken."""
    return CallerError(
        400,
        "invalid_key",
        str(error),
        suggestion="Make one with `openred-central keygen`, or `openssl genpkey -algorithm ed25519`.",
        fields={"public_key": str(error)},
    )


def _next_key_unsigned() -> CallerError:
    return CallerError(
        400,
        "bad_request",
        "Only a signed registration may name the next key.",
        suggestion="Sign the request with the node's key, or leave out next_key.",
        fields={"next_key": "needs a signature"},
    )


def _read_away(fields: Fields, now: Now, away_s_max: float) -> float | None:
    if not fields.has(AWAY_UNTIL):
        return None
    away_until_at = fields.take(AWAY_UNTIL)
    if away_until_at is None:
        # Null takes an announcement back.
        return 0.0
    if away_until_at <= now.wall_s:
        fields.reject(AWAY_UNTIL.name, "has to lie ahead; null takes an announced absence back")
    if away_until_at > now.wall_s + away_s_max:
        fields.reject(AWAY_UNTIL.name, f"may be at most {away_s_max:.0f} seconds ahead")
    return away_until_at


def _describe(api: Api, request: Request, registered: Registered, now: Now) -> dict[str, Any]:
    registry, slot = api.directory.nodes.registry, registered.slot
    record = registry.record(slot)
    document: dict[str, Any] = {
        "status": registered.outcome,
        "node_id": record.node_id,
        "state": registry.state(slot).wire,
        "registered_at": rfc3339(record.registered_at),
        "last_seen": rfc3339(record.last_seen_at),
        "next_heartbeat_due": rfc3339(api.directory.heartbeat_due_at(now, slot)),
        "heartbeat_advice_s": api.heartbeat_advice_s(),
        "observed_address": api.limits.origin(request).address or None,
        "identity": identity_of(record.flags),
        "address_source": address_source_of(record.flags),
        "key_status": key_status_of(record.flags),
        "durable": False,
        "revision": record.revision,
    }
    if registered.outcome == "registered":
        if record.flags & PROVEN:
            document["message"] = "Welcome. You are bound to your key: sign what you send from now on."
        else:
            document["claim"] = api.prover.claims.claim(record.node_id, record.registered_at)
            document["message"] = (
                "Welcome. Keep the claim: it proves later changes to be yours, and is told once."
            )
    elif registered.outcome == "revived":
        document["previous_state"] = registered.previous_state.wire
        document["asleep_s"] = round(registered.slept_s, 3)
        document["message"] = "Welcome back. Your identity was kept."
    else:
        document["message"] = "You are known, and your record is up to date."
    return document

"""The fast path of ``POST /register``: new nodes that send the usual fields and no proof.

`registering` does everything else, and all of it where `OPENRED_FAST_PATH` is off.
"""

from __future__ import annotations

from typing import Any

from ..clock import Now
from ..directory.directory import Registered
from ..directory.lifecycle import State
from ..directory.state.node import (
    DISCOVERABLE,
    KEYED,
    NO_METADATA,
    OBSERVED,
    Profile,
    Record,
    hash_id,
    text_bytes,
)
from ..limits.origins import Origin, is_at
from ..micro_engine.wire.messages import Request
from ..security.node_keys import InvalidKey, load_node_key
from .caller.proving import PROOF_FIELDS, SELF_CERTIFYING
from .service import Api
from .wire import values
from .wire.fields import Wrong

_USUAL = frozenset({"node_id", "address", "port", "public_key", "services", "metadata"})


def register_plainly(api: Api, request: Request, body: Any, origin: Origin, now: Now) -> Registered | None:
    """Add the node of a plain registration, exactly as the ordinary way does it; None for all others.

    Nothing is charged and nothing happens if it returns None. Raise `CallerError` as
    `Limits.charge_new_node`.
    """
    if api.prover.strict or request.headers.has_any(PROOF_FIELDS) or api.directory.blocking.blocks:
        return None
    if not isinstance(body, dict) or not body.keys() <= _USUAL:
        return None
    try:
        node_id, address = values.node_id(body["node_id"]), values.address(body["address"])
        port, given = values.port(body["port"]), values.public_key(body["public_key"])
        services = values.services(body["services"]) if "services" in body else ""
        metadata = values.metadata(body["metadata"]) if "metadata" in body else NO_METADATA
        key = load_node_key(given, rsa_bits_min=api.rsa_bits_min)
    except (KeyError, Wrong, InvalidKey):
        # The ordinary way reports all faults, and takes text in place of a key.
        return None
    directory, nodes, registry = api.directory, api.directory.nodes, api.directory.nodes.registry
    profile, id_hash = Profile(address, port, key.text, (), metadata).encode(), hash_id(node_id)
    if (
        node_id.startswith(SELF_CERTIFYING)
        or registry.slot_of(node_id) is not None
        or nodes.is_reserved(node_id)
        or nodes.tombstones.get(id_hash) is not None
        or directory.is_crowded(
            text_bytes(node_id, profile, "", "") + registry.sets.bytes_added(services, "")
        )
    ):
        return None
    api.limits.charge_new_node(origin)
    record = Record(
        registry.next_slot(),
        node_id,
        State.ACTIVE,
        DISCOVERABLE | KEYED | is_at(origin, address) * OBSERVED,
        now.wall_s,
        now.wall_s,
        now.attended_s,
        now.attended_s,
        directory.first_gap_s,
        nodes.revision + 1,
        services,
        "",
        profile,
        0.0,
        0.0,
        "",
    )
    return directory.add(record, id_hash, now)

"""The fast path of ``POST /heartbeat/{node_id}``: what answers heartbeats that repeat.

`micro_engine/shortcut.py` recognises such requests. `OPENRED_FAST_PATH` turns all of it off.
"""

from __future__ import annotations

from ..directory.lifecycle import State
from ..directory.state.node import BLOCKED, HELD, PROVEN
from ..micro_engine.router import Answer, Answered
from ..micro_engine.wire.messages import Request
from .caller.proving import PROOF_FIELDS
from .service import Api

NOTED = "Noted."
# A member of an enumeration is slow to compare.
_ACTIVE = int(State.ACTIVE)


def prepare(api: Api, request: Request) -> Answer | None:
    """Return what answers further requests like `request` exactly as `heartbeat` would; None without one.

    It answers for active nodes, without a proof or with a session that need not be renewed. The header fields
    are read once; everything else is left to the handler.
    """
    prover, repeated = api.prover, None
    if request.headers.has_any(PROOF_FIELDS):
        repeated = prover.repeated(request, request.path.rpartition("/")[2], api.now())
        if repeated is None:
            return None
    elif prover.strict:
        return None
    undecided = BLOCKED | HELD | (PROVEN if repeated is None else 0)
    session = None if repeated is None else repeated.session.text
    registry = api.directory.nodes.registry
    slot_of, states, flags, apart = registry.slot_of, registry.states, registry.flags, registry.apart
    moment, hear, advise = api.moments.current, api.directory.hear, api.directory.paces.advise
    paces = api.directory.nodes.habits.paces
    active, ends = _state(State.ACTIVE.wire), _end(NOTED, session)
    charge = api.limits.repeated_heartbeat_charge(proved=repeated is not None)
    if charge is None:
        return None
    networks, may_be_in = api.directory.blocking.blocks.networks, api.limits.may_be_in
    blocked = networks.texts

    def answer(node_id: str, peer: str) -> Answered | None:
        if blocked and may_be_in(networks, peer):
            return None
        slot = slot_of(node_id)
        if slot is None or states[slot] != _ACTIVE or flags[slot] & undecided or slot in apart:
            return None
        now, times = moment()
        if repeated is not None and not prover.holds_again(repeated, node_id, slot, now):
            return None
        limits = charge(slot, peer)
        if limits is None:
            # Nothing was charged; the handler refuses the request.
            return None
        hear(slot, now)
        # As `reply`, with the parts that do not change joined before.
        advice_s = advise[paces[slot]](slot, now.attended_s)
        return f"{_BEGIN}{node_id}{active}{times}{_ADVICE}{advice_s}{ends}".encode(), limits

    return answer


def reply(
    node_id: str, previous: str, times: str, advice_s: float, message: str, session: str | None
) -> bytes:
    """Build the reply from its parts; `times` are as `heartbeat_times` returns them."""
    return f"{_BEGIN}{node_id}{_state(previous)}{times}{_ADVICE}{advice_s}{_end(message, session)}".encode()


# Parts of the reply. They are text, because nothing in it needs escaping, and every heartbeat joins some.
_BEGIN = '{"status":"heartbeat_received","node_id":"'
_ADVICE = ',"heartbeat_advice_s":'


def _state(previous: str) -> str:
    return f'","current_state":"active","previous_state":"{previous}",'


def _end(message: str, session: str | None) -> str:
    granted = "" if session is None else f',"session":"{session}"'
    return f',"message":"{message}"{granted}}}'

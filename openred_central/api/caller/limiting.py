"""Rate limits: which caller is charged for which request, and the 429 that says when to retry.

Header fields and problem type are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any

from ...directory.state.registry import Registry
from ...errors import CallerError
from ...limits.gcra import UNUSED_S, NodeLimit, Policy, Table, Verdict, charge
from ...limits.network_quota import NetworkQuota
from ...limits.networks import Networks
from ...limits.origins import IPV6_NETWORK_BYTES, Origin, Origins
from ...micro_engine.wire.messages import Request, Response, StreamingResponse
from ...security.refusals import REASONS

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
# The limit of an IPv6 /48, as a multiple of the limit of a /64.
NETWORK_FACTOR = 8
# A full network has room again when one of its nodes dies or is forgotten.
NETWORK_RETRY_AFTER_S = 3_600
FIELDS_KEPT_MAX = 1_024
# Policies that no setting changes: nodes of a network, and proofs of a node.
NODES_PER_NETWORK = "nodes-per-network"
PROOFS = "proofs"
# A reason beside `REASONS`: an ``Authorization`` that is neither a session nor the claim.
WRONG_CLAIM = "wrong_claim"

HeaderFields = tuple[tuple[str, str], ...]
Answer = Response | StreamingResponse
Handler = Callable[..., Coroutine[Any, Any, Answer]]


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """The limits that an operator can set; a policy that is None is off.

    `register`, `discover` and `proof_fail` limit one client address, `heartbeat` and `token` one node,
    `new_nodes` all callers together, `nodes_per_network_max` the nodes from one /24 or /56. The other fields
    are as in `Origins`.
    """

    register: Policy | None
    discover: Policy | None
    proof_fail: Policy | None
    heartbeat: Policy | None
    token: Policy | None
    new_nodes: Policy | None
    nodes_per_network_max: int
    exempt_networks: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    forwarded_header: str


class Refusals:
    """Counts of refused requests, for the figures: by the policy violated, and by the fault of the proof.

    Every name is there from the start: those of active policies, and the reasons in `REASONS`.
    """

    def __init__(self, policies: Iterable[str]) -> None:
        self.by_policy = dict.fromkeys((*policies, NODES_PER_NETWORK, PROOFS), 0)
        self.by_reason = dict.fromkeys((*REASONS, WRONG_CLAIM), 0)

    def limited(self, policy: str) -> None:
        self.by_policy[policy] += 1

    def unproved(self, reason: str) -> None:
        """Count a request whose proof failed for `reason`."""
        self.by_reason[reason] += 1
        if REASONS.get(reason) == 429:
            self.limited(PROOFS)


class _ByAddress:
    """One policy for each client address, and `NETWORK_FACTOR` times it for each /48 of IPv6."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._network_policy = policy.times(NETWORK_FACTOR)
        self._table = Table()

    def _charges(self, origin: Origin) -> list[tuple[bytes, Policy]]:
        return [
            (key, self._network_policy if len(key) == IPV6_NETWORK_BYTES else self.policy)
            for key in origin.keys
        ]

    def charge(self, origin: Origin, now_s: float) -> Verdict:
        return self._table.charge(self._charges(origin), now_s)

    def look(self, origin: Origin, now_s: float) -> Verdict:
        return self._table.look(self._charges(origin), now_s)


class _ByNode:
    """One policy for each node: for requests that the node proved, and for all others that name it."""

    def __init__(self, policy: Policy) -> None:
        self._proved, self._unproved = NodeLimit(policy), NodeLimit(policy)

    def limit(self, proved: bool) -> NodeLimit:
        return self._proved if proved else self._unproved


class Limits:
    """All limits of the server. `now_s` reads the monotonic clock, `registry` holds the nodes."""

    def __init__(self, options: LimitOptions, now_s: Callable[[], float], registry: Registry) -> None:
        self._now_s = now_s
        self._registry = registry
        self._origins = Origins(options.trusted_proxies, options.exempt_networks, options.forwarded_header)
        by_address = (options.register, options.discover, options.proof_fail)
        self._by_address = {policy.name: _ByAddress(policy) for policy in by_address if policy}
        self._proof_fail = self._by_address[options.proof_fail.name] if options.proof_fail else None
        # Two limits each, so that callers without proof take nothing from the node itself.
        self._heartbeat = _ByNode(options.heartbeat) if options.heartbeat else None
        self._token = _ByNode(options.token) if options.token else None
        self._new_nodes = options.new_nodes
        self._new_nodes_tat_s = UNUSED_S
        self._networks = NetworkQuota(self._is_there, options.nodes_per_network_max)
        policies = (*by_address, options.heartbeat, options.token, options.new_nodes)
        self.refusals = Refusals(policy.name for policy in policies if policy)

    def origin(self, request: Request) -> Origin:
        """Return where `request` came from; only trusted proxies are believed."""
        return self._origins.of(request.peer, request.headers.get)

    def may_be_in(self, networks: Networks, peer: str) -> bool:
        """Return whether a request from `peer` may be from one of `networks`, whatever its fields say."""
        return self._origins.reads_fields or networks.find(peer) is not None

    def limited(self, name: str, handler: Handler) -> Handler:
        """Wrap `handler` in the policy `name`, charged by client address.

        Answers carry the header fields, except for exempt callers and if the policy is off.
        """
        if name not in self._by_address:
            return handler

        @wraps(handler)
        async def guarded(request: Request, *parameters: str) -> Answer:
            fields = self.charge_address(name, request)
            if not fields:
                return await handler(request, *parameters)
            try:
                response = await handler(request, *parameters)
            except CallerError as error:
                error.headers = _joined(fields, error.headers)
                raise
            response.headers = _joined(fields, response.headers)
            return response

        return guarded

    def charge_address(self, name: str, request: Request) -> HeaderFields:
        """Charge the address of `request` by the policy `name`. Return header fields for the answer.

        Raises `CallerError` 429 ``rate_limited``. Exempt callers, and a policy that is off, have no fields.
        """
        limit, origin = self._by_address.get(name), self.origin(request)
        if limit is None or origin.exempt:
            return ()
        return self._accept(limit.policy, limit.charge(origin, self._now_s()), "your address")

    def may_try_proof(self, request: Request) -> None:
        """Raise `CallerError` 429 after too many failed proofs from the caller's address; charge nothing.

        Call it before a signature is checked.
        """
        origin = self.origin(request)
        if self._proof_fail is not None and not origin.exempt:
            verdict = self._proof_fail.look(origin, self._now_s())
            if not verdict.allowed:
                raise self._refusal(self._proof_fail.policy, verdict, "failed proofs from your address")

    def proof_failed(self, request: Request) -> None:
        """Charge the address of `request` for a failed proof; the node that it names is not charged."""
        origin = self.origin(request)
        if self._proof_fail is not None and not origin.exempt:
            self._proof_fail.charge(origin, self._now_s())

    def charge_heartbeat(self, request: Request, slot: int, *, proved: bool) -> HeaderFields:
        """Charge a heartbeat to the node in `slot`, after its proof was checked.

        `proved` requests of the node itself have a limit of their own. Returns header fields for the answer.
        Raises `CallerError` 429 ``rate_limited``.
        """
        return self._charge_node(self._heartbeat, request, slot, proved)

    def repeated_heartbeat_charge(self, *, proved: bool) -> Callable[[int, str], HeaderFields | None] | None:
        """Return what charges heartbeats by slot and peer as `charge_heartbeat` does, without their fields.

        It returns None for a heartbeat that `charge_heartbeat` would refuse, and does not count the refusal.
        There is none where header fields decide which callers are exempt.
        """
        origins = self._origins
        if self._heartbeat is None:
            return _charge_nothing
        if origins.exempts and origins.reads_fields:
            return None
        limit, now_s = self._heartbeat.limit(proved), self._now_s
        charge, registered_at = limit.charge, self._registry.registered_at

        # As `_charge`, without its look-ups: every repeated heartbeat comes here.
        def charged(slot: int, peer: str) -> HeaderFields | None:
            if origins.exempts and origins.of(peer, _no_field).exempt:
                return ()
            verdict = charge(slot, registered_at[slot], now_s())
            return _header_fields(limit.policy, verdict) if verdict.allowed else None

        return charged

    def charge_token(self, request: Request, slot: int, *, proved: bool) -> HeaderFields:
        """Charge a request for tokens or a session; as `charge_heartbeat`."""
        return self._charge_node(self._token, request, slot, proved)

    def charge_new_node(self, origin: Origin) -> None:
        """Charge for a node that is about to be added from `origin`.

        Raises `CallerError` 429 ``rate_limited`` if its network is full, or too many nodes are new in all.
        """
        if origin.exempt:
            return
        if origin.network is not None and not self._networks.has_room(origin.network):
            self.refusals.limited(NODES_PER_NETWORK)
            raise CallerError(
                429,
                "rate_limited",
                "The limit of nodes from your network is reached; "
                "known nodes may still update, send heartbeats and revive.",
                suggestion="Remove nodes that are gone, or register from another network.",
                headers=(("Retry-After", str(NETWORK_RETRY_AFTER_S)),),
                problem_type=QUOTA_EXCEEDED,
                members={"violated-policies": [NODES_PER_NETWORK]},
            )
        if self._new_nodes is not None:
            self._new_nodes_tat_s, verdict = charge(self._new_nodes_tat_s, self._new_nodes, self._now_s())
            if not verdict.allowed:
                raise self._refusal(self._new_nodes, verdict, "new nodes in all")

    def node_added(self, origin: Origin, slot: int) -> None:
        """Count the node that was just added for the network of `origin`."""
        if origin.network is not None and not origin.exempt:
            self._networks.enter(origin.network, slot, self._registry.registered_at[slot])

    def _charge_node(self, limits: _ByNode | None, request: Request, slot: int, proved: bool) -> HeaderFields:
        limit = self._limit_of(limits, request, proved)
        return () if limit is None else self._accept(limit.policy, self._charge(limit, slot), "this node")

    def _limit_of(self, limits: _ByNode | None, request: Request, proved: bool) -> NodeLimit | None:
        return None if limits is None or self.origin(request).exempt else limits.limit(proved)

    def _charge(self, limit: NodeLimit, slot: int) -> Verdict:
        return limit.charge(slot, self._registry.registered_at[slot], self._now_s())

    def _accept(self, policy: Policy, verdict: Verdict, whose: str) -> HeaderFields:
        """Return the header fields of an allowed request. Raises `CallerError` 429 for any other."""
        if not verdict.allowed:
            raise self._refusal(policy, verdict, f"such requests for {whose}")
        return _header_fields(policy, verdict)

    def _refusal(self, policy: Policy, verdict: Verdict, what: str) -> CallerError:
        self.refusals.limited(policy.name)
        retry_after_s = max(1, math.ceil(verdict.retry_after_s))
        return CallerError(
            429,
            "rate_limited",
            f"Too many {what}: {policy.limit} in {policy.window_s} s are allowed.",
            suggestion=f"Try again in {retry_after_s} s.",
            headers=(*_header_fields(policy, verdict), ("Retry-After", str(retry_after_s))),
            problem_type=QUOTA_EXCEEDED,
            members={"violated-policies": [policy.name]},
        )

    def _is_there(self, slot: int, registered_at: float) -> bool:
        return not self._registry.is_free(slot) and self._registry.registered_at[slot] == registered_at


def _charge_nothing(slot: int, peer: str) -> HeaderFields:
    return ()


def _no_field(name: str) -> None:
    return None


def _header_fields(policy: Policy, verdict: Verdict) -> HeaderFields:
    reset_s = math.ceil(verdict.reset_s)
    return _formatted(policy.name, policy.limit, policy.window_s, verdict.remaining, reset_s)


# Most heartbeats get equal fields.
@lru_cache(FIELDS_KEPT_MAX)
def _formatted(name: str, limit: int, window_s: int, remaining: int, reset_s: int) -> HeaderFields:
    return (
        ("RateLimit-Policy", f'"{name}";q={limit};w={window_s}'),
        ("RateLimit", f'"{name}";r={remaining};t={reset_s}'),
    )


def _joined(fields: HeaderFields, others: HeaderFields) -> HeaderFields:
    """Join `fields` and `others`; a field that is in both becomes one list."""
    if not others:
        return fields
    merged = dict(fields)
    for name, value in others:
        merged[name] = f"{merged[name]}, {value}" if name in dict(fields) else value
    return tuple(merged.items())

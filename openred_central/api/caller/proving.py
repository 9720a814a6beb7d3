"""Who a request shows to come from: by a signature of the node's key, a session, or a claim.

A node that ever signed is bound to its key: from then on nothing else speaks for it, asleep or awake. Work is
done in order, cheap before dear, and what a failed proof costs is charged to the address that sent it,
never to the node that it speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ...clock import Now
from ...directory.directory import Directory, committed
from ...directory.state.node import KEYED, PROVEN, profile_parts
from ...encoding import kept_spki, key_id
from ...errors import CallerError
from ...micro_engine.wire.messages import Request
from ...security.authority import Authorities
from ...security.node_keys import NodeKey
from ...security.refusals import ProofError
from ...security.replay import ReplayRings
from ...security.sessions import CLAIM_SCHEME, SESSION_SCHEME, Claims, Session, Sessions
from ...security.signatures import Message, Signature, check_proof, check_time, read_rotation, read_signature
from .limiting import WRONG_CLAIM, Limits
from .proof_problems import key_is_text, name_of_another_key, no_key, not_the_claim, refused

SIGNATURE_FIELDS = frozenset({"signature-input", "signature"})
# A request that has none of these shows nothing.
PROOF_FIELDS = SIGNATURE_FIELDS | {"authorization"}
# Schemes are compared in lower case (RFC 9110 §11.1).
_SESSION_SCHEME = SESSION_SCHEME.lower()
_CLAIM_SCHEME = CLAIM_SCHEME.lower()
# So many rings of expired proofs are forgotten with each one that is remembered.
SWEPT_PER_PROOF = 4
# An id that begins so and goes on with a key id belongs to that key alone.
SELF_CERTIFYING = "k-"
SELF_CERTIFYING_LENGTH = len(SELF_CERTIFYING) + 43


class Means(Enum):
    """By what a request shows to come from a node; NOTHING where it does not try."""

    NOTHING = "nothing"
    CLAIM = "claim"
    SESSION = "session"
    KEY = "key"


class Shown(NamedTuple):
    """What a request has shown: by which `means`; `session` is the one that was presented, if one was."""

    means: Means
    session: Session | None = None

    def __bool__(self) -> bool:
        return self.means is not Means.NOTHING


class Repeated(NamedTuple):
    """A `session` that was checked and may come again; `profile` is that of its node, and holds its key."""

    session: Session
    profile: bytes


NOTHING = Shown(Means.NOTHING)
BY_CLAIM = Shown(Means.CLAIM)
BY_KEY = Shown(Means.KEY)


@dataclass(frozen=True, slots=True)
class Prover:
    """Checks proofs.

    `strict` says that nothing changes without one. Nothing can have been signed for this process before it
    began, at `started_s` of monotonic time. Sessions count in steady time: Unix seconds that run with the
    monotonic clock, which `steady_ahead_s` is added to, so that no jump of the wall clock lengthens one.
    """

    directory: Directory
    limits: Limits
    claims: Claims
    sessions: Sessions
    rings: ReplayRings
    authorities: Authorities
    strict: bool
    started_s: float
    steady_ahead_s: float

    def shown(self, request: Request, slot: int, now: Now, *, by_session: bool = False) -> Shown:
        """What `request` shows of coming from the node in `slot`. A session counts only where `by_session`.

        Raises `CallerError`: 401 ``proof_required``, 403 ``forbidden`` for a claim, 400 and 429, where it
        shows something that does not hold.
        """
        if _is_signed(request):
            self._check_signature(request, self.directory.nodes.registry.node_id(slot), self.spki(slot), now)
            return BY_KEY
        presented = _authorization(request)
        if presented is None:
            return NOTHING
        scheme, secret = presented
        if scheme == _SESSION_SCHEME:
            return self._shown_by_session(request, slot, secret, now, counts=by_session)
        return self._shown_by_claim(request, slot, scheme, secret, now)

    def require(self, request: Request, slot: int, now: Now) -> Shown:
        """The same for what only the node itself may do: 401 ``proof_required`` where nothing shows it."""
        shown = self.shown(request, slot, now)
        if not shown:
            raise self.missing(request, now)
        return shown

    def for_sign_of_life(self, request: Request, slot: int, now: Now) -> Shown:
        """The same for what changes nothing: who is not bound to a key may do it unproved, in open mode."""
        if request.headers.has_any(PROOF_FIELDS):
            shown = self.shown(request, slot, now, by_session=True)
            if shown is not NOTHING:
                return shown
        if self.strict or self.is_bound(slot):
            raise self.missing(request, now)
        return NOTHING

    def repeated(self, request: Request, node_id: str, now: Now) -> Repeated | None:
        """The session that `request` presents for the node `node_id`, where that holds and is all it shows.

        It is for further requests with the same header fields: for each of them ask `holds_again`.
        """
        presented, slot = _authorization(request), self.directory.nodes.registry.slot_of(node_id)
        if presented is None or presented[0] != _SESSION_SCHEME or slot is None or _is_signed(request):
            return None
        try:
            session = self._checked_session(presented[1], slot, now)
        except (ProofError, CallerError):
            # The handler refuses it.
            return None
        return Repeated(session, self.directory.nodes.registry.profile(slot))

    def holds_again(self, repeated: Repeated, node_id: str, slot: int, now: Now) -> bool:
        """Whether that session, sent again, shows that it is the node in `slot`, and need not be renewed yet.

        Takes 0.4 µs, checking it 5.0 and more for the key: all that its MAC is of is as it was.
        """
        session, profile = repeated
        registry = self.directory.nodes.registry
        return (
            session.node_id == node_id
            and registry.profile(slot) == profile
            and registry.generation(slot) == session.generation
            and session.is_fresh(now.monotonic_s + self.steady_ahead_s)
        )

    def for_registration(
        self, request: Request, node_id: str, key: NodeKey | None, slot: int | None, now: Now
    ) -> Means:
        """By what a registration of `node_id` with `key` is shown to be that node's.

        KEY: it is signed with `key`; whether that is the key of the node in `slot`, the directory knows.
        CLAIM: it presents the claim of the node in `slot`, None where there is none. Raises as `require`.
        """
        if _is_signed(request):
            if key is None:
                raise no_key()
            self._check_signature(request, node_id, key.spki, now)
            if not self._bears(node_id, key):
                _check_self_certifying(node_id, key)
            return Means.KEY
        if self.directory.is_bound(node_id) or _is_self_certifying(node_id):
            raise self.missing(request, now)
        shown = self.shown(request, slot, now) if slot is not None else NOTHING
        if self.strict and not shown:
            raise self.missing(request, now)
        return shown.means

    def needs_proof(self, request: Request, slot: int) -> bool:
        """Whether even a registration that repeats what is known of the node in `slot` is to be proved.

        A signature is looked at wherever there is one: it may bind the node to its key.
        """
        return self.strict or self.is_bound(slot) or _is_signed(request)

    def proves(self, means: Means, slot: int | None, key: NodeKey | None) -> bool:
        """Whether who has shown a registration by `means` to be of `key` is the node in `slot`."""
        if means is Means.KEY and slot is not None and key is not None:
            registry = self.directory.nodes.registry
            return bool(registry.flags(slot) & KEYED) and self.spki(slot) == key.spki
        return means is Means.CLAIM

    def for_key_change(self, request: Request, slot: int, new: NodeKey, now: Now) -> None:
        """Raise `CallerError` unless `request` may give the node in `slot` the key `new`.

        It is signed with `new` (label ``new``). Where the node has committed to a next key, `new` has to be
        that one, and needs no more: whoever has the present key alone cannot take the commitment back. Else
        the request shows to be the node's: by a signature with its key (label ``old``), or by the claim of a
        node that is not bound to a key.
        """
        registry = self.directory.nodes.registry
        node_id, record = registry.node_id(slot), registry.record(slot)
        message = _message(request)
        try:
            old_signature, new_signature = read_rotation(message)
        except ProofError as error:
            raise self._refused(request, error, now) from None
        if old_signature is not None:
            self._check(request, node_id, message, old_signature, self.spki(slot), now)
            if record.next_key not in ("", new.key_id):
                raise committed(record.next_key)
        elif record.next_key != new.key_id:
            presented = _authorization(request)
            if self.is_bound(slot) or presented is None:
                raise self.missing(request, now)
            self._shown_by_claim(request, slot, *presented, now)
        # Remembered by the key: both signatures may have the same nonce.
        self._check(request, new.key_id, message, new_signature, new.spki, now)

    def fresh_session(self, shown: Shown, slot: int, now: Now) -> str | None:
        """A session for the node in `slot`, which has just `shown` to hold its key, or a former session."""
        if shown.session is not None:
            return self.sessions.renew(shown.session, self._steady_s(now))
        if shown.means is not Means.KEY:
            return None
        registry = self.directory.nodes.registry
        node_id, generation = registry.node_id(slot), registry.generation(slot)
        steady_s = self._steady_s(now)
        return self.sessions.mint(
            node_id, key_id(self.spki(slot)), steady_s, signed_s=steady_s, generation=generation
        )

    def is_bound(self, slot: int) -> bool:
        """Whether the node in `slot` is bound to its key."""
        return bool(self.directory.nodes.registry.flags(slot) & PROVEN)

    def spki(self, slot: int) -> bytes:
        """The key of the node in `slot`, as DER. Raises `CallerError` 401 where its key is only some text."""
        registry = self.directory.nodes.registry
        if not registry.flags(slot) & KEYED:
            raise key_is_text()
        # Its form was checked when it came: that of Ed25519 is had in 0.3 µs instead of 0.7.
        return kept_spki(profile_parts(registry.profile(slot))[2])

    def _bears(self, node_id: str, key: NodeKey) -> bool:
        """Whether the node of that name is bound to `key`, perhaps its second, or dead and open to it."""
        slot = self.directory.nodes.registry.slot_of(node_id)
        if slot is not None:
            return self.is_bound(slot) and self.spki(slot) == key.spki
        tombstone = self.directory.nodes.tombstones.of_node(node_id)
        return (
            tombstone is not None
            and bool(tombstone.flags & PROVEN)
            and key.key_id in (tombstone.key_fingerprint, tombstone.next_key)
        )

    def _shown_by_session(self, request: Request, slot: int, text: str, now: Now, *, counts: bool) -> Shown:
        try:
            if not counts:
                raise ProofError(
                    "proof_required",
                    "A session is good for heartbeats without a body and for tokens; this needs a signature.",
                )
            session = self._checked_session(text, slot, now)
        except ProofError as error:
            if counts:
                self._charge_failure(request)
            raise self._refused(request, error, now) from None
        return Shown(Means.SESSION, session)

    def _checked_session(self, text: str, slot: int, now: Now) -> Session:
        """The session `text` of the node in `slot`. Raises `ProofError`, and `CallerError` as `spki` does."""
        registry = self.directory.nodes.registry
        named = key_id(self.spki(slot))
        return self.sessions.check(
            text, registry.node_id(slot), named, self._steady_s(now), registry.generation(slot)
        )

    def _shown_by_claim(self, request: Request, slot: int, scheme: str, secret: str, now: Now) -> Shown:
        registry = self.directory.nodes.registry
        if self.is_bound(slot):
            error = ProofError(
                "proof_required", "The node is bound to its key: only a signature speaks for it."
            )
            raise self._refused(request, error, now)
        if scheme == _CLAIM_SCHEME and self.claims.is_valid(
            secret, registry.node_id(slot), registry.registered_at(slot)
        ):
            return BY_CLAIM
        self._charge_failure(request)
        self.limits.refusals.unproved(WRONG_CLAIM)
        raise not_the_claim()

    def _check_signature(self, request: Request, node_id: str, spki: bytes, now: Now) -> None:
        message = _message(request)
        try:
            signature = read_signature(message)
        except ProofError as error:
            raise self._refused(request, error, now) from None
        self._check(request, node_id, message, signature, spki, now)

    def _check(
        self, request: Request, ring: str, message: Message, signature: Signature, spki: bytes, now: Now
    ) -> None:
        """Check `signature` by the key `spki`, and remember it in `ring`. Raises `CallerError`."""
        try:
            self.authorities.check(message.authority)
            # By the clock as it is set now: one that was set back would refuse everything signed since.
            check_time(signature, now.wall_s, now.wall_s - (now.monotonic_s - self.started_s))
        except ProofError as error:
            raise self._refused(request, error, now) from None
        self.limits.may_try_proof(request)
        try:
            proof = check_proof(signature, message, spki)
        except ProofError as error:
            self.limits.proof_failed(request)
            raise self._refused(request, error, now) from None
        self.rings.sweep(now, SWEPT_PER_PROOF)
        try:
            self.rings.admit(ring, proof, now)
        except ProofError as error:
            # It holds, and cost as much to check as one that does not: to repeat it for ever is not free.
            self.limits.proof_failed(request)
            raise self._refused(request, error, now) from None

    def missing(self, request: Request, now: Now) -> CallerError:
        """401 where a proof is needed and `request` has none: it tells which."""
        error = ProofError(
            "proof_required",
            "Only the node itself may do this, and nothing in the request proves who sent it.",
        )
        return self._refused(request, error, now)

    def _steady_s(self, now: Now) -> float:
        return now.monotonic_s + self.steady_ahead_s

    def _refused(self, request: Request, error: ProofError, now: Now) -> CallerError:
        self.limits.refusals.unproved(error.code)
        return refused(request, error, now)

    def _charge_failure(self, request: Request) -> None:
        """Charge what a wrong session or claim costs. Raises 429 where there were too many."""
        self.limits.may_try_proof(request)
        self.limits.proof_failed(request)


def _is_signed(request: Request) -> bool:
    return request.headers.has_any(SIGNATURE_FIELDS)


def _authorization(request: Request) -> tuple[str, str] | None:
    """The scheme, in lower case, and the secret that a request presents; None where it presents none."""
    field = request.headers.get("authorization")
    if field is None:
        return None
    scheme, _, secret = field.partition(" ")
    return scheme.lower(), secret.strip()


def _message(request: Request) -> Message:
    return Message(
        request.method, request.authority, request.path, request.query, request.body, request.headers.fields
    )


def _is_self_certifying(node_id: str) -> bool:
    return len(node_id) == SELF_CERTIFYING_LENGTH and node_id.startswith(SELF_CERTIFYING)


def _check_self_certifying(node_id: str, key: NodeKey) -> None:
    """Raise 409 where `node_id` names a key, and another one than `key`."""
    if _is_self_certifying(node_id) and node_id != f"{SELF_CERTIFYING}{key.key_id}":
        raise name_of_another_key(node_id, f"{SELF_CERTIFYING}{key.key_id}")

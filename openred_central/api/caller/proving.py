"""Which node a request comes from, and what that allows: a signature, a session, or a claim proves it.

A node that signed once is bound to its key: from then on only a signature proves it, awake or asleep. Cheap
checks come before expensive ones. A failed proof is charged to the address that sent it, never to the node
that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ...clock import Now
from ...directory.directory import Directory
from ...directory.lifecycle import State
from ...directory.registration import Registration, committed
from ...directory.state.node import KEYED, PROVEN, profile_parts
from ...encoding import kept_spki, key_id
from ...errors import CallerError
from ...micro_engine.wire.messages import Request
from ...security.authority import Authorities
from ...security.node_keys import NodeKey
from ...security.refusals import ProofError
from ...security.replay import ReplayRings
from ...security.sessions import CLAIM_SCHEME, SESSION_SCHEME, Claims, Session, Sessions
from ...security.signatures import (
    Message,
    Proof,
    Signature,
    check_proof,
    check_time,
    read_rotation,
    read_signature,
)
from .limiting import WRONG_CLAIM, Limits
from .proof_problems import (
    key_is_text,
    name_of_another_key,
    next_key_unsigned,
    no_key,
    not_the_claim,
    refused,
)

SIGNATURE_FIELDS = frozenset({"signature-input", "signature"})
# A request without these fields has no proof.
PROOF_FIELDS = SIGNATURE_FIELDS | {"authorization"}
# Schemes are compared in lower case (RFC 9110 §11.1).
_SESSION_SCHEME = SESSION_SCHEME.lower()
_CLAIM_SCHEME = CLAIM_SCHEME.lower()
# Rings of expired proofs that are removed with each proof that is remembered.
SWEPT_PER_PROOF = 4
# An id that begins like this and continues with a key id belongs to that key alone.
SELF_CERTIFYING = "k-"
SELF_CERTIFYING_LENGTH = len(SELF_CERTIFYING) + 43


class Means(Enum):
    """The kind of proof in a request; NOTHING if it has none."""

    NOTHING = "nothing"
    CLAIM = "claim"
    SESSION = "session"
    KEY = "key"


class Shown(NamedTuple):
    """The proof in a request that holds: its `means`, and the `session` or the id of the key that signed."""

    means: Means
    session: Session | None = None
    key_id: str = ""


class Repeated(NamedTuple):
    """A `session` that was checked and may come again; `text` of its node holds the key."""

    session: Session
    text: bytes


NOTHING = Shown(Means.NOTHING)
BY_CLAIM = Shown(Means.CLAIM)


class Permit(NamedTuple):
    """The proof in a registration, and whether it proves the node that is registered already."""

    shown: Shown
    proved: bool

    @property
    def signed(self) -> bool:
        """True for a registration signed with its own key, which binds the node to that key."""
        return self.shown.means is Means.KEY


@dataclass(frozen=True, eq=False)
class Prover:
    """The checker of proofs.

    With `strict`, every change needs a proof. Signatures from before the start of this process, at
    `started_s` of monotonic time, are refused. Sessions use steady time, so that no jump of the wall clock
    lengthens one: Unix seconds that run with the monotonic clock, which `steady_ahead_s` is added to. While
    `renews` returns False, none is renewed: it may have been revoked elsewhere.
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
    renews: Callable[[], bool] = lambda: True

    def shown(self, request: Request, slot: int, now: Now, *, by_session: bool = False) -> Shown:
        """Return the proof that `request` comes from the node in `slot`; sessions need `by_session`.

        Raises `CallerError` for a proof that does not hold: 401 ``proof_required``, 403 ``forbidden`` for a
        claim, 400 and 429.
        """
        if _is_signed(request):
            node_id = self.directory.nodes.registry.node_id(slot)
            return self._shown_by_signature(request, node_id, self.spki(slot), now)
        presented = _authorization(request)
        if presented is None:
            return NOTHING
        scheme, secret = presented
        if scheme == _SESSION_SCHEME:
            return self._shown_by_session(request, slot, secret, now, counts=by_session)
        return self._shown_by_claim(request, slot, scheme, secret, now)

    def require(self, request: Request, slot: int, now: Now) -> Shown:
        """Return the proof as `shown` does; raise 401 ``proof_required`` if there is none."""
        shown = self.shown(request, slot, now)
        if shown is NOTHING:
            raise self.missing(request, now)
        return shown

    def for_sign_of_life(self, request: Request, slot: int, now: Now) -> Shown:
        """Return the proof of a request that changes nothing; unbound nodes need none without `strict`."""
        if request.headers.has_any(PROOF_FIELDS):
            shown = self.shown(request, slot, now, by_session=True)
            if shown is not NOTHING:
                return shown
        if self.strict or self.is_bound(slot):
            raise self.missing(request, now)
        return NOTHING

    def repeated(self, request: Request, node_id: str, now: Now) -> Repeated | None:
        """Return the session of the node `node_id` in `request`, if it holds and is the only proof.

        Further requests with equal header fields need only `holds_again`.
        """
        presented, slot = _authorization(request), self.directory.nodes.registry.slot_of(node_id)
        if presented is None or presented[0] != _SESSION_SCHEME or slot is None or _is_signed(request):
            return None
        try:
            session = self._checked_session(presented[1], slot, now)
        except (ProofError, CallerError):
            # The handler refuses the request.
            return None
        return Repeated(session, self.directory.nodes.registry.texts[slot])

    def holds_again(self, repeated: Repeated, node_id: str, slot: int, now: Now) -> bool:
        """Return whether that session still proves the node in `slot`, and needs no renewal yet.

        Compares everything that the session's MAC covers, which is cheaper than a check of the MAC.
        """
        session, text = repeated
        registry = self.directory.nodes.registry
        return (
            session.node_id == node_id
            and registry.texts[slot] == text
            and registry.generation(slot) == session.generation
            and session.is_fresh(now.monotonic_s + self.steady_ahead_s)
        )

    def for_registration(
        self, request: Request, registration: Registration, key: NodeKey | None, slot: int | None, now: Now
    ) -> Permit:
        """Return what a `registration` with `key` may do; `slot` holds the node, None for a new one.

        A registration that repeats known data needs no proof, so an invalid one does not keep a node away.
        Raises `CallerError` as `require` does, and 400 ``bad_request`` for an unsigned next key.
        """
        shown = NOTHING
        if (
            slot is None
            or self.strict
            or self.is_bound(slot)
            or _is_signed(request)
            or self.directory.amended(slot, registration, now) is not None
        ):
            shown = self._shown_by_registration(request, registration.node_id, key, slot, now)
        if registration.next_key and shown.means is not Means.KEY:
            raise next_key_unsigned()
        if shown.means is Means.KEY and slot is not None and key is not None:
            is_keyed = bool(self.directory.nodes.registry.flags[slot] & KEYED)
            return Permit(shown, proved=is_keyed and self.spki(slot) == key.spki)
        return Permit(shown, proved=shown.means is Means.CLAIM)

    def for_grant(self, request: Request, slot: int, now: Now) -> Shown:
        """Return the proof of a request for a token; without it, raise 403 unless the node is active."""
        shown = self.for_sign_of_life(request, slot, now)
        if shown is NOTHING and self.directory.nodes.registry.state(slot) is not State.ACTIVE:
            raise CallerError(
                403,
                "forbidden",
                "The node is not active, and a request without proof does not revive it.",
                suggestion="Send a heartbeat first, or sign the request.",
            )
        return shown

    def is_node(self, request: Request, slot: int, now: Now) -> bool:
        """Return whether the caller proves to be the node in `slot`. An invalid proof counts as none."""
        try:
            return self.shown(request, slot, now) is not NOTHING
        except CallerError:
            return False

    def for_key_change(self, request: Request, slot: int, new: NodeKey, now: Now) -> None:
        """Raise `CallerError` unless `request` may give the node in `slot` the key `new`.

        `new` has to sign it (label ``new``). If the node has committed to a next key, `new` has to be that
        key, and no other proof is needed: the present key alone cannot withdraw the commitment. Otherwise
        the node proves itself: by a signature with its key (label ``old``), or by its claim if it is not
        bound to a key.
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
        # Remembered by key: both signatures may have the same nonce.
        self._check(request, new.key_id, message, new_signature, new.spki, now)

    def fresh_session(self, shown: Shown, slot: int, now: Now) -> str | None:
        """Grant a session to the node in `slot` for a signature, or renew the session `shown`."""
        if shown.session is not None:
            if not self.renews():
                return shown.session.text
            return self.sessions.renew(shown.session, self._steady_s(now))
        if shown.means is not Means.KEY:
            return None
        registry, steady_s = self.directory.nodes.registry, self._steady_s(now)
        return self.sessions.mint(
            registry.node_id(slot), shown.key_id, steady_s, steady_s, registry.generation(slot)
        )

    def is_bound(self, slot: int) -> bool:
        return bool(self.directory.nodes.registry.flags[slot] & PROVEN)

    def spki(self, slot: int) -> bytes:
        """Return the key of the node in `slot`, as DER. Raises `CallerError` 401 if the key is only text."""
        registry = self.directory.nodes.registry
        if not registry.flags[slot] & KEYED:
            raise key_is_text()
        # Its form was checked at registration.
        return kept_spki(profile_parts(registry.profile(slot))[2])

    def _shown_by_registration(
        self, request: Request, node_id: str, key: NodeKey | None, slot: int | None, now: Now
    ) -> Shown:
        """Return the proof of a registration: KEY means signed with `key`, CLAIM the claim of `slot`."""
        if _is_signed(request):
            if key is None:
                raise no_key()
            shown = self._shown_by_signature(request, node_id, key.spki, now)
            own_name = f"{SELF_CERTIFYING}{key.key_id}"
            if _is_self_certifying(node_id) and node_id != own_name and not self._bears(node_id, key):
                raise name_of_another_key(node_id, own_name)
            return shown
        if self.directory.is_bound(node_id) or _is_self_certifying(node_id):
            raise self.missing(request, now)
        shown = self.shown(request, slot, now) if slot is not None else NOTHING
        if self.strict and shown is NOTHING:
            raise self.missing(request, now)
        return shown

    def _bears(self, node_id: str, key: NodeKey) -> bool:
        """Return whether the node is bound to `key`, perhaps a later one, or is dead and open to it."""
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
                    "Sessions are accepted for heartbeats without a body and for tokens; "
                    "this needs a signature.",
                )
            session = self._checked_session(text, slot, now)
        except ProofError as error:
            if counts:
                self._charge_failure(request)
            raise self._refused(request, error, now) from None
        return Shown(Means.SESSION, session)

    def _checked_session(self, text: str, slot: int, now: Now) -> Session:
        """Check the session `text` of the node in `slot`. Raises `ProofError`, and as `spki` does."""
        registry = self.directory.nodes.registry
        named = key_id(self.spki(slot))
        return self.sessions.check(
            text, registry.node_id(slot), named, self._steady_s(now), registry.generation(slot)
        )

    def _shown_by_claim(self, request: Request, slot: int, scheme: str, secret: str, now: Now) -> Shown:
        registry = self.directory.nodes.registry
        if self.is_bound(slot):
            error = ProofError(
                "proof_required", "The node is bound to its key: only a signature proves a request."
            )
            raise self._refused(request, error, now)
        if scheme == _CLAIM_SCHEME and self.claims.is_valid(
            secret, registry.node_id(slot), registry.registered_at[slot]
        ):
            return BY_CLAIM
        self._charge_failure(request)
        self.limits.refusals.unproved(WRONG_CLAIM)
        raise not_the_claim()

    def _shown_by_signature(self, request: Request, node_id: str, spki: bytes, now: Now) -> Shown:
        message = _message(request)
        try:
            signature = read_signature(message)
        except ProofError as error:
            raise self._refused(request, error, now) from None
        proof = self._check(request, node_id, message, signature, spki, now)
        return Shown(Means.KEY, key_id=proof.key_id)

    def _check(
        self, request: Request, ring: str, message: Message, signature: Signature, spki: bytes, now: Now
    ) -> Proof:
        """Return what `signature` proves by the key `spki`; it enters `ring`. Raises `CallerError`."""
        try:
            self.authorities.check(message.authority)
            # Uses the clock as set now: a clock set back would refuse everything signed since.
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
            # A replay costs as much to check as an invalid proof, and is charged like one.
            self.limits.proof_failed(request)
            raise self._refused(request, error, now) from None
        return proof

    def missing(self, request: Request, now: Now) -> CallerError:
        """Make the 401 for a `request` that lacks a proof; it names the proofs accepted."""
        error = ProofError(
            "proof_required",
            "Only the node itself may do this, and the request has no proof.",
        )
        return self._refused(request, error, now)

    def _steady_s(self, now: Now) -> float:
        return now.monotonic_s + self.steady_ahead_s

    def _refused(self, request: Request, error: ProofError, now: Now) -> CallerError:
        self.limits.refusals.unproved(error.code)
        return refused(request, error, now)

    def _charge_failure(self, request: Request) -> None:
        """Charge a wrong session or claim. Raises 429 after too many."""
        self.limits.may_try_proof(request)
        self.limits.proof_failed(request)


def _is_signed(request: Request) -> bool:
    return request.headers.has_any(SIGNATURE_FIELDS)


def _authorization(request: Request) -> tuple[str, str] | None:
    """Return the scheme, in lower case, and the secret of a request; None without them."""
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

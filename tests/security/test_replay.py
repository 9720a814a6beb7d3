"""No proof is accepted twice, and what is remembered to that end is small and bounded."""

from __future__ import annotations

import random

import pytest

from openred_central.clock import Now
from openred_central.security.refusals import ProofError
from openred_central.security.replay import ENTRIES_MAX, ENTRY_BYTES, ReplayRings, admit
from openred_central.security.signatures import AGE_S_MAX, EARLY_S_MAX, Proof
from tests.support.signed_requests import NOW, refusal


def at(wall_s: float, *, jumped_s: float = 0.0) -> Now:
    """Return the moment `wall_s` of a wall clock that was set forward by `jumped_s`."""
    return Now(0.0, wall_s, 1_000.0 + wall_s - jumped_s - NOW)


def proof(number: int = 0, created: int = NOW) -> Proof:
    return Proof("k" * 43, created, f"nonce-of-request-{number}")


def test_the_same_proof_is_accepted_once() -> None:
    rings = ReplayRings()
    rings.admit("node-1", proof(), at(NOW))
    for wall_s in (NOW, NOW + 1, NOW + AGE_S_MAX):
        assert refusal(rings.admit, "node-1", proof(), at(wall_s)) == "replayed"


def test_another_nonce_another_time_and_another_node_are_another_proof() -> None:
    rings = ReplayRings()
    rings.admit("node-1", proof(), at(NOW))
    rings.admit("node-1", proof(1), at(NOW))
    rings.admit("node-1", proof(0, NOW - 1), at(NOW))
    rings.admit("node-2", proof(), at(NOW))


def test_proofs_are_accepted_in_any_order(seed: int) -> None:
    proofs = [proof(number, NOW - number) for number in range(ENTRIES_MAX)]
    random.Random(seed).shuffle(proofs)
    rings = ReplayRings()
    for each in proofs:
        rings.admit("node-1", each, at(NOW))
    for each in proofs:
        assert refusal(rings.admit, "node-1", each, at(NOW)) == "replayed"


def test_the_seventeenth_within_a_minute_has_to_wait() -> None:
    ring = b""
    for number in range(ENTRIES_MAX):
        ring = admit(ring, NOW, f"nonce {number}", at(NOW))
    assert len(ring) == ENTRIES_MAX * ENTRY_BYTES
    assert refusal(admit, ring, NOW, "nonce 16", at(NOW + AGE_S_MAX)) == "too_many_proofs"
    assert len(admit(ring, NOW + 61, "nonce 16", at(NOW + AGE_S_MAX + 1))) == ENTRY_BYTES


def test_a_full_ring_still_knows_its_entries() -> None:
    ring = b""
    for number in range(ENTRIES_MAX):
        ring = admit(ring, NOW, f"nonce {number}", at(NOW))
    assert refusal(admit, ring, NOW, "nonce 3", at(NOW)) == "replayed"


def test_one_node_cannot_flush_what_is_known_of_another() -> None:
    rings = ReplayRings()
    rings.admit("victim", proof(), at(NOW))
    for number in range(1_000):
        rings.admit(f"node-{number}", proof(number), at(NOW))
    assert refusal(rings.admit, "victim", proof(), at(NOW)) == "replayed"


def test_foreign_key_fills_only_its_own_ring() -> None:
    rings = ReplayRings()
    for number in range(ENTRIES_MAX):
        rings.admit("victim", proof(number)._replace(key_id="m" * 43), at(NOW))
    rings.admit("victim", proof(), at(NOW))


def test_full_table_refuses_new_nodes_and_forgets_none() -> None:
    rings = ReplayRings(rings_max=2)
    rings.admit("node-1", proof(), at(NOW))
    rings.admit("node-2", proof(), at(NOW))
    for number in range(1_000):
        assert refusal(rings.admit, f"more-{number}", proof(), at(NOW)) == "too_many_proofs"
    assert len(rings) == 2
    assert refusal(rings.admit, "node-1", proof(), at(NOW)) == "replayed"
    rings.admit("node-1", proof(1), at(NOW))
    rings.sweep(at(NOW + AGE_S_MAX + 1), 4)
    rings.admit("more", proof(2, NOW + 61), at(NOW + 61))


def test_entry_lasts_as_long_as_its_signature() -> None:
    """A clock that is fast makes signatures that are valid for up to a minute and a half."""
    early = proof(0, NOW + EARLY_S_MAX)
    rings = ReplayRings()
    rings.admit("node-1", early, at(NOW))
    last_s = NOW + EARLY_S_MAX + AGE_S_MAX
    rings.sweep(at(last_s), 10)
    assert refusal(rings.admit, "node-1", early, at(last_s)) == "replayed"
    assert rings.sweep(at(last_s + 0.001), 10) == 1
    assert len(rings) == 0


def test_expired_entries_are_swept_in_steps() -> None:
    rings = ReplayRings()
    for number in range(10):
        rings.admit(f"node-{number}", proof(number), at(NOW))
    rings.admit("node-0", proof(99, NOW + 30), at(NOW + 30))
    rings.admit("node-10", proof(10, NOW + 30), at(NOW + 30))
    assert rings.sweep(at(NOW + AGE_S_MAX), 100) == 0
    assert rings.sweep(at(NOW + AGE_S_MAX + 1), 4) == 4
    assert rings.sweep(at(NOW + AGE_S_MAX + 1), 100) == 5
    assert len(rings) == 2
    assert refusal(rings.admit, "node-0", proof(99, NOW + 30), at(NOW + 61)) == "replayed"
    assert rings.sweep(at(NOW + 91), 100) == 2


@pytest.mark.parametrize("nodes", [1, 5])
def test_a_ring_agrees_with_a_plain_set(nodes: int, seed: int) -> None:
    """Random proofs at random times: accepted exactly if not seen before, and if there is room."""
    source = random.Random(seed)
    rings = ReplayRings()
    seen: dict[tuple[str, int, str], None] = {}
    for step in range(3_000):
        wall_s = NOW + step * 2
        node_id = f"node-{source.randrange(nodes)}"
        each = proof(source.randrange(20), wall_s - source.randrange(-EARLY_S_MAX, AGE_S_MAX + 1))
        live = [key for key in seen if key[0] == node_id and key[1] >= wall_s - AGE_S_MAX]
        try:
            rings.admit(node_id, each, at(wall_s))
        except ProofError as error:
            known = (node_id, each.created, each.nonce) in live
            assert error.code == ("replayed" if known else "too_many_proofs")  # noqa: PT017
            assert known or len(live) == ENTRIES_MAX
        else:
            assert (node_id, each.created, each.nonce) not in live
            seen[node_id, each.created, each.nonce] = None
        if source.random() < 0.1:
            rings.sweep(at(wall_s), 2)


@pytest.mark.parametrize("forward_s", [90.0, 7_200.0, 86_400.0])
def test_clock_set_forward_and_back_readmits_no_proof(forward_s: float) -> None:
    rings = ReplayRings()
    rings.admit("node-1", proof(), at(NOW))
    ahead = at(NOW + 2 + forward_s, jumped_s=forward_s)
    rings.admit("node-1", proof(1, NOW + 2 + int(forward_s)), ahead)
    rings.sweep(ahead, 100)
    for passed_s in (3, AGE_S_MAX):
        assert refusal(rings.admit, "node-1", proof(), at(NOW + passed_s)) == "replayed"


def test_clock_set_back_keeps_valid_entries() -> None:
    rings = ReplayRings()
    rings.admit("node-1", proof(), at(NOW))
    back = at(NOW - 600 + 300, jumped_s=-600)
    assert rings.sweep(back, 100) == 0
    assert refusal(rings.admit, "node-1", proof(), at(NOW, jumped_s=-600)) == "replayed"
    assert rings.sweep(at(NOW + AGE_S_MAX + 1, jumped_s=-600), 100) == 1

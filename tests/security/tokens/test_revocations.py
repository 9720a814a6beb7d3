"""A revoked token stays revoked as long as it could be used; nothing grows without bounds."""

from __future__ import annotations

import random
import struct

import pytest

from openred_central.clock import Now
from openred_central.security.refusals import LIFETIME_S_MAX
from openred_central.security.tokens.revocations import (
    SWEPT_MAX,
    TOKENS_MAX,
    RecentToken,
    RecentTokens,
    Revocations,
    RevocationsFull,
    decode_revocations,
    encode_revocations,
)

NOW = 1_800_000_000.0


def at(wall_s: float, *, jumped_s: float = 0.0) -> Now:
    """Return the moment `wall_s` of a wall clock that was set forward by `jumped_s`."""
    return Now(0.0, wall_s, 10_000.0 + wall_s - jumped_s - NOW)


def recent(expires_at: float = NOW + 300, peer: str | None = None) -> RecentToken:
    return RecentToken("node-a", expires_at, 0, peer)


def test_a_revoked_token_stays_revoked_until_it_would_have_expired() -> None:
    revoked = Revocations()
    revoked.revoke("one", NOW + 300, at(NOW))
    revoked.revoke("two", NOW + 100, at(NOW))
    revoked.sweep(at(NOW + 299.9))
    assert "one" in revoked
    assert "two" not in revoked
    revoked.sweep(at(NOW + 300))
    assert "one" not in revoked
    assert "other" not in revoked


def test_revoking_twice_changes_nothing() -> None:
    revoked = Revocations()
    for _ in range(3):
        revoked.revoke("one", NOW + 300, at(NOW))
    assert len(revoked) == 1
    revoked.sweep(at(NOW + 300))
    assert len(revoked) == 0


def test_an_expired_token_needs_no_place() -> None:
    revoked = Revocations()
    revoked.revoke("one", NOW, at(NOW))
    assert len(revoked) == 0


def test_a_full_set_refuses_new_entries_and_forgets_none() -> None:
    revoked = Revocations(3)
    for number in range(3):
        revoked.revoke(f"token-{number}", NOW + 100 + number, at(NOW))
    with pytest.raises(RevocationsFull, match="3 tokens are revoked"):
        revoked.revoke("token-3", NOW + 300, at(NOW))
    assert all(f"token-{number}" in revoked for number in range(3))
    # The first has expired, and makes room by itself.
    revoked.revoke("token-3", NOW + 300, at(NOW + 100))
    assert "token-3" in revoked


def test_store_gets_each_revocation_and_its_end_once() -> None:
    revoked = Revocations()
    revoked.restore({"known": NOW + 100}, at(NOW + 100 - LIFETIME_S_MAX).monotonic_s)
    revoked.revoke("one", NOW + 100, at(NOW))
    revoked.revoke("one", NOW + 100, at(NOW))
    assert revoked.take_unsaved() == {"one": NOW + 100}
    assert revoked.take_unsaved() == {}
    revoked.revoke("two", NOW + 200, at(NOW + 100))
    assert revoked.take_unsaved() == {"known": None, "one": None, "two": NOW + 200}


def test_unstored_changes_return_in_their_latest_form() -> None:
    revoked = Revocations()
    for number, token_id in enumerate(("one", "two")):
        revoked.revoke(token_id, NOW + 100 + number, at(NOW))
    taken = revoked.take_unsaved()
    # It expires while the store is busy with it.
    revoked.sweep(at(NOW + 100))
    revoked.put_back(taken)
    assert revoked.take_unsaved() == {"one": None, "two": NOW + 101}


def test_unsaved_revocation_leaves_nothing_behind() -> None:
    revoked = Revocations()
    revoked.revoke("one", NOW + 100, at(NOW))
    revoked.sweep(at(NOW + 100))
    assert revoked.take_unsaved() == {}


def test_new_revocation_sweeps_few_expired_ones() -> None:
    revoked = Revocations()
    revoked.restore(
        {f"{number:022}": NOW for number in range(TOKENS_MAX)}, at(NOW - LIFETIME_S_MAX).monotonic_s
    )
    revoked.revoke("one", NOW + 300, at(NOW + 1))
    assert "one" in revoked
    assert len(revoked) == TOKENS_MAX - SWEPT_MAX + 1
    assert len(revoked.take_unsaved()) == SWEPT_MAX + 1


@pytest.mark.parametrize("forward_s", [301.0, 7_200.0, 86_400.0])
def test_clock_set_forward_and_back_restores_no_revoked_token(forward_s: float) -> None:
    revoked = Revocations()
    revoked.revoke("one", NOW + 300, at(NOW))
    revoked.revoke("two", NOW + forward_s + 300, at(NOW + forward_s + 10, jumped_s=forward_s))
    assert "one" in revoked
    revoked.sweep(at(NOW + 299))
    assert "one" in revoked
    revoked.sweep(at(NOW + 300))
    assert "one" not in revoked


def test_clock_set_back_prolongs_a_revocation() -> None:
    revoked = Revocations()
    revoked.revoke("one", NOW + 300, at(NOW))
    revoked.sweep(at(NOW + 301 - 600, jumped_s=-600))
    assert "one" in revoked
    revoked.sweep(at(NOW + 299, jumped_s=-600))
    assert "one" in revoked
    revoked.sweep(at(NOW + 302, jumped_s=-600))
    assert "one" not in revoked


def test_clock_ahead_at_start_restores_no_revoked_token() -> None:
    revoked = Revocations()
    revoked.restore({"one": NOW + 300}, at(NOW).monotonic_s)
    revoked.sweep(at(NOW + 86_400, jumped_s=86_400))
    revoked.sweep(at(NOW + 299))
    assert "one" in revoked
    revoked.sweep(at(NOW + LIFETIME_S_MAX))
    assert "one" not in revoked


def test_revocations_are_written_as_one_piece_and_read_back() -> None:
    revoked = {"A" * 22: NOW, "_-" * 11: NOW + 0.25}
    assert decode_revocations(encode_revocations(revoked)) == revoked
    assert decode_revocations(b"") == {}


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        (b"half", "4 bytes are no revocations of 30 bytes each"),
        (bytes(30), "is revoked, which is no id of a token"),
        (b"A" * 22 + struct.pack("<d", float("inf")), "expires at inf, which is no time"),
        (b"A" * 22 + struct.pack("<d", float("nan")), "expires at nan, which is no time"),
        (bytes(30 * (TOKENS_MAX + 1)), "65537 tokens are revoked, allowed are 65536"),
    ],
)
def test_what_is_no_piece_of_revocations_is_refused(encoded: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decode_revocations(encoded)


def test_a_token_made_lately_is_remembered_until_it_expires() -> None:
    tokens = RecentTokens()
    tokens.add("one", recent(peer="two"))
    assert tokens.get("one", NOW + 299.9) == recent(peer="two")
    assert tokens.get("one", NOW + 300) is None
    assert tokens.get("other", NOW) is None


def test_the_least_recent_token_goes_first() -> None:
    tokens = RecentTokens(3)
    for name in ("one", "two", "three"):
        tokens.add(name, recent())
    assert tokens.get("one", NOW) is not None
    tokens.add("four", recent())
    assert tokens.get("two", NOW) is None
    assert all(tokens.get(name, NOW) is not None for name in ("one", "three", "four"))


def test_expired_tokens_are_swept() -> None:
    tokens = RecentTokens()
    for number in range(10):
        tokens.add(f"token-{number}", recent(NOW + number))
    tokens.sweep(NOW + 4.5)
    assert len(tokens) == 5
    assert tokens.get("token-5", NOW + 4.5) is not None
    tokens.sweep(NOW + 100)
    assert len(tokens) == 0


def test_a_million_tokens_stay_within_bounds(seed: int) -> None:
    draw = random.Random(seed)
    revoked, tokens = Revocations(), RecentTokens()
    refused = 0
    for number in range(1_000_000):
        token_id, now_s = f"{number:022}", NOW + number / 1_000
        expires_at = now_s + 30 + 3_570 * draw.random()
        tokens.add(token_id, recent(expires_at))
        try:
            revoked.revoke(token_id, expires_at, at(now_s))
        except RevocationsFull:
            refused += 1
        assert len(tokens) <= TOKENS_MAX
        assert len(revoked) <= TOKENS_MAX
    assert len(tokens) == len(revoked) == TOKENS_MAX
    assert refused > 0

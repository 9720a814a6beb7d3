"""The client repeats a refused request if it can fix the cause, and no other."""

from __future__ import annotations

import random
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest

from openred_central.client.asking import Asker, ask_for, later_seq
from openred_central.client.errors import (
    BadAnswer,
    ClientError,
    ClockError,
    ForeignAnswer,
    ProblemError,
    RetryLater,
)
from openred_central.client.identity import Identity, ProofLevel
from openred_central.security.signatures import Message, read_signature
from tests.support.fake_server import Asked, FakeServer, Handler, Told
from tests.support.signed_requests import ed25519_key

SESSION = "or3s.1.1.0.x"


def refusal(reason: str, server_time_s: float = 0.0) -> Told:
    time = datetime.fromtimestamp(server_time_s, UTC).isoformat()
    return 401, {"error": "proof_required", "reason": reason, "server_time": time}


def in_turn(*told: Told) -> Handler:
    """Answers the requests with `told`, the last of them from then on."""
    left = list(told)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


class Case:
    """One client of a fake server."""

    def __init__(self, handler: Handler, *, wait_s_max: float = 10.0) -> None:
        self.server = FakeServer(handler)
        self.identity = Identity(None, ed25519_key(), None, self.server.clock, random.Random(2).randbytes)
        self.asker = Asker(self.server.connections(), self.identity, self.server.sleep, wait_s_max)

    async def ask(
        self,
        level: ProofLevel = ProofLevel.LIFE,
        said: dict[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        prove = ask_for(self.identity, level, "POST")
        return await self.asker.ask("POST", "/x", said, prove, repeatable=repeatable)

    @property
    def proofs(self) -> list[str]:
        return [asked.proof for asked in self.server.asked]


def created(asked: Asked) -> int:
    fields = tuple(asked.headers.items())
    return read_signature(Message(asked.method, "a", asked.target, "", asked.body, fields)).created


async def test_what_is_granted_is_kept_and_used() -> None:
    case = Case(in_turn((200, {"session": SESSION}), (200, {"ok": 1})))
    await case.ask()
    assert (await case.ask()) == {"ok": 1}
    assert case.proofs == ["signature", "openred"]


@pytest.mark.parametrize("reason", ["bad_session", "session_expired", "session_revoked", "session_syntax"])
async def test_a_session_that_ended_gives_way_to_a_signature(reason: str) -> None:
    case = Case(in_turn(refusal(reason), (200, {"session": "or3s.2.2.0.x"})))
    case.identity.take({"session": SESSION})
    await case.ask()
    assert case.proofs == ["openred", "signature"]
    assert case.identity.session == "or3s.2.2.0.x"


@pytest.mark.parametrize("ahead_s", [-500.0, 500.0])
async def test_a_wrong_clock_is_corrected_once(ahead_s: float) -> None:
    """The device has no NTP; the directory tells what time it is."""

    def answer(asked: Asked) -> Told:
        server_s = case.server.clock.wall_s() + ahead_s
        if abs(created(asked) - server_s) > 1:
            return refusal("signature_expired" if ahead_s > 0 else "signature_early", server_s)
        return 200, {}

    case = Case(answer)
    await case.ask(ProofLevel.NODE)
    assert len(case.server.asked) == 2
    assert case.identity.offset_s == pytest.approx(ahead_s, abs=0.01)
    await case.ask(ProofLevel.NODE)
    assert len(case.server.asked) == 3


@pytest.mark.parametrize("ahead_s", [-90 * 86_400.0, 86_401.0, 90 * 86_400.0])
async def test_clock_corrections_are_limited_to_a_day(ahead_s: float) -> None:
    case = Case(lambda _: refusal("signature_early", case.server.clock.wall_s() + ahead_s))
    with pytest.raises(ClockError, match=r"Set the clock of this machine") as caught:
        await case.ask(ProofLevel.NODE)
    assert caught.value.ahead_s == pytest.approx(ahead_s, abs=0.01)
    assert len(case.server.asked) == 1
    assert case.identity.offset_s == 0.0


@pytest.mark.parametrize("time", ["noon", "2027-01-15T08:00:00", "0001-01-01T00:00:00+14:00", None])
async def test_ambiguous_or_invalid_server_times_are_ignored(time: str | None) -> None:
    told = {"error": "proof_required", "reason": "signature_early", "server_time": time}
    case = Case(in_turn((401, told)))
    with pytest.raises(ClientError):
        await case.ask(ProofLevel.NODE)
    assert case.identity.offset_s == 0.0


async def test_client_waits_for_the_next_second_after_a_server_start() -> None:
    def answer(asked: Asked) -> Told:
        if created(asked) < started_s:
            return refusal("signature_expired", case.server.clock.wall_s())
        return 200, {}

    case = Case(answer)
    case.server.clock.jump_wall(0.7)
    started_s = case.server.clock.wall_s() - 0.1
    await case.ask(ProofLevel.NODE)
    assert len(case.server.asked) == 2
    assert case.server.waited_s == [pytest.approx(0.32, abs=0.001)]


@pytest.mark.parametrize(
    "told",
    [
        refusal("signature_expired", 1_800_000_000.0),
        refusal("bad_session"),
        refusal("bad_signature"),
        (401, {"reason": "signature_early", "server_time": "noon"}),
        (403, {"reason": "bad_session"}),
        (404, {"error": "node_not_found"}),
        (500, {}),
        (503, {}),
    ],
)
async def test_no_request_is_sent_a_third_time(told: Told) -> None:
    case = Case(in_turn(told))
    with pytest.raises(ProblemError):
        await case.ask(ProofLevel.NODE)
    assert len(case.server.asked) <= 2


async def test_a_server_that_says_when_is_returned_to_then() -> None:
    case = Case(in_turn((429, {}, {"Retry-After": "4"}), (503, {}, {"Retry-After": "5"}), (200, {})))
    await case.ask()
    assert case.server.waited_s == [4.0, 5.0]


async def test_the_sum_of_all_waits_is_bounded() -> None:
    case = Case(in_turn((429, {"error": "rate_limited"}, {"Retry-After": "6"})))
    with pytest.raises(RetryLater) as caught:
        await case.ask()
    assert (caught.value.retry_after_s, caught.value.error) == (6.0, "rate_limited")
    assert case.server.waited_s == [6.0]


@pytest.mark.parametrize(("error", "times"), [("outcome_unknown", 1), ("no_leader", 2)])
async def test_what_may_have_taken_effect_once_is_not_sent_twice(error: str, times: int) -> None:
    """A key change that took effect voids the key that would sign it again."""
    case = Case(in_turn((503, {"error": error}, {"Retry-After": "1"}), (200, {})))
    with nullcontext() if times == 2 else pytest.raises(RetryLater, match=error):
        await case.ask(repeatable=False)
    assert len(case.server.asked) == times


async def test_an_unknown_outcome_is_repeated_where_that_does_no_harm() -> None:
    case = Case(in_turn((503, {"error": "outcome_unknown"}, {"Retry-After": "1"}), (200, {})))
    await case.ask()
    assert len(case.server.asked) == 2


async def test_retry_after_zero_causes_no_busy_loop() -> None:
    case = Case(in_turn((429, {}, {"Retry-After": "0"})), wait_s_max=3.0)
    with pytest.raises(RetryLater):
        await case.ask()
    assert len(case.server.asked) == 4


async def test_strict_directory_gets_the_claim_with_heartbeats() -> None:
    def answer(asked: Asked) -> Told:
        return (200, {}) if asked.proof == "claim" else refusal("proof_required")

    case = Case(answer)
    case.identity.key, case.identity.claim = None, "secret"
    await case.ask()
    await case.ask()
    assert case.proofs == ["nothing", "claim", "claim"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"\xff"])
async def test_what_answers_in_another_language_is_no_directory(body: bytes) -> None:
    content = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with pytest.raises(BadAnswer, match="does not answer as a directory does"):
        await Case(lambda _: content).ask()


@pytest.mark.parametrize("status", [301, 302, 307, 401, 404, 421, 502])
@pytest.mark.parametrize("said", [b'{"moved":true}', b"<html>"])
async def test_failures_not_from_the_directory_are_foreign(status: int, said: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\nLocation: /x\r\nContent-Type: application/json\r\n"
    case = Case(lambda _: f"{head}Content-Length: {len(said)}\r\n\r\n".encode() + said)
    with pytest.raises(ForeignAnswer, match=str(status)):
        await case.ask()
    assert len(case.server.asked) == 1


@pytest.mark.parametrize("said", [{"a": "\ud800"}, {"a": 2**70}, {"a": object()}, {1: 2}])
async def test_unsendable_content_is_a_client_error(said: dict[str, Any]) -> None:
    case = Case(lambda _: (200, {}))
    with pytest.raises(ClientError, match="cannot be sent as JSON"):
        await case.ask(ProofLevel.NODE, said)
    case.identity.key, case.identity.claim = None, "clé"
    with pytest.raises(ClientError, match="characters that a header cannot have"):
        await case.ask(ProofLevel.NODE)
    assert case.server.asked == []


async def test_a_request_has_what_it_needs_and_no_more() -> None:
    case = Case(lambda _: (200, {}))
    await case.ask(ProofLevel.NOTHING)
    await case.ask(ProofLevel.NOTHING, {"a": 1})
    bare, full = case.server.asked
    assert bare.headers.keys() == {"host", "user-agent", "accept", "content-length"}
    assert full.headers.keys() == {"host", "user-agent", "accept", "content-type", "content-length"}
    assert full.said == {"a": 1}


@pytest.mark.parametrize(
    ("known", "told", "later"),
    [
        ("", "ab-1", "ab-1"),
        ("ab-1", "ab-2", "ab-2"),
        ("ab-10", "ab-9", "ab-10"),
        # A restart begins to count anew, under another name.
        ("ab-10", "cd-1", "cd-1"),
        ("ab-10", "", "ab-10"),
        ("ab-10", "ab-11\r\nX: y", "ab-10"),
        ("ab-10", "AB-11", "ab-10"),
    ],
)
def test_the_later_change_counts(known: str, told: str, later: str) -> None:
    assert later_seq(known, told) == later


async def test_requests_name_the_last_change_that_an_answer_told() -> None:
    told: list[dict[str, str]] = [{}, {"OpenRed-Seq": "ab-7"}, {}, {"OpenRed-Seq": "ab-6"}, {}]
    case = Case(lambda _: (200, {}, told[len(case.server.asked) - 1]))
    for _ in told:
        await case.ask()
    assert [asked.headers.get("openred-seq") for asked in case.server.asked] == [
        *(None, None, "ab-7", "ab-7", "ab-7")
    ]

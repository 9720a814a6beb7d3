"""A node's side of the protocol, method by method."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ..clock import SYSTEM_CLOCK, Clock
from ..security.directory_keys.keyset import KeySet
from ..security.signing import PrivateKey
from .answers import BadAnswer, ClientError
from .asking import WAIT_S_MAX, Asker, ask_for
from .connections import Address, Connections
from .errors import ProblemError, RetryLater
from .identity import Identity, ProofLevel
from .peering import TrustedKeys
from .watching import EventReader, NodeEvent

# The limit of ids in one request.
LOOKUP_IDS_MAX = 100
_CHANCES = 2**32
# Refusals that say nothing about the node: a request that arrived too slowly, or too many requests.
_PASSING = (408, 429)
# Bounds for the advice of a server, and the pause where it gives none.
ADVICE_S_MIN = 1.0
ADVICE_S_MAX = 14 * 86_400.0
ADVICE_S = 86_400.0
# A client waits in slices, to notice soon after the machine was suspended that the time is up.
SLICE_S_MAX = 60.0
# Up to a tenth later than a server wants a request again: not all clients return at once.
LATER = 0.1
# After a failure: doubled with each further one.
BACK_OFF_S = 1.0
BACK_OFF_S_MAX = 600.0
_DOUBLINGS_MAX = 10

Document = dict[str, Any]


class Client:
    """One node, and the directory that it speaks to.

    `url` is its URL, such as ``http://127.0.0.1:8000``, or `Connections` that several clients may share.
    `key` is the node's key; a client without one can query, and be a node that never signs. `node_id` is by
    default ``k-`` and the id of the key, a name that no other key can register; a node whose key was changed
    keeps its former id, which must then be given. `claim` is the secret that a node without a key got when
    it registered. `root_key_id` is the id of the directory's root key, if known. `clock` is by default the
    machine's; `entropy` gives random bytes; `sleep` waits. A request that the directory would accept within
    `wait_s_max` seconds is sent again then.

    Methods return the answer of the directory, see ``docs/http-api.md``. They raise `ProblemError` where it
    refuses, `RetryLater` where it would accept the request later, `ClockError` where its time is more than a
    day from ours, `ConnectionFailed` without an answer, and `BadAnswer` where the answer is not a
    directory's, or `ForeignAnswer` where it is a proxy's. All of them are `ClientError`.

    Methods may run concurrently in one event loop; when that has ended, in another one. The client uses and
    renews sessions, signs by the directory's time where ours is wrong, and reopens connections by itself.
    """

    def __init__(
        self,
        url: str | Connections,
        key: PrivateKey | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Callable[[int], bytes] = os.urandom,
        node_id: str | None = None,
        claim: str | None = None,
        root_key_id: str | None = None,
        classical_root_key_id: str | None = None,
        wait_s_max: float = WAIT_S_MAX,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        connections = Connections(Address.of(url), clock) if isinstance(url, str) else url
        self._connections = connections
        self._identity = Identity(node_id, key, claim, clock, entropy)
        self._asker = Asker(connections, self._identity, sleep, wait_s_max)
        self._clock = clock
        self._entropy = entropy
        self._sleep = sleep
        self._registration: Document | None = None
        self.trusted = TrustedKeys(root_key_id, classical_root_key_id=classical_root_key_id)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        await self._connections.close()

    @property
    def node_id(self) -> str:
        return self._identity.node_id

    @property
    def key(self) -> PrivateKey | None:
        return self._identity.key

    @property
    def claim(self) -> str | None:
        """The secret of a node without a key. Keep it: the directory sends it to new nodes only."""
        return self._identity.claim

    def now_s(self) -> float:
        """Return the time by which to judge key sets and tokens: our own clock's, in Unix seconds."""
        return self._identity.now_s()

    @property
    def clock_offset_s(self) -> float:
        """The seconds by which the directory last reported its clock ahead of ours; 0.0 where it did not.

        The report is unproven: it only affects the time in our signatures, by a day at most.
        """
        return self._identity.offset_s

    async def register(
        self,
        /,
        address: str,
        port: int,
        *,
        services: Iterable[str] | None = None,
        metadata: Document | None = None,
        public_key: str | None = None,
        **further: object,
    ) -> Document:
        """Register the node, or update or revive it.

        `public_key` is only for clients without a key. `further` are the other fields of a registration,
        such as ``region``.
        """
        if self.key is not None:
            public_key = self.key.public_text
        elif public_key is None:
            raise ValueError("a registration needs a key, or some text that stands for one")
        said: Document = {"node_id": self.node_id, "address": address, "port": port, "public_key": public_key}
        if services is not None:
            said["services"] = list(services)
        if metadata is not None:
            said["metadata"] = metadata
        return await self._register(said | further)

    async def heartbeat(self, /, **changes: object) -> Document:
        """Send a heartbeat, with `changes` of the record if any.

        ``services`` replaces, ``metadata`` is a merge patch (RFC 7396), ``address`` and ``port`` replace.
        """
        path = f"/heartbeat/{_segment(self.node_id)}"
        return await self._ask("POST", path, changes or None, ProofLevel.NODE if changes else ProofLevel.LIFE)

    async def keep_alive(self, report: Callable[[Document | ClientError], object] | None = None) -> None:
        """Send heartbeats at the pace that the directory advises, until cancelled.

        It continues, at growing intervals, while the directory is away or a proxy answers instead. It
        registers the node again where the directory has forgotten it and this client has registered it
        before. `report` is called with each answer and each failure. Raises `ProblemError` where the
        directory itself refuses for another reason.
        """
        failures = 0
        while True:
            outcome: Document | ClientError
            try:
                outcome = await self._beat_or_return()
            except RetryLater as later:
                outcome, pause_s = later, pause_after_refusal(later.retry_after_s, self._chance())
            except ClientError as error:
                if _is_final(error):
                    raise
                outcome, failures = error, failures + 1
                pause_s = pause_after_failure(failures, self._chance())
            else:
                failures = 0
                pause_s = pause_until_next(outcome.get("heartbeat_advice_s"))
            if report is not None:
                report(outcome)
            await self._pause(pause_s)

    async def discover(
        self, /, services: Iterable[str] = (), *, max_results: int | None = None, **filters: str
    ) -> Document:
        """Return peers that offer all of `services`; without any, peers with any services.

        `filters` are the other parameters of a discovery: ``states``, ``exclude_states``, ``min_last_seen``,
        ``region``, ``near``.
        """
        names = list(services)
        if names and not any(names):
            raise ClientError(
                "the services to discover have no name; give none to find nodes with any services"
            )
        query = {"services": ",".join(names)} if names else {}
        if max_results is not None:
            query["max_results"] = str(max_results)
        query |= filters
        target = f"/discover?{urlencode(query, errors='surrogatepass')}" if query else "/discover"
        return await self._ask("GET", target)

    async def node(self, node_id: str | None = None) -> Document:
        """Return all of one node, by default our own. A hidden node is visible only to itself."""
        wanted = self.node_id if node_id is None else node_id
        path = f"/nodes/{_segment(wanted)}"
        try:
            return await self._ask("GET", path)
        except ProblemError as error:
            if error.status != 404 or wanted != self.node_id or not (self.key or self.claim):
                raise
        return await self._ask("GET", path, level=ProofLevel.NODE)

    async def lookup(self, node_ids: Sequence[str]) -> Document:
        """Return the nodes with these ids, and the ids that are ``missing``; a hundred per request."""
        found: Document = {"nodes": [], "missing": []}
        for start in range(0, len(node_ids), LOOKUP_IDS_MAX):
            asked = {"node_ids": list(node_ids[start : start + LOOKUP_IDS_MAX])}
            answer = await self._ask("POST", "/lookup", asked)
            for name, rows in found.items():
                rows += answer.get(name, [])
        return found

    async def watch(self, node_ids: Iterable[str]) -> AsyncGenerator[NodeEvent, None]:
        """Yield how each of up to 100 nodes is now, and then each time that something happens to one.

            async with aclosing(node.watch(["alice", "bob"])) as events:
                async for event in events:
                    ...

        It goes on while the directory is away, at growing intervals, and resumes where it was. Raises
        `ProblemError` where the directory itself refuses.
        """
        target = "/events?" + urlencode({"nodes": ",".join(node_ids)}, safe=",:", errors="surrogatepass")
        reader, failures = EventReader(), 0
        while True:
            try:
                async with aclosing(self._asker.follow(target, reader.last_id)) as pieces:
                    async for piece in pieces:
                        for event in reader.feed(piece):
                            yield event
                        failures = 0
            except RetryLater as later:
                pause_s = pause_after_refusal(later.retry_after_s, self._chance())
            except ClientError as error:
                if _is_final(error):
                    raise
                failures += 1
                pause_s = pause_after_failure(failures, self._chance())
            reader.restart()
            await self._pause(pause_s)

    async def stats(self) -> Document:
        """Return figures of the directory."""
        return await self._ask("GET", "/stats")

    async def analytics(self, /, **query: str) -> Document:
        """Return a table of the years of the directory, or what there is.

        `query` are the parameters: ``table``, ``from``, ``to``.
        """
        return await self._ask("GET", _analytics(query))

    async def analytics_csv(self, /, **query: str) -> str:
        """Return a table as CSV (RFC 4180); `query` as for `analytics`."""
        target = _analytics({**query, "format": "csv"})
        return (await self._asker.fetch("GET", target, None, lambda *_: [])).body.decode()

    async def leave(self) -> Document:
        """Hide the node; its next heartbeat brings it back."""
        return await self._depart("leave")

    async def forget(self) -> Document:
        """Erase the node."""
        self._registration = None
        return await self._depart("forget")

    async def change_key(
        self, new: PrivateKey, *, next_key: str | None = None, lost: bool = False
    ) -> Document:
        """Give the node the key `new`. The client signs with it from then on.

        `next_key` commits to the key after it, by its id. `lost`: the present key is lost, and `new` is the
        one that the node has committed to; where it has, the directory accepts no other.
        """
        path = f"/nodes/{_segment(self.node_id)}/key"
        said = {"public_key": new.public_text} | ({"next_key": next_key} if next_key else {})
        headers = partial(self._identity.rotation_headers, new, lost=lost)
        # A second request would be refused: the first one voids the former key.
        answer = await self._asker.ask("POST", path, said, headers, repeatable=False)
        self._identity.key = new
        self._identity.end_session()
        self._identity.take(answer)
        if self._registration is not None:
            self._registration["public_key"] = new.public_text
            # The former `next_key` would commit the node to the key that it has now.
            self._registration.pop("next_key", None)
        return answer

    async def session(self) -> str:
        """Return a new session, by a signature. Answers to other signed requests bring sessions, too."""
        asked = {"node_id": self.node_id, "purpose": "session"}
        answer = await self._ask("POST", "/security/token", asked, ProofLevel.NODE)
        session = answer.get("session")
        if not isinstance(session, str):
            raise BadAnswer("the server answers without session; is it a directory?")
        return session

    async def tokens(
        self, peer_id: str | None = None, *, purpose: str | None = None, lifetime_s: int | None = None
    ) -> Document:
        """Return a pair of tokens for us and the node `peer_id`, or one token for anybody.

        In a pair, ``token`` is about us and ``peer_token`` about the peer.
        """
        asked = {"node_id": self.node_id, "peer_id": peer_id, "purpose": purpose, "lifetime_s": lifetime_s}
        asked = {name: value for name, value in asked.items() if value is not None}
        return await self._ask("POST", "/security/token", asked, ProofLevel.LIFE)

    async def verify(self, token_a: str, token_b: str | None = None) -> Document:
        """Have the directory verify one token, or two that should belong together.

        Unlike `peering.verify_pair` this finds revoked tokens. Ids of tokens are enough.
        """
        asked = {"token": token_a} if token_b is None else {"token_a": token_a, "token_b": token_b}
        return await self._ask("POST", "/security/verify", asked)

    async def revoke(self, token_id: str | None = None) -> Document:
        """Revoke one token of ours; without an id all of them, and all sessions."""
        asked = {"node_id": self.node_id} | ({"all": True} if token_id is None else {"token_id": token_id})
        answer = await self._ask("POST", "/security/revoke", asked, ProofLevel.NODE)
        if token_id is None:
            self._identity.end_session()
        return answer

    async def key_set(self) -> KeySet:
        """Return the keys that the directory signs tokens with; they are fetched only if they have changed.

        Raises `Untrusted` where the root key has not signed them. Without a `root_key_id`, the first one
        seen is trusted from then on: keep it from ``trusted.root_key_id``.
        """
        trusted = self.trusted
        headers = [("If-None-Match", trusted.etag)] if trusted.etag else []
        answer = await self._asker.fetch("GET", "/security/keys", None, lambda *_: headers)
        if answer.status == 304 and trusted.key_set is not None:
            return trusted.key_set
        return trusted.take(answer.body, self.now_s(), answer.headers.get("etag"))

    async def _register(self, said: Document) -> Document:
        answer = await self._ask("POST", "/register", said, ProofLevel.NODE)
        self._registration = said
        return answer

    async def _beat_or_return(self) -> Document:
        try:
            return await self.heartbeat()
        except ProblemError as error:
            if error.status not in (404, 410) or self._registration is None:
                raise
        return await self._register(self._registration)

    async def _depart(self, mode: str) -> Document:
        return await self._ask("DELETE", f"/nodes/{_segment(self.node_id)}", {"mode": mode}, ProofLevel.NODE)

    async def _ask(
        self, method: str, target: str, said: Document | None = None, level: ProofLevel = ProofLevel.NOTHING
    ) -> Document:
        return await self._asker.ask(method, target, said, ask_for(self._identity, level, method))

    async def _pause(self, pause_s: float) -> None:
        """Wait for `pause_s` seconds, in which time counts while the machine is suspended."""
        ends_s, slept_s = self._clock.elapsed_s() + pause_s, 0.0
        # A wall clock that is set back makes nobody wait longer.
        while slept_s < pause_s and (left_s := ends_s - self._clock.elapsed_s()) > 0:
            slice_s = min(left_s, SLICE_S_MAX)
            await self._sleep(slice_s)
            slept_s += slice_s

    def _chance(self) -> float:
        return int.from_bytes(self._entropy(4)) / _CHANCES


def _is_final(error: ClientError) -> bool:
    """Return whether the directory itself refuses, and would do so again."""
    return isinstance(error, ProblemError) and error.status < 500 and error.status not in _PASSING


def pause_until_next(advice_s: object) -> float:
    """Return the seconds until the next heartbeat, where the server advises `advice_s`."""
    advised_s: float = advice_s if isinstance(advice_s, int | float) else ADVICE_S
    return min(max(float(advised_s), ADVICE_S_MIN), ADVICE_S_MAX)


def pause_after_refusal(retry_after_s: float, chance: float) -> float:
    """Return the seconds until the next try at the time that the server gave, or up to a tenth later.

    `chance` is a random number from 0 to 1, here and below.
    """
    return min(max(retry_after_s, ADVICE_S_MIN) * (1 + LATER * chance), ADVICE_S_MAX)


def pause_after_failure(failures: int, chance: float) -> float:
    """Return the seconds until the next try after so many failures in a row, at least one.

    It is a random part of a time that doubles, so that the clients of one lost server do not return at once.
    """
    longest_s = min(BACK_OFF_S * 2.0 ** min(failures, _DOUBLINGS_MAX), BACK_OFF_S_MAX)
    return longest_s * (1 + chance) / 2


def _segment(node_id: str) -> str:
    """Return a node's id as a segment of a path; lone surrogates stay, for the directory to refuse."""
    return quote(node_id, safe=":", errors="surrogatepass")


def _analytics(query: Mapping[str, str]) -> str:
    return f"/analytics?{urlencode(query, errors='surrogatepass')}" if query else "/analytics"

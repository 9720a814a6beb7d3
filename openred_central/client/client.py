"""A node's side of the protocol, method by method."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from ..clock import SYSTEM_CLOCK, Clock
from ..security.directory_keys.keyset import KeySet
from ..security.signing import PrivateKey
from . import pace
from .address import Address
from .answers import BadAnswer
from .asking import WAIT_S_MAX, Asker, ask_for
from .connections import Connections
from .errors import ClientError, ProblemError, RetryLater
from .identity import Identity, Proof
from .trust import TrustedKeys

# So many ids may be looked up with one request.
LOOKUP_IDS_MAX = 100
_CHANCES = 2**32
# Refusals of a directory that say nothing about the node: a request that came too slowly, or too many.
_PASSING = (408, 429)

Document = dict[str, Any]


class Client:
    """One node, and the directory that it speaks to.

    `url` is where that is, such as ``http://127.0.0.1:8000``, or `Connections` that several clients may
    share. `key` is the node's key; a client without one can ask, and be a node that never signs. `node_id`
    is by default ``k-`` and the id of the key, a name that nobody else can register; a node whose key was
    changed goes on under its former id, which then has to be given. `claim` is the secret that a node
    without a key was told when it registered, and `root_key_id` the id of the directory's root key as far
    as it is known. `clock` tells the time, by default the machine's; `entropy` gives random bytes; `sleep`
    waits. A request that the directory would take in at most `wait_s_max` seconds is sent again then.

    Methods return the answer of the directory, see ``docs/http-api.md``. They raise `ProblemError` where it
    refuses, `RetryLater` where it would take the same later, `ClockError` where its time is more than a day
    from ours, `ConnectionFailed` where nobody answers, and `BadAnswer` where what answers is no directory,
    or `ForeignAnswer` where that is a proxy. All of them are `ClientError`.

    Methods may be called at the same time, in one event loop; when that has ended, in another one. Sessions
    are used and renewed, requests are signed by the directory's time where ours is wrong, and connections are
    opened anew, all without being asked for.
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
        wait_s_max: float = WAIT_S_MAX,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        connections = Connections(Address.of(url), clock) if isinstance(url, str) else url
        self._connections = connections
        self._identity = Identity(node_id, key, claim, clock, entropy)
        self._asker = Asker(connections, self._identity, sleep, wait_s_max)
        self._entropy = entropy
        self._sleep = sleep
        self._registration: Document | None = None
        self.trusted = TrustedKeys(root_key_id)

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
        """The secret of a node without a key: to be kept, it is told only once."""
        return self._identity.claim

    def now_s(self) -> float:
        """The time by which to judge key sets and tokens: our own clock's, in seconds since the epoch."""
        return self._identity.now_s()

    @property
    def clock_offset_s(self) -> float:
        """How many seconds the directory last said that its clock is ahead of ours; 0.0 where it said none.

        Nobody has proved it: requests are signed by it, within a day, and nothing else is judged by it.
        """
        return self._identity.offset_s

    async def register(
        self,
        address: str,
        port: int,
        *,
        services: Iterable[str] | None = None,
        metadata: Document | None = None,
        public_key: str | None = None,
        **further: object,
    ) -> Document:
        """Register the node, or update or revive it.

        `public_key` is only for clients without a key. `further` are the other fields of a registration, such
        as ``region``.
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

    async def heartbeat(self, **changes: object) -> Document:
        """Say that the node lives, and with `changes` what has changed.

        ``services`` replaces, ``metadata`` is a merge patch (RFC 7396), ``address`` and ``port`` replace.
        """
        path = f"/heartbeat/{_segment(self.node_id)}"
        return await self._ask("POST", path, changes or None, Proof.NODE if changes else Proof.LIFE)

    async def keep_alive(self, tell: Callable[[Document | ClientError], object] | None = None) -> None:
        """Beat at the pace that the directory advises, until cancelled.

        It goes on when the directory is away or something before it answers instead, more and more seldom.
        Where the directory knows the node no more, a node that this client has registered is registered
        again. `tell` is called with each answer and each failure. Raises `ProblemError` where the directory
        itself refuses for another reason.
        """
        failures = 0
        while True:
            told: Document | ClientError
            try:
                told = await self._beat_or_return()
            except RetryLater as later:
                told, pause_s = later, pace.after_refusal(later.retry_after_s, self._chance())
            except ClientError as error:
                if isinstance(error, ProblemError) and error.status < 500 and error.status not in _PASSING:
                    raise
                told, failures = error, failures + 1
                pause_s = pace.after_failure(failures, self._chance())
            else:
                failures = 0
                pause_s = pace.until_next(told.get("heartbeat_advice_s"), self._chance())
            if tell is not None:
                tell(told)
            await self._sleep(pause_s)

    async def discover(
        self, services: Iterable[str] = (), *, max_results: int | None = None, **filters: str
    ) -> Document:
        """Peers that offer all of `services`; without any, whatever they offer.

        `filters` are the others of a discovery: ``states``, ``exclude_states``, ``min_last_seen``,
        ``region``, ``near``.
        """
        names = list(services)
        if names and not any(names):
            raise ClientError(
                "the services to discover have no name; give none to find nodes whatever they offer"
            )
        query = {"services": ",".join(names)} if names else {}
        if max_results is not None:
            query["max_results"] = str(max_results)
        query |= filters
        target = f"/discover?{urlencode(query, errors='surrogatepass')}" if query else "/discover"
        return await self._ask("GET", target)

    async def node(self, node_id: str | None = None) -> Document:
        """All of one node, by default our own. One that hides can be seen by itself only."""
        wanted = self.node_id if node_id is None else node_id
        path = f"/nodes/{_segment(wanted)}"
        try:
            return await self._ask("GET", path)
        except ProblemError as error:
            if error.status != 404 or wanted != self.node_id or not (self.key or self.claim):
                raise
        return await self._ask("GET", path, proof=Proof.NODE)

    async def lookup(self, node_ids: Sequence[str]) -> Document:
        """The nodes with these ids, and the ids that are ``missing``; a hundred with each request."""
        found: Document = {"nodes": [], "missing": []}
        for start in range(0, len(node_ids), LOOKUP_IDS_MAX):
            asked = {"node_ids": list(node_ids[start : start + LOOKUP_IDS_MAX])}
            answer = await self._ask("POST", "/lookup", asked)
            for name, rows in found.items():
                rows += answer.get(name, [])
        return found

    async def stats(self) -> Document:
        """Figures of the directory."""
        return await self._ask("GET", "/stats")

    async def leave(self) -> Document:
        """Have the node hidden; its next heartbeat brings it back."""
        return await self._depart("leave")

    async def forget(self) -> Document:
        """Have the node erased."""
        self._registration = None
        return await self._depart("forget")

    async def change_key(
        self, new: PrivateKey, *, next_key: str | None = None, lost: bool = False
    ) -> Document:
        """Give the node the key `new`. The client signs with it from then on.

        `next_key` commits to the key that is to come after it, by its id. `lost`: the key that the node has
        is lost, and `new` is the one that it has committed to; no other is taken where there is one.
        """
        path = f"/nodes/{_segment(self.node_id)}/key"
        said = {"public_key": new.public_text} | ({"next_key": next_key} if next_key else {})
        headers = partial(self._identity.rotation_headers, new, lost=lost)
        # Were it sent twice, the second one would be refused: the first made the former key void.
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
        """A new session, by a signature. Others come with the answers to what was signed anyway."""
        asked = {"node_id": self.node_id, "purpose": "session"}
        answer = await self._ask("POST", "/security/token", asked, Proof.NODE)
        return _expect_text(answer, "session")

    async def tokens(
        self, peer_id: str | None = None, *, purpose: str | None = None, lifetime_s: int | None = None
    ) -> Document:
        """A pair of tokens for us and the node `peer_id`: ``token`` is about us, ``peer_token`` about it.

        Without a peer it is one token for anybody.
        """
        asked = {"node_id": self.node_id, "peer_id": peer_id, "purpose": purpose, "lifetime_s": lifetime_s}
        asked = {name: value for name, value in asked.items() if value is not None}
        return await self._ask("POST", "/security/token", asked, Proof.LIFE)

    async def verify(self, token_a: str, token_b: str | None = None) -> Document:
        """What the directory says of one token, or of two that should belong together.

        Unlike `peering.verify_pair` it knows what was revoked. Ids of tokens are enough.
        """
        asked = {"token": token_a} if token_b is None else {"token_a": token_a, "token_b": token_b}
        return await self._ask("POST", "/security/verify", asked)

    async def revoke(self, token_id: str | None = None) -> Document:
        """Let one token of ours count no more; without an id all of them, and all sessions."""
        asked = {"node_id": self.node_id} | ({"all": True} if token_id is None else {"token_id": token_id})
        answer = await self._ask("POST", "/security/revoke", asked, Proof.NODE)
        if token_id is None:
            self._identity.end_session()
        return answer

    async def key_set(self) -> KeySet:
        """The keys that the directory signs tokens with; fetched only where there are others than before.

        Raises `Untrusted` where the root key does not vouch for them. Where no `root_key_id` was given, the
        first one seen is trusted from then on: it is in ``trusted.root_key_id``, to be kept.
        """
        trusted = self.trusted
        headers = [("If-None-Match", trusted.etag)] if trusted.etag else []
        answer = await self._asker.fetch("GET", "/security/keys", None, lambda *_: headers)
        if answer.status == 304 and trusted.key_set is not None:
            return trusted.key_set
        return trusted.take(answer.body, self.now_s(), answer.headers.get("etag"))

    async def _register(self, said: Document) -> Document:
        answer = await self._ask("POST", "/register", said, Proof.NODE)
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
        return await self._ask("DELETE", f"/nodes/{_segment(self.node_id)}", {"mode": mode}, Proof.NODE)

    async def _ask(
        self, method: str, target: str, said: Document | None = None, proof: Proof = Proof.NOTHING
    ) -> Document:
        return await self._asker.ask(method, target, said, ask_for(self._identity, proof, method))

    def _chance(self) -> float:
        return int.from_bytes(self._entropy(4)) / _CHANCES


def _segment(node_id: str) -> str:
    """Return a node's id as a segment of a path; halves of characters stay, for the directory to refuse."""
    return quote(node_id, safe=":", errors="surrogatepass")


def _expect_text(answer: Document, name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise BadAnswer(f"the server answers without {name}; is it a directory?")
    return value

"""The endpoints as a caller meets them, without a socket: real directory, real routes, a clock in hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, NamedTuple

import orjson

from openred_central.api.caller.limiting import LimitOptions, Limits
from openred_central.api.caller.proving import Prover
from openred_central.api.dashboard import make_front_page
from openred_central.api.description.openapi import documents
from openred_central.api.feed.broadcast import Broadcast
from openred_central.api.feed.event_log import EventFeed, EventLog
from openred_central.api.feed.watching import Watching
from openred_central.api.routes import NAMES, install
from openred_central.api.service import ANALYSES_KEPT_S, ANALYSES_MAX, Api, Moments
from openred_central.api.wire.caching import Make, Recent, StaticDocument
from openred_central.api.wire.cluster import ClusterFigures
from openred_central.clock import Now
from openred_central.directory.consistency import check
from openred_central.directory.directory import Directory
from openred_central.directory.empathy.visiting import PIECE_SLOTS
from openred_central.directory.lifecycle import LifecycleOptions
from openred_central.errors import CallerError
from openred_central.micro_engine.router import Router
from openred_central.micro_engine.wire.messages import PROBLEM_TYPE, Headers, Request, Response
from openred_central.security.authority import Authorities
from openred_central.security.node_keys import RSA_BITS_MIN
from openred_central.security.replay import ReplayRings
from openred_central.security.sessions import CLAIM_KEY_BYTES, SESSION_KEY_BYTES, Claims, Sessions
from openred_central.security.signing import PrivateKey, signed_headers
from openred_central.security.tokens.revocations import RecentTokens, Revocations
from openred_central.security.tokens.tokens import Mint, NoKey, PeerToken, Publication
from openred_central.storage.store import StoreState
from tests.support.clock import VirtualClock
from tests.support.described import faults
from tests.support.options import directory_options, lifecycle_options, limit_options, mass_silence_options

DAY_S = 86_400.0
# Steps that a coroutine may need; more means that it never ends.
STEPS_MAX = 10_000
CHECKED_NODES_MAX = 20
DUE_MAX = 100_000

AUTHORITY = "directory.example"
DOCUMENTS = documents("9.9.9")
FRONT_PAGE = make_front_page()
PEER = "198.51.100.7"
UNLIMITED = limit_options(exempt_networks=(PEER,))

NODE = {"node_id": "node-1", "address": "192.0.2.1", "port": 8001, "public_key": "key-1"}

# Further members of a problem about a proof.
PROOF_KEYS = {"reason", "server_time"}
PROBLEM_KEYS = {"type", "title", "status", "detail", "error", "message", "suggestion"}


class Reply(NamedTuple):
    """An answer: its status, its JSON document, its content type and further header fields."""

    status: int
    document: Any
    content_type: str | None
    headers: dict[str, str]


class Commit:
    """A commit that a coroutine waits for until it is `done`."""

    def __init__(self) -> None:
        self.done = False

    def __await__(self) -> Generator[None, None, None]:
        while not self.done:
            yield


class NoMint:
    """A directory whose keys cannot be used."""

    publication: Publication | None = None
    root_suite: str | None = None
    public_key: str | None = None

    async def ready(self) -> None:
        pass

    async def mint(self, *tokens: PeerToken) -> tuple[str, ...]:
        raise NoKey("there is no signing key yet")


class World:
    """One directory and its endpoints. Attributes stand for the answers of the store.

    `saved` answers with `durable`; `store_state`, `store_durable` and `cluster` are as in `Api`. While
    `commit` is set, callers that wait for a change wait for it. `saved_changes` are the changes that were
    waited for. Without `limits`, none holds for `PEER`.
    """

    def __init__(
        self,
        *,
        nodes_max: int = 1_000,
        nodes_bytes_max: int = 0,
        lifecycle: LifecycleOptions | None = None,
        heartbeat_advice_s: float = DAY_S,
        forecast: bool = True,
        store_durable: bool = True,
        seed: int = 0,
        limits: LimitOptions = UNLIMITED,
        strict: bool = False,
        mint: Mint | None = None,
        fast_path: bool = True,
        rsa_bits_min: int = RSA_BITS_MIN,
    ) -> None:
        self.clock = VirtualClock()
        self.random = random.Random(seed)
        self.durable = store_durable
        self.store_state = StoreState.OK
        self.stopping = False
        self.cluster: ClusterFigures | None = None
        self.commit: Commit | None = None
        self.saved_changes: list[int] = []
        self.directory = Directory(
            directory_options(
                nodes_max=nodes_max,
                nodes_bytes_max=nodes_bytes_max,
                shards=4,
                heartbeat_advice_s=heartbeat_advice_s,
                forecast=forecast,
            ),
            lifecycle or lifecycle_options(),
            mass_silence_options(),
            self.random.random,
        )
        self.feed = EventFeed(EventLog("run"), self.directory.nodes)
        self.limits = Limits(limits, self.clock.monotonic_s, self.directory.nodes.registry)
        self.prover = Prover(
            directory=self.directory,
            limits=self.limits,
            claims=Claims(bytes(range(CLAIM_KEY_BYTES))),
            sessions=Sessions(bytes(range(SESSION_KEY_BYTES))),
            rings=ReplayRings(),
            authorities=Authorities([AUTHORITY]),
            strict=strict,
            started_s=self.clock.monotonic_s(),
            steady_ahead_s=self.clock.wall_s() - self.clock.monotonic_s(),
            renews=lambda: self.directory.may_change(),
        )
        self.api = Api(
            directory=self.directory,
            prover=self.prover,
            limits=self.limits,
            rsa_bits_min=rsa_bits_min,
            mint=mint or NoMint(),
            recent_tokens=RecentTokens(),
            revocations=Revocations(),
            save_revocations=self._saved_revocations,
            entropy=self.random.randbytes,
            now=self.now,
            moments=Moments(self.now, self.clock.monotonic_s, self.directory.heartbeat_due_at),
            saved=self._saved,
            store_state=lambda: self.store_state,
            store_durable=store_durable,
            random=lambda: self.random.random(),
            figures=lambda: {"uptime_s": 1.5},
            version="9.9.9",
            endpoints=NAMES,
            documents=_made(DOCUMENTS),
            front_page=_made(FRONT_PAGE),
            stopping=lambda: self.stopping,
            broadcast=Broadcast(
                self.feed,
                lambda: {"nodes": len(self.directory)},
                self.clock.wall_s,
                subscribers_max=3,
            ),
            watching=Watching(self.directory, self.now, waits_max=3),
            fast_path=fast_path,
            cluster=lambda: self.cluster,
            analyses=Recent(ANALYSES_KEPT_S, ANALYSES_MAX, _in_place),
        )
        self.api.broadcast.others = self.api.watching.watchers
        self.router = Router(1024 * 1024)
        install(Routes(self.router), self.api)  # type: ignore[arg-type]

    def now(self) -> Now:
        return Now(self.clock.monotonic_s(), self.clock.wall_s(), self.clock.monotonic_s())

    def wait(self, seconds: float) -> None:
        """Let time pass, and all deadlines in it."""
        self.clock.advance(seconds)
        self.directory.expiry.expire_due(self.now(), DUE_MAX)

    def visit(self) -> None:
        """Let the directory look at all nodes, if it remembers habits."""
        visiting = self.directory.visiting
        if visiting is not None:
            for _ in range(0, len(self.directory.nodes.habits.paces), PIECE_SLOTS):
                visiting.visit(self.now())

    async def _saved(self, change: int) -> bool:
        self.saved_changes.append(change)
        if self.commit is not None:
            await self.commit
        return self.durable

    async def _saved_revocations(self) -> bool:
        return self.durable

    def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        claim: str | None = None,
        peer: str = PEER,
        **headers: str,
    ) -> Request:
        """Return a request as the engine would hand it over; `body` is made JSON unless it is bytes."""
        path, _, query = target.partition("?")
        content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        fields.append(("content-type", "application/json"))
        if claim is not None:
            fields.append(("authorization", f"Claim {claim}"))
        return Request(
            method,
            path,
            query,
            headers=Headers(tuple(fields)),
            authority=AUTHORITY,
            content_length=len(content),
            body=content,
            peer=peer,
        )

    def start(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Return the endpoint that is to answer `request`, not yet begun. Raises as the router does."""
        route, parameters = self.router.admit(request)
        return route.handler(request, *parameters)

    def call(self, method: str, target: str, body: Any = None, **options: Any) -> Reply:
        """Ask and read the answer, whether it is an error or not. `options` as for `request`.

        The answer has to be as the description of the API says.
        """
        try:
            response = run(self.start(self.request(method, target, body, **options)))
        except CallerError as error:
            response = Response.problem(error)
        finally:
            self.check()
        path = target.partition("?")[0]
        assert faults(method, path, response.status, response.content_type, response.body) == []
        return read_reply(response)

    def check(self) -> None:
        # Looking at all nodes after every step is for small worlds.
        if len(self.directory) <= CHECKED_NODES_MAX:
            assert check(self.directory, self.now()) == []

    def signed(
        self,
        key: PrivateKey,
        method: str,
        path: str,
        body: Any = None,
        *,
        age_s: float = 0.0,
        nonce: str | None = None,
        authority: str = AUTHORITY,
    ) -> Reply:
        """Ask with a signature by `key`, made `age_s` ago, under a `nonce` that is new by default."""
        content = b"" if body is None else orjson.dumps(body)
        created = int(self.clock.wall_s() - age_s)
        nonce = nonce or f"{self.random.getrandbits(128):032x}"
        headers = signed_headers(method, authority, path, content, key, created, nonce)
        return self.call(method, path, content or None, **named(headers))

    def register(self, *, claim: str | None = None, **fields: Any) -> Reply:
        """Register `NODE`, with some of its fields changed, or left out where they are `...`."""
        body = {name: value for name, value in {**NODE, **fields}.items() if value is not ...}
        return self.call("POST", "/register", body, claim=claim)

    def claim_of(self, **fields: Any) -> str:
        """Register a new node and return its claim."""
        reply = self.register(**fields)
        assert reply.status == 201, reply
        claim: str = reply.document["claim"]
        return claim


class Routes:
    """The part of an engine that `install` needs."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def route(self, template: str, methods: Iterable[str], **options: Any) -> Callable[[Any], Any]:
        def add(handler: Any) -> Any:
            self._router.add(template, methods, handler, **options)
            return handler

        return add


def named(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Header fields as `World.call` takes them."""
    return {name.lower().replace("-", "_"): value for name, value in headers}


def _made(page: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    """As if somebody had asked for `page` before."""

    async def ask() -> Any:
        return page

    return ask


async def _in_place(make: Make) -> StaticDocument:
    return make()


def run(coroutine: Coroutine[Any, Any, Response]) -> Response:
    """Drive `coroutine` to its end. Raises what it raises."""
    for _ in range(STEPS_MAX):
        try:
            coroutine.send(None)
        except StopIteration as done:
            response: Response = done.value
            return response
    raise AssertionError("the endpoint never ends")


def read_reply(response: Response) -> Reply:
    return Reply(response.status, orjson.loads(response.body), response.content_type, dict(response.headers))


def assert_problem(reply: Reply, status: int, code: str, *, fields: Iterable[str] = ()) -> None:
    """Fail unless `reply` has the shape of every error (RFC 9457) and names exactly the wrong `fields`."""
    document = reply.document
    assert (reply.status, document.get("error")) == (status, code), reply
    assert reply.content_type == PROBLEM_TYPE
    assert document.keys() - PROOF_KEYS == PROBLEM_KEYS | ({"fields"} if fields else set())
    assert document["status"] == status
    assert document["type"] == f"urn:openred:problem:{code}"
    assert document["message"] == document["detail"]
    assert document.get("fields", {}).keys() == set(fields)
    for name in ("title", "detail", "suggestion"):
        assert document[name]
        assert "Traceback" not in document[name]

"""Endpoints, declared beside their handlers and read by router, OpenAPI document and reference page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from ..micro_engine.router import Answer
from ..micro_engine.wire.messages import JSON_TYPE, Request
from .caller.limiting import Handler
from .service import Api
from .wire.fields import Field, Schema

# Names of the security schemes: the ways to prove that a request comes from a node.
SIGNATURE, SESSION, CLAIM = "signature", "session", "claim"
# Problems of an endpoint that asks for a proof.
PROOF = ("proof_required", "forbidden", "node_not_found", "node_dead", "rate_limited")
LIMITED = ("RateLimit-Policy", "RateLimit")
CACHED = ("ETag", "Cache-Control")
PENDING = "The change is accepted, and not on disk yet."


class Where(Enum):
    """The processes that answer, where several serve one directory (see `handing_on`).

    LEADER: the leader alone. ANYWHERE: any process, unless the request bears a proof that the endpoint takes.
    SIGN_OF_LIFE: any process, if it is the heartbeat of an active node that changes nothing.
    """

    LEADER = auto()
    ANYWHERE = auto()
    SIGN_OF_LIFE = auto()


class Reply(NamedTuple):
    """A successful answer: its meaning, `schema` (None without a body), media type, and header fields.

    `also_as` is another media type, of a text, that the caller may get.
    """

    description: str
    schema: Schema | None
    content_type: str = JSON_TYPE
    headers: tuple[str, ...] = ()
    also_as: str | None = None


UNCHANGED = Reply("The caller has it already.", None, headers=CACHED)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One endpoint: where it is served, what it takes, and what it answers.

    `name` identifies it for programs; `tag` is its group; `replies` are by status; `problems` are codes of
    errors beyond those that any request may meet. `query` and `body` are its fields, `rules` a schema of the
    body beyond these, `body_required` whether a body has to be there. `proofs` are the ways to prove the
    caller, None among them if a request without proof is possible. `headers` are further header fields of a
    request, with their meaning; `caches` says that the answer has an entity tag. `leads_to` names endpoints
    that take the node id of the answer; `example_query` and `example_body` make a typical request. `aliases`
    are older paths; `limit` is the rate limit by address; `prepare` is as in `Router.add`. `where` says who
    answers where there are several processes.
    """

    method: str
    path: str
    handler: Handler
    _: KW_ONLY
    name: str
    tag: str
    summary: str
    description: str
    replies: Mapping[int, Reply]
    problems: tuple[str, ...] = ()
    query: tuple[Field[Any], ...] = ()
    body: tuple[Field[Any], ...] = ()
    body_required: bool = True
    rules: Schema = field(default_factory=dict)
    proofs: tuple[str | None, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    caches: bool = False
    leads_to: tuple[str, ...] = ()
    example_query: str = ""
    example_body: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    limit: str | None = None
    prepare: Callable[[Api, Request], Answer | None] | None = None
    where: Where = Where.LEADER

    @property
    def label(self) -> str:
        """Method and path as one text, such as ``GET /nodes/{node_id}``."""
        return f"{self.method} {self.path}"

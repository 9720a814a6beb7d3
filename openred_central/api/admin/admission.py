"""Admission of operators, and the audit log ``openred.audit`` of all attempts.

Over the Unix socket, anybody who can open it is an operator: the mode of its file decides. Over TCP, the
secret decides. `Hosts` protects against pages that reach the listener by DNS rebinding: a browser takes this
machine for the page's own server, but the field ``Host`` shows the name that the page asked for.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...directory.losing import Losses
from ...errors import CallerError
from ...limits.origins import IPAddress, parse_address
from ...logs import AUDIT
from ...micro_engine.wire.messages import Request, Response
from ..service import Api

log = logging.getLogger(AUDIT)

SCHEME = "Bearer"
# Never resolved by DNS (RFC 6761 §6.3).
_LOOPBACK_NAME = "localhost"


class OperatorsOptions(NamedTuple):
    """Where operators are served, and how they are admitted.

    They are served at `host` and `port`, 0 for any free one, None for none, and at the path `socket`, None
    for none. `names` are further names of this server. `secret_file` holds the secret for TCP; None: it lies
    beside the database.
    """

    host: str
    port: int | None
    socket: Path | None
    secret_file: Path | None
    names: tuple[str, ...]


class Hosts:
    """The hosts that a listener answers for: loopback in any spelling, and `known` names and addresses.

    `known` have no ports. An unspecified address among them, such as ``0.0.0.0``, stands for every address:
    addresses are not resolved, so DNS rebinding cannot use them.
    """

    def __init__(self, known: Iterable[str]) -> None:
        hosts = [_host(each) for each in known]
        self._known = frozenset(hosts)
        self._every_address = any(not isinstance(each, str) and each.is_unspecified for each in hosts)

    def check(self, authority: str) -> None:
        """Raise `CallerError` 421 unless the host of `authority`, which may have a port, is one of them."""
        bracketed = authority.startswith("[")
        host = _host(authority[1:].partition("]")[0] if bracketed else authority.partition(":")[0])
        if host in self._known:
            return
        if isinstance(host, str):
            allowed = host == _LOOPBACK_NAME or host.endswith(f".{_LOOPBACK_NAME}")
        else:
            allowed = self._every_address or host.is_loopback
        if not allowed:
            raise CallerError(
                421,
                "misdirected_request",
                f"The operators' listener does not answer for the host {authority!r}.",
                suggestion="Use localhost, OPENRED_ADMIN_HOST, or one of OPENRED_ADMIN_NAMES.",
            )


def _host(text: str) -> str | IPAddress:
    """Return an address (an IPv4-mapped one as IPv4), or a name in lower case."""
    return parse_address(text) or text.lower().removesuffix(".")


@dataclass(frozen=True, eq=False)
class Admission:
    """How operators are admitted at one listener.

    `trusted`: every caller that reaches it is one. `secret` admits callers; None admits none.
    `metrics_open`: whether ``GET /metrics`` needs no secret. `hosts` are those it answers for; None: all,
    for a listener that no browser reaches.
    """

    trusted: bool
    secret: str | None
    metrics_open: bool
    hosts: Hosts | None = None

    def check_host(self, request: Request) -> None:
        """Raise `CallerError` 421 ``misdirected_request`` if the request is for another host."""
        if self.hosts is not None:
            self.hosts.check(request.authority)

    def require(self, request: Request) -> None:
        """Raise `CallerError` 401 ``proof_required`` or 403 ``forbidden`` unless an operator calls."""
        if self.trusted:
            return
        presented = request.headers.get("authorization")
        if presented is None:
            raise CallerError(
                401,
                "proof_required",
                "Only operators may do this, and the request has no Authorization header.",
                suggestion=f"Send `Authorization: {SCHEME} <secret>` with the content of the secret file.",
                headers=(("WWW-Authenticate", SCHEME),),
            )
        scheme, _, secret = presented.partition(" ")
        known = self.secret is not None and hmac.compare_digest(
            secret.strip().encode("utf-8"), (self.secret or "").encode("utf-8")
        )
        if scheme.lower() != SCHEME.lower() or not known:
            raise CallerError(
                403,
                "forbidden",
                "The Authorization header does not hold the secret of this server's operators.",
                suggestion=f"Send `Authorization: {SCHEME} <secret>` with the content of the secret file.",
            )

    async def audited(
        self,
        request: Request,
        action: str,
        subject: str | None,
        act: Callable[[], Awaitable[Response]],
    ) -> Response:
        """Return the answer of `act` if an operator calls. `subject` is the node or key concerned."""
        outcome: Any = "failed"
        try:
            self.check_host(request)
            self.require(request)
            response = await act()
            outcome = response.status
        except CallerError as error:
            outcome = f"{error.status} {error.code}"
            raise
        finally:
            who = "unix socket" if self.trusted else request.peer
            node = "" if subject is None else f" {json.dumps(subject)}"
            log.info("operator at %s: %s%s: %s", who, action, node, outcome)
        return response


class ClusterDesk(NamedTuple):
    """The operators' view of a cluster, at one of its instances.

    `accept_database` takes a database that is of long ago as it is, and returns whether it was refused.
    `losses` are acknowledged changes that a database has lost which went back.
    """

    accept_database: Callable[[], bool]
    losses: Losses


class Desk(NamedTuple):
    """The operators' view of the server.

    `metrics` makes the text of ``GET /metrics``; `snapshot` takes a snapshot and returns its description;
    `rotate_keys` replaces the key that signs tokens; `revoke_key` revokes a key by its id. All but `metrics`
    raise `CallerError`. `forget_instance` waits no more for an instance of a name that is away, and returns
    whether there was one. With `refusal`, which makes the error, this process may change nothing.
    `cluster` is None for a server that is in none.
    """

    api: Api
    metrics: Callable[[], bytes]
    snapshot: Callable[[], Awaitable[Mapping[str, Any]]]
    rotate_keys: Callable[[], Awaitable[None]]
    revoke_key: Callable[[str], Awaitable[None]]
    forget_instance: Callable[[str], bool]
    refusal: Callable[[], CallerError] | None = None
    cluster: ClusterDesk | None = None


class AdminEndpoint(NamedTuple):
    """One endpoint for operators, declared beside its handler; `action` is its name in the audit log.

    One that is served `anywhere` concerns the instance that is asked, whether it leads or not.
    """

    method: str
    path: str
    handler: Callable[..., Coroutine[Any, Any, Response]]
    action: str
    anywhere: bool = False

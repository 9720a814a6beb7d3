"""Who may speak as an operator, and the record of what they did.

Whoever reaches the Unix socket may, since the file's mode decides who does; over TCP whoever knows the
secret. Every action leaves one line in the log ``openred.audit``, also one that was refused.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ...errors import CallerError
from ...logs import AUDIT
from ...micro_engine.wire.messages import Request, Response
from .hosts import Hosts

log = logging.getLogger(AUDIT)

SCHEME = "Bearer"


@dataclass(frozen=True, slots=True)
class Admission:
    """How operators are admitted at one listener.

    `trusted`: everybody who reaches it is one. `secret`: what admits the others; None admits nobody.
    `metrics_open`: whether ``GET /metrics`` is answered without it. `hosts`: whom it answers for; None: any,
    where no browser gets.
    """

    trusted: bool
    secret: str | None
    metrics_open: bool
    hosts: Hosts | None = None

    def check_host(self, request: Request) -> None:
        """Raise `CallerError` 421 ``misdirected_request`` where somebody else was asked."""
        if self.hosts is not None:
            self.hosts.check(request.authority)

    def require(self, request: Request) -> None:
        """Raise `CallerError` 401 ``proof_required`` or 403 ``forbidden`` unless an operator asks."""
        if self.trusted:
            return
        presented = request.headers.get("authorization")
        if presented is None:
            raise CallerError(
                401,
                "proof_required",
                "Only operators may do this, and nothing in the request proves that you are one.",
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
                "What the Authorization header presents is not the secret of this server's operators.",
                suggestion=f"Send `Authorization: {SCHEME} <secret>` with the content of the secret file.",
            )

    async def audited(
        self,
        request: Request,
        action: str,
        subject: str | None,
        act: Callable[[], Awaitable[Response]],
    ) -> Response:
        """What `act` answers, if an operator asks for it. `subject` is the node that it is about."""
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

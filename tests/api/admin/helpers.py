"""The operators' endpoints as an operator meets them, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openred_central.api.admin.admission import Admission, ClusterDesk, Desk
from openred_central.api.admin.routes import install
from openred_central.directory.losing import Losses
from openred_central.errors import CallerError
from openred_central.micro_engine.router import Router
from openred_central.micro_engine.wire.messages import Response
from tests.support.world import Reply, Routes, World, read_reply, run

SECRET = "s" * 43
OPEN = Admission(trusted=True, secret=None, metrics_open=True)
GUARDED = Admission(trusted=False, secret=SECRET, metrics_open=False)


class Office:
    """A directory with its public endpoints (`world`), and the operators' beside it.

    It is an instance of a cluster, unless told that it is `alone`; `refusal` is as in `Desk`, the `options`
    are those of `World`.
    """

    def __init__(
        self,
        admission: Admission = OPEN,
        *,
        alone: bool = False,
        refusal: Callable[[], CallerError] | None = None,
        **options: Any,
    ) -> None:
        self.world = World(**options)
        self.snapshots = 0
        self.rotations = 0
        self.revoked: list[str] = []
        # Instances that are away.
        self.missing = {"two"}
        self.refuses_database = True
        self.losses = Losses()
        self.desk = Desk(
            self.world.api,
            lambda: b"figure 1\n",
            self._snapshot,
            self._rotate_keys,
            self._revoke_key,
            self._forget_instance,
            refusal=refusal,
            cluster=None if alone else ClusterDesk(self._accept_database, self.losses),
        )
        self.router = Router(1024 * 1024)
        install(Routes(self.router), self.desk, admission)  # type: ignore[arg-type]

    async def _snapshot(self) -> Mapping[str, Any]:
        self.snapshots += 1
        return {"nodes": len(self.world.directory)}

    async def _rotate_keys(self) -> None:
        self.rotations += 1

    async def _revoke_key(self, key_id: str) -> None:
        self.revoked.append(key_id)

    def _accept_database(self) -> bool:
        refused, self.refuses_database = self.refuses_database, False
        return refused

    def _forget_instance(self, name: str) -> bool:
        known = name in self.missing
        self.missing.discard(name)
        return known

    def ask(self, method: str, target: str, *, authority: str | None = None, **headers: str) -> Response:
        """Return the answer or problem as it would be sent; `authority` is the host asked."""
        request = self.world.request(method, target, **headers)
        if authority is not None:
            request.authority = authority
        try:
            route, parameters = self.router.admit(request)
            return run(route.handler(request, *parameters))
        except CallerError as error:
            return Response.problem(error)

    def call(self, method: str, target: str, **headers: str) -> Reply:
        """Return the answer read as JSON; check that the directory is consistent."""
        reply = read_reply(self.ask(method, target, **headers))
        self.world.check()
        return reply

"""The things that both roles of an instance use: who leads, the way there, and what answers meanwhile."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..api.admin.admission import ClusterDesk
from ..api.caller.limiting import Handler
from ..api.endpoint import Endpoint
from ..api.handing_on import handing_on
from ..api.routes import install
from ..api.service import Api
from ..api.wire.cluster import ClusterFigures
from ..clock import AttendedTime
from ..cluster.forwarding import Forwarder
from ..cluster.leadership import Leadership
from ..cluster.lease import Role
from ..cluster.link import LinkBroken
from ..cluster.ways import InstanceWay
from ..directory.directory import Directory
from ..directory.following import Following
from ..directory.losing import Losses
from ..storage.postgres.leasing import LeaseRow
from ..wording import counted
from .assembly import Assembly
from .operators import Operators
from .public import Public

log = logging.getLogger("openred.cluster")


class Standing(NamedTuple):
    """The copy of the directory that answers at present, and its clock.

    `following` is the part that follows a leader with it, None for the copy of a leader.
    """

    directory: Directory
    attended: AttendedTime
    following: Following | None


class Membership:
    """One instance among others; `who` describes it to them, and names its run.

    `stop` is set when the process is to stop, `changed` when that, the role or the leader may be another.
    Links and requests go to others over TLS with `link_context` and `asking_context`. `desk` is for
    operators.
    """

    def __init__(
        self,
        assembly: Assembly,
        public: Public,
        forwarder: Forwarder,
        leadership: Leadership,
        *,
        who: Mapping[str, str],
        stop: asyncio.Event,
        changed: asyncio.Event,
        link_context: ssl.SSLContext,
        asking_context: ssl.SSLContext,
    ) -> None:
        self.assembly = assembly
        self.public = public
        self.forwarder = forwarder
        self.leadership = leadership
        self.who = who
        self.stop = stop
        self.link_context = link_context
        self.changed = changed
        self._asking_context = asking_context
        self.standing: Standing | None = None
        # The term that was followed last, by the name of its events.
        self.followed = ""
        # The last word of the leader, for the next one.
        self.told: dict[str, Any] = {}
        # Settings of this instance that the last leader had otherwise.
        self.differing = frozenset[str]()
        # Their listener while no leader of this process has one.
        self.operators: Operators | None = None
        self.desk = ClusterDesk(leadership.accept_database, Losses())

    @property
    def follows(self) -> bool:
        """Return whether this instance is to follow whoever leads."""
        return self.leadership.role is Role.FOLLOWER and not self.stop.is_set()

    def is_led_by(self, run: str) -> bool:
        """Return whether this instance is to follow the run, which still leads."""
        leader = self.leader()
        return self.follows and leader is not None and leader.holder == run

    def leader(self) -> LeaseRow | None:
        """Return the row of another instance that leads; None while none does."""
        row = self.leadership.row
        return row if row is not None and row.holder not in ("", self.who["run"]) else None

    def stand(self, standing: Standing) -> Standing | None:
        """Let another copy of the directory answer; report what only the former one knows, and return it."""
        former, self.standing = self.standing, standing
        if former is not None and former is not standing:
            lost = self.desk.losses.note(former.directory.nodes, standing.directory.nodes)
            if lost:
                log.error(
                    "the database went back: %s of nodes that were acknowledged are lost; "
                    "`openred-central cluster lost` lists them",
                    counted(lost, "change"),
                )
        return former

    def lacks(self, seq: int) -> bool:
        """Return whether the copy of the directory here lacks a commit."""
        standing = self.standing
        return standing is not None and standing.following is not None and standing.following.seq < seq

    def compare_settings(self, leader: str, settings: Mapping[str, str]) -> None:
        """Compare the settings of the leader that is named with those here; report others that differ."""
        own = self.assembly.configuration.of_leader()
        former = self.differing
        # A leader of another version may lack some.
        self.differing = frozenset(name for name in own if settings.get(name, own[name]) != own[name])
        if self.differing - former:
            log.warning(
                "%s leads with other settings: %s; these count, and this instance takes the lead only where "
                "none that has them does",
                leader,
                ", ".join(f"{name}={settings[name]} (here {own[name]})" for name in sorted(self.differing)),
            )

    def settings_lead(self) -> None:
        """Note that the settings of this instance count from now on."""
        if self.differing:
            log.warning(
                "leads with other settings than its predecessor: %s", ", ".join(sorted(self.differing))
            )
        self.differing = frozenset()

    def way(self, url: str) -> InstanceWay:
        """Return the way to the cluster port at ``host:port``."""
        host, _, port = url.rpartition(":")
        return InstanceWay(host.strip("[]"), int(port), self._asking_context)

    def way_to(self, leader: LeaseRow) -> InstanceWay:
        """Return the way to the instance that leads. Raise `LinkBroken` if the row does not tell it."""
        try:
            return self.way(str(leader.leader["url"]))
        except (LookupError, TypeError, ValueError) as error:
            raise LinkBroken(f"the row of the cluster does not say where it is: {error!r}") from error

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until `done`, or this process is to stop."""
        while not (self.stop.is_set() or done()):
            self.changed.clear()
            await self.changed.wait()

    async def close_operators(self) -> None:
        """End the operators' listener of this instance as a follower, if there is one."""
        operators, self.operators = self.operators, None
        if operators is not None:
            await operators.drain()

    def own_figures(self) -> ClusterFigures:
        """Return what this instance knows without a role of its own."""
        row, role = self.leadership.row, self.leadership.role
        return ClusterFigures(
            instance=self.who["name"],
            role=role.name.lower(),
            term=row.term if row else 0,
            leader=str(row.leader.get("name")) if row and self.leadership.is_led else None,
            seq=0,
            behind_s=0.0,
            confirmed_s=None,
            instances=(),
        )

    def between_roles(self, api: Api) -> Callable[[], None]:
        """Return what serves the endpoints of a former leader until it follows."""
        leader = _NoLeader(self.forwarder)

        def wrap(endpoint: Endpoint, handler: Handler) -> Handler:
            return handing_on(endpoint, api, handler, leader)

        return lambda: install(self.public.engine, api, wrap)


class _NoLeader:
    """The leader, as the endpoints see it between two roles."""

    run = ""
    seq = 0
    waiting = 0

    def __init__(self, forwarder: Forwarder) -> None:
        self.answer = forwarder.answer

    async def reached(self, seq: int, timeout_s: float) -> bool:
        return False


def run_of(lineage: str) -> str:
    """Return the name of the numbers of commits of a directory, as `OpenRed-Seq` has it."""
    return lineage.replace("-", "")

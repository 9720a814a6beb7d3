"""The role of an instance that leads: it loads the directory from the shared database, and serves it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from .. import __version__
from ..api.wire.cluster import ClusterFigures, InstanceFigures
from ..clock import AttendedTime
from ..cluster.lease import Role
from ..cluster.link import Link
from ..cluster.listening import ClusterListener
from ..cluster.ways import InstanceWay
from ..directory.carrying import later_signs
from ..directory.directory import Directory
from ..listening import StartError
from ..storage.postgres.leasing import RolledBack
from ..storage.store import NotLeading, PassingError, StoreError
from ..tasks.notifier import Notifier
from ..tasks.periodic import in_thread
from .assembly import Assembly
from .beginning import log_unusable
from .lead import Lead
from .leader_front import LeaderFront
from .membership import Membership, Standing, run_of
from .vault import Vault, open_vault

if TYPE_CHECKING:
    from ..storage.postgres.store import PostgresStore

log = logging.getLogger("openred.cluster")

# The pause after an attempt to lead that failed.
RETRY_S: Final = 0.1


class LeaderRole:
    """One instance in the terms that it leads, on `store`, reached by others at `listener` and `own_way`.

    `loader` has a thread for reading. `announce` is called when it serves.
    """

    def __init__(
        self,
        membership: Membership,
        store: PostgresStore,
        listener: ClusterListener,
        own_way: InstanceWay,
        loader: ThreadPoolExecutor,
        announce: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._leadership = membership.leadership
        self._store = store
        self._listener = listener
        self._own_way = own_way
        self._loader = loader
        self._announce = announce
        self._front: LeaderFront | None = None
        self._went_back = False
        self.all_saved = True

    async def run(self) -> None:
        """Lead until another instance does, or this one stops.

        Raises `StartError` or `StoreError` if this instance cannot lead, and has no copy of the directory to
        go on with as a follower.
        """
        term = self._leadership.term
        try:
            await self._lead()
        except NotLeading as error:
            log.warning("another instance leads: %s", error)
        except RolledBack as error:
            # Before anything was changed in this term: it is loaded again as it is now.
            log.warning("cannot lead now: %s", error)
            await asyncio.sleep(RETRY_S)
        except (StoreError, StartError) as error:
            # It may hold the lease again, in another term.
            is_lost = self._leadership.term != term
            if not is_lost and self._membership.standing is None:
                raise
            if is_lost or isinstance(error, PassingError):
                log.warning("cannot lead now: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                await self._leadership.give_up(error)
        finally:
            self._front = None

    async def serve_link(self, link: Link) -> None:
        """Feed an instance that follows, until its link ends or this instance leads no more."""
        if self._front is not None:
            await self._front.serve_link(link)

    def went_back(self) -> None:
        """Have written again what the database has lost, which went back to an earlier state."""
        self._went_back = True
        self._membership.changed.set()

    async def _lead(self) -> None:
        membership, leadership, store = self._membership, self._leadership, self._store
        self._went_back = False
        configuration = membership.assembly.configuration
        assembly = Assembly.here(configuration)._replace(started_s=membership.assembly.started_s)
        directory, attended = await in_thread(self._loader, self._load, assembly)
        self._go_on(directory, attended)
        log_unusable(directory.nodes.unserved, store.location)
        row, term = leadership.row, leadership.term
        if row is None or term is None:
            return
        # Proofs from before the term may have been used with the former leader.
        ahead_s = leadership.term_began_s - assembly.clock.wall_s()
        assembly = assembly._replace(proofs_from_s=assembly.clock.monotonic_s() + ahead_s)
        front = LeaderFront(
            assembly,
            membership.public,
            self._listener,
            leadership,
            who=membership.who,
            run=run_of(row.lineage),
            seq=store.seq,
            stopping=membership.stop.is_set,
            answering=partial(self._answer, term, directory, attended),
            cluster=self._figures,
            resume=membership.between_roles,
            cluster_desk=membership.desk,
        )
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        try:
            vault = await in_thread(
                self._loader, open_vault, configuration, assembly.clock, os.urandom, store, writer
            )
            await self._serve(assembly, front, directory, attended, writer, vault)
        finally:
            if not membership.stop.is_set():
                front.close()
            writer.shutdown(wait=False)

    async def _serve(
        self,
        assembly: Assembly,
        front: LeaderFront,
        directory: Directory,
        attended: AttendedTime,
        writer: ThreadPoolExecutor,
        vault: Vault,
    ) -> None:
        """Serve the directory until the term or the process ends. Raises as `run` does."""
        await self._membership.close_operators()
        stop = asyncio.Event()
        # The service manager hears of the process, and not of each term.
        lead = Lead(assembly, front, Notifier({}, os.getpid(), str), stop)
        self._front = front
        beside = [asyncio.create_task(each) for each in (self._end_term(lead, stop), self._repair(lead))]
        try:
            end = await lead.serve(directory, attended, None, self._store, writer, vault)
            self.all_saved = end.all_saved
        finally:
            for task in beside:
                task.cancel()
            vault.close()

    def _load(self, assembly: Assembly) -> tuple[Directory, AttendedTime]:
        """Load what the database holds at one moment. Raises `StoreError`."""
        with self._store.reading() as reading:
            directory, attended = assembly.load(reading)
        self._store.leave_alone(row.slot for row in directory.nodes.unserved)
        self._store.seal_again()
        return directory, attended

    def _go_on(self, directory: Directory, attended: AttendedTime) -> None:
        """Go on from the latest time that any leader is known to have told, and with its hold."""
        directory.expiry.silence.resume(self._membership.told.get("hold"), attended.now().monotonic_s)
        membership, standing = self._membership, self._membership.standing
        told_s = max(self._leadership.attended_s, membership.told.get("attended_s", 0.0))
        if standing is not None and standing.following is None:
            # This instance has led before.
            told_s = max(told_s, standing.attended.now().attended_s)
        if told_s > attended.now().attended_s:
            attended.follow(told_s, attending=True)

    def _answer(self, term: int, directory: Directory, attended: AttendedTime) -> None:
        """Lead from this moment on, in which the public engine has got the routes of a leader."""
        membership, front = self._membership, self._front
        former = membership.stand(Standing(directory, attended, None))
        if former is not None and front is not None:
            front.merge(later_signs(former.directory.nodes.registry, directory.nodes.registry))
        self._leadership.caught_up(term)
        membership.settings_lead()
        # Requests that wait for a leader find this one.
        membership.forwarder.retarget(self._own_way)
        self._announce()

    async def _end_term(self, lead: Lead, stop: asyncio.Event) -> None:
        membership = self._membership
        await membership.until(lambda: self._leadership.role is Role.FOLLOWER)
        # The process may also stop because it must not lead on this database.
        if self._leadership.role is Role.FOLLOWER:
            lead.abandon()
        else:
            stop.set()

    async def _repair(self, lead: Lead) -> None:
        """Write again what the database has lost, each time that it went back, until cancelled."""
        membership = self._membership
        while True:
            await membership.until(lambda: self._went_back)
            if membership.stop.is_set():
                return
            self._went_back = False
            try:
                await lead.write_again(self._store, self._loader)
            except StoreError as error:
                log.warning("cannot read what the database has lost: %s", error)
                self._went_back = True
                await asyncio.sleep(RETRY_S)

    def _figures(self) -> ClusterFigures:
        own, front = self._membership.own_figures(), self._front
        if front is None:
            return own
        return own._replace(
            seq=front.seq,
            confirmed_s=max(0.0, self._membership.assembly.clock.elapsed_s() - self._store.confirmed_s),
            instances=(InstanceFigures(own.instance, own.role, 0.0, __version__), *front.instances()),
        )

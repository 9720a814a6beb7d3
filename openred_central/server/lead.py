"""The parts of a leader, and the order in which they start and stop. `assembly` makes them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed, EventLog
from ..api.service import Api
from ..clock import AttendedTime
from ..directory.directory import Directory
from ..directory.repairing import Repair
from ..listening import Certificate, certificate_of
from ..reporting.figures import LiveFigures, Parts
from ..reporting.metrics import metrics_text
from ..settings.config import SETTINGS
from ..storage.copies.restoring import Restored
from ..storage.store import Store
from ..tasks.notifier import Notifier
from ..tasks.periodic import Supervisor, in_thread
from ..tasks.saver import RevocationSaver, Saver
from ..tasks.stall_meter import StallMeter
from ..wording import counted
from .assembly import Assembly
from .front import Front, Work
from .operators import Operators, make_desk, start_operators
from .signals import on_signal, renew
from .vault import Vault

log = logging.getLogger("openred.server")

# Rows that are compared with those of the store in one turn of the loop.
COMPARED_ROWS: Final = 500

UNNAMED = (
    "%s is not set: the server accepts requests that were signed for another directory; "
    "set it to the name by which clients call this one, such as directory.example"
)


class End(NamedTuple):
    """How a run ended: whether the thread of the store is idle, and whether nothing is lost."""

    writer_idle: bool
    all_saved: bool


class _Served(NamedTuple):
    """The directory of a lead, and what stores its changes."""

    directory: Directory
    saver: Saver
    revocation_saver: RevocationSaver


class Lead:
    """All that a process does as the leader of a directory, from a loaded store to its stop.

    `front` serves the public listeners; `stop` ends it all.
    """

    def __init__(self, assembly: Assembly, front: Front, notifier: Notifier, stop: asyncio.Event) -> None:
        self._assembly = assembly
        self._configuration = assembly.configuration
        self._clock = assembly.clock
        self._front = front
        self._notifier = notifier
        self._stop = stop
        self._supervisor = Supervisor(self._clock)
        self.was_ready = False
        self._served: _Served | None = None

    async def serve(
        self,
        directory: Directory,
        attended: AttendedTime,
        restored: Restored | None,
        store: Store,
        writer: ThreadPoolExecutor,
        vault: Vault,
    ) -> End:
        """Serve until `stop`. Return how it ended. Raises `StartError` or `StoreError`."""
        assembly, configuration = self._assembly, self._configuration
        begun = await in_thread(writer, assembly.begin, store, len(directory))
        # Each run has another name, so that no subscriber resumes with an event of an earlier run.
        feed = EventFeed(EventLog(os.urandom(4).hex()), directory.nodes)
        front = self._front
        front.lead(directory, attended)
        saver = assembly.saver(directory, attended, store, writer, front.on_committed)
        revocation_saver = assembly.revocation_saver(store, writer, begun.revoked)
        self._served = _Served(directory, saver, revocation_saver)
        prober = assembly.prober(directory, attended)
        certificate = certificate_of(configuration.tls_certificate, configuration.tls_key)
        parts = assembly.parts(
            front, directory, attended, saver, prober, feed, restored, store, begun.run, certificate
        )
        figures = LiveFigures(parts)
        broadcast = Broadcast(
            feed, figures, self._clock.wall_s, subscribers_max=configuration.events_subscribers_max
        )
        scheduler, stalls = parts.scheduler, StallMeter(self._clock)
        api = assembly.api(
            *(parts, front, broadcast, begun, revocation_saver, vault.keykeeper),
            *(self._stop.is_set, asyncio.get_running_loop().time),
        )
        front.attach(api, feed, broadcast, stalls, figures)
        operators = await self._start_operators(api, parts, broadcast, vault)
        tasks = self._begin(("saver", saver.run), ("keykeeper", vault.run))
        addresses = await self._start_front(certificate, tasks)
        on_signal(lambda: directory.expiry.release_hold(attended.now()), [signal.SIGUSR1])
        on_signal(partial(renew, certificate, front.renew_tls), [signal.SIGHUP])
        keepers = assembly.keepers(parts)
        tasks += self._begin(
            *(("scheduler", scheduler.run), ("prober", prober.run), ("broadcast", broadcast.run)),
            *(("watching", api.watching.run), ("stall meter", stalls.run), ("notifier", self._notifier.run)),
            *(*front.works(), *((name, keeper.run) for name, keeper in keepers.items())),
        )
        self._announce(len(directory), store.location, addresses)
        try:
            await _until(self._stop, tasks)
        finally:
            # Accept no connections, then finish requests in flight within drain_timeout_s. A second signal
            # ends that wait.
            log.info("stopping")
            self._notifier.ending()
            listening: list[Front | Operators] = [front, operators] if operators else [front]
            on_signal(partial(_hurry, listening))
            api.end_streams()
            cut, *_ = await asyncio.gather(*(each.drain() for each in listening))
            stalls.stop()
            # Stop the time before the last flush, so that nothing changes after it.
            for task in (scheduler, vault.keykeeper, *keepers.values()):
                task.stop()
            await prober.stop()
            self._supervisor.stop()
            # Callers know changes that are not durable yet, and rely on them: try again for a while.
            await asyncio.gather(saver.finish(), revocation_saver.finish())
            self._notifier.stop()
        await asyncio.gather(*tasks)
        log.info("stopped: %d nodes, %d connections were cut", len(directory), cut)
        return _end(saver, revocation_saver, vault)

    def status(self) -> str:
        """Return the line that the service manager shows."""
        if self._served is None:
            return "loading"
        directory, saver, _ = self._served
        return f"{counted(len(directory), 'node')}, store {saver.state.value}"

    def abandon(self) -> None:
        """End, and save nothing more: another process leads."""
        self._stop.set()
        if self._served is not None:
            self._served.saver.abandon()
            self._served.revocation_saver.abandon()

    async def write_again(self, store: Store, reader: Executor) -> None:
        """Write what `store` has lost, which went back to an earlier state; `reader` has a thread for it.

        Raises `StoreError`; the next call begins anew.
        """
        if self._served is None:
            return
        directory, saver, revocation_saver = self._served
        repair = Repair(directory.nodes)
        records, tombstones = store.load_records(COMPARED_ROWS), store.load_tombstones(COMPARED_ROWS)
        while (some := await in_thread(reader, next, records, None)) is not None:
            repair.compare_records(some)
        while (more := await in_thread(reader, next, tombstones, None)) is not None:
            repair.compare_tombstones(more)
        rows = repair.note()
        directory.blocking.store_all(await in_thread(reader, list, store.load_kept()))
        revocation_saver.revocations.store_all()
        await revocation_saver.save()
        saver.wake()
        log.warning("%s were missing in the database and are written again", counted(rows, "row"))

    async def _start_front(
        self, certificate: Certificate | None, tasks: Sequence[asyncio.Task[None]]
    ) -> list[str]:
        """Start to serve, and return the addresses; `tasks` end where that fails. Raises `StartError`.

        They run already: a worker that serves hands on changes while others load.
        """
        try:
            return await self._front.start(certificate, self._stop)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _begin(self, *works: Work) -> list[asyncio.Task[None]]:
        """Begin background tasks."""
        return [asyncio.create_task(self._supervisor.run(name, work)) for name, work in works]

    def _announce(self, nodes: int, location: str, addresses: Sequence[str]) -> None:
        """Tell operators and the service manager that the server is ready, unless it stops already."""
        if self._stop.is_set():
            return
        self.was_ready = True
        log.info("ready: %d nodes from %s, listening on %s", nodes, location, _list(addresses))
        self._notifier.ready()
        if not self._configuration.authority:
            log.warning(UNNAMED, SETTINGS["authority"].variable)

    async def _start_operators(
        self, api: Api, parts: Parts, broadcast: Broadcast, vault: Vault
    ) -> Operators | None:
        """Start the operators' listeners, if the settings want any. Raises `StartError`."""
        desk = make_desk(
            api,
            lambda: metrics_text(
                parts,
                self._front.traffic(),
                broadcast.log.last,
                _failures(self._supervisor, vault),
                self._front.workers,
                api.cluster(),
            ),
            parts.snapshotter,
            vault.keykeeper,
            self._front.forget,
        )._replace(cluster=self._front.cluster_desk)
        operators = self._assembly.operators()
        await start_operators(operators, desk)
        return operators


def _end(saver: Saver, revocation_saver: RevocationSaver, vault: Vault) -> End:
    gave_up = saver.gave_up or revocation_saver.gave_up
    lost_any = gave_up or saver.lost_any or vault.keykeeper.gave_up
    return End(writer_idle=not gave_up, all_saved=not lost_any)


def _hurry(listening: Sequence[Front | Operators]) -> None:
    for each in listening:
        each.hurry()


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for `stop`. Raises the error of a task that must end the server."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()


def _failures(supervisor: Supervisor, vault: Vault) -> dict[str, int]:
    """Return how often each background task failed, with the failures that the keykeeper handled itself."""
    failed = supervisor.failures
    return {**failed, "keykeeper": failed["keykeeper"] + vault.keykeeper.trouble.failures}


def _list(addresses: Sequence[str]) -> str:
    return ", ".join(addresses)

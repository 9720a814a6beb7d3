"""The workers of an owner: start them, keep their number, tell them what they need, and end them.

A worker is a process of its own that serves the public listeners from a copy of the directory. The owner
opens the listening sockets and passes them on, so that no connection that waits is lost with a worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..api.admin.admission import ClusterDesk
from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import EventFeed
from ..api.handing_on import numbering
from ..api.routes import install
from ..api.service import Api
from ..clock import AttendedTime
from ..cluster.answering import FollowerConnection
from ..cluster.forwarding import OUTCOMES
from ..cluster.hub import Member
from ..cluster.link import SILENT_S_MAX, Kind, Link
from ..directory.directory import Directory
from ..directory.state.changes import Batch
from ..exit_codes import ExitCode
from ..limits.origins import UNIX, X_FORWARDED_FOR
from ..listening import (
    Certificate,
    PassingStartError,
    StartError,
    WorkersListeners,
    address_of,
    listen_unix,
    listeners_of_workers,
)
from ..micro_engine.engine import Engine
from ..micro_engine.limits import EngineLimits
from ..micro_engine.places import KEY_BYTES, clear, mapped, shared_memory
from ..reporting.traffic import Served, Sums, Traffic, read_served, read_traffic
from ..tasks.periodic import described
from ..tasks.stall_meter import StallMeter
from ..wording import counted
from .assembly import Assembly, make_room
from .feeding import Feeding
from .front import Figures, Work

log = logging.getLogger("openred.workers")

# A worker that was started has so long until it serves.
LOADING_S_MAX: Final = 300.0
# So many workers that end within so long are no accident: the owner ends, too.
ENDED_MAX: Final = 5
ENDED_WITHIN_S: Final = 60.0
# The pause after a worker that the system could not start.
START_PAUSE_S: Final = 1.0
WATCH_S: Final = 1.0
# At the stop, what a worker may take beyond the time for requests in flight.
STOP_MARGIN_S: Final = 5.0
RUN_BYTES: Final = 4
BACKLOG: Final = 1_024
# Connections of workers that have ended may not be closed yet.
CONNECTIONS_BESIDE: Final = 64
# The service manager means these for the owner.
_OWNERS: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)
SOCKET: Final = "leader.sock"


class Crew:
    """The workers of one owner; see `Front`.

    `flags` are the settings, name → text, that the command line gave; workers get them, too.
    """

    cluster_desk: ClusterDesk | None = None

    def __init__(self, assembly: Assembly, flags: Mapping[str, str]) -> None:
        self._configuration, self._clock = assembly.configuration, assembly.clock
        self._flags = flags
        self._engine = _leaders_engine(assembly)
        # Workers tell the one address of each client.
        self.limits = replace(
            self._configuration.limits(), trusted_proxies=(UNIX,), forwarded_header=X_FORWARDED_FOR
        )
        # The name of this run, in numbers of commits.
        self._run = assembly.entropy(RUN_BYTES).hex()
        try:
            self._places = shared_memory(self._configuration.workers)
            self._folder = Path(tempfile.mkdtemp(prefix="openred-"))
        except OSError as error:
            raise StartError(f"cannot prepare workers: {error.strerror or error}") from error
        self._memory = mapped(self._places)
        self._places_key = assembly.entropy(KEY_BYTES)
        self.workers = Sums(self._own)
        self._listeners = WorkersListeners([], [])
        self._running: dict[int, tuple[Process, Member]] = {}
        self._ended_s: deque[float] = deque(maxlen=ENDED_MAX)
        self._serving = [asyncio.Event() for _ in range(self._configuration.workers)]
        self._keeping: list[asyncio.Task[None]] = []
        self._stopping = False
        # Connections that workers cut when they were told to stop.
        self._cut = 0

    def lead(self, directory: Directory, attended: AttendedTime) -> None:
        self._attended = attended
        self._feeding = Feeding(
            directory,
            attended,
            self._run,
            more=lambda: {
                "socket": str(self._folder / SOCKET),
                "places_key": self._places_key.hex(),
            },
            reported=self.workers.report,
        )
        self._hub = self._feeding.hub

    def on_committed(self, batch: Batch) -> None:
        self._hub.committed(batch)

    def horizon_s(self) -> float:
        return self._hub.horizon_s()

    def attach(
        self, api: Api, feed: EventFeed, broadcast: Broadcast, stalls: StallMeter, figures: Figures
    ) -> None:
        self._feeding.attach(api, feed, broadcast, figures)
        self._api, self._broadcast, self._stalls = api, broadcast, stalls
        leading = self._feeding.leading
        install(
            self._engine,
            api,
            lambda endpoint, handler: numbering(endpoint, api, handler, self._run, lambda: leading.seq),
        )

    def forget(self, name: str) -> bool:
        return False

    def promising(self, api: Api) -> Api:
        return api

    def served(self) -> Served:
        return self.traffic().served if self._keeping else read_served(self._engine)

    def traffic(self) -> Traffic:
        traffic = self.workers()
        # The limit holds for all workers together.
        served = traffic.served._replace(connections_max=self._configuration.connections_max)
        return traffic._replace(served=served)

    async def start(self, certificate: Certificate | None, stop: asyncio.Event) -> list[str]:
        configuration = self._configuration
        self._listeners = listeners_of_workers(
            configuration.workers,
            configuration.host,
            configuration.port,
            configuration.unix_socket,
            backlog=configuration.engine().backlog,
            environment=os.environ,
            process_id=os.getpid(),
        )
        # Without listeners of its own: it has time-outs, and drains.
        await self._engine.start([])
        self._asking = await asyncio.get_running_loop().create_unix_server(
            lambda: FollowerConnection(self._engine, ""), sock=self.leaders_listener()
        )
        numbers = range(configuration.workers)
        self._keeping = [asyncio.create_task(self._keep(number)) for number in numbers]
        try:
            await self._attending(self._until_served(stop))
        except BaseException:
            await self._end(0.0)
            raise
        return [address_of(each) for each in (*self._listeners.own[0], *self._listeners.shared)]

    def works(self) -> Sequence[Work]:
        return [("workers", self._run_all)]

    async def drain(self) -> int:
        """Let the workers drain and end, and take their last signs of life; kill those that do not end."""
        self._stopping = True
        # Only the workers accept from now on, until they drain.
        self._listeners.close()
        for process, member in self._running.values():
            if not member.ready.is_set():
                _kill(process)
        self._hub.send_all(Kind.STOP)
        await self._end(self._configuration.drain_timeout_s + STOP_MARGIN_S)
        self._asking.close()
        return self._cut + await self._engine.drain()

    def hurry(self) -> None:
        for process, _ in self._running.values():
            _kill(process)
        self._engine.hurry()

    def renew_tls(self, context: ssl.SSLContext) -> None:
        # Each worker reads the files itself.
        self._hub.send_all(Kind.RENEW)

    def close(self) -> None:
        self._listeners.close()
        os.close(self._places)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _end(self, timeout_s: float) -> None:
        """Wait until all workers have ended; kill those that have not after `timeout_s`."""
        self._stopping = True
        _, late = await asyncio.wait(self._keeping, timeout=timeout_s)
        if late:
            log.warning("%s did not end in time: killed", counted(len(late), "worker"))
            self.hurry()
            await asyncio.wait(late)

    async def _attending(self, wait: Coroutine[Any, Any, None]) -> None:
        """Await `wait`, and meanwhile tell the workers the time, and kill those that hang."""
        tasks = [asyncio.create_task(each) for each in (wait, self._hub.run(), self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _until_served(self, stop: asyncio.Event) -> None:
        """Wait until all workers serve, or the server is to stop. Raises `StartError` if they cannot."""
        served = asyncio.create_task(self._all_served())
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([served, stopped, *self._keeping], return_when=asyncio.FIRST_COMPLETED)
        served.cancel()
        stopped.cancel()
        for task in self._keeping:
            if task in done:
                task.result()

    async def _all_served(self) -> None:
        for each in self._serving:
            await each.wait()

    async def _run_all(self) -> None:
        """Attend to the workers until they stop. Raises `PassingStartError` if they cannot go on."""
        await self._attending(self._until_ended())

    async def _until_ended(self) -> None:
        done, _ = await asyncio.wait(self._keeping, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    def leaders_listener(self) -> socket.socket:
        """Open the private socket at which workers hand on requests. Raises `StartError`."""
        try:
            return listen_unix(self._folder / SOCKET, mode=0o600, backlog=BACKLOG)
        except OSError as error:
            raise StartError(f"cannot listen for workers: {error.strerror or error}") from error

    async def _keep(self, number: int) -> None:
        """Keep one worker of this number running."""
        while not self._stopping:
            try:
                code = await self._serve_one(number)
            except OSError as error:
                log.error("worker %d cannot start: %s", number, error)
                code = ExitCode.FAILED
                await asyncio.sleep(START_PAUSE_S)
            if not self._stopping:
                self._note_end(number, code)

    async def _serve_one(self, number: int) -> int:
        """Start a worker, and serve it until it has ended. Return its exit code, negative for a signal."""
        ours, its = socket.socketpair()
        with its:
            member = Member(_name(number), await Link.over(ours), self._attended.now())
            process = await self._spawn(number, its)
        self._running[number] = process, member
        if self._stopping:
            _kill(process)
        serving = asyncio.create_task(self._hub.serve(member))
        ready = asyncio.create_task(self._note_ready(number, member))
        try:
            # All that it sent before its end still counts.
            await asyncio.wait([serving])
            if self._stopping:
                self._cut += member.cut
            if isinstance(error := serving.exception(), Exception):
                log.error("the link to worker %d failed: %s", number, described(error))
            # Without a link it has to end; otherwise it hangs, and `_watch` kills it.
            return await process.wait()
        finally:
            ready.cancel()
            serving.cancel()
            del self._running[number]
            self.workers.ended(_name(number))
            clear(self._memory, number)

    async def _note_ready(self, number: int, member: Member) -> None:
        await member.ready.wait()
        self._serving[number].set()
        log.info("%s serves", member.name)

    async def _spawn(self, number: int, end: socket.socket) -> Process:
        own, shared = (
            [each.fileno() for each in group]
            for group in (self._listeners.own[number], self._listeners.shared)
        )
        passed = (end.fileno(), self._places)
        settings = [f"--{name.replace('_', '-')}={text}" for name, text in self._flags.items()]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __package__.partition(".")[0], "worker"),
            *map(str, (number, *passed)),
            *(",".join(map(str, group)) for group in (own, shared)),
            *settings,
            stdin=DEVNULL,
            # Ctrl-C is for the owner, which then stops its workers.
            start_new_session=True,
            pass_fds=(*passed, *own, *shared),
            env={name: text for name, text in os.environ.items() if name not in _OWNERS},
        )

    def _note_end(self, number: int, code: int) -> None:
        """Log that a worker ended. Raise `PassingStartError` if too many did lately."""
        now_s = self._clock.monotonic_s()
        self._ended_s.append(now_s)
        if len(self._ended_s) == ENDED_MAX and now_s - self._ended_s[0] <= ENDED_WITHIN_S:
            raise PassingStartError(
                f"{ENDED_MAX} workers ended within {ENDED_WITHIN_S:g} s; the lines above say why"
            )
        log.warning("worker %d ended with %d; another one takes its place", number, code)

    async def _watch(self) -> None:
        """Kill workers that hang, until cancelled.

        Raises `PassingStartError` once the private socket is gone, at which no worker finds its leader again.
        """
        looked_s = self._clock.monotonic_s()
        while True:
            await asyncio.sleep(WATCH_S)
            if not (self._folder / SOCKET).is_socket():
                raise PassingStartError(
                    f"{self._folder / SOCKET} was removed, by which workers reach their leader; see that "
                    "nothing tidies that folder, or choose another one by TMPDIR"
                )
            now_s = self._clock.monotonic_s()
            # After a pause of this process, what the workers sent still has to be read.
            if now_s - looked_s < 2 * WATCH_S:
                for process, member in self._running.values():
                    limit_s = SILENT_S_MAX if member.ready.is_set() else LOADING_S_MAX
                    if now_s - member.heard_s > limit_s:
                        log.error("%s said nothing for %g s: it is killed", member.name, limit_s)
                        _kill(process)
            looked_s = now_s

    def _own(self) -> Traffic:
        traffic = read_traffic(self._engine, self._broadcast, self._stalls, self._api.limits.refusals)
        # Each outcome is told from the start.
        return traffic._replace(forwarded=dict.fromkeys(OUTCOMES, 0))


def _leaders_engine(assembly: Assembly) -> Engine:
    """Return the engine that answers what workers hand on. Their access logs have these requests."""
    configuration = assembly.configuration
    # Their connections are idle for long, whatever clients may do.
    limits = EngineLimits(
        body_bytes_max=configuration.engine().body_bytes_max,
        connections_max=configuration.workers + CONNECTIONS_BESIDE,
        connections_per_address_max=1,
        drain_timeout_s=configuration.drain_timeout_s,
    )
    return Engine(
        limits=make_room(limits, configuration.probes_max),
        clock=assembly.clock,
        new_request_id=assembly.new_request_id,
        fast_path=False,
    )


def _name(number: int) -> str:
    return f"worker {number}"


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()

"""A worker: one process of several that serve the public listeners, from its copy of the directory."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from ..api.feed.event_log import EventLog, FollowingFeed
from ..clock import AttendedTime
from ..cluster.forwarding import Forwarder
from ..cluster.link import SILENT_S_MAX, Link, LinkBroken, read_json
from ..cluster.replica import Replica
from ..cluster.ways import UnixWay
from ..directory.directory import Directory
from ..directory.following import Following
from ..exit_codes import ExitCode
from ..listening import StartError, adopted, certificate_of
from ..logs import configure
from ..micro_engine.engine import Engine
from ..micro_engine.places import Places, mapped
from ..reporting.traffic import of_worker, pack, read_traffic
from ..settings.config import Configuration
from ..tasks.stall_meter import StallMeter
from .assembly import Assembly
from .follower import Follower
from .signals import on_signal, renew

log = logging.getLogger("openred.workers")

# Signs of life wait half as long here as they do with the owner.
FLUSHES_PER_INTERVAL: Final = 2
# Without an owner, what is in flight has so long.
ORPHAN_S: Final = 1.0
# An owner that ends closes its sockets one after another.
ENDING_S: Final = 0.2


class Passed(NamedTuple):
    """The descriptors that the owner passed: one end of the link, the places, and listening sockets.

    Other workers accept from those that are `shared`, too.
    """

    link: int
    places: int
    own: Sequence[int]
    shared: Sequence[int]


def work(configuration: Configuration, number: int, passed: Passed) -> int:
    """Run the worker of this number until its owner stops it or ends. Return the exit code."""
    configure(configuration.log, configuration.log_level, sys.stderr, os.environ)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Worker(configuration, number, passed).run())
    except (LinkBroken, StartError) as error:
        log.error("worker %d ends: %s", number, error)
        return ExitCode.FAILED
    return ExitCode.DONE


def remove_abandoned(path: Path) -> None:
    """Remove the private socket at `path` with its folder, unless its owner still listens.

    The link also breaks when an owner cuts off one worker; others go on.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ENDING_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            shutil.rmtree(path.parent, ignore_errors=True)
        except OSError:
            # It is gone, or its owner is busy.
            return


class Worker:
    """One worker, from its start to its stop."""

    def __init__(self, configuration: Configuration, number: int, passed: Passed) -> None:
        self._configuration = configuration
        self._number = number
        self._passed = passed
        self._assembly = Assembly.here(configuration)
        self._clock = self._assembly.clock
        self._certificate = certificate_of(configuration.tls_certificate, configuration.tls_key)
        self._stop = asyncio.Event()
        # The last word of the owner.
        self._told: dict[str, Any] = {}
        self._report: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Load, serve until the owner or a signal ends it, drain.

        Raises `LinkBroken` if the owner has ended, `StartError` if it cannot serve.
        """
        on_signal(self._stop.set)
        link = await Link.over(socket.socket(fileno=self._passed.link))
        hello = read_json(*await link.receive())
        self._told = hello["told"]
        directory = self._assembly.directory()
        # After a pause of this process, signs of life that waited meanwhile are of now, although the owner's
        # word is as old as the pause.
        attended = AttendedTime(self._clock, attended_s=self._told["attended_s"], tick_s=SILENT_S_MAX)
        feed = FollowingFeed(EventLog(hello["events"]))
        places = Places(mapped(self._passed.places), self._number, bytes.fromhex(hello["places_key"]))
        # It takes another certificate from the beginning on, and serves once the replica is loaded.
        engine = self._assembly.public_engine(self._configuration.engine(), 0, places)
        replica = Replica(
            link,
            Following(directory),
            attended,
            self._clock,
            flush_s=self._configuration.flush_interval_s / FLUSHES_PER_INTERVAL,
            ticked=self._take_told,
            events=feed.receive,
            renew=lambda: renew(self._certificate, engine.renew_tls),
        )
        try:
            await replica.load()
            feed.tick(self._clock.wall_s())
            await self._serve(hello, engine, replica, directory, attended, feed)
        except LinkBroken:
            link.abort()
            await asyncio.sleep(ENDING_S)
            remove_abandoned(Path(hello["socket"]))
            raise
        await link.close()

    async def _serve(
        self,
        hello: dict[str, Any],
        engine: Engine,
        replica: Replica,
        directory: Directory,
        attended: AttendedTime,
        feed: FollowingFeed,
    ) -> None:
        """Serve until a signal or the owner stops this worker. Raises `LinkBroken` if the owner has ended."""
        workers, subscribers_max = self._configuration.workers, self._configuration.events_subscribers_max
        follower = Follower(
            *(self._assembly, hello, replica, directory, attended, feed),
            told=lambda: self._told,
            started_s=hello["started_s"],
            steady_ahead_s=hello["steady_ahead_s"],
            # The shares of all workers add up to the whole.
            subscribers_max=(subscribers_max + self._number) // workers,
            stopping=self._stop.is_set,
        )
        broadcast = follower.broadcast
        forwarder = Forwarder(
            UnixWay(hello["socket"]),
            self._assembly.client(),
            self._assembly.new_request_id,
        )
        follower.install(engine, forwarder)
        since_s = attended.now().attended_s
        await engine.start(
            adopted(self._passed.own),
            tls=self._certificate.context if self._certificate else None,
            shared_listeners=adopted(self._passed.shared),
        )
        stalls = StallMeter(self._clock)

        def figures() -> dict[str, Any]:
            traffic = read_traffic(engine, broadcast, stalls, follower.api.limits.refusals)
            return pack(of_worker(traffic, forwarder.outcomes, replica.lag))

        self._report = lambda: replica.report(figures())
        works = (replica.run, replica.deliver, broadcast.run, follower.api.watching.run, stalls.run)
        tasks = [asyncio.create_task(work()) for work in works]
        # The owner counts a worker that serves from the beginning on.
        self._report()
        replica.ready(since_s)
        try:
            await self._until_stopped(replica, tasks)
        except LinkBroken:
            # Nobody is left to hand requests on to.
            forwarder.hurry()
            asyncio.get_running_loop().call_later(ORPHAN_S, engine.hurry)
            raise
        finally:
            self._stop.set()
            follower.api.end_streams()
            cut = await engine.drain()
            forwarder.close()
            for task in tasks:
                task.cancel()
        await replica.flush()
        replica.drained(cut)

    async def _until_stopped(self, replica: Replica, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for a signal or the word of the owner. Raise the error of a task that ended before."""
        stops = [asyncio.create_task(each.wait()) for each in (self._stop, replica.stopped)]
        done, _ = await asyncio.wait([*stops, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for stop in stops:
            stop.cancel()
        for task in done.difference(stops):
            task.result()

    def _take_told(self, told: dict[str, Any]) -> None:
        self._told = told
        # In step with the owner, so that its rates are of as many reports each time.
        self._report()

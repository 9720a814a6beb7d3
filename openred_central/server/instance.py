"""One instance of a cluster: a process that follows or leads, and changes its role without a restart.

A follower answers from its copy of the directory. The leader is a server on the shared database, which feeds
the others. Each new role loads the directory anew, from the leader or from the database, while the former
copy still answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .. import __version__
from ..cluster.forwarding import Forwarder
from ..cluster.leadership import Leadership
from ..cluster.lease import Role, lease_times
from ..cluster.link import LINK_PROTOCOLS, Link
from ..cluster.listening import ClusterListener
from ..cluster.ways import ASKING_PROTOCOL
from ..listening import StartError
from ..security.cluster_credentials import ClusterCredentials
from ..settings.config import Configuration
from ..storage.store import StoreError
from ..tasks.notifier import Notifier
from ..tasks.periodic import in_thread
from .assembly import Assembly
from .follower_role import FollowerRole
from .leader_role import LeaderRole
from .membership import Membership
from .public import Public
from .sharing import key_secrets, shared_store
from .signals import ignore_signals, on_signal

log = logging.getLogger("openred.cluster")


class Instance:
    """One instance, from its start to its stop."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._assembly = Assembly.here(configuration)
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._role = Role.FOLLOWER
        self._notifier = Notifier(os.environ, os.getpid(), lambda: self._role.value)
        self._public = Public(self._assembly)
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self.was_ready = False

    async def run(self) -> bool:
        """Start, serve until a signal, stop. Return whether everything was saved.

        Raises `StartError` or `StoreError` if it cannot start, or must not go on.
        """
        self._catch_signals()
        self._notifier.loading()
        secrets = key_secrets(self._configuration)
        clock, entropy = self._assembly.clock, self._assembly.entropy
        store = await in_thread(self._loader, shared_store, self._configuration, secrets, clock, entropy)
        credentials = ClusterCredentials(secrets[0], secrets[1:])
        listener = ClusterListener(credentials, self._serve_link, self._assembly.clock.monotonic_s)
        forwarder = Forwarder(None, self._assembly.client(), self._assembly.new_request_id)
        try:
            address = self._listen(listener)
            who = {
                "name": self._configuration.instance or socket.gethostname().lower(),
                "url": self._configuration.cluster_url or address,
                "version": __version__,
                "run": store.run,
            }
            self._leadership = Leadership(
                store,
                self._assembly.clock,
                lease_times(self._configuration.lease_s),
                may_lead=self._configuration.may_lead,
                leader=who,
                is_behind=lambda seq: self._membership.lacks(seq),
                differs=lambda: bool(self._membership.differing),
                changed=self._changed.set,
                went_back=lambda: self._leading.went_back(),
            )
            self._membership = Membership(
                self._assembly,
                self._public,
                forwarder,
                self._leadership,
                who=who,
                stop=self._stop,
                changed=self._changed,
                link_context=credentials.client_context([*LINK_PROTOCOLS]),
                asking_context=credentials.client_context([ASKING_PROTOCOL]),
            )
            self._leading = LeaderRole(
                self._membership,
                store,
                listener,
                self._membership.way(address),
                self._loader,
                self._note_ready,
            )
            await self._live()
        finally:
            self._notifier.ending()
            ignore_signals()
            forwarder.close()
            await listener.close()
            await self._public.engine.drain()
            with contextlib.suppress(StoreError):
                await in_thread(self._loader, store.close)
            self._loader.shutdown(wait=False)
            self._notifier.close()
        return self._leading.all_saved

    def _listen(self, listener: ClusterListener) -> str:
        """Listen for others. Return the first address. Raises `StartError`."""
        configuration = self._configuration
        try:
            return listener.start(configuration.cluster_host, configuration.cluster_port)[0]
        except OSError as error:
            raise StartError(
                f"cannot listen for other instances: {error.strerror or error}; choose another "
                "OPENRED_CLUSTER_HOST or OPENRED_CLUSTER_PORT"
            ) from error

    async def _live(self) -> None:
        """Follow and lead, until the process stops. Raises as `run` does."""
        watching = asyncio.create_task(self._leadership.run())
        # Without it nobody knows here who leads.
        watching.add_done_callback(lambda _: self._end())
        notifying = asyncio.create_task(self._notifier.run())
        try:
            while not self._stop.is_set():
                self._role = self._leadership.role
                if self._role is Role.FOLLOWER:
                    await FollowerRole(self._membership, self._announce).run()
                else:
                    await self._leading.run()
                    self._catch_signals()
        finally:
            await self._membership.close_operators()
            await self._leadership.goodbye()
            notifying.cancel()
            await asyncio.gather(watching, notifying, return_exceptions=True)
        watching.result()

    def _catch_signals(self) -> None:
        on_signal(self._end)
        on_signal(self._public.renew_tls, [signal.SIGHUP])

    def _end(self) -> None:
        """Let the process stop."""
        self._stop.set()
        self._changed.set()

    async def _serve_link(self, link: Link) -> None:
        await self._leading.serve_link(link)

    def _announce(self, does: str, addresses: Sequence[str]) -> None:
        log.info("ready: %s, listening on %s", does, ", ".join(addresses))
        self._note_ready()

    def _note_ready(self) -> None:
        if not self.was_ready:
            self.was_ready = True
            self._notifier.ready()

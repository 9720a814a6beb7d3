"""The operators' listeners: one engine for TCP and one for the Unix socket, besides the public engine."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ..api.admin.admission import Admission, ClusterDesk, Desk, Hosts, OperatorsOptions
from ..api.admin.routes import install
from ..api.service import Api
from ..clock import Clock
from ..errors import CallerError
from ..listening import StartError, listen_tcp, listen_unix
from ..micro_engine.engine import Engine
from ..micro_engine.limits import EngineLimits
from ..security.directory_keys.root import RootRefused
from ..storage.keys.admin_secret import SecretError, read_or_make
from ..storage.keys.key_files import KeyFileError
from ..tasks.snapshotter import SnapshotFailed, Snapshotter
from ..wording import rfc3339

log = logging.getLogger("openred.operators")

# Operators are few; a scraper or two, a script, a person. Idle connections give way to new ones.
CONNECTIONS_MAX = 64
CONNECTIONS_KEPT = 4
SOCKET_MODE = 0o600


class Operators:
    """The listeners for operators.

    `options` are their addresses. `secret_file` is the path of the secret, None if nothing is stored;
    `random_bytes` makes a new secret. `limits` are those of the public engine; `clock` and `new_request_id`
    are as in `Engine`.
    """

    def __init__(
        self,
        options: OperatorsOptions,
        secret_file: Path | None,
        random_bytes: Callable[[int], bytes],
        *,
        limits: EngineLimits,
        clock: Clock,
        new_request_id: Callable[[], str],
    ) -> None:
        self._options = options
        self._secret_file = secret_file
        self._random_bytes = random_bytes
        self._limits = replace(
            limits, connections_max=CONNECTIONS_MAX, connections_per_address_max=CONNECTIONS_MAX
        )
        self._clock = clock
        self._new_request_id = new_request_id
        self._engines: list[tuple[Engine, Admission]] = []

    async def start(self, desk: Desk) -> list[str]:
        """Listen, and return the addresses.

        Raises `OSError` if it cannot listen, `SecretError` if the secret file cannot be used.
        """
        options, addresses = self._options, []
        if options.port is not None:
            secret = self._secret()
            listeners = listen_tcp(options.host, options.port, backlog=CONNECTIONS_MAX)
            metrics_open = all(map(_is_loopback, listeners))
            hosts = Hosts((options.host, *options.names))
            admission = Admission(trusted=False, secret=secret, metrics_open=metrics_open, hosts=hosts)
            addresses += await self._serve(listeners, desk, admission)
        if options.socket is not None:
            listeners = [listen_unix(options.socket, mode=SOCKET_MODE, backlog=CONNECTIONS_MAX)]
            admission = Admission(trusted=True, secret=None, metrics_open=True)
            addresses += await self._serve(listeners, desk, admission)
        return addresses

    def exchange(self, desk: Desk) -> None:
        """Serve another view of the server from now on."""
        for engine, admission in self._engines:
            engine.reroute(partial(install, engine, desk, admission))

    async def drain(self) -> None:
        """Answer the requests in flight, and stop."""
        await asyncio.gather(*(engine.drain() for engine, _ in self._engines))

    def hurry(self) -> None:
        """Wait no longer for requests in flight."""
        for engine, _ in self._engines:
            engine.hurry()

    async def _serve(self, listeners: list[socket.socket], desk: Desk, admission: Admission) -> list[str]:
        engine = Engine(
            limits=self._limits,
            clock=self._clock,
            new_request_id=self._new_request_id,
            places_kept=CONNECTIONS_KEPT,
        )
        install(engine, desk, admission)
        self._engines.append((engine, admission))
        return await engine.start(listeners)

    def _secret(self) -> str | None:
        if self._secret_file is None:
            log.warning(
                "operators have no secret, since nothing is stored on disk: over TCP, /admin/ refuses every "
                "request; to use it, set OPENRED_ADMIN_SECRET_FILE or OPENRED_ADMIN_SOCKET"
            )
            return None
        secret, open_to_others = read_or_make(self._secret_file, self._random_bytes)
        if open_to_others:
            log.warning("users other than its owner may read the secret file %s", self._secret_file)
        return secret


async def start_operators(operators: Operators | None, desk: Desk) -> None:
    """Let `operators` serve `desk`, if the settings want any. Raises `StartError`."""
    if operators is None:
        return
    try:
        addresses = await operators.start(desk)
    except OSError as error:
        raise StartError(
            f"cannot listen for operators: {error.strerror or error}; choose another OPENRED_ADMIN_PORT "
            "(0 for any that is free, off for none) or OPENRED_ADMIN_SOCKET"
        ) from error
    except SecretError as error:
        raise StartError(str(error)) from error
    log.info("listening for operators on %s", ", ".join(addresses))


def follower_desk(api: Api, metrics: Callable[[], bytes], cluster: ClusterDesk) -> Desk:
    """Return what the operators' endpoints need of a follower, which changes no record."""

    async def refused(*_: object) -> NoReturn:
        raise not_the_leader(api)

    refusal = partial(not_the_leader, api)
    return Desk(api, metrics, refused, refused, refused, lambda _: False, refusal, cluster)


def not_the_leader(api: Api) -> CallerError:
    """Return the error for operators who ask a follower for what the leader does; it names that one."""
    cluster = api.cluster()
    leader = cluster.leader if cluster is not None else None
    return CallerError(
        409,
        "not_the_leader",
        f"This instance follows, and only the leader does that, which is {leader or 'not known now'}.",
        suggestion="Ask the instance that leads; `openred-central cluster status` names it.",
    )


class Keys(Protocol):
    """The changes of the directory's keys that operators may make; `Keykeeper` makes them."""

    async def rotate(self) -> None:
        """Replace the signing key soon. Raises `KeyFileError` or `RootRefused`."""

    async def revoke(self, key_id: str) -> None:
        """Invalidate a signing key. Raises also `ValueError` for an unknown id."""


def make_desk(
    api: Api,
    metrics: Callable[[], bytes],
    snapshotter: Snapshotter | None,
    keys: Keys,
    forget_instance: Callable[[str], bool],
) -> Desk:
    """Return what the operators' endpoints need of the server."""

    async def rotate_keys() -> None:
        try:
            await keys.rotate()
        except (KeyFileError, RootRefused) as error:
            raise _keys_unusable(error) from error

    async def revoke_key(key_id: str) -> None:
        try:
            await keys.revoke(key_id)
        except ValueError:
            raise CallerError(
                404,
                "key_not_found",
                f"The directory has no key {key_id!r}.",
                suggestion="`openred-central keys show` lists them.",
            ) from None
        except (KeyFileError, RootRefused) as error:
            raise _keys_unusable(error) from error

    async def snapshot() -> dict[str, Any]:
        if snapshotter is None:
            raise CallerError(
                409,
                "nothing_to_copy",
                "This server stores nothing on disk, so there is nothing to take a snapshot of.",
                suggestion="Start it with a database.",
            )
        try:
            manifest = await snapshotter.take_now()
        except SnapshotFailed as error:
            raise CallerError(
                503,
                "snapshot_failed",
                f"The snapshot could not be taken: {error}.",
                suggestion="Fix the cause in the message and try again. Older snapshots are unchanged.",
            ) from error
        return {
            "taken_at": rfc3339(manifest.taken_at),
            "bytes": manifest.file_bytes,
            "nodes": manifest.records,
            "tombstones": manifest.tombstones,
        }

    return Desk(api, metrics, snapshot, rotate_keys, revoke_key, forget_instance)


def _keys_unusable(error: Exception) -> CallerError:
    return CallerError(
        503,
        "store_unavailable",
        f"The keys cannot be used as they are: {error}.",
        suggestion="Fix the cause in the message. The server tries again every minute.",
        headers=(("Retry-After", "60"),),
    )


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback

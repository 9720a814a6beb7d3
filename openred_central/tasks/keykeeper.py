"""Keep the directory's keys: make and rotate them, publish their key set, and sign tokens with them.

Threads do this work, without the lock of the interpreter, so the event loop never waits. The loop makes only
those signatures that take less time than the way to a thread and back. The number of tokens that wait for a
signature is bounded.

The first request for a token or the key set opens the keys, and makes them if there never were any. A server
without such requests does not load `cryptography`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from ..clock import CLOCK_JUMP_S, Clock
from ..encoding import entity_tag
from ..security.directory_keys.keyring import Keyring
from ..security.directory_keys.root import RootRefused
from ..security.directory_keys.suites import DirectoryKey
from ..security.tokens.tokens import Busy, NoKey, PeerToken, Publication, Unsigned, unsigned
from ..storage.keys.directory_keys import Served
from ..storage.keys.key_files import KeyFileError, KeysAway
from .periodic import NoThread, PeriodicTask, Trouble, in_thread

log = logging.getLogger("openred.keykeeper")

# Tokens that may wait for their signature at a time.
QUEUE_TOKENS_MAX = 256
TICK_S = 5.0
# The pause after a failure; keys that are out of reach for a moment are tried each `TICK_S`.
RETRY_S = 60.0
# Errors that the operator has to fix, or that pass.
KEY_ERRORS = (KeyFileError, RootRefused, NoThread)


@dataclass
class KeykeeperStats:
    """Counts of signed tokens, and of requests refused because too many tokens waited."""

    tokens: int = 0
    busy: int = 0


class KeptKeys(Protocol):
    """Keys as the keykeeper needs them: `DirectoryKeys`. The methods run in a thread."""

    signing: DirectoryKey | None
    served: Served | None
    notices: list[str]
    # The schedule, which handles rotations, revocations and jumps of the wall clock.
    ring: Keyring

    def open(self, now_s: float) -> None:
        """Read the keys."""

    def advance(self, now_s: float) -> None:
        """Make, rotate and sign what is due."""


class Keykeeper(PeriodicTask):
    """The task that keeps the keys that `load` returns, with the threads of `executor`.

    `root_suite` is the letter of the suite of an existing root key, else None. `trouble` counts failures.
    """

    def __init__(
        self, load: Callable[[], KeptKeys], clock: Clock, executor: Executor, root_suite: str | None = None
    ) -> None:
        super().__init__()
        self._load = load
        # None until the keys are open.
        self._keys: KeptKeys | None = None
        self._root_suite = root_suite
        self._attempted: asyncio.Task[Exception | None] | None = None
        self._retry_at_s = -math.inf
        self._clock = clock
        self._executor = executor
        self._waiting = 0
        # One thread at a time uses the files of the keys.
        self._turn = asyncio.Lock()
        self._ahead_s = 0.0
        self._publication: Publication | None = None
        self._gave_up = False
        # They are opened without being asked for.
        self._is_due = False
        self.stats = KeykeeperStats()
        self.trouble = Trouble(log, clock.monotonic_s, "the keys can be used again")

    @property
    def publication(self) -> Publication | None:
        """Return the key set that is served, None if there is none yet."""
        return self._publication

    @property
    def public_key(self) -> str | None:
        """Return the public half of the signing key, as base64 of PEM, None if there is none yet."""
        key = self.signing
        return None if key is None else base64.b64encode(key.public.pem().encode()).decode("ascii")

    @property
    def root_suite(self) -> str | None:
        """Return the letter of the suite in which the key set is signed, None if there never was one."""
        served = None if self._keys is None else self._keys.served
        return self._root_suite if served is None else served.root_suite

    @property
    def gave_up(self) -> bool:
        """Return whether the last changes of the keys are lost because they could not be written."""
        return self._gave_up

    @property
    def signing(self) -> DirectoryKey | None:
        """Return the key that signs tokens, None if there is none yet."""
        return None if self._keys is None else self._keys.signing

    async def open(self) -> None:
        """Read the keys and make missing ones, if they are not open yet.

        Raises one of `KEY_ERRORS` if the keys cannot be used as they are.
        """
        if self._keys is None and (error := await self._attempt()) is not None:
            raise error

    def open_later(self, error: Exception) -> None:
        """Open the keys as soon as that can be done; `error` says why not now."""
        self.trouble.failed("the keys cannot be used", error)
        self._is_due = True

    async def ready(self) -> None:
        """Wait until the keys are open, or could not be opened; between attempts is a pause."""
        if self._keys is not None:
            return
        error = await self._attempt()
        if error is None:
            self.trouble.worked()
        elif self.trouble.last_error != str(error):
            self.trouble.failed("the keys cannot be used", error)

    async def run(self) -> None:
        """Keep the keys once they are open, until `stop`."""
        await self.pause(TICK_S)
        await super().run()
        if self._keys is not None and self._keys.ring.unsaved:
            await self._save_at_last(self._keys)

    async def work(self) -> float:
        """Make, rotate and sign what is due. Return the seconds until the next call."""
        if self._keys is None:
            if self._is_due:
                await self.ready()
            return TICK_S
        try:
            async with self._turn:
                await self._advance(self._keys)
        except KEY_ERRORS as error:
            self.trouble.failed("the keys cannot be written", error)
            return RETRY_S
        self.trouble.worked()
        return TICK_S

    async def _save_at_last(self, keys: KeptKeys) -> None:
        """Try once more to write a change: otherwise a revoked key would be valid after a restart."""
        try:
            async with self._turn:
                await self._advance(keys)
        except KEY_ERRORS as error:
            self._gave_up = True
            log.error("gave up writing the last changes of the keys: %s", error)

    async def rotate(self) -> None:
        """Replace the signing key as soon as peers have known its successor for an hour."""
        await self._change(lambda keys: keys.ring.rotate(self._clock.wall_s()))

    async def revoke(self, key_id: str) -> None:
        """Invalidate a signing key at once. Raises `ValueError` for an unknown id."""
        await self._change(lambda keys: keys.ring.revoke(key_id, self._clock.wall_s()))

    async def mint(self, *tokens: PeerToken) -> tuple[str, ...]:
        """Sign `tokens` with the signing key, in one piece of work, and return their texts.

        Raises `Busy` if too many wait already, or `NoKey`.
        """
        if self._waiting + len(tokens) > QUEUE_TOKENS_MAX:
            self.stats.busy += 1
            raise Busy(f"{self._waiting} tokens wait for a signature, the limit is {QUEUE_TOKENS_MAX}")
        self._waiting += len(tokens)
        try:
            await self.ready()
            key = self.signing
            if key is None:
                raise NoKey("there is no signing key yet")
            bodies = [unsigned(token, key.public) for token in tokens]
            if key.public.suite.signs_fast:
                minted = _sign(key, bodies)
            else:
                minted = await in_thread(self._executor, _sign, key, bodies)
        except NoThread as error:
            self.trouble.failed("tokens cannot be signed", error)
            raise Busy(str(error)) from error
        finally:
            self._waiting -= len(tokens)
        self.stats.tokens += len(tokens)
        return minted

    async def _change(self, change: Callable[[KeptKeys], None]) -> None:
        await self.open()
        keys = self._keys
        assert keys is not None
        async with self._turn:
            change(keys)
            await self._advance(keys)

    async def _attempt(self) -> Exception | None:
        """Return why the keys cannot be opened, or None. Concurrent callers share one attempt."""
        attempt = self._attempted
        if attempt is None or (attempt.done() and self._clock.monotonic_s() >= self._retry_at_s):
            attempt = self._attempted = asyncio.create_task(self._open())
        # Shield the attempt: a cancelled waiter must not start a second thread on the same files.
        return await asyncio.shield(attempt)

    async def _open(self) -> Exception | None:
        self._ahead_s = self._clock.wall_s() - self._clock.monotonic_s()
        try:
            async with self._turn:
                self._keys = await in_thread(self._executor, self._opened)
                await self._advance(self._keys)
        except KEY_ERRORS as error:
            pause_s = TICK_S if isinstance(error, KeysAway) else RETRY_S
            self._retry_at_s = self._clock.monotonic_s() + pause_s
            return error
        return None

    def _opened(self) -> KeptKeys:
        keys = self._load()
        keys.open(self._clock.wall_s())
        return keys

    async def _advance(self, keys: KeptKeys) -> None:
        """Make, rotate and sign what is due; log the notices and publish the key set."""
        wall_s = self._clock.wall_s()
        ahead_s = wall_s - self._clock.monotonic_s()
        jump_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(jump_s) >= CLOCK_JUMP_S:
            keys.ring.shift(jump_s)
        try:
            await in_thread(self._executor, keys.advance, wall_s)
        finally:
            for notice in keys.notices:
                log.warning("%s", notice)
            keys.notices.clear()
            self._publish(keys.served)

    def _publish(self, served: Served | None) -> None:
        if served is None or (self._publication and self._publication.document is served.document):
            return
        self._publication = Publication(served.keyset, served.document, entity_tag(served.document))


def _sign(key: DirectoryKey, bodies: Sequence[Unsigned]) -> tuple[str, ...]:
    return tuple(body.assemble(key.sign(body.message)) for body in bodies)

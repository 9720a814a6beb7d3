"""Keeps the directory's keys: makes them, rotates them, has their key set ready, and signs tokens with them.

None of that happens in the event loop. A signature takes 0.3 to 2 ms and a new key up to half a second, and
both are computed without the interpreter's lock, in threads. How many tokens may wait for that is bounded.
The server listens before there are keys; until then nothing is signed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from ..clock import CLOCK_JUMP_S, Clock
from ..encoding import base64url
from ..plain import plain
from ..security.minting import Busy, NoKey, Publication
from ..security.suites import DirectoryKey
from ..security.tokens import PeerToken, Unsigned, unsigned
from ..storage.directory_keys import Served
from ..storage.key_files import KeyFileError

log = logging.getLogger("openred.keykeeper")

Result = TypeVar("Result")

# Tokens that may wait for their signature at a time: a tenth of a second's work of one thread.
QUEUE_TOKENS_MAX = 256
TICK_S = 5.0
# After this long it is tried again to write what could not be written.
RETRY_S = 60.0


@plain()
class KeykeeperStats:
    """What the keykeeper has done. `last_error` is None while all is well."""

    tokens: int = 0
    busy: int = 0
    failures: int = 0
    last_error: str | None = None


class Keys(Protocol):
    """Where the keys are; `DirectoryKeys` is what the keykeeper gets. The methods are called in a thread."""

    signing: DirectoryKey | None
    served: Served | None
    notices: list[str]

    def open(self, now_s: float) -> None:
        """Read what there is."""

    def advance(self, now_s: float) -> None:
        """Do what is due."""

    def shift(self, jump_s: float) -> None:
        """Take note of a jump of the wall clock."""

    def rotate(self, now_s: float) -> None:
        """Have the signing key replaced in an hour."""

    def revoke(self, key_id: str, now_s: float) -> None:
        """Let a signing key count no more."""


class Keykeeper:
    """The task that keeps `keys`, with the threads of `executor`. `open` it, `run` it, end it with `stop`."""

    def __init__(self, keys: Keys, clock: Clock, executor: Executor) -> None:
        self._keys = keys
        self._clock = clock
        self._executor = executor
        self._waiting = 0
        self._stopping = asyncio.Event()
        # Whatever touches the keys' files takes its turn.
        self._turn = asyncio.Lock()
        self._ahead_s = 0.0
        self._publication: Publication | None = None
        self.stats = KeykeeperStats()

    @property
    def publication(self) -> Publication | None:
        """The key set that is served; None while there is none."""
        return self._publication

    @property
    def public_key(self) -> str | None:
        """The public key that checks what is signed now, as base64 of PEM; None while there is none."""
        key = self._keys.signing
        return None if key is None else base64.b64encode(key.public.pem().encode()).decode("ascii")

    @property
    def root_suite(self) -> str | None:
        """The letter of the suite in which the key set is signed; None while there is none."""
        return None if self._keys.served is None else self._keys.served.root_suite

    @property
    def signing(self) -> DirectoryKey | None:
        """The key that signs tokens; None while there is none."""
        return self._keys.signing

    async def open(self) -> None:
        """Read the keys, and make those that are missing.

        Raises `KeyFileError` or `RootRefused` where the server must not go on.
        """
        self._ahead_s = self._clock.wall_s() - self._clock.monotonic_s()
        async with self._turn:
            await self._in_thread(lambda: self._keys.open(self._clock.wall_s()))
            await self._advance()

    async def run(self) -> None:
        """Keep the keys that were opened, until `stop`. To be run as a task, once."""
        pause_s = TICK_S
        while not await self._stops_within(pause_s):
            try:
                async with self._turn:
                    await self._advance()
            except KeyFileError as error:
                pause_s = RETRY_S
                self._note_failure(error)
                continue
            pause_s = TICK_S
            if self.stats.last_error is not None:
                self.stats.last_error = None
                log.warning("the keys are written again")

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def rotate(self) -> None:
        """Have the signing key replaced as soon as peers have known its successor for an hour."""
        await self._change(lambda: self._keys.rotate(self._clock.wall_s()))

    async def revoke(self, key_id: str) -> None:
        """Let a signing key count no more, at once. Raises `ValueError` where there is none of that id."""
        await self._change(lambda: self._keys.revoke(key_id, self._clock.wall_s()))

    async def mint(self, *tokens: PeerToken) -> tuple[str, ...]:
        """The text of `tokens`, signed by the active key; all of them in one piece of work.

        Raises `Busy`, where too many wait already, or `NoKey`.
        """
        key = self._keys.signing
        if key is None:
            raise NoKey("there is no signing key yet")
        if self._waiting + len(tokens) > QUEUE_TOKENS_MAX:
            self.stats.busy += 1
            raise Busy(f"{self._waiting} tokens wait for their signature already")
        bodies = [unsigned(token, key.public) for token in tokens]
        self._waiting += len(tokens)
        try:
            minted = await self._in_thread(lambda: _sign(key, bodies))
        finally:
            self._waiting -= len(tokens)
        self.stats.tokens += len(tokens)
        return minted

    async def _change(self, change: Callable[[], None]) -> None:
        async with self._turn:
            change()
            await self._advance()

    async def _advance(self) -> None:
        """Let the keys do what is due, and take over what has come of it."""
        wall_s = self._clock.wall_s()
        ahead_s = wall_s - self._clock.monotonic_s()
        jump_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(jump_s) >= CLOCK_JUMP_S:
            self._keys.shift(jump_s)
        try:
            await self._in_thread(lambda: self._keys.advance(wall_s))
        finally:
            for notice in self._keys.notices:
                log.warning("%s", notice)
            self._keys.notices.clear()
            self._publish()

    def _publish(self) -> None:
        served = self._keys.served
        if served is None or (self._publication and self._publication.document is served.document):
            return
        tag = base64url(hashlib.sha256(served.document).digest()[:16])
        self._publication = Publication(served.keyset, served.document, f'"{tag}"')

    def _note_failure(self, error: KeyFileError) -> None:
        self.stats.failures += 1
        if self.stats.last_error is None:
            log.error("the keys cannot be written, to be tried again: %s", error)
        self.stats.last_error = str(error)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _stops_within(self, pause_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        return self._stopping.is_set()


def _sign(key: DirectoryKey, bodies: Sequence[Unsigned]) -> tuple[str, ...]:
    return tuple(body.assemble(key.sign(body.message)) for body in bodies)

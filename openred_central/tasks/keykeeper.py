"""Keeps the directory's keys: makes them, rotates them, has their key set ready, and signs tokens with them.

None of that happens in the event loop. A signature takes 0.3 to 2 ms and a new key up to half a second, and
both are computed without the interpreter's lock, in threads. How many tokens may wait for that is bounded.

The keys are opened, and made where there never were any, when a token or the key set is first asked for: that
brings in `cryptography`, 10 MB. Until then nothing becomes of them, as while no server runs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..clock import CLOCK_JUMP_S, Clock
from ..encoding import entity_tag
from ..security.directory_keys.root import RootRefused
from ..security.tokens.tokens import Busy, NoKey, PeerToken, Publication, Unsigned, unsigned
from ..storage.keys.key_files import KeyFileError

if TYPE_CHECKING:
    from ..security.directory_keys.keyring import Keyring
    from ..security.directory_keys.suites import DirectoryKey
    from ..storage.keys.directory_keys import Served

log = logging.getLogger("openred.keykeeper")

Result = TypeVar("Result")

# Tokens that may wait for their signature at a time: a tenth of a second's work of one thread.
QUEUE_TOKENS_MAX = 256
TICK_S = 5.0
# After this long it is tried again to write what could not be written.
RETRY_S = 60.0


class NoThread(KeyFileError):
    """The system gives no thread at present."""


@dataclass(slots=True)
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
    # The schedule, for what comes from outside: a rotation, a revocation, a jump of the wall clock.
    ring: Keyring

    def open(self, now_s: float) -> None:
        """Read what there is."""

    def advance(self, now_s: float) -> None:
        """Do what is due."""


class Keykeeper:
    """The task that keeps the keys that `load` gives, with the threads of `executor`. End it with `stop`.

    `root_suite`: the letter of the suite of the root key that was found, where there is one already.
    """

    def __init__(
        self, load: Callable[[], Keys], clock: Clock, executor: Executor, root_suite: str | None = None
    ) -> None:
        self._load = load
        # None until they are open.
        self._keys: Keys | None = None
        self._root_suite = root_suite
        self._attempted: asyncio.Task[KeyFileError | RootRefused | None] | None = None
        self._retry_at_s = -math.inf
        self._clock = clock
        self._executor = executor
        self._waiting = 0
        self._stopping = asyncio.Event()
        # Whatever touches the keys' files takes its turn.
        self._turn = asyncio.Lock()
        self._ahead_s = 0.0
        self._publication: Publication | None = None
        self._gave_up = False
        self.stats = KeykeeperStats()

    @property
    def publication(self) -> Publication | None:
        """The key set that is served; None while there is none."""
        return self._publication

    @property
    def public_key(self) -> str | None:
        """The public key that checks what is signed now, as base64 of PEM; None while there is none."""
        key = self.signing
        return None if key is None else base64.b64encode(key.public.pem().encode()).decode("ascii")

    @property
    def root_suite(self) -> str | None:
        """The letter of the suite in which the key set is signed; None while there never was one."""
        served = None if self._keys is None else self._keys.served
        return self._root_suite if served is None else served.root_suite

    @property
    def gave_up(self) -> bool:
        """Whether the last changes of the keys could not be written, and are lost with the process."""
        return self._gave_up

    @property
    def signing(self) -> DirectoryKey | None:
        """The key that signs tokens; None while there is none."""
        return None if self._keys is None else self._keys.signing

    async def open(self) -> None:
        """Read the keys, and make those that are missing; nothing where that is done.

        Raises `KeyFileError` or `RootRefused` where they cannot be used as they are.
        """
        if self._keys is None and (error := await self._attempt()) is not None:
            raise error

    async def ready(self) -> None:
        """Return when the keys are open, or that has failed; within the next minute it is not tried again."""
        if self._keys is not None:
            return
        error = await self._attempt()
        if error is not None and self.stats.last_error != str(error):
            self._note_failure("the keys cannot be used", error)
        elif error is None and self.stats.last_error is not None:
            self.stats.last_error = None
            log.warning("the keys can be used again")

    async def run(self) -> None:
        """Keep the keys from when they are opened, until `stop`. To be run as a task, once."""
        pause_s = TICK_S
        while not await self._stops_within(pause_s):
            if self._keys is None:
                continue
            try:
                async with self._turn:
                    await self._advance(self._keys)
            except KeyFileError as error:
                pause_s = RETRY_S
                self._note_failure("the keys cannot be written", error)
                continue
            pause_s = TICK_S
            if self.stats.last_error is not None:
                self.stats.last_error = None
                log.warning("the keys are written again")
        if self._keys is not None and self._keys.ring.unsaved:
            await self._save_at_last(self._keys)

    async def _save_at_last(self, keys: Keys) -> None:
        """Try once more to write what could not be written: a key that was revoked would count again."""
        try:
            async with self._turn:
                await self._advance(keys)
        except KeyFileError as error:
            self._gave_up = True
            log.error("gave up writing the last changes of the keys: %s", error)

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def rotate(self) -> None:
        """Have the signing key replaced as soon as peers have known its successor for an hour."""
        await self._change(lambda keys: keys.ring.rotate(self._clock.wall_s()))

    async def revoke(self, key_id: str) -> None:
        """Let a signing key count no more, at once. Raises `ValueError` where there is none of that id."""
        await self._change(lambda keys: keys.ring.revoke(key_id, self._clock.wall_s()))

    async def mint(self, *tokens: PeerToken) -> tuple[str, ...]:
        """The text of `tokens`, signed by the active key; all of them in one piece of work.

        Raises `Busy`, where too many wait already, or `NoKey`.
        """
        if self._waiting + len(tokens) > QUEUE_TOKENS_MAX:
            self.stats.busy += 1
            raise Busy(f"{self._waiting} tokens wait for their signature already")
        self._waiting += len(tokens)
        try:
            await self.ready()
            key = self.signing
            if key is None:
                raise NoKey("there is no signing key yet")
            bodies = [unsigned(token, key.public) for token in tokens]
            minted = await self._in_thread(lambda: _sign(key, bodies))
        except NoThread as error:
            self._note_failure("tokens cannot be signed", error)
            raise Busy(str(error)) from error
        finally:
            self._waiting -= len(tokens)
        self.stats.tokens += len(tokens)
        return minted

    async def _change(self, change: Callable[[Keys], None]) -> None:
        await self.open()
        keys = self._keys
        assert keys is not None
        async with self._turn:
            change(keys)
            await self._advance(keys)

    async def _attempt(self) -> KeyFileError | RootRefused | None:
        """Why the keys cannot be opened, or None. All who ask meanwhile wait for one attempt."""
        attempt = self._attempted
        if attempt is None or (attempt.done() and self._clock.monotonic_s() >= self._retry_at_s):
            attempt = self._attempted = asyncio.create_task(self._open())
        # Who gives up waiting must not leave the thread alone with the files, and the next one begin anew.
        return await asyncio.shield(attempt)

    async def _open(self) -> KeyFileError | RootRefused | None:
        self._ahead_s = self._clock.wall_s() - self._clock.monotonic_s()
        try:
            async with self._turn:
                self._keys = await self._in_thread(self._opened)
                await self._advance(self._keys)
        except (KeyFileError, RootRefused) as error:
            self._retry_at_s = self._clock.monotonic_s() + RETRY_S
            return error
        return None

    def _opened(self) -> Keys:
        keys = self._load()
        keys.open(self._clock.wall_s())
        return keys

    async def _advance(self, keys: Keys) -> None:
        """Let the keys do what is due, and take over what has come of it."""
        wall_s = self._clock.wall_s()
        ahead_s = wall_s - self._clock.monotonic_s()
        jump_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(jump_s) >= CLOCK_JUMP_S:
            keys.ring.shift(jump_s)
        try:
            await self._in_thread(lambda: keys.advance(wall_s))
        finally:
            for notice in keys.notices:
                log.warning("%s", notice)
            keys.notices.clear()
            self._publish(keys.served)

    def _publish(self, served: Served | None) -> None:
        if served is None or (self._publication and self._publication.document is served.document):
            return
        self._publication = Publication(served.keyset, served.document, entity_tag(served.document))

    def _note_failure(self, what: str, error: Exception) -> None:
        self.stats.failures += 1
        if self.stats.last_error is None:
            log.error("%s, to be tried again: %s", what, error)
        self.stats.last_error = str(error)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError as error:
            raise NoThread(f"the system gives no thread: {error}") from error
        return await future

    async def _stops_within(self, pause_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        return self._stopping.is_set()


def _sign(key: DirectoryKey, bodies: Sequence[Unsigned]) -> tuple[str, ...]:
    return tuple(body.assemble(key.sign(body.message)) for body in bodies)

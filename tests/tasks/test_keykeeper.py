"""Threads sign tokens, a bounded number at a time; rotations and failures of keys hold up no request."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.security.directory_keys.keyset import read_document
from openred_central.security.directory_keys.root import KeyOptions, QuantumPolicy, RootRefused
from openred_central.security.tokens.tokens import PeerToken, verify_token
from openred_central.storage.keys.directory_keys import DirectoryKeys, Served
from openred_central.storage.keys.key_files import KeyFileError, KeyFiles
from openred_central.tasks.keykeeper import (
    QUEUE_TOKENS_MAX,
    RETRY_S,
    TICK_S,
    Busy,
    Keykeeper,
    NoKey,
    NoThread,
)
from tests.support.clock import VirtualClock
from tests.support.keys import NOW, directory_key, keyset
from tests.support.options import key_options

# The limit of each wait.
WAIT_S = 20.0
CLASSICAL = key_options(quantum=QuantumPolicy.OFF)


class FakeRing:
    """A schedule that records its calls."""

    def __init__(self, calls: list[tuple[str, object]]) -> None:
        self.calls = calls
        self.unsaved = False

    def shift(self, jump_s: float) -> None:
        self.calls.append(("shift", round(jump_s)))

    def rotate(self, now_s: float) -> None:
        self.calls.append(("rotate", now_s))

    def revoke(self, key_id: str, now_s: float) -> None:
        self.calls.append(("revoke", key_id))


class FakeKeys:
    """Keys that open at once and record their calls; `advance` raises `error`, if there is one."""

    def __init__(self) -> None:
        self.signing = directory_key()
        self.served: Served | None = None
        self.notices: list[str] = []
        self.calls: list[tuple[str, object]] = []
        self.ring = FakeRing(self.calls)
        self.threads: set[int] = set()
        self.error: Exception | None = None

    def open(self, now_s: float) -> None:
        self.calls.append(("open", now_s))

    def advance(self, now_s: float) -> None:
        self.calls.append(("advance", now_s))
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error


class Held(ThreadPoolExecutor):
    """An executor whose work waits, after `hold`, until the gate is open."""

    def __init__(self) -> None:
        super().__init__(1)
        self.gate = threading.Event()
        self.gate.set()

    def hold(self) -> None:
        self.gate.clear()

    def __exit__(self, *error: object) -> None:
        self.gate.set()
        super().shutdown()

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        def held() -> Any:
            assert self.gate.wait(WAIT_S)
            return work(*args, **kwargs)

        return super().submit(held)


def token(number: int = 0) -> PeerToken:
    return PeerToken(f"{number:022}", "node-a", None, "node-b", None, NOW, NOW + 300, 0, "peer")


def keeper(keys: Any, executor: ThreadPoolExecutor, clock: VirtualClock | None = None) -> Keykeeper:
    return Keykeeper(lambda: keys, clock or VirtualClock(NOW), executor)


def on_disk(folder: Path, options: KeyOptions = CLASSICAL) -> DirectoryKeys:
    return DirectoryKeys(KeyFiles(folder / "keys", random.Random(1).randbytes), options)


async def test_a_peer_verifies_tokens_by_the_published_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        keykeeper = keeper(on_disk(tmp_path, key_options()), executor)
        assert keykeeper.signing is None
        assert keykeeper.root_suite is None
        await keykeeper.open()
        assert keykeeper.root_suite == "h"
        texts = await keykeeper.mint(token(1), token(2))
        publication = keykeeper.publication
        assert publication is not None
        root_id = orjson.loads(publication.document)["root"]["kid"]
        keys = read_document(publication.document, root_id, NOW)
        assert [verify_token(text, keys, NOW) for text in texts] == [token(1), token(2)]
        assert keykeeper.stats.tokens == 2


async def test_the_first_request_opens_the_keys_and_others_wait_for_it(
    tmp_path: Path,
) -> None:
    with Held() as executor:
        loaded = []

        def load() -> DirectoryKeys:
            loaded.append(on_disk(tmp_path))
            return loaded[-1]

        keykeeper = Keykeeper(load, VirtualClock(NOW), executor, "R")
        assert (keykeeper.publication, keykeeper.public_key, keykeeper.root_suite) == (None, None, "R")
        assert not (tmp_path / "keys").exists()
        executor.hold()
        given_up = asyncio.create_task(keykeeper.ready())
        waiting = [asyncio.create_task(keykeeper.mint(token(number))) for number in range(3)]
        published = asyncio.create_task(keykeeper.ready())
        await asyncio.sleep(0)
        # One caller gives up; the others still get their keys.
        given_up.cancel()
        await asyncio.sleep(0)
        assert not any(each.done() for each in (*waiting, published))
        executor.gate.set()
        assert len(await asyncio.gather(*waiting)) == 3
        await published
        assert keykeeper.publication is not None
        assert len(loaded) == 1


async def test_unusable_keys_are_logged_once_and_retried_after_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "openred.keykeeper"), ThreadPoolExecutor(1) as executor:
        clock, attempts = VirtualClock(NOW), []

        def load() -> DirectoryKeys:
            attempts.append(clock.monotonic_s())
            return on_disk(tmp_path)

        keykeeper = Keykeeper(load, clock, executor)
        (tmp_path / "keys").mkdir(mode=0o755)
        (tmp_path / "keys").chmod(0o755)
        for _ in range(3):
            with pytest.raises(NoKey):
                await keykeeper.mint(token())
            assert keykeeper.publication is None
        with pytest.raises(KeyFileError):
            await keykeeper.rotate()
        assert len(attempts) == 1
        (tmp_path / "keys").chmod(0o700)
        clock.advance(RETRY_S)
        assert await keykeeper.mint(token())
        assert keykeeper.publication is not None
        assert (len(attempts), keykeeper.trouble.failures, keykeeper.trouble.last_error) == (2, 1, None)
    logged = [record.getMessage() for record in caplog.records]
    assert logged[0].startswith("the keys cannot be used, to be tried again: ")
    assert (logged[2], len(logged)) == ("the keys can be used again, after 1 failure in all", 3)


async def test_keys_are_not_opened_before_they_are_needed(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        keys = FakeKeys()
        keykeeper = paced(keys, executor, 3, lambda number: None)
        await keykeeper.run()
        assert (keys.calls, keykeeper.signing) == ([], None)


async def test_keys_against_the_settings_refuse_to_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as executor:
        monkeypatch.setattr("openred_central.security.directory_keys.composite.is_supported", lambda: False)
        with pytest.raises(RootRefused):
            await keeper(on_disk(tmp_path, key_options(quantum=QuantumPolicy.REQUIRE)), executor).open()
        (tmp_path / "keys").chmod(0o755)
        with pytest.raises(KeyFileError):
            await keeper(on_disk(tmp_path), executor).open()


async def test_the_number_of_waiting_tokens_is_bounded() -> None:
    with Held() as executor:
        keykeeper = keeper(FakeKeys(), executor)
        await keykeeper.open()
        executor.hold()
        waiting = [asyncio.create_task(keykeeper.mint(token(n))) for n in range(QUEUE_TOKENS_MAX - 1)]
        await asyncio.sleep(0)
        # A pair counts as two.
        with pytest.raises(Busy) as busy:
            await keykeeper.mint(token(), token(1))
        assert busy.value.retry_after_s == 1
        waiting.append(asyncio.create_task(keykeeper.mint(token(999))))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await keykeeper.mint(token())
        executor.gate.set()
        minted = await asyncio.gather(*waiting)
        assert len({text for texts in minted for text in texts}) == QUEUE_TOKENS_MAX
        assert keykeeper.stats.busy == 2
        # The places are free again.
        assert await keykeeper.mint(*(token(n) for n in range(QUEUE_TOKENS_MAX)))


async def test_a_caller_that_gives_up_frees_its_place() -> None:
    with Held() as executor:
        keykeeper = keeper(FakeKeys(), executor)
        await keykeeper.open()
        executor.hold()
        for _ in range(3):
            waiting = asyncio.create_task(keykeeper.mint(*(token(n) for n in range(QUEUE_TOKENS_MAX))))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        executor.gate.set()
        assert await keykeeper.mint(token())


async def test_a_rotation_does_not_change_the_key_of_a_waiting_token() -> None:
    with Held() as executor:
        keys = FakeKeys()
        keykeeper = keeper(keys, executor)
        await keykeeper.open()
        executor.hold()
        waiting = asyncio.create_task(keykeeper.mint(token()))
        await asyncio.sleep(0)
        keys.signing = directory_key("r", 1)
        executor.gate.set()
        (text,) = await waiting
        assert text.split(".")[2] == directory_key().public.short_id


async def test_fast_signatures_wait_for_no_thread() -> None:
    with Held() as executor:
        keys = FakeKeys()
        keykeeper = keeper(keys, executor)
        await keykeeper.open()
        executor.hold()
        keys.signing = directory_key("e")
        texts = await asyncio.wait_for(keykeeper.mint(token(1), token(2)), WAIT_S)
        assert [verify_token(text, keyset(directory_key("e")), NOW) for text in texts] == [token(1), token(2)]
        keys.signing = directory_key("r")
        waiting = asyncio.create_task(keykeeper.mint(token()))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        executor.gate.set()
        await waiting
        assert keykeeper.stats.tokens == 3


async def test_an_impossible_token_is_an_error_of_the_server() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="exp lies not within"):
        await keeper(FakeKeys(), executor).mint(token()._replace(expires_at=NOW))


async def test_all_work_on_keys_is_done_in_threads() -> None:
    with ThreadPoolExecutor(1) as executor:
        keys = FakeKeys()
        keykeeper = keeper(keys, executor)
        await keykeeper.open()
        await keykeeper.rotate()
        await keykeeper.revoke("key")
        assert threading.get_ident() not in keys.threads
        assert [name for name, _ in keys.calls] == [
            "open",
            "advance",
            "rotate",
            "advance",
            "revoke",
            "advance",
        ]


class Paced(Keykeeper):
    """A keykeeper that does not wait: for `rounds` times, each pause passes on its clock."""

    rounds: int
    virtual: VirtualClock
    before_round: Callable[[int], None]
    pauses: list[float]

    async def pause(self, pause_s: float | None) -> None:
        assert pause_s is not None
        self.pauses.append(pause_s)
        self.virtual.advance(pause_s)
        self.before_round(len(self.pauses))
        if len(self.pauses) > self.rounds:
            self.stop()


def paced(keys: Any, executor: ThreadPoolExecutor, rounds: int, before: Callable[[int], None]) -> Paced:
    clock = VirtualClock(NOW)
    made = Paced(lambda: keys, clock, executor)
    made.rounds, made.virtual, made.before_round, made.pauses = rounds, clock, before, []
    return made


async def test_a_jump_of_the_wall_clock_shifts_the_schedule() -> None:
    with ThreadPoolExecutor(1) as executor:
        keys = FakeKeys()

        def jump(number: int) -> None:
            if number == 2:
                keykeeper.virtual.jump_wall(-7_200.0)
            if number == 4:
                keykeeper.virtual.jump_wall(3.0)

        keykeeper = paced(keys, executor, 5, jump)
        await keykeeper.open()
        await keykeeper.run()
        assert [call for call in keys.calls if call[0] == "shift"] == [("shift", -7_200)]
        assert [name for name, _ in keys.calls].count("advance") == 6


async def test_a_disk_that_cannot_be_written_is_logged_once_and_retried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "openred.keykeeper"), ThreadPoolExecutor(1) as executor:
        keys = FakeKeys()

        def fail(number: int) -> None:
            keys.error = KeyFileError("No space left on device") if 2 <= number <= 4 else None

        keykeeper = paced(keys, executor, 5, fail)
        await keykeeper.open()
        await keykeeper.run()
        assert keykeeper.pauses == [TICK_S, TICK_S, RETRY_S, RETRY_S, RETRY_S, TICK_S]
        assert keykeeper.trouble.failures == 3
        assert keykeeper.trouble.last_error is None
    assert [record.getMessage() for record in caplog.records] == [
        "the keys cannot be written, to be tried again: No space left on device",
        "the keys can be used again, after 3 failures in all",
    ]


@pytest.mark.parametrize("fixed", [True, False])
async def test_unwritten_changes_are_tried_once_more_at_the_stop(
    fixed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = tmp_path / "keys" / "keyring.json"
    revoked: list[str] = []

    with ThreadPoolExecutor(1) as executor:
        keykeeper = paced(on_disk(tmp_path), executor, 0, lambda number: None)
        await keykeeper.mint(token())
        signing = keykeeper.signing
        assert signing is not None
        kept = keyring.read_bytes()
        # A file cannot take the place of a folder.
        keyring.unlink()
        keyring.mkdir()
        with pytest.raises(KeyFileError):
            await keykeeper.revoke(signing.public.key_id)
        if fixed:
            keyring.rmdir()
            keyring.write_bytes(kept)
            keyring.chmod(0o600)
        await keykeeper.run()
        assert keykeeper.gave_up is not fixed
        revoked.append(signing.public.key_id)
    assert ("gave up writing the last changes of the keys: " in caplog.text) is not fixed
    if fixed:
        again = on_disk(tmp_path)
        again.open(NOW)
        again.advance(NOW)
        assert again.served is not None
        assert revoked[0] in again.served.keyset.revoked_key_ids


async def test_notices_for_the_operator_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "openred.keykeeper"), ThreadPoolExecutor(1) as executor:
        keys = FakeKeys()
        keys.notices.append("the root key is classical")
        keykeeper = paced(keys, executor, 3, lambda number: None)
        await keykeeper.open()
        await keykeeper.run()
    assert [record.getMessage() for record in caplog.records] == ["the root key is classical"]


async def test_the_keykeeper_ends_at_its_stop() -> None:
    with ThreadPoolExecutor(1) as executor:
        keykeeper = keeper(FakeKeys(), executor)
        await keykeeper.open()
        running = asyncio.create_task(keykeeper.run())
        await asyncio.sleep(0)
        keykeeper.stop()
        await running


async def test_key_and_key_set_change_within_a_day(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        keykeeper = paced(on_disk(tmp_path), executor, 50, lambda number: keykeeper.virtual.advance(1_800))
        await keykeeper.open()
        first = keykeeper.publication
        signer = keykeeper.signing
        assert first is not None
        await keykeeper.run()
        second = keykeeper.publication
        assert second is not None
        assert keykeeper.signing is not signer
        assert second.keyset.version > first.keyset.version
        assert second.etag != first.etag
        assert second.etag[0] == second.etag[-1] == '"'


async def test_an_unchanged_key_set_is_encoded_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        keykeeper = paced(on_disk(tmp_path), executor, 10, lambda number: None)
        await keykeeper.open()
        before = keykeeper.publication
        await keykeeper.run()
        assert keykeeper.publication is before


async def test_a_lack_of_threads_passes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def starved(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPoolExecutor(1) as executor:
        clock = VirtualClock(NOW)
        keykeeper = keeper(FakeKeys(), executor, clock)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", starved)
            await keykeeper.ready()
            with pytest.raises(Busy):
                await keykeeper.mint(token())
            with pytest.raises(NoThread):
                await keykeeper.rotate()
        assert keykeeper.publication is None
        clock.advance(RETRY_S)
        assert len(await keykeeper.mint(token())) == 1
        assert keykeeper.trouble.failures > 0
    assert "the system cannot start a thread: can't start new thread" in caplog.text

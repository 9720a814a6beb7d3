"""Cost of signatures and tokens, and stalls of the loop while tokens are made, about forty seconds.

    python -m benchmarks.tokens

Each operation is timed several times beside the bare primitive in it, and the fastest counts, because other
work on the machine only adds. Then 500 tokens a second are made for some seconds, signed in a thread (``r``)
and on the loop (``e``), while a timer measures how late the loop is.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from time import perf_counter, time

import uvloop

from openred_central.clock import SystemClock
from openred_central.security.directory_keys.keyset import KeySet, KeyStatus, PublishedKey
from openred_central.security.directory_keys.suites import SUITES, DirectoryKey, Suite, generate_key
from openred_central.security.node_keys import verify
from openred_central.security.signing import PrivateKey
from openred_central.security.tokens.link import Side, cross_verify, link, new_pair
from openred_central.security.tokens.tokens import PeerToken, unsigned, verify_token
from openred_central.settings.config import Configuration
from openred_central.storage.keys.directory_keys import DirectoryKeys
from openred_central.storage.keys.key_files import KeyFiles
from openred_central.tasks.keykeeper import Keykeeper

from . import machine

SEED = 1
ROUNDS = 8
ROUND_S = 0.1
NOW = 1_800_000_000
A, B = Side("node-a", "A" * 43, 0), Side("node-b", "B" * 43, 0)

TOKENS_PER_S = 500
LOAD_S = 5.0
# The timers of uvloop have whole milliseconds.
PROBE_S = 0.002
BATCH_S = 0.01


def microseconds(work: Callable[[], object]) -> float:
    """Return the least time of one call of `work`, in microseconds."""
    best = float("inf")
    for _ in range(ROUNDS):
        calls, started = 0, perf_counter()
        while (passed := perf_counter() - started) < ROUND_S:
            work()
            calls += 1
        best = min(best, passed / calls)
    return best * 1e6


def mint(token: PeerToken, key: DirectoryKey) -> str:
    """Return the text of a token."""
    body = unsigned(token, key.public)
    return body.assemble(key.sign(body.message))


def report(name: str, work: Callable[[], object], bare_us: float | None = None) -> float:
    """Print the cost of `work` and its ratio to the bare primitive; return it in microseconds."""
    cost_us = microseconds(work)
    ratio = "" if bare_us is None else f"  x {cost_us / bare_us:.2f} of bare"
    print(f"{name:<44} {cost_us:8.1f} µs{ratio}", flush=True)
    return cost_us


def costs() -> None:
    """Time the primitives, and every operation on tokens in every suite."""
    secret, message = os.urandom(32), bytes(300)
    report(
        "bare BLAKE2b, for a session", lambda: hashlib.blake2b(message, digest_size=16, key=secret).digest()
    )
    ed25519, rsa = PrivateKey.generate_ed25519(), PrivateKey.generate_rsa()
    by_ed25519, by_rsa = ed25519.sign(message), rsa.sign(message)
    by_key = {
        0: (
            report("bare Ed25519 signature", lambda: ed25519.sign(message)),
            report("bare Ed25519 check", lambda: verify(ed25519.public.spki, by_ed25519, message)),
        ),
        2_048: (
            report("bare RSA-2048 signature", lambda: rsa.sign(message)),
            report("bare RSA-2048 check", lambda: verify(rsa.public.spki, by_rsa, message)),
        ),
    }
    a, b = new_pair(A, B, "peer", NOW, 300, Random(SEED).randbytes)
    for suite in SUITES.values():
        suite_costs(suite, a, b, *by_key.get(suite.rsa_bits, by_key[2_048]))
    report("link of a pair", lambda: link(a, b, a.pair or ""))
    report("make the claims of a pair", lambda: new_pair(A, B, "peer", NOW, 300, Random(SEED).randbytes))


def suite_costs(suite: Suite, a: PeerToken, b: PeerToken, signing: float, checking: float) -> None:
    """Time one suite; `signing` and `checking` are the costs of the bare primitive in microseconds."""
    key = generate_key(suite.letter)
    published = PublishedKey(key.public, NOW, NOW + 86_400, KeyStatus.ACTIVE)
    keys = KeySet(1, NOW, NOW + 86_400, (published,))
    first, second = mint(a, key), mint(b, key)
    print(f"{suite.name}, {len(first)} characters")
    report("  mint a token", lambda: mint(a, key), signing)
    report("  check a token", lambda: verify_token(first, keys, NOW), checking)
    report("  check a pair offline", lambda: cross_verify(first, second, keys, NOW), 2 * checking)


async def latenesses(until_s: float) -> list[float]:
    """Return how late the loop came back from each of many short sleeps, in milliseconds, sorted."""
    late = []
    while (started := perf_counter()) < until_s:
        await asyncio.sleep(PROBE_S)
        late.append((perf_counter() - started - PROBE_S) * 1e3)
    return sorted(late)


async def load(keykeeper: Keykeeper, until_s: float) -> int:
    """Make pairs of tokens at a steady pace; return the number of tokens."""
    random, made, started = Random(SEED), 0, perf_counter()
    waiting: set[asyncio.Task[tuple[str, ...]]] = set()
    while (now_s := perf_counter()) < until_s:
        while made < (now_s - started) * TOKENS_PER_S:
            pair = new_pair(A, B, "peer", int(time()), 300, random.randbytes)
            task = asyncio.get_running_loop().create_task(keykeeper.mint(*pair))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            made += 2
        await asyncio.sleep(BATCH_S)
    await asyncio.gather(*waiting)
    return made


async def stalls(suite: str) -> None:
    """Print how late the loop is while idle, and while tokens of a suite are made and a key is replaced."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as executor:
        files = KeyFiles(Path(folder) / "keys", Random(SEED).randbytes)
        options = Configuration(token_suite=suite).keys()
        keykeeper = Keykeeper(lambda: DirectoryKeys(files, options), SystemClock(), executor)
        started = perf_counter()
        await keykeeper.open()
        print(f"keys of a first start, tokens by {suite}: made in {(perf_counter() - started) * 1e3:.0f} ms")
        for name, tokens in (("idle", 0), (f"{TOKENS_PER_S} tokens/s, a key made", TOKENS_PER_S)):
            until_s = perf_counter() + LOAD_S
            watching = asyncio.get_running_loop().create_task(latenesses(until_s))
            made = 0
            if tokens:
                await keykeeper.rotate()
                made = await load(keykeeper, until_s)
            late = await watching
            p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
            print(f"loop late, {name}: p50 {p50:.2f}, p99 {p99:.2f}, max {late[-1]:.2f} ms; {made} tokens")


def main() -> None:
    print(f"{machine.sentence()}; seed {SEED}")
    costs()
    for suite in ("r", "e"):
        uvloop.run(stalls(suite))


if __name__ == "__main__":
    main()

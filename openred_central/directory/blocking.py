"""The effect of blocks: blocked ids, keys and networks are refused, and their nodes are hidden. Pure.

A record that a block covers has the flag `BLOCKED`, which hides the node and makes it sign anew. The block
decides, and the flag follows from it: `Blocking.judging` brings them together, however they came apart. So
nothing is deleted, and a node is itself again once no block covers it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from ..clock import Now
from ..errors import CallerError
from ..wording import rfc3339
from .nodes import Nodes
from .registration import Registration
from .state.blocks import BLOCKS_MAX, Block, Blocks, Kind, is_block, name_of, pack
from .state.kept import UNUSABLE
from .state.node import BLOCKED, KEYED, Record, key_fingerprint, profile_parts

log = logging.getLogger("openred.blocks")

# Records that are judged between two turns of other work.
SLICE_RECORDS: Final = 200


class Blocking:
    """The blocks of a directory with `nodes`, and the judge of its records."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.blocks = Blocks()

    def add(self, block: Block) -> None:
        """Add a block, in place of a former one of the subject; `judging` follows.

        Raise `CallerError` 409 ``blocks_full``.
        """
        if len(self.blocks) >= BLOCKS_MAX and self.blocks.get(block.kind, block.subject) is None:
            raise CallerError(
                409,
                "blocks_full",
                f"There are {BLOCKS_MAX} blocks, which is the limit.",
                suggestion="Remove blocks, or block a network in place of many addresses.",
            )
        self.blocks.put(block)
        self._note(block)

    def remove(self, kind: Kind, subject: str) -> Block:
        """Remove and return a block; `judging` follows.

        Raise `CallerError` 404 ``block_not_found``.
        """
        block = self.blocks.remove(kind, subject)
        if block is None:
            raise CallerError(
                404,
                "block_not_found",
                f"There is no block of the {kind.value} {subject!r}.",
                suggestion="GET /admin/blocks lists all of them.",
            )
        self._note(block)
        return block

    def end(self, now: Now) -> None:
        """Remove the blocks that have ended by the wall clock; `judging` follows."""
        for block in self.blocks.ended(now.wall_s):
            self.remove(block.kind, block.subject)
            log.info("the block of the %s %s has ended", block.kind.value, block.subject)

    def store_all(self, kept: Iterable[tuple[str, bytes]]) -> None:
        """Let a store that went back, and has these values, get all blocks again, and lose all others."""
        stored = Blocks()
        for name, value in kept:
            if is_block(name):
                with suppress(*UNUSABLE):
                    stored.take(name, value)
        for block in (*stored, *self.blocks):
            self._note(block)

    def judging(self, only: Block | None = None) -> Iterator[int]:
        """Flag the nodes that a block covers, and no others, in slices.

        With `only`, that block alone has come or gone. Yield after each slice how many nodes have changed so
        far.
        """
        changed = 0
        for number, slot in enumerate(self._suspects(only), 1):
            changed += self._judge(slot)
            if not number % SLICE_RECORDS:
                yield changed
        yield changed

    def refuse_registration(self, registration: Registration) -> None:
        """Raise `CallerError` 403 ``blocked`` for a registration that a block covers."""
        if self.blocks:
            profile, flags = registration.profile, registration.is_keyed * KEYED
            addresses = (profile.address, *(each.address for each in profile.addresses))
            _refuse(self._find(registration.node_id, profile.public_key, flags, addresses))

    def refuse_key_of(self, record: Record) -> None:
        """Raise `CallerError` 403 ``blocked`` for a record whose key is blocked."""
        if self.blocks:
            _refuse(self._find(record.node_id, profile_parts(record.profile)[2], record.flags, ()))

    def refuse_record(self, record: Record) -> None:
        """Raise `CallerError` 403 ``blocked`` for a record that a block covers."""
        if self.blocks:
            _refuse(self.of_record(record))

    def refuse_slot(self, slot: int) -> None:
        """Raise `CallerError` 403 ``blocked`` for the node in `slot`, if it has the flag."""
        registry = self._nodes.registry
        if registry.flags[slot] & BLOCKED:
            # The flag may come or go a moment before or after the block.
            raise refused(self.of_record(registry.record(slot)))

    def of_record(self, record: Record) -> Block | None:
        """Return a block that covers `record`."""
        address, _, public_key, more, _ = profile_parts(record.profile)
        addresses = (address, *(each for each, _ in more))
        return self._find(record.node_id, public_key, record.flags, addresses)

    def _find(self, node_id: str, public_key: str, flags: int, addresses: Iterable[str]) -> Block | None:
        blocks = self.blocks
        block = blocks.get(Kind.ID, node_id)
        if block is None and blocks.count(Kind.KEY):
            block = blocks.get(Kind.KEY, key_fingerprint(public_key, flags))
        if block is None and blocks.count(Kind.NETWORK):
            block = next(filter(None, map(blocks.of_address, addresses)), None)
        return block

    def _suspects(self, only: Block | None) -> Iterator[int]:
        """Yield the slots of all nodes that may have a wrong flag; they may change meanwhile."""
        registry = self._nodes.registry
        if only is not None and only.kind is Kind.ID:
            slot = registry.slot_of(only.subject)
            if slot is not None:
                yield slot
            return
        if self.blocks.count(Kind.KEY) or self.blocks.count(Kind.NETWORK):
            yield from registry.taken_slots()
            return
        yield from registry.blocked_slots()
        for block in list(self.blocks):
            slot = registry.slot_of(block.subject)
            if slot is not None:
                yield slot

    def _judge(self, slot: int) -> bool:
        """Give the node in `slot` the flag that is right. Return whether that is another one."""
        registry = self._nodes.registry
        if registry.is_free(slot):
            return False
        record = registry.record(slot)
        is_blocked = self.of_record(record) is not None
        if is_blocked == bool(record.flags & BLOCKED):
            return False
        # With the generation, all sessions and tokens end that the node was granted.
        self._nodes.rewrite(
            record._replace(flags=record.flags ^ BLOCKED, generation=record.generation + is_blocked)
        )
        return True

    def _note(self, block: Block) -> None:
        """Have the present state of a block stored with the next batch."""

        def packed() -> bytes | None:
            present = self.blocks.get(block.kind, block.subject)
            return None if present is None else pack(present)

        self._nodes.kept.note(name_of(block), packed, at_once=True)
        # Callers can wait for it.
        self._nodes.changes.number()


def _refuse(block: Block | None) -> None:
    if block is not None:
        raise refused(block)


def refused(block: Block | None) -> CallerError:
    """Return the error for a caller or a node that `block` keeps out; None for one that has just changed."""
    if block is None:
        what, until, ends_at = "the node", "", None
    else:
        what = f"the {block.kind.value} {block.subject}"
        ends_at = None if block.ends_at is None else rfc3339(block.ends_at)
        until = f" until {ends_at}" if ends_at else ""
    reason = f": {block.reason}" if block is not None and block.reason else ""
    return CallerError(
        403,
        "blocked",
        f"The operator of this directory has blocked {what}{until}{reason}.",
        suggestion="Ask the operator of this directory; another id, key or network is no way around.",
        members={"blocked_until": ends_at},
    )

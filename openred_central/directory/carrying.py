"""Carry signs of life from a former copy of the directory into one that was loaded anew. Pure.

A process that changes its role loads another copy. Signs of life that only it has heard since must not be
lost with the former one.
"""

from __future__ import annotations

from itertools import chain, compress, count, repeat
from operator import gt, ne, or_

from .state.registry import Registry
from .state.signs import SignColumns, signs_in


def later_signs(former: Registry, registry: Registry) -> SignColumns:
    """Return the signs of life in `former` that are later than those in `registry`, by the slots there.

    They are of nodes that both have, since the same registration.
    """
    # Nearly all nodes are in their slot in both, as they were: then no id is looked up.
    differs = list(map(ne, former.texts, registry.texts))
    differs += [True] * (former.slots_count - len(differs))
    later = map(gt, former.last_seen_s, registry.last_seen_s)
    slots = list[int]()
    taken = list[int]()
    for slot in compress(count(), map(or_, differs, chain(later, repeat(True)))):
        if former.is_free(slot):
            continue
        present = registry.slot_of(former.node_id(slot)) if differs[slot] else slot
        if (
            present is not None
            and former.last_seen_s[slot] > registry.last_seen_s[present]
            and former.registered_at[slot] == registry.registered_at[present]
        ):
            slots.append(present)
            taken.append(slot)
    return signs_in(former, taken)._replace(slots=slots)

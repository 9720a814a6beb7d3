"""Sets of services that nodes offer, each held once, since few distinct sets exist in practice."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from ...errors import InternalBug

# A set holds its names joined and one by one. Each name also stands in a `frozenset`, in the table of
# interned text, and in the service index.
SET_BYTES_PER_CHARACTER = 2
SET_BYTES_PER_NAME = 300


def set_bytes(services: str, region: str) -> int:
    """Return the approximate memory of one set of services in one region, in bytes."""
    names = services.count(",") + bool(services)
    return SET_BYTES_PER_CHARACTER * (len(services) + len(region)) + SET_BYTES_PER_NAME * names


class ServiceSet:
    """One set of services in one region, shared by `nodes` nodes.

    `services` are the sorted names joined by commas; `listed` and `names` are the names as a list and a set.
    """

    __slots__ = ("listed", "names", "nodes", "region", "services")

    def __init__(self, services: str, region: str) -> None:
        self.services = services
        self.region = region
        # Many sets may share a name, which memory then holds once.
        self.listed = list(map(sys.intern, services.split(","))) if services else []
        self.names = frozenset(self.listed)
        self.nodes = 0


class ServiceSets:
    """Service sets by a small number, counted by the nodes that refer to them and dropped with the last."""

    def __init__(self) -> None:
        self._sets: list[ServiceSet | None] = []
        self._free: list[int] = []
        self._ids: dict[tuple[str, str], int] = {}
        # Sum of the `set_bytes` of all sets in use.
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._ids)

    def in_use(self) -> Iterator[ServiceSet]:
        """Yield each set that nodes refer to; sets may come and go meanwhile."""
        for service_set in self._sets:
            if service_set is not None:
                yield service_set

    def __getitem__(self, set_id: int) -> ServiceSet:
        service_set = self._sets[set_id]
        if service_set is None:
            raise InternalBug(f"service set {set_id} is not in use")
        return service_set

    def acquire(self, services: str, region: str, nodes: int = 1) -> int:
        """Return the number of this set, to which `nodes` more nodes refer from now on."""
        key = (services, region)
        set_id = self._ids.get(key)
        if set_id is None:
            set_id = self._free.pop() if self._free else len(self._sets)
            if set_id == len(self._sets):
                self._sets.append(None)
            self._sets[set_id] = ServiceSet(services, region)
            self.bytes_held += set_bytes(services, region)
            self._ids[key] = set_id
        self[set_id].nodes += nodes
        return set_id

    def acquire_many(self, services: Iterable[bytes], regions: Iterable[bytes]) -> list[int]:
        """Return the number of the set of each node; services and regions are in UTF-8."""
        services, regions = list(services), list(regions)
        if len(kinds := set(regions)) == 1:
            # Usually all share one region, and the services alone distinguish the sets.
            region = kinds.pop().decode()
            numbers = {
                names: self.acquire(names.decode(), region, nodes)
                for names, nodes in Counter(services).items()
            }
            return list(map(numbers.__getitem__, services))
        keys = list(zip(services, regions, strict=True))
        set_ids = {
            key: self.acquire(key[0].decode(), key[1].decode(), nodes) for key, nodes in Counter(keys).items()
        }
        return list(map(set_ids.__getitem__, keys))

    def bytes_added(self, services: str, region: str) -> int:
        """Return how many more bytes would be held if one more node referred to this set."""
        return 0 if (services, region) in self._ids else set_bytes(services, region)

    def bytes_freed(self, set_id: int) -> int:
        """Return how many fewer bytes would be held if one node fewer referred to this set."""
        service_set = self[set_id]
        return set_bytes(service_set.services, service_set.region) if service_set.nodes == 1 else 0

    def release(self, set_id: int) -> None:
        """Count one node fewer that refers to this set, and drop the set with the last one."""
        service_set = self[set_id]
        service_set.nodes -= 1
        if service_set.nodes == 0:
            del self._ids[service_set.services, service_set.region]
            self.bytes_held -= set_bytes(service_set.services, service_set.region)
            self._sets[set_id] = None
            self._free.append(set_id)

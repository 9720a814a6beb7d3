"""The caps on connections, counted across processes."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import lt

from hypothesis import given
from hypothesis import strategies as st

from openred_central.micro_engine.gate import IPV6_PREFIXES, Gate, GateKey
from openred_central.micro_engine.places import (
    COLUMNS,
    KEY_BYTES,
    ROW_BYTES,
    Places,
    clear,
    mapped,
    shared_memory,
)

KEY = bytes(range(KEY_BYTES))


def gates(
    count: int, connections_max: int, per_address: int, exempt: tuple[str, ...] = ()
) -> tuple[bytearray, list[Gate]]:
    """Return memory with so many rows, and a gate at each."""
    memory = bytearray(count * ROW_BYTES)
    return memory, [
        Gate(connections_max, per_address, exempt, Places(memory, row, KEY)) for row in range(count)
    ]


def entered(gate: Gate, address: str) -> bool:
    return gate.enter(gate.key(address))


def test_address_has_its_cap_whichever_process_it_comes_to() -> None:
    _, made = gates(3, 100, 3)
    assert [entered(gate, "192.0.2.1") for gate in made] == [True] * 3
    assert [entered(gate, "192.0.2.1") for gate in made] == [False] * 3
    assert [entered(gate, "192.0.2.2") for gate in made] == [True] * 3
    made[1].leave(made[1].key("192.0.2.1"))
    assert entered(made[0], "192.0.2.1")
    assert not entered(made[2], "192.0.2.1")


def test_ipv6_site_has_its_cap_whichever_process_it_comes_to() -> None:
    _, made = gates(2, 100, 1)
    coming = [f"2001:db8:0:{number:x}00::1" for number in range(9)]
    assert [entered(made[index % 2], address) for index, address in enumerate(coming)] == [True] * 8 + [False]


def test_all_processes_together_have_the_cap_in_all() -> None:
    _, made = gates(2, 3, 3, ("10.0.0.0/8",))
    assert [entered(made[0], ""), entered(made[1], "10.0.0.1"), entered(made[0], "192.0.2.1")] == [True] * 3
    assert [entered(gate, "192.0.2.2") for gate in made] == [False] * 2
    made[1].leave(())
    assert entered(made[0], "192.0.2.2")


def test_refused_connection_is_counted_nowhere() -> None:
    memory, made = gates(2, 9, 1)
    assert entered(made[0], "192.0.2.1")
    before = bytes(memory)
    for _ in range(3):
        assert not entered(made[1], "192.0.2.1")
    assert memory == before


def test_column_depends_on_the_key() -> None:
    """One in 65,536 shares the column of another, and nobody knows which."""
    address = "192.0.2.1"
    columns = set()
    for number in range(64):
        memory = bytearray(ROW_BYTES)
        Places(memory, 0, number.to_bytes(KEY_BYTES, "little")).enter((address,))
        columns.add(next(index for index, cell in enumerate(memoryview(memory).cast("I")) if cell))
    assert len(columns) > 60
    assert max(columns) < COLUMNS


def test_network_never_counts_as_an_address() -> None:
    """A holder of the network whose bytes spell an IPv4 address could otherwise fill its column."""
    _, (gate, other) = gates(2, 99, 1)
    spelled = b"1.2.3.4"
    assert len(spelled) in IPV6_PREFIXES
    assert [gate.enter((spelled,)) for _ in range(4)] == [True] * 4
    assert entered(other, "1.2.3.4")


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::2", "10.0.0.1", ""])
STEPS = st.tuples(st.sampled_from(["comes", "leaves", "ends"]), st.integers(0, 2), ADDRESSES)


@given(st.lists(STEPS, max_size=40))
def test_caps_hold_exactly_for_all_processes(steps: list[tuple[str, int, str]]) -> None:
    memory, made = gates(3, 5, 2, ("10.0.0.0/8",))
    inside: list[list[GateKey]] = [[], [], []]
    for step, row, address in steps:
        gate, key = made[row], made[row].key(address)
        if step == "comes":
            everywhere = [other for keys in inside for other in keys]
            caps = [2 * IPV6_PREFIXES[len(part)] if isinstance(part, bytes) else 2 for part in key]
            counts = [sum(part in other for other in everywhere) for part in key]
            assert gate.enter(key) == (len(everywhere) < 5 and all(map(lt, counts, caps)))
            inside[row] += [key] * (gate.open - len(inside[row]))
        elif step == "leaves" and key in inside[row]:
            inside[row].remove(key)
            gate.leave(key)
        elif step == "ends":
            # Its connections end with the process; another takes its row.
            clear(memory, row)
            inside[row] = []
            made[row] = Gate(5, 2, ("10.0.0.0/8",), Places(memory, row, KEY))
        assert made[row].open == len(inside[row])
    for gate, keys in zip(made, inside, strict=True):
        for key in keys:
            gate.leave(key)
    assert memory == bytes(len(memory)), "a count is left over"


# Another process, which takes two places in the row it is given, and waits.
OTHER = """
import sys, time
from openred_central.micro_engine.gate import Gate
from openred_central.micro_engine.places import Places, mapped

descriptor, key = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
gate = Gate(100, 3, (), Places(mapped(descriptor), 1, key))
sys.stdout.write(f"{[gate.enter(gate.key('192.0.2.1')) for _ in range(3)]}\\n")
sys.stdout.flush()
sys.stdin.readline()
"""


def test_killed_process_gives_its_places_back_when_its_row_is_cleared() -> None:
    descriptor = shared_memory(2)
    memory = mapped(descriptor)
    gate = Gate(100, 3, (), Places(memory, 0, KEY))
    assert entered(gate, "192.0.2.1")
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(descriptor), KEY.hex()],
        pass_fds=[descriptor],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[True, True, False]\n"
        assert not entered(gate, "192.0.2.1")
        process.kill()
        process.wait()
    assert not entered(gate, "192.0.2.1")
    clear(memory, 1)
    assert [entered(gate, "192.0.2.1") for _ in range(3)] == [True, True, False]
    os.close(descriptor)

"""The machine: its cores, and what the operating system accounts to a process and its children."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# More open files than any case needs.
OPEN_FILES = 16_384


class Cores(NamedTuple):
    """The cores of server and load; empty if the machine has one core or does not let us choose."""

    server: frozenset[int]
    load: frozenset[int]


def choose_cores() -> Cores:
    """Return the last core for the server alone, and the others for the load."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(frozenset(), frozenset())
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return Cores(frozenset(), frozenset())
    return Cores(frozenset(allowed[-1:]), frozenset(allowed[:-1]))


def move(pids: list[int], cores: frozenset[int]) -> None:
    """Let running processes, with all their threads, use `cores` from now on."""
    for pid in pids if cores else ():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Run processes that start inside the block on `cores`."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_open_files() -> None:
    """Raise the limit of open files of this process and its children to its maximum."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems report no limit, but grant only some.
    wanted = max(soft, OPEN_FILES) if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files_max() -> int:
    """Return how many files this process, and each of its children, may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def family(pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def processor_s(pids: list[int]) -> float:
    """Return the processor time of all threads of these processes so far, in seconds."""
    return sum(map(_processor_s, pids))


def _processor_s(pid: int) -> float:
    """Return it from schedstat (proc(5)) in nanoseconds if there is one, otherwise in clock ticks."""
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        if tasks:
            return sum(int(task.split()[0]) for task in tasks) / 1e9
    except OSError:
        # A thread has just ended.
        pass
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S if fields else 0.0


def first_thread_s(pid: int) -> float:
    """Return the processor time of the first thread of a process so far; 0 if that is unknown."""
    return int((_read(f"/proc/{pid}/task/{pid}/schedstat") or "0").split()[0]) / 1e9


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def resident_bytes(pids: list[int]) -> int:
    """Return the resident memory of these processes."""
    total = 0
    for pid in pids:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        total += int(found[1]) * 1024 if found else 0
    return total


def busy_s(cores: frozenset[int]) -> float:
    """Return the seconds that these cores were busy (proc(5), stat); 0 if that is unknown.

    They include interrupts, and time that a hypervisor gave to others.
    """
    lines = {line.split()[0]: line.split()[1:9] for line in _read("/proc/stat").splitlines() if line}
    fields_of = [lines[f"cpu{core}"] for core in cores if f"cpu{core}" in lines]
    # user nice system idle iowait irq softirq steal
    return (
        sum(sum(map(int, fields)) - int(fields[3]) - int(fields[4]) for fields in fields_of)
        / CLOCK_TICKS_PER_S
    )


def describe() -> dict[str, str]:
    """Return what a reader of figures has to know: commit, machine, interpreter and its build, load."""
    model = re.search(r"model name\s*: (.+)", _read("/proc/cpuinfo"))
    return {
        "commit": _commit(),
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}, "
        f"{'with' if is_optimised(sysconfig.get_config_vars()) else 'without'} PGO, "
        f"{platform.python_compiler()}",
        "load_average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def sentence() -> str:
    """Return interpreter and machine in one line, to stand above figures."""
    described = describe()
    return f"{described['interpreter']}; {described['processor']}, {described['cores']} cores"


def is_optimised(built: Mapping[str, object]) -> bool:
    """Return whether an interpreter was built with profile-guided optimisation, by variables of its build.

    Debian builds with profiles, and then clears the flags that used them.
    """
    asked = "--enable-optimizations" in str(built.get("CONFIG_ARGS"))
    return asked or built.get("PGO_PROF_USE_FLAG") == ""


def _commit() -> str:
    """Return the commit of the working tree, marked if files differ from it; "unknown" without git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        found = ""
    return found or "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

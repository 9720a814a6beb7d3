"""The filter of system calls that a unit puts up, without systemd as the service manager.

As a program, ``system_calls.py NAMES COMMAND…``: it runs the command with all system calls but NAMES, with
commas between, refused with EPERM. As a module it finds those names out.

The filter is made by libseccomp, which systemd itself uses (seccomp_rule_add(3)).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache

LIBRARY = "libseccomp.so.2"
# libseccomp's numbers for what becomes of a system call.
ALLOW = 0x7FFF_0000
REFUSE_WITH_EPERM = 0x0005_0001
# Every unit may do this much (systemd.exec(5), SystemCallFilter).
ALWAYS = "@default"


def allowed_by(filters: Iterable[str]) -> list[str] | None:
    """Return the system calls that a unit with these lines ``SystemCallFilter`` may make, sorted.

    None on a machine without ``systemd-analyze``, which knows the groups, or without libseccomp.
    """
    if shutil.which("systemd-analyze") is None:
        return None
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    allowed: set[str] = set()
    for line in filters:
        named = {name for word in line.removeprefix("~").split() for name in _calls_of(word)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return sorted(allowed | _calls_of(ALWAYS))


@cache
def _calls_of(word: str) -> frozenset[str]:
    """Return the system calls of a group such as ``@resources``, or the one that `word` is."""
    if not word.startswith("@"):
        return frozenset({word})
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, timeout=60, check=True
    )
    # The first line is the name of the group; a comment says what it is for.
    words = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return frozenset().union(*(_calls_of(each) for each in words if each and not each.startswith("#")))


def command(allowed: Iterable[str]) -> tuple[str, ...]:
    """Return a program that runs the server with no other system calls than `allowed`."""
    return (sys.executable, __file__, ",".join(allowed), sys.executable, "-m", "openred_central")


def main(names: str, *run: str) -> None:
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(REFUSE_WITH_EPERM)))
    for name in names.split(","):
        number = library.seccomp_syscall_resolve_name(name.encode("ascii"))
        # Those that this machine does not have cannot be allowed.
        if number >= 0:
            assert library.seccomp_rule_add(rules, ctypes.c_uint32(ALLOW), number, 0) == 0, name
    assert library.seccomp_load(rules) == 0
    os.execv(run[0], run)


if __name__ == "__main__":
    main(*sys.argv[1:])

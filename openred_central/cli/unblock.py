"""`unblock`: end a block of a running directory."""

from __future__ import annotations

import argparse

from ..exit_codes import ExitCode
from .block import SUBJECTS, described, path_of
from .command import Command, configuration_of
from .console import Console
from .operating import ask


def run(options: argparse.Namespace, console: Console) -> int:
    """End the block, and print what has become of its subject."""
    answer = ask(configuration_of(options, console), "DELETE", path_of(options))
    console.say(f"{described(answer)} is not blocked any more")
    return ExitCode.DONE


COMMAND = Command(
    "unblock",
    "end a block of a running directory",
    run,
    SUBJECTS,
    """\
  openred-central unblock --id node-1
  openred-central unblock --network 192.0.2.0/24
""",
)

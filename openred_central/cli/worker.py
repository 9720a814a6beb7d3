"""`worker`: one process of several that serve; `serve` starts it."""

from __future__ import annotations

import argparse

from ..server.worker import Passed, work
from .command import Command, argument, configuration_of
from .console import Console


def _descriptors(written: str) -> tuple[int, ...]:
    return tuple(map(int, written.split(","))) if written else ()


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the worker until its owner ends it."""
    passed = Passed(options.link, options.places, options.own, options.shared)
    return work(configuration_of(options, console), options.number, passed)


COMMAND = Command(
    "worker",
    "serve beside others; started by `serve` alone",
    run,
    (
        argument("number", metavar="NUMBER", type=int, help="the number of the worker"),
        argument("link", metavar="LINK", type=int, help="descriptor of the link to the owner"),
        argument("places", metavar="PLACES", type=int, help="descriptor of the places of all workers"),
        argument("own", metavar="OWN", type=_descriptors, help="descriptors of its listening sockets"),
        argument(
            "shared", metavar="SHARED", type=_descriptors, help="descriptors of the listening sockets of all"
        ),
    ),
)

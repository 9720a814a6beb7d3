"""``python -m benchmarks``: the load generator, the suite, and what identity costs."""

from __future__ import annotations

import argparse
import sys

from . import identity
from .load import command as load
from .suite import command as suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Load a server; compare ours.")
    commands = parser.add_subparsers(dest="command", required=True)
    described = "send requests to a server, and time the answers"
    load.add_arguments(commands.add_parser("load", help=described, description=described))
    described = "start every contestant on this machine, and compare them"
    suite.add_arguments(commands.add_parser("suite", help=described, description=described))
    described = "what it costs the server to know who somebody is, and the loop while tokens are made"
    identity.add_arguments(commands.add_parser("identity", help=described, description=described))
    given = parser.parse_args()
    return {"load": load.run, "suite": suite.run, "identity": identity.run}[given.command](given)


if __name__ == "__main__":
    sys.exit(main())

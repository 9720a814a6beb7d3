"""``python -m benchmarks``: the load generator and the suite."""

from __future__ import annotations

import argparse
import sys

from .load import command as load


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Load any server; compare ours."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command, meaning in (
        ("load", load, "send requests to a server, and time the answers"),
    ):
        described = commands.add_parser(name, help=meaning, description=command.__doc__)
        command.add_arguments(described)
        described.set_defaults(run=command.run)
    given = parser.parse_args()
    return int(given.run(given))


if __name__ == "__main__":
    sys.exit(main())

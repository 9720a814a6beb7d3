"""``python -m benchmarks``: the load generator, the suite, and the replay of predictions."""

from __future__ import annotations

import argparse
import sys

from .load import command as load
from .prediction import command as prediction
from .suite import command as suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Load a server; compare ours.")
    commands = parser.add_subparsers(dest="command", required=True)
    description = "send requests to a server, and time the answers"
    load.add_arguments(commands.add_parser("load", help=description, description=description))
    description = "start every contestant on this machine, and compare them"
    suite.add_arguments(commands.add_parser("suite", help=description, description=description))
    description = "replay nodes that come and go, and score what the directory predicts"
    prediction.add_arguments(commands.add_parser("prediction", help=description, description=description))
    given = parser.parse_args()
    return {"load": load.run, "suite": suite.run, "prediction": prediction.run}[given.command](given)


if __name__ == "__main__":
    sys.exit(main())

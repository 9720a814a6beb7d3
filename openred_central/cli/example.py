"""`example`: print examples that help to write a node in another language."""

from __future__ import annotations

import argparse

from ..exit_codes import ExitCode
from ..security.signing import known_answers, sign_example
from .command import URL, Command, UsageError, argument, url_of
from .console import Console


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the example."""
    try:
        text = (
            known_answers()
            if options.what == "vectors"
            else sign_example(url_of(options, console), options.node_id)
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    console.say(text.rstrip("\n"))
    return ExitCode.DONE


COMMAND = Command(
    "example",
    "print a signer of requests in plain shell, or known answers for a node in another language",
    run,
    (
        argument(
            "what",
            choices=("sign", "vectors"),
            help="sign: a signer that needs sh, openssl and curl; vectors: known answers, as JSON",
        ),
        argument("--node-id", metavar="ID", default="alice", help="id of the node; default: alice"),
        URL,
    ),
    """\
  openred-central example sign --url https://directory.example --node-id alice > sign.sh
  openred-central example vectors > vectors.json
""",
    settings=False,
)

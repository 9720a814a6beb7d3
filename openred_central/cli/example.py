"""`example`: print examples that help to write a node in another language."""

from __future__ import annotations

import argparse
from importlib.resources import files

from ..exit_codes import ExitCode
from ..security.signing import known_answers, sign_example
from .command import URL, Command, UsageError, argument, url_of
from .console import Console

# Language → the files in `javascript/` that make the node: what differs between platforms, and the protocol.
NODES = {"javascript": ("node.js", "core.js"), "browser": ("browser.js", "core.js")}


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the example."""
    if options.what == "vectors":
        text = known_answers()
    elif options.what == "node":
        text = node_example(options.language)
    else:
        try:
            text = sign_example(url_of(options, console), options.node_id)
        except ValueError as error:
            raise UsageError(str(error)) from error
    console.say(text.rstrip("\n"))
    return ExitCode.DONE


def node_example(language: str) -> str:
    """Return a node in a language of `NODES`, as one file without dependencies."""
    folder = files("openred_central") / "javascript"
    return "".join((folder / name).read_text(encoding="utf-8") for name in NODES[language])


COMMAND = Command(
    "example",
    "print a node in JavaScript, a signer of requests in plain shell, or known answers for other languages",
    run,
    (
        argument(
            "what",
            choices=("node", "sign", "vectors"),
            help="node: a node as one file; sign: a signer that needs sh, openssl and curl; vectors: known "
            "answers, as JSON",
        ),
        argument(
            "--language",
            choices=tuple(NODES),
            default="javascript",
            help="language of the node: javascript for Node.js 20 or newer (the default), or browser",
        ),
        argument("--node-id", metavar="ID", default="alice", help="id of the node; default: alice"),
        URL,
    ),
    """\
  openred-central example node --language javascript > openred.mjs
  openred-central example sign --url https://directory.example --node-id alice > sign.sh
  openred-central example vectors > vectors.json
""",
    settings=False,
)

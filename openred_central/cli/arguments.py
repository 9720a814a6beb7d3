"""What the commands of node authors do and take, for the command line. Imports nothing that takes long."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..terminal import PROGRAM

if TYPE_CHECKING:
    import argparse

DEFAULT_URL = "http://127.0.0.1:8000"
URL_VARIABLE = "OPENRED_URL"
CLAIM_VARIABLE = "OPENRED_CLAIM"

# Commands that speak to a server.
ASKING = {
    "register": "register a node, or update or revive it",
    "heartbeat": "say that a node lives, once or from now on",
    "discover": "find nodes by the services that they offer",
    "node": "explain a node: why it is in its state, and what lies ahead",
    "stats": "print the figures of a directory",
    "watch": "print what happens at a directory, as it happens",
    "leave": "have a node hidden until its next heartbeat, or erased",
}
# Commands that speak to nobody.
MAKING = {
    "keygen": "make a key for a node",
    "example": "print a signer of requests in plain shell, or known answers for a node in another language",
    "completion": "print what a shell completes the words of this program by",
}
MEANINGS = {**ASKING, **MAKING}

EXAMPLES = {
    "register": """\
  openred-central register 192.0.2.1 7000 --key node.pem --services storage,relay
  openred-central register node.example 7000 --key node.pem --node-id alice --metadata '{"version": 3}'
""",
    "heartbeat": """\
  openred-central heartbeat --key node.pem
  openred-central heartbeat --key node.pem --keep-alive
  openred-central heartbeat --node-id alice --claim or3c... --port 9001
  openred-central heartbeat --key node.pem --services storage --url https://directory.example
""",
    "discover": """\
  openred-central discover storage,relay --near eu
  openred-central discover storage --json | jq -r '.nodes[].address'
""",
    "node": """\
  openred-central node alice
  openred-central node --key node.pem
""",
    "stats": """\
  openred-central stats --url https://directory.example
""",
    "watch": """\
  openred-central watch
  openred-central watch --recent 50 --json | jq -r 'select(.event == "transition") | .data.node_id'
""",
    "leave": """\
  openred-central leave --key node.pem
  openred-central leave --key node.pem --forget
""",
    "keygen": """\
  openred-central keygen node.pem
  openred-central keygen --kind rsa --bits 3072 node.pem
""",
    "example": """\
  openred-central example sign --url https://directory.example --node-id alice > sign.sh
  openred-central example vectors > vectors.json
""",
    "completion": """\
  eval "$(openred-central completion bash)"      # in ~/.bashrc
  eval "$(openred-central completion zsh)"       # in ~/.zshrc, after compinit
  openred-central completion fish > ~/.config/fish/completions/openred-central.fish
""",
}
_KEYS_EXAMPLES = """\
examples:
  openred-central keys show
  openred-central keys rotate
  openred-central keys revoke Y2dc87BCHSk3OaSQFKgaHOgiT_-nQvK2bH8sduWLR0c
  openred-central keys sign-keyset keyset-request.json --key-folder root > keyset-signed.json

A running server rotates its keys every day; `rotate` has it begin now, `revoke` lets a key that was stolen
count no more. Both reach it by the operators' listener of its settings.

With OPENRED_OFFLINE_ROOT a server leaves keyset-request.json in its folder of keys. Carry it to where the
root key lies, see what it lists, have it signed, and put keyset-signed.json beside it. The first time, the
root key is made there.
"""
# A key id is the base64url of 32 bytes. Only those that begin with a dash are of interest here.
_KEY_ID = re.compile(r"-[A-Za-z0-9_-]{42}")
_TAKES_KEY_ID = ("--next-key",)
_ALONE = "--key-id"
_EXIT_CODES = """
exit codes: 0 done, 1 the server refuses, 2 wrong usage, 3 nobody answers, 4 the server wants it later
"""


def add_arguments(command: argparse.ArgumentParser, name: str, url: str) -> None:
    """Give the parser of the command `name` what it takes. `url` is where to ask by default."""
    from argparse import RawDescriptionHelpFormatter

    command.formatter_class = RawDescriptionHelpFormatter
    command.epilog = f"examples:\n{EXAMPLES[name]}{_EXIT_CODES if name in ASKING else ''}"
    _ADD[name](command)
    if name in ASKING or name == "example":
        command.add_argument(
            "--url",
            metavar="URL",
            default=url,
            help=f"where the directory is; default: ${URL_VARIABLE}, else {DEFAULT_URL}",
        )
    if name in ASKING or name == "keygen":
        command.add_argument("--json", action="store_true", help="print JSON")


def add_keys_arguments(command: argparse.ArgumentParser) -> None:
    """The same for `keys`, which has settings like the commands of the server."""
    from argparse import SUPPRESS, RawDescriptionHelpFormatter

    command.formatter_class = RawDescriptionHelpFormatter
    command.epilog = _KEYS_EXAMPLES
    command.usage = f"{PROGRAM} keys show|rotate|revoke|sign-keyset [KEY|REQUEST] [--setting VALUE ...]"
    command.add_argument("action", choices=("show", "rotate", "revoke", "sign-keyset"))
    command.add_argument(
        "request",
        metavar="KEY|REQUEST",
        nargs="?",
        # Where it is not there it must not undo what the flag has said.
        default=SUPPRESS,
        help="the id of a key to revoke, or the file that a server asks to be signed",
    )
    command.add_argument(_ALONE, dest="request", default=None, help=SUPPRESS)
    command.add_argument(
        "--accept-time",
        action="store_true",
        help="sign what the clock of this machine takes for over, or not yet valid",
    )


def guard_key_ids(words: Sequence[str]) -> list[str]:
    """`words` with every key id that begins with ``-`` written so that no parser takes it for a flag.

    One key id of 64 begins so. It becomes a part of the flag before it; the one that `keys` takes without a
    flag gets one. No flag is as long as a key id.
    """
    guarded: list[str] = []
    for word in words:
        if not _KEY_ID.fullmatch(word):
            guarded.append(word)
        elif guarded and guarded[-1] in _TAKES_KEY_ID:
            guarded[-1] += f"={word}"
        else:
            guarded.append(f"{_ALONE}={word}" if words[0] == "keys" else word)
    return guarded


def _add_identity(command: argparse.ArgumentParser, *, needed: bool) -> None:
    command.add_argument(
        "--key", metavar="FILE", required=needed, help="private key of the node, in PEM; `keygen` makes one"
    )
    command.add_argument(
        "--node-id", metavar="ID", help="id of the node; default: k- and the id of the key, a name of its own"
    )


def _add_claim(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--claim",
        metavar="SECRET",
        default=os.environ.get(CLAIM_VARIABLE) or None,
        help="what a node without a key was told when it registered; default: "
        f"${CLAIM_VARIABLE}, which others on this machine do not see",
    )


def _add_profile(command: argparse.ArgumentParser) -> None:
    command.add_argument("--services", metavar="NAMES", help="what it offers, separated by commas")
    command.add_argument("--metadata", metavar="JSON", help="an object with whatever else peers should know")


def _register(command: argparse.ArgumentParser) -> None:
    command.add_argument("address", metavar="ADDRESS", help="IPv4, IPv6 or DNS name at which peers reach it")
    command.add_argument("port", metavar="PORT", type=int, help="and its port")
    _add_identity(command, needed=True)
    _add_profile(command)
    command.add_argument("--region", metavar="NAME", help="where it is")
    command.add_argument("--hidden", action="store_true", help="let nobody discover it")
    command.add_argument("--away-until", metavar="TIME", help="announce an absence until then (RFC 3339)")
    command.add_argument(
        "--next-key", metavar="KEY_ID", help="id of the key that may take over if this is lost"
    )


def _heartbeat(command: argparse.ArgumentParser) -> None:
    _add_identity(command, needed=False)
    _add_claim(command)
    _add_profile(command)
    command.add_argument("--address", metavar="ADDRESS", help="its new address")
    command.add_argument("--port", metavar="PORT", type=int, help="its new port")
    command.add_argument(
        "--keep-alive", action="store_true", help="go on at the pace that the directory advises, until Ctrl-C"
    )


def _discover(command: argparse.ArgumentParser) -> None:
    command.add_argument("services", metavar="SERVICES", nargs="?", help="all that are needed")
    command.add_argument("--max-results", metavar="COUNT", type=int, help="at most so many; default: 50")
    command.add_argument("--region", metavar="NAME", help="only from there")
    command.add_argument("--near", metavar="NAME", help="from there, if possible")
    command.add_argument("--states", metavar="NAMES", help="only in these states, such as active")
    command.add_argument("--exclude-states", metavar="NAMES", help="not in these; default: coma,dead")
    command.add_argument("--min-last-seen", metavar="TIME", help="heard since then (RFC 3339)")


def _node(command: argparse.ArgumentParser) -> None:
    command.add_argument("node", metavar="NODE_ID", nargs="?", help="which one; default: that of the key")
    _add_identity(command, needed=False)
    _add_claim(command)


def _stats(command: argparse.ArgumentParser) -> None:
    """It takes nothing of its own."""


def _watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--recent", metavar="COUNT", type=int, default=0, help="begin so many events ago; at most 1000"
    )


def _leave(command: argparse.ArgumentParser) -> None:
    _add_identity(command, needed=False)
    _add_claim(command)
    command.add_argument("--forget", action="store_true", help="have it erased, not only hidden")


def _keygen(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="where to write it; nothing is ever overwritten")
    command.add_argument("--kind", choices=("ed25519", "rsa"), default="ed25519", help="which kind of key")
    command.add_argument(
        "--bits", metavar="BITS", type=int, help="size of an RSA key, 2048 (default) to 4096"
    )


def _example(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "what",
        choices=("sign", "vectors"),
        help="sign: a signer that needs sh, openssl and curl; vectors: known answers, as JSON",
    )
    command.add_argument("--node-id", metavar="ID", default="alice", help="id of the node; default: alice")


def _completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=("bash", "zsh", "fish"))


_ADD = {
    "register": _register,
    "heartbeat": _heartbeat,
    "discover": _discover,
    "node": _node,
    "stats": _stats,
    "watch": _watch,
    "leave": _leave,
    "keygen": _keygen,
    "example": _example,
    "completion": _completion,
}

"""`block`: keep an id, a key or a network out of a running directory."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote, urlencode

from ..exit_codes import ExitCode
from ..settings.kinds import parse_duration
from .command import Argument, Command, UsageError, argument, configuration_of
from .console import Console
from .operating import ask
from .showing import safe

SUBJECTS: tuple[Argument, ...] = (
    argument("--id", metavar="ID", help="the id of a node"),
    argument("--key", metavar="FINGERPRINT", help="the fingerprint of a key, as GET /nodes/{id} shows it"),
    argument("--network", metavar="CIDR", help="a network, such as 192.0.2.0/24 or 2001:db8::/48"),
)


def run(options: argparse.Namespace, console: Console) -> int:
    """Block the subject, and print what has become of it."""
    configuration = configuration_of(options, console)
    asked = {"reason": options.reason}
    if options.lasting is not None:
        try:
            asked["lifetime_s"] = str(int(parse_duration(options.lasting)))
        except ValueError:
            raise UsageError(
                f"--for is {options.lasting!r}, allowed is a duration such as 90m or 7d"
            ) from None
    answer = ask(configuration, "POST", f"{path_of(options)}?{urlencode(asked)}")
    ends_at = answer.get("ends_at")
    console.say(f"{described(answer)} is blocked {f'until {safe(ends_at)}' if ends_at else 'for ever'}")
    return ExitCode.DONE


def path_of(options: argparse.Namespace) -> str:
    """Return the path of the block that the flags name. Raises `UsageError` unless they name one."""
    named = [(kind, value) for kind in ("id", "key", "network") if (value := getattr(options, kind))]
    if len(named) != 1:
        raise UsageError(f"name one of --id, --key and --network; {len(named)} were given")
    (kind, subject) = named[0]
    return f"/admin/blocks/{kind}/{quote(subject, safe='')}"


def described(answer: dict[str, Any]) -> str:
    """Return the subject of a block, with the number of nodes that it concerns."""
    return f"{safe(answer.get('kind'))} {safe(answer.get('subject'))} ({safe(answer.get('nodes'))} nodes)"


COMMAND = Command(
    "block",
    "keep an id, a key or a network out of a running directory",
    run,
    (
        *SUBJECTS,
        argument("--reason", metavar="TEXT", default="", help="why; blocked callers are told"),
        argument(
            "--for", dest="lasting", metavar="DURATION", help="how long, such as 90m or 7d; else for ever"
        ),
    ),
    """\
  openred-central block --id node-1 --reason "sends spam"
  openred-central block --key 0bPNJ2TbnZHFXqjYiErCHmM5ZzOw0QjRmqnYXgsAzOo --for 30d
  openred-central block --network 192.0.2.0/24 --for 12h
""",
    """\
Blocked nodes are hidden, and get no sessions and tokens; what they were granted is void. Nothing is deleted:
`unblock`, or the end of the block, makes a node itself again. The operators' listener of the settings takes
the request.
""",
)

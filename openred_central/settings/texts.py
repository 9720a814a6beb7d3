"""What is told of the settings: their table, and names that are none of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .config import PREFIX, SETTINGS, is_service_link

# Read by the commands that speak to a server, which have no settings.
CLIENT_VARIABLES = frozenset({"OPENRED_URL", "OPENRED_CLAIM"})

# The endings behind the name of the service in the siblings of OPENRED_PORT=tcp://10.0.0.1:8000.
_OF_A_LINK = re.compile(
    r"_(?:PORT|SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of `known` that is most like `name`."""
    # Here and not above: no start has to wait for what is said of a mistake.
    import difflib

    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """One line for each variable that looks like a setting and is none, naming the nearest setting.

    Those that Kubernetes makes for a service are told together, in one line for the service.
    """
    known = [setting.variable for setting in SETTINGS.values()]
    names = sorted(name for name in environment if name.startswith(PREFIX))
    links = [name for name in names if is_service_link(name, environment)]
    of_links = {
        name
        for name in names
        for link in links
        if name.startswith(link.removesuffix("PORT")) and _OF_A_LINK.fullmatch(name, len(link) - len("_PORT"))
    }
    return [
        f"{link} is {environment[link]}, which Kubernetes sets for a service of that name, and is ignored "
        "with its siblings; enableServiceLinks: false in the pod, or another name of the service, avoids it"
        for link in links
    ] + [
        f"{name} is not a setting and is ignored; the nearest is {nearest(name, known)}"
        for name in names
        if name not in known and name not in CLIENT_VARIABLES and name not in of_links
    ]


def settings_markdown() -> str:
    """Return the table of settings in Markdown, as in ``docs/settings.md``."""
    lines = ["| variable | default | allowed | meaning |", "|---|---|---|---|"]
    for setting in SETTINGS.values():
        default = setting.kind.show(setting.default)
        lines.append(
            f"| `{setting.variable}` | {f'`{default}`' if default else 'nothing'} | {setting.kind.allowed} "
            f"| {setting.meaning} |"
        )
    return "\n".join(lines) + "\n"

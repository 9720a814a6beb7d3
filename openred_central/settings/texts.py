"""Texts about the settings: their table in Markdown, and warnings of variables that are no settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from .config import PREFIX, SETTINGS, is_service_link

# The commands that send requests to a server read these; such commands have no settings.
CLIENT_VARIABLES = frozenset({"OPENRED_URL", "OPENRED_CLAIM"})

# The further variables that Kubernetes makes with OPENRED_PORT=tcp://10.0.0.1:8000, without the name of the
# service.
_OF_A_LINK = (
    r"_(?:PORT|SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of `known` that is most like `name`."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that looks like a setting but is none; it names the nearest setting.

    The variables that Kubernetes makes for a service get one line together.
    """
    known = [setting.variable for setting in SETTINGS.values()]
    names = sorted(name for name in environment if name.startswith(PREFIX))
    links = [name for name in names if is_service_link(name, environment)]
    of_links = {
        name
        for name in names
        for link in links
        if name.startswith(link.removesuffix("PORT"))
        and re.fullmatch(_OF_A_LINK, name[len(link) - len("_PORT") :])
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

"""What is told of the settings: their table, and names that are none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .config import PREFIX, SETTINGS

# Read by the commands that speak to a server, which have no settings.
CLIENT_VARIABLES = frozenset({"OPENRED_URL"})


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of `known` that is most like `name`."""
    # Here and not above: no start has to wait for what is said of a mistake.
    import difflib

    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """One line for each variable that looks like a setting and is none, naming the nearest setting."""
    known = [setting.variable for setting in SETTINGS.values()]
    return [
        f"{name} is not a setting and is ignored; the nearest is {nearest(name, known)}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and name not in CLIENT_VARIABLES
    ]


def settings_markdown() -> str:
    """The table of settings in Markdown, as it stands in the README."""
    lines = ["| variable | default | allowed | meaning |", "|---|---|---|---|"]
    for setting in SETTINGS.values():
        default = setting.kind.show(setting.default)
        lines.append(
            f"| `{setting.variable}` | {f'`{default}`' if default else 'nothing'} | {setting.kind.allowed} "
            f"| {setting.meaning} |"
        )
    return "\n".join(lines) + "\n"

"""The ready files for operators in ``docs/deploy/``, and what several tests read out of them."""

from __future__ import annotations

from typing import Any

import yaml

from openred_central.settings.config import PREFIX, SETTINGS, load
from tests.support.project import PACKAGE

FOLDER = PACKAGE / "docs" / "deploy"
COMPOSE = FOLDER / "compose.yaml"
KUBERNETES = FOLDER / "kubernetes.yaml"
HAPROXY = FOLDER / "haproxy.cfg"
ALERTS = FOLDER / "alerts.yaml"


def compose() -> dict[str, Any]:
    """Return the description of the containers."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return document


def manifests() -> list[dict[str, Any]]:
    """Return the objects for Kubernetes."""
    found = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    return [manifest for manifest in found if manifest is not None]


def manifest(kind: str, name: str = "openred") -> dict[str, Any]:
    """Return the one object of this kind and name."""
    (found,) = [each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def alerts() -> list[dict[str, Any]]:
    """Return the alert rules of all groups."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_settings(variables: dict[str, str]) -> None:
    """Fail unless each variable of ours is a setting, and the values are valid, also together."""
    known = {setting.variable for setting in SETTINGS.values()}
    assert {name for name in variables if name.startswith(PREFIX)} - known == set()
    load({}, variables)

"""Options with the defaults of the table of settings, for tests that change a few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openred_central.api.admin.admission import OperatorsOptions
from openred_central.api.caller.limiting import LimitOptions
from openred_central.directory.directory import DirectoryOptions
from openred_central.directory.life.mass_silence import MassSilenceOptions
from openred_central.directory.lifecycle import LifecycleOptions
from openred_central.security.directory_keys.root import KeyOptions
from openred_central.settings.config import Configuration
from openred_central.tasks.prober import ProberOptions
from openred_central.tasks.saver import SaverOptions
from openred_central.tasks.snapshotter import SnapshotOptions

DEFAULTS = Configuration()


def lifecycle_options(**changes: Any) -> LifecycleOptions:
    return replace(DEFAULTS.lifecycle(), **changes)


def mass_silence_options(**changes: Any) -> MassSilenceOptions:
    return DEFAULTS.mass_silence()._replace(**changes)


def directory_options(**changes: Any) -> DirectoryOptions:
    return replace(DEFAULTS.directory(), **changes)


def saver_options(**changes: Any) -> SaverOptions:
    return replace(DEFAULTS.saver(), **changes)


def snapshot_options(**changes: Any) -> SnapshotOptions:
    return replace(DEFAULTS.snapshotter(), **changes)


def prober_options(**changes: Any) -> ProberOptions:
    return replace(DEFAULTS.prober(), **changes)


def limit_options(**changes: Any) -> LimitOptions:
    return replace(DEFAULTS.limits(), **changes)


def operators_options(**changes: Any) -> OperatorsOptions:
    return DEFAULTS.operators()._replace(**changes)


def key_options(token_suite: str = "r", **changes: Any) -> KeyOptions:
    return replace(DEFAULTS.keys(), token_suite=token_suite, **changes)

"""The server raises the limit of open files, or accepts fewer connections."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator

import pytest

from openred_central.micro_engine.limits import EngineLimits
from openred_central.server.assembly import DESCRIPTORS_BESIDE, descriptors_needed, make_room, room

LIMITS = EngineLimits(connections_max=1_000, connections_per_address_max=800)


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    """Restore the limit of this process after each test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def allow(soft: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_descriptors_are_reserved_for_operators_store_and_probes() -> None:
    assert descriptors_needed(10_000, 32) == 10_032 + DESCRIPTORS_BESIDE
    assert room(descriptors_needed(10_000, 32), 10_000, 32) == 10_000
    assert room(descriptors_needed(10_000, 32) - 1, 10_000, 32) == 9_999
    assert room(1_024, 10_000, 32) == 1_024 - 32 - DESCRIPTORS_BESIDE


@pytest.mark.parametrize(("descriptors_max", "connections"), [(300, 75), (100, 25), (3, 1)])
def test_scarce_descriptors_are_shared(descriptors_max: int, connections: int) -> None:
    assert room(descriptors_max, 10_000, 32) == connections
    assert room(descriptors_max, 1, 0) == 1


def test_the_limit_is_raised_as_far_as_needed(caplog: pytest.LogCaptureFixture) -> None:
    allow(600)
    assert make_room(LIMITS, 32) is LIMITS
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptors_needed(1_000, 32)
    assert caplog.records == []


def test_a_sufficient_limit_is_unchanged() -> None:
    allow(descriptors_needed(1_000, 32) + 5)
    assert make_room(LIMITS, 32) is LIMITS
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == descriptors_needed(1_000, 32) + 5


def test_a_low_limit_means_fewer_connections_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lower the limit in appearance only: a lowered hard limit cannot be raised again.
    monkeypatch.setattr(resource, "getrlimit", lambda _: (600, 600))
    with caplog.at_level(logging.WARNING):
        fitted = make_room(LIMITS, 0)
    assert (fitted.connections_max, fitted.connections_per_address_max) == (
        600 - DESCRIPTORS_BESIDE,
        600 - DESCRIPTORS_BESIDE,
    )
    (record,) = caplog.records
    assert "600 open files" in record.getMessage()
    assert "no more than 344 connections" in record.getMessage()


def test_without_a_limit_all_connections_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert make_room(EngineLimits(connections_max=1_000_000), 1_024).connections_max == 1_000_000

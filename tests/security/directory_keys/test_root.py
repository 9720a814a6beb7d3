"""The anchor that peers have pinned changes only where the operator says so, never silently."""

from __future__ import annotations

import pytest

from openred_central.security.directory_keys.root import QuantumPolicy, RootRefused, choose_root

AUTO, REQUIRE, OFF = QuantumPolicy.AUTO, QuantumPolicy.REQUIRE, QuantumPolicy.OFF


@pytest.mark.parametrize(
    ("policy", "on_disk", "supported", "suite", "warning"),
    [
        (AUTO, "", True, "h", ""),
        (AUTO, "", False, "R", "will be classical, not quantum-safe: this installation has no ML-DSA-65"),
        (AUTO, "h", True, "h", ""),
        (AUTO, "Rh", True, "h", ""),
        (AUTO, "R", True, "R", "OPENRED_PQ=require makes a composite one, which peers must pin anew"),
        (AUTO, "R", False, "R", "the root key is classical"),
        (REQUIRE, "", True, "h", ""),
        (REQUIRE, "h", True, "h", ""),
        (REQUIRE, "R", True, "h", "peers must pin it anew"),
        (OFF, "", True, "R", ""),
        (OFF, "", False, "R", ""),
        (OFF, "R", True, "R", ""),
        (OFF, "h", True, "R", "peers that pinned it will refuse"),
        (OFF, "h", False, "R", "peers that pinned it will refuse"),
    ],
)
def test_which_root_a_server_starts_with(
    policy: QuantumPolicy, on_disk: str, supported: bool, suite: str, warning: str
) -> None:
    choice = choose_root(policy, on_disk, supported=supported)
    assert choice.suite == suite
    assert warning in choice.warning
    assert bool(choice.warning) == bool(warning)


@pytest.mark.parametrize("policy", [AUTO, REQUIRE])
def test_a_composite_root_that_cannot_be_used_stops_the_start(policy: QuantumPolicy) -> None:
    """No silent downgrade: only an explicit word gives up what peers have pinned."""
    for on_disk in ("h", "Rh"):
        with pytest.raises(RootRefused, match=r"the root key is composite, but .* OPENRED_PQ=off"):
            choose_root(policy, on_disk, supported=False)


def test_unavailable_required_root_stops_the_start() -> None:
    for on_disk in ("", "R"):
        with pytest.raises(RootRefused, match="OPENRED_PQ=require, but this installation has no ML-DSA-65"):
            choose_root(REQUIRE, on_disk, supported=False)

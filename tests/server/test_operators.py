"""The operators' listeners; tests/e2e/test_operators.py shows them in a real server."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from openred_central.api.admin.admission import OperatorsOptions
from openred_central.clock import SystemClock
from openred_central.errors import CallerError
from openred_central.micro_engine.limits import EngineLimits
from openred_central.server.operators import Operators, make_desk
from openred_central.storage.copies.snapshots import Manifest
from openred_central.storage.keys.key_files import KeyFileError
from openred_central.tasks.snapshotter import SnapshotFailed
from tests.support.options import operators_options
from tests.support.world import World


def operators(options: OperatorsOptions, secret_file: Path | None = None) -> Operators:
    return Operators(
        options,
        secret_file,
        bytes,
        limits=EngineLimits(),
        clock=SystemClock(),
        new_request_id=lambda: "1",
    )


class NoKeys:
    """Keys that cannot be written; ``known`` is the only one."""

    async def rotate(self) -> None:
        raise KeyFileError("the disk is full")

    async def revoke(self, key_id: str) -> None:
        if key_id != "known":
            raise ValueError(key_id)
        raise KeyFileError("the disk is full")


async def test_keys_that_cannot_be_changed_are_reported_as_errors() -> None:
    desk = make_desk(World().api, lambda: b"", None, NoKeys(), lambda _: False)
    for what, status, code in (
        (desk.rotate_keys(), 503, "store_unavailable"),
        (desk.revoke_key("known"), 503, "store_unavailable"),
        (desk.revoke_key("other"), 404, "key_not_found"),
    ):
        with pytest.raises(CallerError) as raised:
            await what  # type: ignore[misc]
        assert (raised.value.status, raised.value.code) == (status, code)


async def started(made: Operators) -> list[str]:
    addresses = await made.start(make_desk(World().api, lambda: b"", None, NoKeys(), lambda _: False))
    await made.drain()
    return addresses


async def test_without_settings_for_it_nothing_listens(tmp_path: Path) -> None:
    secret_file = tmp_path / "secret"
    assert await started(operators(operators_options(port=None), secret_file)) == []
    assert not secret_file.exists()


async def test_a_unix_socket_is_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    made = operators(operators_options(port=None, socket=path))
    desk = make_desk(World().api, lambda: b"", None, NoKeys(), lambda _: False)
    assert await made.start(desk) == [f"unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await made.drain()


async def test_a_missing_place_for_the_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    (address,) = await started(operators(operators_options(port=0)))
    assert address.startswith("127.0.0.1:")
    assert "OPENRED_ADMIN_SECRET_FILE" in caplog.text


async def test_a_secret_that_others_may_read_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.write_text("x" * 43)
    path.chmod(0o644)
    await started(operators(operators_options(port=0), path))
    assert f"users other than its owner may read the secret file {path}" in caplog.text


async def test_a_taken_port_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1, port {port}"):
            await started(operators(operators_options(port=port)))


class FakeSnapshotter:
    def __init__(self, outcome: Manifest | Exception) -> None:
        self.outcome = outcome

    async def take_now(self) -> Manifest:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def snapshot(outcome: Any) -> Any:
    taker = None if outcome is None else FakeSnapshotter(outcome)
    return await make_desk(World().api, lambda: b"", taker, NoKeys(), lambda _: False).snapshot()  # type: ignore[arg-type]


async def test_the_contents_of_a_snapshot_are_reported() -> None:
    answer = await snapshot(Manifest("openred.db", 1_800_000_000.0, 1, 4_096, "00", 3, 2, None))
    assert answer == {"taken_at": "2027-01-15T08:00:00.000Z", "bytes": 4_096, "nodes": 3, "tombstones": 2}


async def test_a_failed_or_impossible_snapshot_is_reported() -> None:
    with pytest.raises(CallerError, match=r"503 snapshot_failed: .* no room"):
        await snapshot(SnapshotFailed("no room"))
    with pytest.raises(CallerError, match="409 nothing_to_copy"):
        await snapshot(None)

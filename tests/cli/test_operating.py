"""Asking the operators' listener: what is missing is told before anybody is asked."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from openred_central.cli.operating import act
from openred_central.settings.config import ConfigError, Configuration
from openred_central.storage.keys.key_files import KeyFileError


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_a_server_without_listener_or_secret_cannot_be_asked(tmp_path: Path) -> None:
    database = str(tmp_path / "openred.db")
    with pytest.raises(ConfigError, match="--admin-port or --admin-socket"):
        act(Configuration(database=database, admin_port=None), "/admin/keys/rotate")
    with pytest.raises(ConfigError, match="--admin-secret-file"):
        act(Configuration(database="memory:"), "/admin/keys/rotate")
    with pytest.raises(KeyFileError, match="admin-secret cannot be read"):
        act(Configuration(database=database), "/admin/keys/rotate")


def test_nobody_answers_is_told_with_where(tmp_path: Path) -> None:
    database, port = str(tmp_path / "openred.db"), closed_port()
    (tmp_path / "openred.db.admin-secret").write_text("s" * 43)
    with pytest.raises(KeyFileError, match=f"127.0.0.1:{port}.*is the server running"):
        act(Configuration(database=database, admin_port=port), "/admin/keys/rotate")
    with pytest.raises(KeyFileError, match="is the server running"):
        act(Configuration(database=database, admin_socket=str(tmp_path / "none")), "/admin/keys/rotate")

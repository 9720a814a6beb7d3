"""Commands of operators reach a running server by its operators' listener, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from openred_central.cli.command import CommandFailed
from openred_central.cli.operating import operate
from openred_central.settings.config import ConfigError, Configuration
from tests.support.serving import closed_port

from .test_health import answering, response


def test_the_listener_and_its_secret_have_to_be_known(tmp_path: Path) -> None:
    database = str(tmp_path / "openred.db")
    with pytest.raises(ConfigError, match="--admin-port or --admin-socket"):
        operate(Configuration(database=database, admin_port=None), "/admin/keys/rotate")
    with pytest.raises(ConfigError, match="--admin-secret-file"):
        operate(Configuration(database="memory:"), "/admin/keys/rotate")
    with pytest.raises(CommandFailed, match="admin-secret cannot be read"):
        operate(Configuration(database=database), "/admin/keys/rotate")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_an_answer_of_another_program_is_reported(tmp_path: Path, status: str) -> None:
    database = str(tmp_path / "openred.db")
    (tmp_path / "openred.db.admin-secret").write_text("s" * 43)
    with answering(response(status, b"[]")) as (url, _):
        port = int(url.rpartition(":")[2])
        with pytest.raises(CommandFailed, match=r"no JSON object; is the server running"):
            operate(Configuration(database=database, admin_port=port), "/admin/keys/rotate")


def test_an_unreachable_operators_listener_is_reported(tmp_path: Path) -> None:
    database, port = str(tmp_path / "openred.db"), closed_port()
    (tmp_path / "openred.db.admin-secret").write_text("s" * 43)
    with pytest.raises(CommandFailed, match=f"127.0.0.1:{port}.*is the server running"):
        operate(Configuration(database=database, admin_port=port), "/admin/keys/rotate")
    with pytest.raises(CommandFailed, match=r"none: No such file or directory; is the server running"):
        operate(Configuration(database=database, admin_socket=str(tmp_path / "none")), "/admin/keys/rotate")
    with pytest.raises(CommandFailed, match=r"'http://a b:8001' is no address.*is the server running"):
        operate(Configuration(database=database, admin_host="a b"), "/admin/keys/rotate")

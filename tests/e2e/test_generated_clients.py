"""Programs that make clients of the API's description get all of it, and what they make works."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import orjson
import pytest

from openred_central import __version__
from openred_central.api.description.openapi import describe
from tests.support.running import ROOT, Start

from ..support.parts import needs_module, needs_program

PACKAGE = "generated_openred_client"
# Where `.ci/run` installs them; a person may as well: npm install --prefix .node PACKAGES
NODE_PROGRAMS = ROOT / ".node" / "node_modules" / ".bin"
TYPESCRIPT = """
import type { components, operations, paths } from "./api";

type Body = NonNullable<paths["/register"]["post"]["requestBody"]>["content"]["application/json"];
const body: Body = { node_id: "a", address: "192.0.2.1", port: 7000, public_key: "k", services: ["storage"] };
const older: Body = { node_id: "a", ip_address: "192.0.2.1", port: 7000, public_key: "k" };
type Found = operations["discover"]["responses"][200]["content"]["application/json"];
function firstPort(found: Found): number { return found.nodes[0]?.port ?? 0; }
type Refused = operations["register"]["responses"][409]["content"]["application/problem+json"];
function status(refused: Refused): 409 { return refused.status; }
type Event = components["schemas"]["Node"]["state"];
// @ts-expect-error A body without a key is none.
const wrong: Body = { node_id: "a", address: "192.0.2.1", port: 7000 };
console.log(body, older, wrong, firstPort, status, "active" satisfies Event);
"""


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("description") / "openapi.json"
    path.write_bytes(orjson.dumps(describe(__version__)))
    return path


@pytest.fixture(scope="module")
def generated(description: Path) -> Iterator[ModuleType]:
    """Yield the package that `openapi-python-client` makes of the description, without a complaint."""
    needs_module("openapi_python_client")
    folder = description.parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", description, "--output-path", folder / PACKAGE),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    complaints = [line for line in done.stdout.splitlines() if "omitted" in line or "WARNING" in line]
    assert complaints == []
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(PACKAGE)
    finally:
        sys.path.remove(str(folder))


def test_a_generated_python_client_registers_and_discovers(generated: ModuleType, start: Start) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")
    register, discover, get_node, heartbeat = (
        importlib.import_module(f"{PACKAGE}.api.nodes.{name}")
        for name in ("register", "discover", "get_node", "heartbeat")
    )
    server = start("--database", "memory:")
    with generated.Client(base_url=f"http://127.0.0.1:{server.address[1]}") as client:
        body = models.RegisterBodyType0(
            node_id="alice", address="192.0.2.1", port=7000, public_key="alices-key", services=["storage"]
        )
        registered = register.sync(client=client, body=body)
        assert isinstance(registered, models.Registered)
        assert registered.node_id == "alice"
        body.port = 1
        taken = register.sync_detailed(client=client, body=body)
        assert taken.status_code == 409
        assert isinstance(taken.parsed, models.RegisterResponse409)
        assert taken.parsed.error == "node_id_taken"
        assert heartbeat.sync(client=client, node_id="alice").node_id == "alice"
        found = discover.sync(client=client, services="storage")
        assert [node.node_id for node in found.nodes] == ["alice"]
        assert isinstance(get_node.sync(client=client, node_id="nobody"), models.GetNodeResponse404)


def test_generated_typescript_types_compile(description: Path, tmp_path: Path) -> None:
    make, compile_types = (needs_program(name, path=NODE_PROGRAMS) for name in ("openapi-typescript", "tsc"))
    (tmp_path / "use.ts").write_text(TYPESCRIPT, encoding="utf-8")
    for command in (
        [make, description, "--output", tmp_path / "api.ts"],
        [compile_types, "--noEmit", "--strict", "--target", "es2022", tmp_path / "use.ts"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

"""The container image, as far as it can be had without an engine: its steps are run, then what they made.

Covered: every instruction of the Dockerfile, the build context, the environment without its source tree, the
entry point with its command, the health check, the end by the stop signal, and that nothing but ``/data`` is
written. Not covered: the base image and its Python (the one below this environment takes its place), the
network of a build (packages come from this environment), the mounts of a container, and, where the tests are
not run by root, or user 10001 cannot reach that Python, its user.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.project import ROOT, ignored
from tests.support.running import WAIT_S_MAX, Client, until

from .image import Image, is_ignored, steps, wheels_of

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERIGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8")
LOCK = ".ci/image-requirements.txt"
READY = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # Not in a folder of pytest's: another user has to come in.
    scratch = Path(tempfile.mkdtemp(prefix="openred-image-"))
    scratch.chmod(0o755)
    try:
        context, wheels = scratch / "context", scratch / "wheels"
        wheels.mkdir()
        for path in context_files():
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, context / path)
        wheels_of(["uvloop", "orjson", "cryptography", "asyncpg", "setuptools"], wheels)
        # The packed wheels have hashes of their own.
        (context / LOCK).write_text(pins(wheels))
        yield Image(DOCKERFILE, context, scratch / "root", wheels)
    finally:
        shutil.rmtree(scratch)


def pins(wheels: Path) -> str:
    """Return the requirements that pin these wheels, as the lock pins those of the package index."""
    lines = []
    for wheel in wheels.iterdir():
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def context_files() -> list[str]:
    """Return the files that an engine would be sent; what git ignores is not even looked at."""
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name != ".git" and not ignored(name, patterns)]
        paths = [(Path(folder) / name).relative_to(ROOT).as_posix() for name in names]
        found += [path for path in paths if not is_ignored(path, DOCKERIGNORE)]
    return found


def listing(image: Image) -> dict[str, tuple[int, int]]:
    """Return every file of the root but those in /data, with size and time of its last change."""
    data = image.root / "data"
    files = [path for path in image.root.rglob("*") if data not in (path, *path.parents)]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}


def as_its_user(image: Image) -> dict[str, Any]:
    """Return the options that run a process as the image's user, or none where this machine cannot do so."""
    number = int(image.words("USER")[0].partition(":")[0])
    user = {"user": number, "group": number, "extra_groups": []}
    python = image.root / "opt/openred/bin/python"
    try:
        tried = subprocess.run([python, "-c", ""], cwd=image.folder, env={}, check=False, **user)
    except PermissionError:
        return {}
    return user if tried.returncode == 0 else {}


def test_the_context_holds_the_program_and_nothing_else() -> None:
    top = {path.partition("/")[0] for path in context_files()}
    assert top == {"openred_central", "pyproject.toml", "LICENSE", ".ci"}
    assert [path for path in context_files() if path.startswith(".ci/")] == [LOCK]
    for path in (
        *(".git/config", ".venv/bin/python", "data/openred.db", "tests/conftest.py", ".env"),
        *("openred_central/__pycache__/cli.cpython-312.pyc", "openred_central/api/__pycache__/nodes.pyc"),
    ):
        assert is_ignored(path, DOCKERIGNORE), path


def test_the_base_is_pinned_and_both_stages_share_it() -> None:
    bases = [step.words[0] for step in steps(DOCKERFILE) if step.instruction == "FROM"]
    assert bases == ["${BASE}", "${BASE}"]
    (default,) = [step.words[0] for step in steps(DOCKERFILE) if step.instruction == "ARG"]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-[a-z]+", default)


def test_the_image_has_labels() -> None:
    (labels,) = [
        dict(word.split("=", 1) for word in step.words)
        for step in steps(DOCKERFILE)
        if step.instruction == "LABEL"
    ]
    prefix = "org.opencontainers.image."
    assert labels.keys() == {prefix + name for name in ("title", "description", "licenses")}
    assert labels[prefix + "licenses"] == PYPROJECT["project"]["license"]


def test_processes_run_without_shell_and_root() -> None:
    by_name = {step.instruction: step for step in steps(DOCKERFILE)}
    for name in ("ENTRYPOINT", "CMD"):
        assert by_name[name].value.startswith("[")
    assert by_name["HEALTHCHECK"].value.startswith("CMD [")
    user, group = map(int, by_name["USER"].value.split(":"))
    assert user > 0
    assert group > 0
    assert by_name["VOLUME"].words == ["/data"]
    assert by_name["STOPSIGNAL"].value == "SIGTERM"


def test_dependencies_are_locked_and_installed_before_the_code() -> None:
    """A change of the code leaves the layer with the dependencies as it is."""
    names = [f"{step.instruction} {step.value}" for step in steps(DOCKERFILE)]
    (installed,) = [place for place, name in enumerate(names) if "--require-hashes" in name]
    assert [name for name in names[:installed] if name.startswith("COPY")] == [f"COPY {LOCK} ./"]
    locked = dict(
        re.findall(r"^([\w-]+)==([\w.]+) \\\n    --hash=sha256:", (ROOT / LOCK).read_text(), re.MULTILINE)
    )
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *PYPROJECT["build-system"]["requires"]]
    # The one image serves from a file and from PostgreSQL.
    wanted += project["optional-dependencies"]["postgres"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(locked[requirement.name]), requirement


def test_the_image_serves_and_writes_only_its_data(image: Image) -> None:
    user = as_its_user(image)
    environment = {
        **image.environment,
        # As `docker run --env` would; nobody outside of this machine is served.
        "OPENRED_HOST": "127.0.0.1",
        "OPENRED_PORT": "0",
    }
    assert not (image.root / "src").exists()
    assert not (image.root / "opt/openred/bin/pip").exists()
    before = listing(image)
    program = [*image.words("ENTRYPOINT"), *image.words("CMD")]
    with tempfile.TemporaryFile("w+b") as log:
        server = subprocess.Popen(
            program, cwd=image.folder, env=environment, stdout=log, stderr=log, umask=0o022, **user
        )

        def text() -> str:
            log.seek(0)
            return log.read().decode()

        try:
            found = until(lambda: READY.search(text()) or server.poll() is not None, "the image to serve")
            assert server.poll() is None, text()
            port = found[1]
            with Client(("127.0.0.1", int(port))) as client:
                assert client.register("alice").document["durable"] is True
            assert check_health(image, environment | {"OPENRED_PORT": port}, user) == (
                0,
                f"http://127.0.0.1:{port} is live\n",
            )
            server.send_signal(signal.SIGTERM)
            assert server.wait(WAIT_S_MAX) == 0, text()
        finally:
            server.kill()
            server.wait(WAIT_S_MAX)
    assert check_health(image, environment | {"OPENRED_PORT": port}, user)[0] == 1
    assert listing(image) == before
    assert (image.root / "data/openred.db").stat().st_size > 0


def check_health(image: Image, environment: dict[str, str], user: dict[str, Any]) -> tuple[int, str]:
    """Return the exit code and the output of the health check."""
    done = subprocess.run(
        image.words("HEALTHCHECK"),
        cwd=image.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **user,
    )
    return done.returncode, done.stdout

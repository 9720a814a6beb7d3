"""The package holds all of the source, and what the program reads; none of its links leads nowhere."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from tests.support.project import ROOT, ignored

BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""
# Files of a repository alone, which no distribution needs.
NOT_PACKAGED = {".git"}


def project_files(root: Path) -> set[str]:
    """Return the paths of all files in `root` but those that ``.gitignore`` keeps out."""
    patterns = (root / ".gitignore").read_text(encoding="utf-8").splitlines()
    found = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_PACKAGED and not ignored(name, patterns)]
        kept = [name for name in names if name not in NOT_PACKAGED and not ignored(name, patterns)]
        found |= {(Path(folder) / name).relative_to(root).as_posix() for name in kept}
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the two packages, made of a copy of the project without a network."""
    folder = tmp_path_factory.mktemp("packages")
    project = tmp_path_factory.mktemp("project")
    for path in project_files(ROOT):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, project / path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BUILD, folder],
        cwd=project,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_source_distribution_holds_every_file_of_the_project(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert project_files(ROOT) - packed == set()


def test_tests_run_from_the_source_distribution(built: Path, tmp_path: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "tests/test_vectors.py",
            "tests/storage/sqlite/test_lock.py",
        ],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_its_data_only(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = {path for path in project_files(ROOT) if path.startswith("openred_central/")}
    # Documents, and the ready files beside them, are read before anything is installed.
    documents = ("openred_central/docs/", "openred_central/README.md")
    expected = {path for path in package if not path.startswith(documents) and not path.endswith(".png")}
    assert names == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


def test_the_metadata_are_complete(metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    classifiers = metadata.get_all("Classifier") or []
    assert "Programming Language :: Python :: 3.11" in classifiers
    assert not any(classifier.startswith("License ::") for classifier in classifiers)
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_description_has_no_relative_links(metadata: Message) -> None:
    description = str(metadata.get_payload())
    assert "directory server" in description
    links = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", description)
    assert [link for link in links if not "".join(link).startswith("https://")] == []

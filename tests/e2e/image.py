"""Builds what the Dockerfile describes without an engine: its own steps, in their order, in a scratch folder.

The folder stands for the root of the image; the few absolute paths that the Dockerfile names lie in it. Both
stages use it: where the second begins, only what it copies from the first stays, at the same path. Packages
come from this environment: its distributions are packed into wheels again, so that no network is needed.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import translate
from pathlib import Path
from typing import Final, NamedTuple

import orjson

STEP_S_MAX: Final = 120
# The absolute paths of the image that its files name.
PATHS: Final = re.compile(r"(?<![\w./-])/(?=(?:opt/openred|src|data)\b)")
# Files of an installed distribution that its wheel lacks.
INSTALLED: Final = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


class Step(NamedTuple):
    """One instruction of a Dockerfile: its flags by name, and what stands behind them."""

    instruction: str
    flags: dict[str, str]
    value: str

    @property
    def words(self) -> list[str]:
        """The value as a list: of its exec form, or of its words."""
        if self.value.startswith("["):
            words = orjson.loads(self.value)
            assert isinstance(words, list)
            return words
        return shlex.split(self.value)


def steps(dockerfile: str) -> Iterator[Step]:
    """Yield the instructions of a Dockerfile, in their order."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, _, rest = line.strip().partition(" ")
        flags = {}
        while match := re.match(r"\s*--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        yield Step(instruction, flags, rest.strip())


def is_ignored(path: str, dockerignore: str) -> bool:
    """Return whether the file at `path` stays out of the build context; the last matching pattern decides."""
    ignored = False
    for line in dockerignore.splitlines():
        pattern, exception = line.strip().removeprefix("!"), line.strip().startswith("!")
        if not pattern or pattern.startswith("#"):
            continue
        # A pattern that matches a folder matches all in it; `**` is any number of folders, also none.
        parents = [path, *(str(parent) for parent in Path(path).parents if parent != Path("."))]
        if any(_matches(one, pattern) for one in parents):
            ignored = not exception
    return ignored


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        pattern, path = pattern[3:], path.rpartition("/")[2]
    elif "**" not in pattern and path.count("/") != pattern.count("/"):
        return False
    return re.match(translate(pattern), path) is not None


def wheels_of(names: Iterable[str], folder: Path) -> None:
    """Pack the installed distributions `names`, and what they need, into wheels in `folder`."""
    waiting, done = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            # Needed elsewhere, on another system or an older Python.
            continue
        _pack(distribution, folder)
        needed = [line for line in distribution.requires or [] if "extra ==" not in line]
        waiting += [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in needed]


def _pack(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    files = distribution.files or []
    (information,) = {file.parts[0] for file in files if file.parts[0].endswith(".dist-info")}
    tag = re.search(r"^Tag: (\S+)$", distribution.read_text("WHEEL") or "", re.MULTILINE)
    assert tag is not None, information
    packed = []
    with zipfile.ZipFile(folder / f"{information.removesuffix('.dist-info')}-{tag[1]}.whl", "w") as wheel:
        for file in files:
            if ".." in file.parts or file.suffix == ".pyc" or file.name in INSTALLED:
                continue
            wheel.write(str(file.locate()), file.as_posix())
            packed.append(f"{file.as_posix()},,\n")
        wheel.writestr(f"{information}/RECORD", "".join(packed) + f"{information}/RECORD,,\n")


class Image:
    """The image that `dockerfile` makes of the files in `context`, with the folder `root` as its root.

    `environment` is that of its processes, `folder` the one they start in; `wheels` has packages to install.
    """

    def __init__(self, dockerfile: str, context: Path, root: Path, wheels: Path) -> None:
        self.root = root
        self._context = context
        self.steps = list(steps(dockerfile))
        self.environment: dict[str, str] = {}
        self.folder = root
        self._wheels = wheels
        for step in self.steps:
            getattr(self, f"_{step.instruction.lower()}", self._note)(step)

    def here(self, text: str) -> str:
        """`text` with the paths of the image where they really lie."""
        return PATHS.sub(f"{self.root}/", text)

    def words(self, instruction: str) -> list[str]:
        """Return the words of the last of these instructions, with paths where they lie."""
        last = [step for step in self.steps if step.instruction == instruction][-1]
        # A health check is a command behind its flags.
        words = last._replace(value=last.value.removeprefix("CMD ")).words
        return [self.here(word) for word in words]

    def _note(self, step: Step) -> None:
        """Say nothing: what only a running container shows is asked for by `words`."""

    def _from(self, step: Step) -> None:
        """Begin a stage on an empty root. The result of the last one lies beside it, for COPY --from."""
        if self.root.exists():
            self.root.rename(self.root.with_name("built"))
        self.root.mkdir()
        python = self.root / "python"
        python.mkdir()
        # A stand-in for the image's own: the Python below this environment.
        (python / "python").write_text(f'#!/bin/sh\nexec "{os.path.realpath(sys.executable)}" "$@"\n')
        (python / "python").chmod(0o755)
        self.folder = self.root

    def _workdir(self, step: Step) -> None:
        self.folder = Path(self.here(step.value))
        self.folder.mkdir(parents=True, exist_ok=True)

    def _env(self, step: Step) -> None:
        self.environment |= dict(word.split("=", 1) for word in shlex.split(self.here(step.value)))

    def _copy(self, step: Step) -> None:
        *sources, target = step.words
        folder = Path(self.here(target)) if target.startswith("/") else self.folder / target
        for source in sources:
            if "from" in step.flags:
                folder.parent.mkdir(parents=True, exist_ok=True)
                (self.root.with_name("built") / source.lstrip("/")).rename(folder)
            elif (self._context / source).is_dir():
                shutil.copytree(self._context / source, folder, dirs_exist_ok=True)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self._context / source, folder)

    def _run(self, step: Step) -> None:
        command = self.here(step.value)
        if os.geteuid() != 0:
            # Files can be given only to oneself.
            command = command.replace("10001", str(os.geteuid()))
        environment = {
            "PATH": f"{self.root / 'python'}:/usr/bin:/bin",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self._wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            **self.environment,
        }
        done = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=STEP_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{step.value}\n{done.stdout}{done.stderr}"

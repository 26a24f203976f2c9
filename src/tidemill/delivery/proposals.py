"""Proposes a lock with newer versions: uv resolves them from the requirements of Tidemill and of the project."""

import importlib.metadata
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tidemill.delivery.upgrades import EnvironmentLock
from tidemill.errors import InputError, NotFound, TidemillError
from tidemill.host.uv import find_uv

UV_LOCK = "uv.lock"
_PYPROJECT = "pyproject.toml"
_TIMEOUT_SECONDS = 300
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(\[[^\]]*\])?==([^\s;\\]+)")


class ProjectLock:
    """The lock of a project's environment, in a `uv.lock` or a file of pinned requirements.

    Raises
    ------
    InputError
        if the project has no lock.
    """

    def __init__(self, files: Mapping[str, bytes], name: str) -> None:
        if UV_LOCK not in files and name not in files:
            raise InputError(f"the project has no {name} and no {UV_LOCK}", "write one: `tidemill ci lock`")
        self._files = {part: files[part] for part in (UV_LOCK, _PYPROJECT, name) if part in files}
        self._name = name
        self.is_uv = UV_LOCK in files

    @property
    def file(self) -> str:
        """Return the name of the file with the lock."""
        return UV_LOCK if self.is_uv else self._name

    def read(self, python: str = "") -> EnvironmentLock:
        """Return the packages of the lock."""
        if not self.is_uv:
            return EnvironmentLock(packages=read_pins(self._files[self._name].decode(errors="replace")), python=python)
        with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
            self._write(Path(folder))
            return EnvironmentLock(packages=self._export(Path(folder)), python=python)

    def propose(self, package: str = "", python: str = "") -> tuple[EnvironmentLock, bytes]:
        """Return the lock with the newest versions that fit together, of one package or of all, and its file.

        Raises
        ------
        NotFound
            if the lock does not have the package.
        TidemillError
            if uv cannot resolve the lock, or is not installed.
        """
        name = _normalize(package)
        if name and name not in self.read().versions:
            raise NotFound(f"{self.file} has no package {package!r}", "use the name of a package in it")
        with tempfile.TemporaryDirectory(prefix="tidemill-") as temporary:
            folder = Path(temporary)
            self._write(folder)
            if self.is_uv:
                chosen = ("--upgrade-package", name) if name else ("--upgrade",)
                _run_uv(folder, "lock", "--quiet", "--project", str(folder), *chosen)
                return EnvironmentLock(packages=self._export(folder), python=python), (folder / UV_LOCK).read_bytes()
            return self._compile(folder, name, python)

    def _compile(self, folder: Path, name: str, python: str) -> tuple[EnvironmentLock, bytes]:
        text = self._files[self._name].decode(errors="replace")
        pins, needed = read_pins(text), importlib.metadata.requires("tidemill") or []
        requirements = [line for line in needed if "extra ==" not in line]
        (folder / "in.txt").write_text("\n".join([*requirements, *(pin.partition("==")[0] for pin in pins)]))
        (folder / "out.txt").write_text("\n".join(pins))
        chosen = ["--upgrade-package", name] if name else ["--upgrade"]
        chosen += ["--python", python] if python else []
        _run_uv(
            folder,
            *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-python-downloads", *chosen),
            *("in.txt", "-o", "out.txt"),
        )
        packages = read_pins((folder / "out.txt").read_text())
        header = [line for line in text.splitlines() if line.startswith("#")]
        return EnvironmentLock(packages=packages, python=python), "\n".join([*header, *packages, ""]).encode()

    def _write(self, folder: Path) -> None:
        for name, content in self._files.items():
            (folder / name).write_bytes(content)

    def _export(self, folder: Path) -> tuple[str, ...]:
        _run_uv(
            folder,
            *("export", "--frozen", "--no-emit-project", "--no-hashes", "--no-dev", "--quiet"),
            *("--project", str(folder), "-o", "export.txt"),
        )
        return read_pins((folder / "export.txt").read_text())


def read_pins(text: str) -> tuple[str, ...]:
    """Return the lines `name==version` of a file of requirements, without Tidemill itself.

    >>> read_pins("# about\\nNumPy==2.0 ; python_version > '3'\\ntidemill==0.1.0\\n")
    ('numpy==2.0',)
    """
    found = (_PIN.match(line.strip()) for line in text.splitlines())
    pins = {_normalize(match[1]): match[3] for match in found if match}
    return tuple(f"{name}=={version}" for name, version in sorted(pins.items()) if name != "tidemill")


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run_uv(folder: Path, *arguments: str) -> None:
    uv = find_uv()
    if uv is None:
        raise TidemillError("uv is not installed", "pip install uv")
    try:
        process = subprocess.run(
            (uv, *arguments), cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TidemillError(
            f"uv {arguments[0]} did not end in {_TIMEOUT_SECONDS} s", "check the package index"
        ) from None
    if process.returncode:
        message = " ".join(line.strip(" ×╰─▶│├╭") for line in process.stderr.splitlines()[-8:] if line.strip())
        raise TidemillError(
            f"no newer lock can be resolved: {message or arguments[0]}", "check the package index and the requirements"
        )

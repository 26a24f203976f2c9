"""Runtimes: the environment of a build's lock, and the files of its wheel, each made once and kept."""

import contextlib
import hashlib
import importlib.metadata
import io
import tempfile
import zipfile
from pathlib import Path

from tidemill.core.build import Build
from tidemill.delivery.target import Runtime
from tidemill.errors import Corrupt, TidemillError
from tidemill.host.uv import build_environment
from tidemill.project.configuration import FILE


def list_requirements(build: Build) -> list[str]:
    """Return the packages of a build's environment as `name==version`, with Tidemill itself."""
    packages = {"tidemill": importlib.metadata.version("tidemill")} | build.packages
    return [f"{name}=={version}" for name, version in sorted(packages.items())]


def prepare_environment(build: Build, folder: Path) -> Path:
    """Return the interpreter of an environment with the packages of a build's lock; `folder` keeps environments.

    Raises
    ------
    TidemillError
        if a package cannot be installed.
    """
    lines = list_requirements(build)
    target = folder / hashlib.sha256("\n".join((build.python, *lines)).encode()).hexdigest()[:32]
    interpreter = target / "bin" / "python"
    if interpreter.exists():
        return interpreter
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
        build_environment(build.python, lines, Path(draft) / "environment")
        with contextlib.suppress(OSError):  # another process built it first
            (Path(draft) / "environment").rename(target)
    return interpreter


def unpack_project(wheel: bytes, folder: Path) -> Path:
    """Return the folder of the project in a wheel, unpacked once below `folder`.

    Raises
    ------
    Corrupt
        if the file is no wheel of a project.
    """
    target = folder / hashlib.sha256(wheel).hexdigest()[:32]
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
            files = Path(draft) / "files"
            try:
                with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
                    for name in archive.namelist():
                        if not (files / name).resolve().is_relative_to(files.resolve()):
                            raise zipfile.BadZipFile(f"{name} is outside")
                    archive.extractall(files)
            except zipfile.BadZipFile as broken:
                raise Corrupt(f"the wheel of the build cannot be read: {broken}", "build the commit again") from None
            with contextlib.suppress(OSError):
                files.rename(target)
    found = sorted(target.glob(f"*/{FILE}"))
    if not found:
        raise Corrupt(f"the wheel of the build contains no {FILE}", "build the commit again")
    return found[0].parent


def prepare_runtime(build: Build, wheel: bytes, folder: Path) -> Runtime:
    """Return the runtime of a build.

    Raises
    ------
    TidemillError
        if its environment cannot be built, or its wheel is not one.
    """
    if build.state != "passed":
        raise TidemillError(f"{build.label} has not passed CI", "deploy a passed build")
    return Runtime(
        python=prepare_environment(build, folder / "environments"), project=unpack_project(wheel, folder / "projects")
    )

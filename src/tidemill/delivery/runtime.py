"""Runtimes: the environment of a build's lock, and the files of its wheel, each made once and kept."""

import contextlib
import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

from msgspec.structs import replace

from tidemill.core.build import Build
from tidemill.delivery.target import Runtime
from tidemill.delivery.wheel import write_running_wheel
from tidemill.errors import Corrupt, TidemillError
from tidemill.host.uv import install_environment
from tidemill.project.configuration import FILE

ReadBlob = Callable[[str], bytes]


def prepare_runtime(build: Build, read_blob: ReadBlob, folder: Path) -> Runtime:
    """Return the runtime of a build; `folder` keeps environments and projects.

    Raises
    ------
    TidemillError
        if its environment cannot be built, or its wheel is not one.
    """
    if build.state != "passed":
        raise TidemillError(f"{build.label} has not passed CI", "deploy a passed build")
    wheel = read_blob(build.artifacts["wheel"])
    tidemill = _read_tidemill(build, read_blob)
    return Runtime(
        python=_prepare_environment(build, list_requirements(wheel), tidemill, folder / "environments"),
        project=_unpack_project(wheel, folder / "projects"),
    )


def list_requirements(wheel: bytes) -> list[str]:
    """Return the packages that a wheel requires, as `name==version`.

    Raises
    ------
    Corrupt
        if the file is no wheel.
    """
    with _open(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        texts = [archive.read(name).decode() for name in names]
    return sorted(line for text in texts for line in Parser().parsestr(text).get_all("Requires-Dist") or ())


def name_wheel(wheel: bytes) -> str:
    """Return the file name of a pure wheel, which installers demand.

    Raises
    ------
    Corrupt
        if the file is no wheel.
    """
    with _open(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    return f"{min(folders, default='').removesuffix('.dist-info')}-py3-none-any.whl"


def select_required(build: Build, wheel: bytes) -> Build:
    """Return a build with only the packages that its wheel requires: those of its tests are not deployed."""
    pins = dict(line.split("==", 1) for line in list_requirements(wheel) if "==" in line)
    return replace(build, packages=pins)


def _read_tidemill(build: Build, read_blob: ReadBlob) -> tuple[str, bytes]:
    """Return the name and the bytes of the wheel of the Tidemill that tested a build; earlier builds have none."""
    if "tidemill" not in build.artifacts:
        print(f"{build.label} has no wheel of the Tidemill that tested it: that of this machine is installed")
        return write_running_wheel()
    wheel = read_blob(build.artifacts["tidemill"])
    return name_wheel(wheel), wheel


def _prepare_environment(build: Build, requirements: list[str], tidemill: tuple[str, bytes], folder: Path) -> Path:
    name, platform = tidemill
    parts = (build.python, *requirements, hashlib.sha256(platform).hexdigest())
    target = folder / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    interpreter = target / "bin" / "python"
    if interpreter.exists():
        return interpreter
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
        wheel = Path(draft) / name
        wheel.write_bytes(platform)
        install_environment(build.python, requirements, [wheel], Path(draft) / "environment")
        with contextlib.suppress(OSError):  # another process built it first
            (Path(draft) / "environment").rename(target)
    return interpreter


def _unpack_project(wheel: bytes, folder: Path) -> Path:
    target = folder / hashlib.sha256(wheel).hexdigest()[:32]
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
            files = Path(draft) / "files"
            with _open(wheel) as archive:
                archive.extractall(files)
            with contextlib.suppress(OSError):
                files.rename(target)
    found = sorted(target.glob(f"*/{FILE}"))
    if not found:
        raise Corrupt(f"the wheel of the build contains no {FILE}", "build the commit again")
    return found[0].parent


def _open(wheel: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(wheel))
    except zipfile.BadZipFile as broken:
        raise Corrupt(f"the wheel of the build cannot be read: {broken}", "build the commit again") from None

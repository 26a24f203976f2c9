"""uv: builds an environment with exactly the recorded packages."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import msgspec

from tidemill.errors import TidemillError

_SHOWN_LINES = 4


def compare_packages(recorded: list[str], present: list[str]) -> dict[str, tuple[str, str]]:
    """Return the packages whose versions differ: name to (recorded, present), "" for a package that is missing."""
    before, now = (dict(line.split("==", 1) for line in lines if "==" in line) for lines in (recorded, present))
    return {
        name: (before.get(name, ""), now.get(name, ""))
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }


def find_uv() -> str | None:
    """Return the path of uv: on the search path, or beside this Python; None if it is not installed."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if beside.exists() else None)


def build_environment(python: str, packages: list[str], folder: Path) -> Path:
    """Create a virtual environment in `folder` and return the path of its interpreter.

    Tidemill itself is installed from the source of the running version, unless `packages` names another version.

    Raises
    ------
    TidemillError
        if uv is not installed, or a package cannot be installed.
    """
    uv = find_uv()
    if uv is None:
        raise TidemillError("uv is not installed", "pip install uv, or use the present environment: --here")
    _run(uv, "venv", "--quiet", "--python", python, str(folder))
    interpreter = folder / "bin" / "python"
    running = f"tidemill=={importlib.metadata.version('tidemill')}"
    source = _find_source()
    requirements = folder / "packages.txt"
    requirements.write_text("\n".join(line for line in packages if line != running or source is None))
    _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", str(interpreter), "-r", str(requirements))
    if running in packages and source is not None:
        _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", str(interpreter), str(source))
    return interpreter


def install_environment(
    python: str, requirements: list[str], wheels: list[Path], folder: Path, *, copies: bool = False
) -> None:
    """Create a virtual environment in `folder` with exactly these packages and wheels; it can be moved afterwards.

    With `copies`, its files are not links to those in the cache of uv.

    Raises
    ------
    TidemillError
        if uv is not installed, or a package cannot be installed.
    """
    uv = find_uv()
    if uv is None:
        raise TidemillError("uv is not installed", "pip install uv")
    _run(uv, "venv", "--quiet", "--relocatable", "--no-python-downloads", "--python", python, str(folder))
    listed = folder / "packages.txt"
    listed.write_text("\n".join(requirements))
    target = ("--python", str(folder / "bin" / "python"))
    linking = ("--link-mode", "copy") if copies else ()
    _run(uv, "pip", "install", "--quiet", "--no-deps", *linking, *target, "-r", str(listed), *map(str, wheels))


def check_environment(interpreter: Path) -> None:
    """Check that the packages of an environment fit together; raise `TidemillError` with the first conflict."""
    uv = find_uv()
    assert uv is not None
    _run(uv, "pip", "check", "--quiet", "--python", str(interpreter))


def _find_source() -> Path | None:
    """Return the folder from which Tidemill was installed, or None if it was installed from an index."""
    record = importlib.metadata.distribution("tidemill").read_text("direct_url.json")
    if record is None:
        return None
    return Path(urlparse(msgspec.json.decode(record)["url"]).path)


def _run(*command: str) -> None:
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        text = " ".join(line.strip() for line in process.stderr.strip().splitlines()[:_SHOWN_LINES])
        raise TidemillError(
            f"the recorded environment cannot be built: {text or command[1]}",
            "check that its packages can be installed on this machine, or use the present environment: --here",
        )

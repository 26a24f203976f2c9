"""uv: builds an environment with exactly the packages that another one had."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import msgspec

from tidemill.errors import TidemillError


def differences(recorded: list[str], present: list[str]) -> dict[str, tuple[str, str]]:
    """The packages whose versions differ: name to (recorded, present); empty for one that is not there."""
    was, now = (dict(line.split("==", 1) for line in lines if "==" in line) for lines in (recorded, present))
    return {
        name: (was.get(name, ""), now.get(name, ""))
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    }


def build(python: str, packages: list[str], folder: Path) -> Path:
    """Make a virtual environment in `folder`; the path of its interpreter.

    Tidemill itself is taken from where it runs now, unless another version of it is asked for.

    Raises
    ------
    TidemillError
        where uv is not there, or a package cannot be had.
    """
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if not Path(uv).exists():
        raise TidemillError("uv is not installed", "pip install uv, or use the present environment: --here")
    _do(uv, "venv", "--quiet", "--python", python, str(folder))
    interpreter = folder / "bin" / "python"
    own = f"tidemill=={importlib.metadata.version('tidemill')}"
    source = _source()
    wanted = folder / "packages.txt"
    wanted.write_text("\n".join(one for one in packages if one != own or source is None))
    _do(uv, "pip", "install", "--quiet", "--no-deps", "--python", str(interpreter), "-r", str(wanted))
    if own in packages and source is not None:
        _do(uv, "pip", "install", "--quiet", "--no-deps", "--python", str(interpreter), str(source))
    return interpreter


def _source() -> Path | None:
    """The folder from which Tidemill was installed, where it was not from an index."""
    told = importlib.metadata.distribution("tidemill").read_text("direct_url.json")
    if told is None:
        return None
    return Path(urlparse(msgspec.json.decode(told)["url"]).path)


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise TidemillError(
            f"the environment of that run cannot be built: {said[0] if said else words[1]}",
            "see that its packages can be had here, or use the present environment: --here",
        )

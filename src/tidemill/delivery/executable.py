"""The executable of a build: one file that runs the commands of Tidemill on the project, such as `./flights.pyz up`."""

from collections.abc import Iterable, Mapping

from tidemill.delivery.archive import read_archive, write_archive

_LAUNCHER = '''\
"""Runs the commands of Tidemill on the project in this file."""

import hashlib
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

PACKAGE, PROJECT, TIDEMILL = {package!r}, {project!r}, {tidemill!r}
PACKAGES = {packages!r}


def is_installed():
    from importlib.metadata import PackageNotFoundError, version

    try:
        return all(version(name) == expected for name, expected in PACKAGES.items())
    except PackageNotFoundError:
        return False


def unpack(file, folder):
    """Unpack this file once; other processes may do the same at the same time."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        with zipfile.ZipFile(file) as archive:
            archive.extractall(draft)
        try:
            draft.rename(folder)
        except OSError:
            pass
    return folder


def make_environment(folder, files):
    """Install the packages of the lock; needs access to a package index once."""
    python = folder / "bin" / "python"
    if python.exists():
        return python
    sys.stderr.write(f"{{PROJECT}}: installing {{len(PACKAGES)}} packages into {{folder}} (once)\\n")
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    venv.create(draft, with_pip=True, symlinks=True)
    install = [str(draft / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    lock, wheel = str(files / "requirements.txt"), str(files / TIDEMILL)
    status = subprocess.call([*install, "-r", lock, wheel])
    if status:
        sys.exit(status)
    try:
        draft.rename(folder)
    except OSError:
        pass
    return python


def main():
    file = Path(__file__).resolve().parent if Path(__file__).parent.is_file() else Path(sys.argv[0]).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill-executables"
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:24]
    files = unpack(file, cache / key)
    os.environ["TIDEMILL_PROJECT"] = str(files / PACKAGE)
    os.environ.setdefault("TIDEMILL_WORKSPACE", str(Path.cwd() / ".tidemill"))
    if not is_installed():
        python = str(make_environment(cache / f"{{key}}-environment", files))
        os.execv(python, [python, "-m", "tidemill", *sys.argv[1:]])
    from tidemill.cli.main import main as run

    sys.exit(run(sys.argv[1:]))


main()
'''
_SHEBANG = b"#!/usr/bin/env python3\n"


def write_executable(
    project: str, wheel: bytes, tidemill: tuple[str, bytes], lock: Iterable[str], packages: Mapping[str, str]
) -> bytes:
    """Return a zipapp with the files of a project's wheel, a wheel of Tidemill and the lock; equal inputs, equal bytes.

    It runs in the present environment if that has exactly the packages of the lock; otherwise it installs them once.
    Pinned packages are not part of the file, because libraries with binary modules cannot be imported from it.
    """
    content = read_archive(wheel)
    package = next(name.split("/")[0] for name in sorted(content) if name.endswith("/tidemill.toml"))
    files = {name: text for name, text in content.items() if name.startswith(f"{package}/")}
    name, archive = tidemill
    files[name] = archive
    files["requirements.txt"] = "".join(f"{line}\n" for line in lock).encode()
    launcher = _LAUNCHER.format(
        package=package, project=project, tidemill=name, packages=dict(sorted(packages.items()))
    )
    files["__main__.py"] = launcher.encode()
    return _SHEBANG + write_archive(files)

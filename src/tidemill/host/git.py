"""Git and the files of a project: which state of its code a folder is in, and all of that code in one piece."""

import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CODE = (".py", ".toml", ".lock", ".sql", ".md", ".txt")
_LARGEST = 1_000_000


def state_of(folder: Path) -> dict[str, Any]:
    """The state of the project's code: git commit and whether it was changed since, and a digest of its files."""
    content = hashlib.sha256()
    for file in code_of(folder):
        content.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    state: dict[str, Any] = {"digest": content.hexdigest()}
    told = _git(folder, "status", "--porcelain=v2", "--branch", "--", ".").splitlines()
    commit = next((line.split()[-1] for line in told if line.startswith("# branch.oid")), "")
    if commit and commit != "(initial)":
        state |= {"commit": commit, "dirty": any(not line.startswith("#") for line in told)}
    return state


def packed(folder: Path) -> bytes:
    """The project's code as a zip file without dates: the same code gives the same bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in code_of(folder):
            name = zipfile.ZipInfo(file.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            archive.writestr(name, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return sink.getvalue()


def code_of(folder: Path) -> Iterator[Path]:
    """The files of a project that say what it does, sorted: no data, nothing hidden, no environment."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _may_hold_code(Path(place) / name))
        for name in sorted(files):
            file = Path(place) / name
            if name.endswith(_CODE) and not name.startswith(".") and file.stat().st_size <= _LARGEST:
                yield file


def _may_hold_code(folder: Path) -> bool:
    hidden = folder.name.startswith((".", "__pycache__")) or folder.name in ("node_modules", "build", "dist")
    return not hidden and not (folder / "pyvenv.cfg").exists()


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

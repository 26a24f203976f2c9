"""The code of a project: all of it in one piece, its digest, and the git commit that it is at."""

import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

_SUFFIXES = (".py", ".toml", ".lock", ".sql", ".md", ".txt")
_LARGEST = 1_000_000


class Code(Struct, frozen=True):
    """The code of a project at one moment: the digest of its files, and all of them as a zip file without dates."""

    digest: str
    packed: bytes


def code_of(folder: Path) -> Code:
    """The code of the project in a folder; the same files give the same bytes."""
    content, sink = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files_of(folder):
            name, read = file.relative_to(folder).as_posix(), file.read_bytes()
            content.update(name.encode() + b"\0" + read + b"\0")
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), read, zipfile.ZIP_DEFLATED)
    return Code(content.hexdigest(), sink.getvalue())


def commit_of(folder: Path) -> dict[str, Any]:
    """The git commit that a folder is at, and whether it was changed since; nothing where there is none."""
    told = _git(folder, "status", "--porcelain=v2", "--branch", "--", ".").splitlines()
    commit = next((line.split()[-1] for line in told if line.startswith("# branch.oid")), "")
    if not commit or commit == "(initial)":
        return {}
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in told)}


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a project that say what it does, sorted: no data, nothing hidden, no environment."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _may_hold_code(Path(place) / name))
        for name in sorted(files):
            file = Path(place) / name
            if name.endswith(_SUFFIXES) and not name.startswith(".") and _holds_code(file):
                yield file


def _holds_code(file: Path) -> bool:
    """A link that leads nowhere holds none, and a pipe would keep us waiting for ever."""
    return file.is_file() and file.stat().st_size <= _LARGEST


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

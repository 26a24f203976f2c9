"""Reads the code of a project: a zip file of its files, their digest, and the git commit."""

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


class CodeSnapshot(Struct, frozen=True):
    """The code of a project at one time: the digest of its files, and a zip file of them without dates."""

    digest: str
    archive: bytes


def snapshot_code(folder: Path) -> CodeSnapshot:
    """Return the code of the project in a folder; equal files result in equal bytes."""
    content, sink = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in list_code_files(folder):
            name, source = file.relative_to(folder).as_posix(), file.read_bytes()
            content.update(name.encode() + b"\0" + source + b"\0")
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), source, zipfile.ZIP_DEFLATED)
    return CodeSnapshot(content.hexdigest(), sink.getvalue())


def read_commit(folder: Path) -> dict[str, Any]:
    """Return the git commit of a folder and whether files changed since; empty outside a git repository."""
    status = _run_git(folder, "status", "--porcelain=v2", "--branch", "--", ".").splitlines()
    commit = next((line.split()[-1] for line in status if line.startswith("# branch.oid")), "")
    if not commit or commit == "(initial)":
        return {}
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in status)}


def list_code_files(folder: Path) -> Iterator[Path]:
    """Yield the code files of a project, sorted; without data, hidden files and virtual environments."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _may_contain_code(Path(path) / name))
        for name in sorted(files):
            file = Path(path) / name
            if name.endswith(_SUFFIXES) and not name.startswith(".") and _is_text(name) and _is_readable_code(file):
                yield file


def _is_text(name: str) -> bool:
    """Return whether a name is UTF-8: Python could import no other, and no archive could contain it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _is_readable_code(file: Path) -> bool:
    """Return whether a file can be read and is small; excludes broken links, and pipes, which would block for ever."""
    return file.is_file() and file.stat().st_size <= _LARGEST


def _may_contain_code(folder: Path) -> bool:
    hidden = folder.name.startswith((".", "__pycache__")) or folder.name in ("node_modules", "build", "dist")
    return not hidden and not (folder / "pyvenv.cfg").exists()


def _run_git(folder: Path, *arguments: str) -> str:
    try:
        process = subprocess.run(
            ("git", "-C", str(folder), *arguments), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""

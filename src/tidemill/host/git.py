"""Git: which state of its code a folder is in."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any


def state_of(folder: Path) -> dict[str, Any]:
    """The state of the project's code: git commit and whether it was changed since, and a digest of its files."""
    content = hashlib.sha256()
    for file in sorted((*folder.glob("*.py"), *folder.glob("*.toml"))):
        content.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    commit = _git(folder, "rev-parse", "HEAD")
    state: dict[str, Any] = {"digest": content.hexdigest()}
    if commit:
        state |= {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}
    return state


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

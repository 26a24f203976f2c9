"""Wheels: writes them without a build tool, so that equal files result in equal bytes."""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath

from tidemill.delivery.archive import write_archive

_CODE = (".py", ".toml", ".lock", ".sql", ".txt", ".json")
_WHEEL = b"Wheel-Version: 1.0\nGenerator: tidemill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LARGEST = 1_000_000
_NOT_PACKAGED = frozenset({"tests", "data", "docs", "build", "dist", "node_modules", "__pycache__"})


def name_package(project: str) -> str:
    """Return the name of the Python package of a project.

    >>> name_package("late-flights")
    'late_flights_pipeline'
    """
    return f"{re.sub(r'[^a-z0-9_]', '_', project.lower())}_pipeline"


def name_version(commit: str) -> str:
    """Return the version of the package of a commit."""
    return f"0+g{commit[:12]}"


def list_packaged(names: list[str], files: Mapping[str, bytes]) -> list[str]:
    """Return the files of a project that its package contains: policy, code and schemas, no tests and no data."""
    return sorted(name for name in names if _is_packaged(name) and len(files[name]) <= _LARGEST)


def _is_packaged(name: str) -> bool:
    parts = PurePosixPath(name).parts
    is_hidden = any(part.startswith(".") for part in parts)
    return name.endswith(_CODE) and not is_hidden and parts[0] not in _NOT_PACKAGED and "__pycache__" not in parts


def write_project_wheel(
    project: str, commit: str, files: Mapping[str, bytes], requirements: list[str], python: str
) -> tuple[str, bytes]:
    """Return the name and the bytes of the wheel of a project: one package with its policy and code."""
    package = name_package(project)
    content = {f"{package}/{name}": files[name] for name in list_packaged(list(files), files)}
    content.setdefault(f"{package}/__init__.py", f'"""The pipelines of the project {project}."""\n'.encode())
    minor = ".".join(python.split(".")[:2])
    fields = [f"Requires-Python: >={minor}", *(f"Requires-Dist: {line}" for line in requirements)]
    return write_wheel(package, name_version(commit), content, [f"Summary: The pipelines of {project}.", *fields])


@cache
def write_running_wheel() -> tuple[str, bytes]:
    """Return the name and the bytes of a wheel of the running Tidemill, so that a build tests and uses this version.

    It is written once in a process.
    """
    root = Path(str(package_files("tidemill")))
    content = {
        f"tidemill/{file.relative_to(root).as_posix()}": file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    metadata = distribution("tidemill").metadata
    python = (metadata.get_all("Requires-Python") or [">=3.11"])[0]
    needs = [f"Requires-Dist: {line}" for line in metadata.get_all("Requires-Dist") or ()]
    extras = [f"Provides-Extra: {extra}" for extra in metadata.get_all("Provides-Extra") or ()]
    fields = [f"Requires-Python: {python}", *needs, *extras]
    points = distribution("tidemill").read_text("entry_points.txt") or ""
    return write_wheel("tidemill", metadata["Version"], content, fields, {"entry_points.txt": points.encode()})


def write_wheel(
    name: str,
    version: str,
    content: Mapping[str, bytes],
    fields: list[str],
    more: Mapping[str, bytes] | None = None,
) -> tuple[str, bytes]:
    """Return the name and the bytes of a pure wheel (PEP 427); `more` are further files of its metadata."""
    information = f"{name}-{version}.dist-info"
    metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *fields, ""])
    files = dict(content)
    files[f"{information}/METADATA"] = metadata.encode()
    files[f"{information}/WHEEL"] = _WHEEL
    files |= {f"{information}/{entry}": text for entry, text in (more or {}).items()}
    record = f"{information}/RECORD"
    rows = [f"{entry},{_hash(text)},{len(text)}" for entry, text in sorted(files.items())]
    files[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    return f"{name}-{version}-py3-none-any.whl", write_archive(files)


def _hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"

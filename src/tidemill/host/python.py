"""Lists the packages that this Python process can import."""

import importlib.metadata
import re
import sys
from contextlib import suppress
from email.message import Message
from email.parser import HeaderParser
from functools import lru_cache
from importlib.metadata import Distribution
from pathlib import Path

import msgspec


def list_packages(folder: Path) -> list[str]:
    """Return every installed package as `name==version`, sorted; cached in a file of `folder`, since it is slow."""
    paths = [Path(path) for path in sys.path if path and Path(path).is_dir()]
    state = [sys.version, *(f"{path} {path.stat().st_mtime_ns}" for path in paths if "site-packages" in str(path))]
    file = folder / "packages.json"
    with suppress(OSError, msgspec.DecodeError, KeyError, TypeError):
        cached = msgspec.json.decode(file.read_bytes())
        if cached["seen"] == state:
            return list(cached["packages"])
    packages = _read_packages(tuple(state))
    with suppress(OSError):  # without the file, the next call is only slower
        draft = file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode({"seen": state, "packages": packages}))
        draft.replace(file)
    return packages


@lru_cache(1)
def _read_packages(state: tuple[str, ...]) -> list[str]:  # noqa: ARG001 - what it was read from
    headers = [read_headers(package) for package in importlib.metadata.distributions()]
    installed = {(each["Name"] or "", each["Version"]) for each in headers}
    return sorted(f"{name.lower().replace('_', '-')}=={version}" for name, version in installed if name)


def read_headers(package: Distribution) -> Message:
    """Return the metadata of an installed package without its description, which takes most of the time to read."""
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or package.read_text("") or ""
    return HeaderParser().parsestr(text.partition("\n\n")[0])


def normalize_name(package: str) -> str:
    """Return the name of a package in the form in which equal names are equal (PEP 503).

    >>> normalize_name("backports.zstd")
    'backports-zstd'
    """
    return re.sub(r"[-_.]+", "-", package).lower()

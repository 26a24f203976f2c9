"""Python: which packages this process could import."""

import importlib.metadata
import sys
from contextlib import suppress
from pathlib import Path

import msgspec


def installed(folder: Path) -> list[str]:
    """Every installed package as `name==version`, sorted; kept in a file of `folder`, since to look takes long."""
    places = [Path(place) for place in sys.path if place and Path(place).is_dir()]
    seen = [sys.version, *(f"{place} {place.stat().st_mtime_ns}" for place in places if "site-packages" in str(place))]
    file = folder / "packages.json"
    with suppress(OSError, msgspec.DecodeError, KeyError, TypeError):
        known = msgspec.json.decode(file.read_bytes())
        if known["seen"] == seen:
            return list(known["packages"])
    names = {(found.name or "", found.version) for found in importlib.metadata.distributions()}
    packages = sorted(f"{name.lower().replace('_', '-')}=={version}" for name, version in names if name)
    with suppress(OSError):  # it only spares the next look
        draft = file.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode({"seen": seen, "packages": packages}))
        draft.replace(file)
    return packages

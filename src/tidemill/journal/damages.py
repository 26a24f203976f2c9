"""Damaged files of the journal: they are set aside under another name, and listed until they are mended."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tidemill.core.damage import Damage
from tidemill.journal import inventory
from tidemill.journal.names import DAMAGED, list_names
from tidemill.telemetry import get_logger

log = get_logger("journal")
STORE = "journal"
_CURE = "mend it from a backup: `tidemill doctor --mend --backup FILE`"


def set_aside(segment: str, kind: str, problem: str) -> None:
    """Rename a damaged segment, so that nothing reads it again, and report it once."""
    try:
        os.replace(segment, segment + DAMAGED)  # noqa: PTH105 - a path as text, like all segments
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        log.error("%s; it cannot be set aside (%s); the other rows of %s are used", problem, error.strerror, kind)
        return
    log.error(
        "%s; it is set aside as %s, and the other rows of %s are used", problem, Path(segment).name + DAMAGED, kind
    )


def list_damages(root: Path) -> list[Damage]:
    """Return the damaged, missing and unreadable files below the folder of a journal."""
    folders = (Path(parent) for parent, _, _ in os.walk(root))
    return sorted((damage for folder in folders for damage in _list_folder(root, folder)), key=lambda each: each.name)


def _list_folder(root: Path, folder: Path) -> Iterator[Damage]:
    names = list_names(str(folder))
    aside = {name.removesuffix(DAMAGED) for name in names if name.endswith(DAMAGED)}
    place = folder.relative_to(root)
    for name in aside:
        what = "is damaged and set aside; its rows are not read"
        yield _report(place / name, "damaged", what)
    segments = {name for name in names if name.endswith(".arrow")}
    for name in inventory.list_missing(folder, segments | aside):
        yield _report(place / name, "missing", "was written and is gone; its rows are missing")
    for name in segments:
        with suppress(FileNotFoundError):
            if not os.access(folder / name, os.R_OK):
                yield _report(
                    place / name, "unreadable", "cannot be read; its rows are missing", "check its permissions"
                )


def _report(name: Path, state: str, problem: str, cure: str = _CURE) -> Damage:
    return Damage(store=STORE, name=name.as_posix(), state=state, problem=problem, cure=cure)  # type: ignore[arg-type]

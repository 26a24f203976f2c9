"""Deletes what builds leave behind: old environments, logs and images. Records and artifacts are kept."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tidemill.core.ci import BuildHost
from tidemill.delivery.image import find_layout

_ENVIRONMENTS, _LOGS, _IMAGES = 4, 100, 20


def tidy_builds(host: BuildHost) -> None:
    """Keep the environments, logs and images that were used last."""
    _keep_newest(host.folder / "environments", _ENVIRONMENTS)
    _keep_newest(host.folder / "logs", _LOGS)
    if (host.folder / "images").is_dir():
        with suppress(OSError):
            find_layout(host).prune(_IMAGES)


def _keep_newest(folder: Path, count: int) -> None:
    with suppress(OSError):
        for old in list(_sort_by_use(folder.iterdir()))[count:]:
            shutil.rmtree(old, ignore_errors=True)


def _sort_by_use(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)

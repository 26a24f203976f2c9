"""A project of one's own table with histogram boosting, its reference training, and locks of real releases."""

import io
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tests.projects import make_project
from tidemill.core.upgrade import Upgrade
from tidemill.delivery.locking import lock_project, read_sources
from tidemill.delivery.upgrades import EnvironmentLock, ReferenceRunner, write_reference
from tidemill.host.git import list_code_files
from tidemill.testing.kit import Sample, take_sample

ESTIMATOR = "sklearn.ensemble:HistGradientBoostingClassifier"
# scikit-learn 1.9 bins the rows of histogram boosting in another way than 1.8; the others give equal answers.
OLDER = {
    "lightgbm": "4.6.0",
    "numpy": "2.3.5",
    "polars": "2.0.0",
    "polars-runtime-32": "2.0.0",
    "scikit-learn": "1.8.0",
    "scipy": "1.16.0",
}
ROWS = 400
LIMITS = Upgrade(rows=ROWS, timeout="10m")


class BuildFolder(NamedTuple):
    """The place of builds, in a folder of the tests."""

    folder: Path
    project: Path
    name: str = "shop"
    writable: bool = True


def make_boosted_project(folder: Path, *, more: str = "") -> Path:
    """Create a project that trains histogram boosting; `more` is a line of [training]."""
    project = make_project(folder / "shop", replace={"[training]\n": f'[training]\nestimator = "{ESTIMATOR}"\n{more}'})
    return project.folder


def lock_here(project: Path) -> EnvironmentLock:
    """Return the lock of the installed packages that a project needs."""
    locked = lock_project(read_sources(project, list_code_files(project)))
    return EnvironmentLock(packages=locked.runtime)


def pin(lock: EnvironmentLock, **versions: str) -> EnvironmentLock:
    """Return a lock with other versions; `_` in a name means `-`."""
    pinned = lock.versions | {name.replace("_", "-"): version for name, version in versions.items()}
    python = pinned.pop("python", "")
    return EnvironmentLock(packages=tuple(f"{name}=={pinned[name]}" for name in sorted(pinned)), python=python)


def older(lock: EnvironmentLock, *names: str) -> EnvironmentLock:
    """Return a lock with older releases of some packages."""
    return pin(lock, **{name.replace("-", "_"): OLDER[name] for name in names})


def make_runner(project: Path, folder: Path) -> ReferenceRunner:
    """Prepare the reference training of a project."""
    from tidemill.project.project import Project

    opened = Project(project)
    sample: Sample = take_sample(opened, opened.model(), ROWS)
    code = {file.relative_to(project).as_posix(): file.read_bytes() for file in list_code_files(project)}
    request = {"model": "shop", "pipeline": "training", "until": sample.until.isoformat()}
    write_reference(folder / "reference", code, {n: _to_parquet(f) for n, f in sample.frames.items()}, b"", request)
    host = BuildFolder(folder / "ci", project)
    return ReferenceRunner(folder / "reference", host, LIMITS, folder / "log.txt")  # type: ignore[arg-type]


def _to_parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getvalue()

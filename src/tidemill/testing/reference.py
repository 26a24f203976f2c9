"""The program of a reference training: trains a project on given rows, answers rows, and writes answers.json.

It runs in the environment of a lock, without pytest. Its argument is a folder that `tidemill.delivery.upgrades` wrote;
with a number of rows as a second argument, it only takes the rows of the project's sources into that folder.
"""

import platform
import sys
import tempfile
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace

from tidemill.checks.equivalence import ReferenceAnswers
from tidemill.core.run import select_test_metrics
from tidemill.host.python import normalize_name
from tidemill.project.project import Project
from tidemill.recipes.scoring import score
from tidemill.testing.kit.sample import Sample, take_sample
from tidemill.testing.kit.training import train_sample

_LEAST_ROWS_TO_HOLD_OUT = 100


class ReferenceRequest(msgspec.Struct, frozen=True):
    """The model to train, the pipeline that trains it, and the time of the rows."""

    model: str
    pipeline: str
    until: datetime | None = None


def take_rows(folder: Path, rows: int) -> None:
    """Write the reference rows of a project, and the time at which all of them are known, into its folder."""
    request = msgspec.json.decode((folder / "request.json").read_bytes(), type=ReferenceRequest)
    project = Project(folder / "project")
    sample = take_sample(project, project.model(request.model), rows)
    (folder / "sources").mkdir(exist_ok=True)
    for name, frame in sample.frames.items():
        frame.write_parquet(folder / "sources" / f"{name}.parquet")
    (folder / "request.json").write_bytes(msgspec.json.encode(replace(request, until=sample.until)))


def answer_reference(folder: Path) -> ReferenceAnswers:
    """Train the project of a folder and answer its requests, or the rows of the training if it has none."""
    request = msgspec.json.decode((folder / "request.json").read_bytes(), type=ReferenceRequest)
    project = Project(folder / "project")
    frames = {file.stem: pl.read_parquet(file) for file in sorted((folder / "sources").glob("*.parquet"))}
    policy = project.model(request.model)
    # The gate needs no second process here: both environments are compared by their answers and metrics.
    assert request.until is not None
    policy = replace(policy, gate=replace(policy.gate, enabled=False))
    sample = Sample(project, policy, frames, request.until)
    learned = Sample(project, policy, frames | _hold_out(frames, policy.problem.source), request.until)
    packages = _list_packages()
    with tempfile.TemporaryDirectory(prefix="tidemill-") as workspace:
        training = train_sample(learned, Path(workspace), request.pipeline)
        if training.run.state != "done":
            return ReferenceAnswers(problem=training.run.error, packages=packages)
        requests = folder / "requests.parquet"
        rows = pl.read_parquet(requests) if requests.exists() else sample.joined
        scores = np.asarray(score(training.model, rows), float)
    return ReferenceAnswers(
        scores=scores.reshape(len(scores), -1).tolist(),
        classes=training.model.manifest.signature.classes,
        metrics=select_test_metrics(training.run.metrics),
        packages=packages,
    )


def _hold_out(frames: dict[str, pl.DataFrame], source: str) -> dict[str, pl.DataFrame]:
    """Return the rows of a source without every fifth one.

    Some models repeat the labels of the rows that they have learned, whatever their packages do: only rows that they
    have not seen tell two of them apart.
    """
    rows = frames[source]
    if rows.height < _LEAST_ROWS_TO_HOLD_OUT:
        return {}
    return {source: rows.filter(pl.int_range(pl.len()) % 5 != 4)}


def _list_packages() -> dict[str, str]:
    found = {normalize_name(package.name): package.version for package in distributions() if package.name}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if len(sys.argv) > 2:
        take_rows(target, int(sys.argv[2]))
        sys.exit()
    (target / "answers.json").write_bytes(msgspec.json.encode(answer_reference(target)))

"""Upgrades: compares the present environment of the project with one of newer versions, by a reference training."""

import io
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.ci import BuildHost
from tidemill.core.columns import KNOWN_AT, TIME
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import JournalReader, Sources
from tidemill.core.upgrade import Upgrade
from tidemill.delivery.upgrades import EnvironmentLock, ReferenceRunner, compare_locks, write_reference
from tidemill.errors import DataError
from tidemill.host.git import list_code_files
from tidemill.monitoring.windows import read_window, unpack_features
from tidemill.project.configuration import FILE, read_policy
from tidemill.recipes.reference_rows import choose_rows, drop_internal, find_end

_LARGE = 20_000
_EARLIER = timedelta(days=60)


@step(cache=False)
def take_reference(
    policy: ModelPolicy, settings: Upgrade, until: datetime, sources: Sources, host: BuildHost
) -> tuple[dict[str, pl.DataFrame], datetime]:
    """Return the rows of each source for the reference training, and the time at which all of them are known.

    The code of the project is not imported here: every source can be that of a view.
    """
    source = policy.problem.source
    history = _read_source(source, until, sources)
    if history is None:
        raise DataError(f"source {source!r} has no rows for the reference training", "run this where its data is")
    chosen = choose_rows(history, policy.problem, settings.rows, timed=bool(sources.definition(source).time))
    if chosen.is_empty():
        raise DataError(f"no row of source {source!r} has a label", "wait for labels")
    start, end = chosen[TIME].min(), find_end(chosen, policy.problem)
    assert isinstance(start, datetime)
    frames = {source: chosen}
    for name in read_policy(host.project / FILE).sources:
        other = _read_source(name, until, sources) if name != source else None
        if other is not None:
            is_large = other.height > _LARGE and sources.definition(name).time
            frames[name] = other.filter(pl.col(KNOWN_AT).is_between(start - _EARLIER, end)) if is_large else other
    return {name: drop_internal(frame) for name, frame in frames.items()}, end


def _read_source(name: str, until: datetime, sources: Sources) -> pl.DataFrame | None:
    batches = sources.batches(name, until)
    return pl.concat([sources.read(batch) for batch in batches], how="diagonal_relaxed") if batches else None


@step(cache=False)
def take_requests(
    policy: ModelPolicy, settings: Upgrade, until: datetime, journal: JournalReader
) -> pl.DataFrame | None:
    """Return the newest served rows with their features; None if the journal has none in the window."""
    served = read_window(journal, policy.name, until - parse_duration(settings.window), until)
    if served.is_empty():
        return None
    served = served.filter(pl.col("role") != "shadow").tail(settings.rows)
    return drop_internal(unpack_features(served))


@step
def compare_environments(
    policy: ModelPolicy,
    settings: Upgrade,
    old: EnvironmentLock,
    new: EnvironmentLock,
    frames: dict[str, pl.DataFrame],
    until: datetime,
    requests: pl.DataFrame | None,
    training_pipeline: str,
    host: BuildHost,
    context: Context,
) -> Verdict:
    """Run the reference training in both environments and judge the difference; a difference stops the run."""
    code = {file.relative_to(host.project).as_posix(): file.read_bytes() for file in list_code_files(host.project)}
    request = {"model": policy.name, "pipeline": training_pipeline, "until": until.isoformat()}
    answered = f"{requests.height} rows of the journal" if requests is not None else "the rows of the training"
    log = host.folder / "logs" / context.run / f"{context.step}.log"
    with tempfile.TemporaryDirectory(prefix="tidemill-reference-") as folder:
        rows = {name: _to_parquet(frame) for name, frame in frames.items()}
        write_reference(Path(folder), code, rows, _to_parquet(requests) if requests is not None else b"", request)
        runner = ReferenceRunner(Path(folder), host, settings, log)
        return compare_locks(old, new, runner, settings, answered)


@pipeline
def upgrade(
    policy: ModelPolicy,
    until: datetime,
    settings: Upgrade,
    old: EnvironmentLock,
    new: EnvironmentLock,
    training_pipeline: str = "training",
) -> None:
    """Train in the environments of two locks, answer the same rows in both, and judge the difference."""
    frames, end = take_reference(policy, settings, until)
    requests = take_requests(policy, settings, until)
    compare_environments(policy, settings, old, new, frames, end, requests, training_pipeline)


def _to_parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getvalue()

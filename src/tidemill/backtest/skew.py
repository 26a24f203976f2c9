"""Looks for leaks: is what a backtest gives a model also what it was given live, and as good?

A source whose known-at time is wrong lets the offline join see what nobody knew yet. Nothing in the history tells, but
the journal does: it holds what was served.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.backtest.period import moment
from tidemill.compose.backends import open_sources
from tidemill.compose.session import open_session
from tidemill.core.model import Model
from tidemill.core.resources import Features
from tidemill.core.source import Source
from tidemill.data.frame import TIME
from tidemill.data.keys import row_keys
from tidemill.data.metrics import Floats, bootstrap_interval, losses
from tidemill.errors import InputError
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.featurestore.skew import Skew, skew
from tidemill.ledger.releases import find_release
from tidemill.models.load import load
from tidemill.monitoring.windows import features_of, judged, labelled, window
from tidemill.project.project import Project

_MOST = 0.05
_LEAST = 50


class Leaks(Struct, frozen=True, kw_only=True):
    """What was served against what is joined: features that differ, and the mean loss of each on labelled rows.

    `interval` is of the loss on joined features less that of what was answered live (95 %): below zero a backtest
    promises more than the model can keep.
    """

    model: str
    predictions: int
    compared: int
    skews: list[Skew]
    labelled: int
    live: float | None = None
    joined: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def differing(self) -> list[Skew]:
        """The features of which more than one row in twenty differs."""
        return [one for one in self.skews if one.share > _MOST]

    @property
    def flatters(self) -> bool:
        """Whether the joined features make the model proven better than it was."""
        return self.interval is not None and self.interval[1] < 0

    @property
    def leaks(self) -> bool:
        return bool(self.differing) or self.flatters


def find_leaks(project: Project, environment: str, model: str, begin: str = "", end: str = "") -> Leaks:
    """Compare every answer in the journal with what the offline join gives the same row at the same time.

    Raises
    ------
    InputError
        if nothing was answered in that time, or no answer belongs to a row of the source.
    """
    policy = project.model(model)
    session = open_session(project, environment)
    now = session.clock.now()
    since = moment(begin, now) if begin else datetime(1970, 1, 2, tzinfo=UTC)
    answered = window(session.workspace.journal, policy.name, since, moment(end, now) if end else now)
    answered = answered.filter(pl.col("role") != "shadow") if answered.width else answered
    if answered.is_empty():
        raise InputError(
            f"the journal of {environment!r} has no answers of model {policy.name!r} in that time",
            "serve it first, or name other days with --from and --to",
        )
    sources = open_sources(project.folder, project.policy.sources)
    rows = _with_rows(
        answered, sources.source_history(policy.problem.source), sources.definition(policy.problem.source)
    )
    if rows.is_empty():
        raise InputError(
            f"none of {answered.height:,} answers belongs to a row of source {policy.problem.source!r}",
            "let requests bring the source's key and its event time",
        )
    store = OfflineFeatures(sources)
    parts = [
        _of_release(part, session.packages.load(find_release(session.workspace.ledger, str(label)).package), store, now)
        for (label,), part in rows.group_by("release", maintain_order=True)
    ]
    differences = np.concatenate([joined - live for _, live, joined in parts])
    live = np.concatenate([one for _, one, _ in parts])
    return Leaks(
        model=policy.name,
        predictions=answered.height,
        compared=rows.height,
        skews=_together([one for skews, _, _ in parts for one in skews]),
        labelled=len(live),
        live=float(live.mean()) if len(live) else None,
        joined=float((live + differences).mean()) if len(live) else None,
        interval=bootstrap_interval(differences, 0.95) if len(live) >= _LEAST else None,
    )


def _with_rows(answered: pl.DataFrame, history: pl.DataFrame, source: Source) -> pl.DataFrame:
    """The answers with the columns of the rows of the source that they were given to."""
    if not source.key:
        return answered.clear()
    taken = set(answered.columns)
    rows = history.with_columns(row_keys(history, source.key).alias("key"), pl.col(TIME).alias("time")).unique(
        ["key", "time"], keep="last"
    )
    return answered.join(
        rows.select("key", "time", *(name for name in history.columns if name not in taken)),
        on=["key", "time"],
        how="inner",
        maintain_order="left",
    )


def _of_release(
    rows: pl.DataFrame, package: Model, store: Features, now: datetime
) -> tuple[list[Skew], Floats, Floats]:
    """The skew of one release's features, and the losses of its labelled answers: live, and on joined features."""
    features = package.manifest.features
    served = features_of(rows)
    if features is None:
        return [], np.empty(0), np.empty(0)
    views = [name for view in features.views for name in view.features]
    joined = store.join(rows.drop(views, strict=False), features, now).select(views)
    known = labelled(rows, package.manifest.signature)
    truth, live = judged(rows.filter(known), package.manifest.signature)
    skews = skew(served, joined, views, rows["key"])
    if not len(truth.values):
        return skews, np.empty(0), np.empty(0)
    asked = served.with_columns(joined[name] for name in views if name in served.columns).filter(known)
    answers = load(package).predict(asked)
    scores = answers.probabilities if answers.probabilities is not None else np.asarray(answers.values, float)
    return skews, losses(truth, live), losses(truth, scores)


def _together(skews: list[Skew]) -> list[Skew]:
    """The skew of each feature over all releases, the largest first."""
    found: dict[str, Skew] = {}
    for one in sorted(skews, key=lambda one: one.differ):
        so_far = found.get(one.feature)
        rows, differ = (so_far.rows, so_far.differ) if so_far else (0, 0)
        found[one.feature] = replace(one, rows=one.rows + rows, differ=one.differ + differ)
    return sorted(found.values(), key=lambda one: -one.share)


def said_of(found: Leaks) -> str:
    """What was found, in plain text."""
    lines = [f"{found.compared:,} of {found.predictions:,} answers of {found.model} were laid beside their rows."]
    for one in found.differing:
        lines.append(
            f"  {one.feature}: {one.differ:,} of {one.rows:,} values differ ({one.share:.0%}); "
            f"of row {one.key} {one.served} was served, {one.joined} is joined"
        )
    if not found.differing:
        lines.append(
            f"Every feature was served as it is joined, in 95 of 100 rows or more ({len(found.skews)} compared)."
        )
    if found.interval is not None and found.live is not None and found.joined is not None:
        low, high = found.interval
        lines.append(
            f"Mean loss on {found.labelled:,} labelled rows: {found.live:.4f} live, {found.joined:.4f} on joined "
            f"features; the difference is between {low:+.4f} and {high:+.4f} (95 %)."
        )
    if found.flatters:
        lines.append(
            "A backtest flatters this model: its features know what nobody knew then. "
            "Mend known_at or delay of their source."
        )
    elif found.differing:
        lines.append("Either a source's known_at or delay is wrong, or the online store was not kept up to date.")
    return "\n".join(lines)

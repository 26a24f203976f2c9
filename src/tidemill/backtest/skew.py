"""Find leaks in the offline join: compare the features that were served with the features that a backtest joins.

If a source's known-at time is wrong, the offline join contains values that were not available at the time of the
prediction. The history alone cannot show this; the journal can, because it contains the features that were served.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.backtest.period import parse_time
from tidemill.compose.session import open_history, open_session
from tidemill.core.model import Model
from tidemill.core.resources import Features
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.frame import TIME
from tidemill.data.keys import to_row_keys
from tidemill.data.metrics import bootstrap_interval, losses
from tidemill.errors import InputError
from tidemill.featurestore.offline import OfflineFeatures
from tidemill.featurestore.skew import Skew, compute_skews
from tidemill.ledger.releases import find_release
from tidemill.models.load import load
from tidemill.monitoring.windows import extract_scores, is_labelled, read_window, unpack_features
from tidemill.project.project import Project

_MAX_DIFFERING_SHARE = 0.05
_MIN_LABELS = 50


class LeakReport(Struct, frozen=True, kw_only=True):
    """Served features compared with joined features: the features that differ, and the mean losses on labelled rows.

    `interval` is the 95 % interval of the loss on joined features minus the loss of the served predictions. If it is
    below zero, a backtest is too optimistic.
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
        """The features for which more than 5 % of the rows differ."""
        return [skew for skew in self.skews if skew.share > _MAX_DIFFERING_SHARE]

    @property
    def is_too_optimistic(self) -> bool:
        """Whether the model is significantly better on joined features than it was in production."""
        return self.interval is not None and self.interval[1] < 0

    @property
    def has_leaks(self) -> bool:
        """Whether a feature differs or the backtest is too optimistic."""
        return bool(self.differing) or self.is_too_optimistic


def find_join_leaks(project: Project, environment: str, model: str, begin: str = "", end: str = "") -> LeakReport:
    """Compare the features of each prediction in the journal with the offline join for the same row and time.

    Raises
    ------
    InputError
        if the journal has no predictions in that time, or no prediction matches a row of the source.
    """
    policy = project.model(model)
    session = open_session(project, environment)
    now = session.clock.now()
    since = parse_time(begin, now) if begin else datetime(1970, 1, 2, tzinfo=UTC)
    predictions = read_window(session.workspace.journal, policy.name, since, parse_time(end, now) if end else now)
    predictions = predictions.filter(pl.col("role") != "shadow") if predictions.width else predictions
    if predictions.is_empty():
        raise InputError(
            f"the journal of {environment!r} has no predictions of model {policy.name!r} in that time",
            "serve the model first, or choose another time with --from and --to",
        )
    sources = open_history(project, environment)
    source = policy.problem.source
    if not sources.definition(source).key:
        raise InputError(
            f"source {source!r} has no key, so no prediction can be matched with its row",
            f'set the columns that identify a row: [sources.{source}] key = ["…"]; and send them with each request',
        )
    rows, source_rows = _match_source_rows(predictions, sources.source_history(source), sources.definition(source))
    if rows.is_empty():
        raise InputError(
            f"none of {predictions.height:,} predictions matches a row of source {source!r}",
            "send the source's key and its event time with each request",
        )
    store = OfflineFeatures(sources)
    parts = [
        _compare_release(
            rows.filter(rows["release"] == label),
            source_rows.filter(rows["release"] == label),
            session.packages.load(find_release(session.workspace.ledger, str(label)).package),
            store,
            now,
        )
        for label in rows["release"].unique(maintain_order=True)
    ]
    differences = np.concatenate([joined - live for _, live, joined in parts])
    live = np.concatenate([live for _, live, _ in parts])
    return LeakReport(
        model=policy.name,
        predictions=predictions.height,
        compared=rows.height,
        skews=_merge_skews([skew for skews, _, _ in parts for skew in skews]),
        labelled=len(live),
        live=float(live.mean()) if len(live) else None,
        joined=float((live + differences).mean()) if len(live) else None,
        interval=bootstrap_interval(differences, 0.95) if len(live) >= _MIN_LABELS else None,
    )


def _match_source_rows(
    predictions: pl.DataFrame, history: pl.DataFrame, source: Source
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the predictions with a row in the source, and these rows: both have columns such as `key` and `time`."""
    keys = pl.DataFrame([to_row_keys(history, source.key).alias("key"), history[TIME].alias("time")])
    rows = keys.with_row_index("row").unique(["key", "time"], keep="last")
    matched = predictions.join(rows, on=["key", "time"], how="inner", maintain_order="left")
    return matched.drop("row"), history[matched["row"]]


def _compare_release(
    rows: pl.DataFrame, source_rows: pl.DataFrame, package: Model, store: Features, now: datetime
) -> tuple[list[Skew], Floats, Floats]:
    """Return the skews of one release's features, and its losses on labelled rows: served, and on joined features."""
    features = package.manifest.features
    served = unpack_features(rows)
    if features is None:
        return [], np.empty(0), np.empty(0)
    views = [name for view in features.views for name in view.features]
    joined = store.join(source_rows.drop(views, strict=False), features, now).select(views)
    with_label = is_labelled(rows, package.manifest.signature)
    truth, live = extract_scores(rows.filter(with_label), package.manifest.signature)
    skews = compute_skews(served, joined, views, rows["key"])
    if not len(truth.values):
        return skews, np.empty(0), np.empty(0)
    inputs = served.with_columns(joined[name] for name in views if name in served.columns).filter(with_label)
    predictions = load(package).predict(inputs)
    probabilities = predictions.probabilities
    scores = probabilities if probabilities is not None else np.asarray(predictions.values, float)
    return skews, losses(truth, live), losses(truth, scores)


def _merge_skews(skews: list[Skew]) -> list[Skew]:
    """Return the skew of each feature over all releases, the largest first."""
    merged: dict[str, Skew] = {}
    for skew in sorted(skews, key=lambda skew: skew.differ):
        earlier = merged.get(skew.feature)
        rows, differ = (earlier.rows, earlier.differ) if earlier else (0, 0)
        merged[skew.feature] = replace(skew, rows=skew.rows + rows, differ=skew.differ + differ)
    return sorted(merged.values(), key=lambda skew: -skew.share)


def format_leak_report(report: LeakReport) -> str:
    """Return the report as plain text."""
    lines = [f"{report.compared:,} of {report.predictions:,} predictions of {report.model} match a row of the source."]
    for skew in report.differing:
        lines.append(
            f"  {skew.feature}: {skew.differ:,} of {skew.rows:,} values differ ({skew.share:.0%}); "
            f"for example row {skew.key}: served {skew.served}, joined {skew.joined}"
        )
    if not report.differing:
        lines.append(
            f"Served and joined values are equal in at least 95 % of the rows for each of {len(report.skews)} features."
        )
    if report.interval is not None and report.live is not None and report.joined is not None:
        low, high = report.interval
        lines.append(
            f"Mean loss on {report.labelled:,} labelled rows: {report.live:.4f} served, {report.joined:.4f} on joined "
            f"features; 95 % interval of the difference: {low:+.4f} to {high:+.4f}."
        )
    if report.is_too_optimistic:
        lines.append(
            "A backtest of this model is too optimistic: its joined features contain values that were not available at "
            "the time of the prediction. Correct known_at or delay of their source."
        )
    elif report.differing:
        lines.append("Either known_at or delay of a source is wrong, or the online store was not up to date.")
    return "\n".join(lines)

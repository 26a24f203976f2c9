"""Regimes that a key names: which value has enough labelled rows for a training, and whether a bound release fits."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from msgspec import to_builtins

from tidemill.checks.regime import prefers_regime
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.policy import ModelPolicy
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.resources import JournalReader
from tidemill.core.route import Arm, Route
from tidemill.data.keys import to_key_text
from tidemill.data.metrics import losses
from tidemill.data.spellings import unify_columns
from tidemill.labels.feedback import match
from tidemill.monitoring.newest_rows import find_label_times, keep_served
from tidemill.monitoring.stored_releases import StoredRelease
from tidemill.monitoring.windows import extract_scores, is_labelled, read_window, unpack_features
from tidemill.registry.bindings import BINDING, KeyCounts

_MOST_VALUES = 200
_LEAST_COMPARED = 50
_MOST_COMPARED = 1_000
# A release was bound by a comparison: to undo it takes clear evidence.
_DEVIATIONS = 3.0


def judge_values(
    policy: ModelPolicy, champion: Arm, route: Route, earlier: KeyCounts | None, journal: JournalReader, now: datetime
) -> Verdict:
    """Return the verdict on the values of the key: one of them requests a training if it has enough labelled rows.

    A value has enough with `[regimes] minimum` labelled rows, and again with twice as many as at its last request. Of
    several values, the one with the most rows is first; the others follow in the next runs. The 200 values with the
    most labelled rows are counted.
    """
    key, minimum = policy.regimes.key, policy.regimes.minimum
    since = earlier.until if earlier else now - parse_duration(policy.regimes.reach)
    labelled = dict(earlier.labelled) if earlier else {}
    requested = dict(earlier.requested) if earlier else {}
    for value, count in count_new_labels(policy, journal, since, now).items():
        labelled[value] = labelled.get(value, 0) + count
    most = sorted(labelled, key=lambda value: (-labelled[value], value))[:_MOST_VALUES]
    bound = {arm.value: arm.release for arm in route.bound} if route.key == key else {}
    due = [value for value in most if labelled[value] >= max(minimum, 2 * requested.get(value, 0))]
    evidence: dict[str, Any] = {"bound": bound}
    if due:
        value = due[0]
        requested[value] = labelled[value]
        served_by = bound.get(value, f"{champion.release} (the champion)")
        reason = (
            f"{labelled[value]} labelled rows with {key} = {value!r} request a training; {served_by} serves them now"
        )
        evidence |= {"value": value, "of_regime": labelled[value]}
    else:
        reason = f"{len(bound)} of {len(most)} values of {key} with labels have a release of their own"
    counts = KeyCounts(key=key, until=now, labelled={value: labelled[value] for value in most}, requested=requested)
    return Verdict(
        check="regime",
        subject=champion.release,
        outcome="warn" if due else "pass",
        action="retrain" if due else "proceed",
        reason=reason,
        evidence=to_builtins(counts) | evidence,
    )


def count_new_labels(policy: ModelPolicy, journal: JournalReader, since: datetime, now: datetime) -> dict[str, int]:
    """Return how many predictions of each value of the key got a label in (since, now]."""
    labels = journal.read(f"labels/{policy.name}", since, now)
    times = list(find_label_times(labels))
    if not times:
        return {}
    served = keep_served(journal.read(f"predictions/{policy.name}", min(times) - LABEL_LEAD, now))
    if served.is_empty():
        return {}
    rows = match(served, labels).rows
    values = read_values(rows.filter(pl.col("truth").is_not_null()), policy.regimes.key)
    counts = values.filter(values.is_not_null() & (values != "")).value_counts(name="count")
    return dict(counts.rows())


def read_values(rows: pl.DataFrame, key: str) -> pl.Series:
    """Return the value of the key of each served row: as the service stored it, or from the inputs of the model.

    Rows that were served before the key was declared have it only among their inputs.
    """
    values = rows["regime"] if "regime" in rows.columns else pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    features = rows.schema.get("features")
    if not values.null_count() or not isinstance(features, pl.Struct) or key not in {f.name for f in features.fields}:
        return values.alias("regime")
    return values.fill_null(to_key_text(rows["features"].struct.field(key))).alias("regime")


def judge_binding(
    policy: ModelPolicy,
    route: Route,
    bound: Arm,
    releases: tuple[StoredRelease, StoredRelease],
    journal: JournalReader,
    now: datetime,
) -> Verdict:
    """Return the verdict on a bound release: its rows go back to the champion if that is clearly better on them.

    `releases` are the bound release and the champion. Both losses are of the newest 1,000 labelled rows that the bound
    release has served in the reach; the champion predicts them now.
    """
    own, champion = releases
    rows = read_window(journal, policy.name, now - parse_duration(policy.regimes.reach), now, bound.release)
    rows = rows.filter(pl.col("role") == "bound") if rows.width else rows
    rows = unify_columns(rows, {"truth": policy.problem.spellings})
    rows = rows.filter(is_labelled(rows, own.manifest.signature)).tail(_MOST_COMPARED) if rows.width else rows
    about = f"{route.key} = {bound.value!r}"
    evidence: dict[str, Any] = {"key": route.key, "value": bound.value, "rows": rows.height}
    if rows.height < _LEAST_COMPARED:
        reason = f"only {rows.height} labelled rows with {about} compare it with the champion (at least 50)"
        return _create_verdict(bound, route, "undecided", "hold", reason, evidence)
    try:
        theirs = champion.compute_losses(unpack_features(rows), rows["truth"])
    except Exception as error:  # noqa: BLE001 - a package of another version can fail in any way
        reason = f"the champion cannot predict the rows with {about}: {getattr(error, 'problem', error)}"
        return _create_verdict(bound, route, "undecided", "hold", reason, evidence)
    ours = losses(*extract_scores(rows, own.manifest.signature))
    loss, champion_loss = float(np.mean(ours)), float(np.mean(theirs))
    evidence |= {"loss": loss, "champion_loss": champion_loss}
    text = f"loss {loss:.4f} against {champion_loss:.4f} of the champion, on {rows.height} rows with {about}"
    if prefers_regime(ours, theirs, _DEVIATIONS):
        return _create_verdict(bound, route, "fail", "rollback", f"worse than the champion: {text}", evidence)
    return _create_verdict(bound, route, "pass", "proceed", f"not worse than the champion: {text}", evidence)


def _create_verdict(
    bound: Arm, route: Route, outcome: Any, action: Any, reason: str, evidence: dict[str, Any]
) -> Verdict:
    champion = route.arm("champion")
    return Verdict(
        check=BINDING,
        subject=bound.release,
        reference=champion.release if champion else "",
        outcome=outcome,
        action=action,
        reason=reason,
        evidence=evidence,
    )

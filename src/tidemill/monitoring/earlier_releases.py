"""Compares earlier releases with a champion whose quality is too low: one that is proven to be better is recalled.

No new regime needs to be found for it: a season that comes back slowly never is one. The rows are those of the window
of the watch whose value was too low.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np

from tidemill.checks.earlier_releases import LEAST_ROWS, Compared, compare_earlier, find_proven
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import JournalReader, Packages
from tidemill.core.route import Arm
from tidemill.data.arrays import Floats
from tidemill.data.metrics import worse_by
from tidemill.errors import TidemillError
from tidemill.monitoring.stored_releases import StoredRelease, load_release
from tidemill.monitoring.windows import is_labelled, read_window, unpack_features

_PARTS = 1, 2  # the whole window and its newer half


def find_failed_window(policy: ModelPolicy, release: str, verdicts: Sequence[Verdict], now: datetime) -> timedelta:
    """Return the window of a metric that was beyond its limit in its newest verdict on a release; zero if none was.

    It need not be significant: the comparison has its own proof. `verdicts` are those of the check `performance` on the
    release, the newest first. One that is older than the window counts for nothing.
    """
    newest: dict[str, Verdict] = {}
    for judged in verdicts:
        newest.setdefault(str(judged.evidence.get("metric")), judged)
    lengths = [
        parse_duration(value.window)
        for value in policy.watch.values
        if (verdict := newest.get(value.value)) is not None
        and verdict.subject == release
        and _is_beyond(verdict)
        and verdict.time is not None
        and now - verdict.time < parse_duration(value.window)
    ]
    return max(lengths, default=timedelta(0))


def _is_beyond(verdict: Verdict) -> bool:
    found = verdict.evidence
    if verdict.outcome == "fail":
        return True
    if verdict.outcome != "undecided" or found.get("value") is None:
        return False
    return bool(worse_by(found["metric"], found["value"], found["reference"]) > found["limit"])


def judge_earlier(
    policy: ModelPolicy,
    champion: Arm,
    earlier: Sequence[Arm],
    packages: Packages,
    journal: JournalReader,
    window: timedelta,
    now: datetime,
    examine: Callable[[str, StoredRelease], str],
) -> Verdict | None:
    """Return a verdict that recalls an earlier release; None if none is proven to be better than the champion.

    A release that cannot be loaded, cannot predict the rows, or that `examine` refuses is not recalled.
    """
    rows = read_window(journal, policy.name, now - window, now, champion.release)
    if rows.is_empty():
        return None
    deployed = load_release(packages, champion.package)
    rows = rows.filter(is_labelled(rows, deployed.manifest.signature)).sort("time")
    if rows.height < LEAST_ROWS:
        return None
    features, truth = unpack_features(rows), rows["truth"]
    refused: dict[str, str] = {}

    def compute(arm: Arm) -> Floats | None:
        try:
            losses = load_release(packages, arm.package).compute_losses(features, truth)
        except Exception as error:  # noqa: BLE001 - a package of another version can fail in any way
            refused[arm.release] = str(getattr(error, "problem", error))
            return None
        return losses if np.isfinite(losses).all() else None

    own = compute(champion)
    if own is None:
        return None
    losses = {arm.release: found for arm in earlier if (found := compute(arm)) is not None}
    packages_of = {arm.release: arm.package for arm in earlier}
    confidence = 1 - (1 - policy.gate.confidence) / len(_PARTS)
    # What began in the window is proven sooner by its newer half.
    for size in (rows.height // part for part in _PARTS):
        if size < LEAST_ROWS:
            break
        compared = compare_earlier(own[-size:], {name: found[-size:] for name, found in losses.items()}, confidence)
        for proven in find_proven(compared, policy.gate.margin):
            if proven.release in refused:
                continue
            problem = _examine(proven.release, load_release(packages, packages_of[proven.release]), examine)
            if problem:
                refused[proven.release] = problem
                continue
            start = rows["known_at"].tail(size).min()
            assert isinstance(start, datetime)
            return _create_recall(champion, proven, compared, float(own[-size:].mean()), size, start, refused)
    return None


def _examine(label: str, release: StoredRelease, examine: Callable[[str, StoredRelease], str]) -> str:
    try:
        return examine(label, release)
    except TidemillError as error:
        return error.problem


def _create_recall(
    champion: Arm,
    proven: Compared,
    compared: Sequence[Compared],
    loss: float,
    rows: int,
    start: datetime,
    refused: dict[str, str],
) -> Verdict:
    reason = (
        f"{proven.release} is proven to be better than {champion.release} on its newest {rows} labelled rows: "
        f"loss {proven.loss:.4f} against {loss:.4f}, at least {proven.least:.4f} lower"
    )
    evidence = {
        "rows": rows,
        "labelled": rows,
        "by": "quality",
        "loss": loss,
        "start": start.isoformat(),
        "compared": [
            {"release": one.release, "loss": one.loss, "least": one.least, "fits": one.release == proven.release}
            for one in compared
        ],
        **({"refused": refused} if refused else {}),
    }
    return Verdict(
        check="regime",
        subject=champion.release,
        reference=proven.release,
        outcome="fail",
        action="recall",
        reason=reason,
        evidence=evidence,
    )

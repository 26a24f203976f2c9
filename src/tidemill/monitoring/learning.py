"""How long labels wait until answers use them: from a label to the first answer of a release that learned it."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl
from msgspec import convert

from tidemill.checks.learning import LabelWait, Learning, check_learning
from tidemill.core.check import Verdict
from tidemill.core.model import Model
from tidemill.core.resources import JournalReader
from tidemill.core.route import Route
from tidemill.core.watch import WatchValue
from tidemill.monitoring.learned import FILE, LearnedRows, read_learned_rows, read_learning, read_unlearned
from tidemill.monitoring.windows import is_labelled


def evaluate_learning(
    value: WatchValue,
    champion: Model,
    route: Route,
    journal: JournalReader,
    now: datetime,
    earlier: Sequence[Verdict],
) -> Verdict:
    """Return the verdict on how long labels waited, and wait now, until answers use them.

    `earlier` are earlier verdicts on this champion, newest first: its first answer is searched only once.
    """
    arm = route.arm("champion")
    assert arm is not None
    manifest = champion.manifest
    if manifest.flavor != "river":
        return Verdict(
            check="learning",
            subject=arm.release,
            outcome="undecided",
            action="hold",
            reason=f"a {manifest.flavor} model learns no single labels",
            evidence={"limit": value.limit},
        )
    learned = read_learned_rows(champion)
    if FILE not in champion.files and learned.since is None:
        # A training without feedback: labels from before it served anything are not for it.
        learned = LearnedRows(since=route.since)
    rows = read_unlearned(journal, manifest.name, learned, now)
    if rows.width:
        rows = rows.filter(is_labelled(rows, manifest.signature))
    oldest = rows["first_known_at"].min() if rows.height else None
    assert oldest is None or isinstance(oldest, datetime)
    learning = read_learning(manifest)
    answer = _find_first_answer(learning, manifest.name, arm.release, journal, now, earlier)
    wait = LabelWait(waiting=rows.height, oldest=oldest, learning=learning, first_answer=answer)
    return check_learning(wait, now, subject=arm.release, limit=value.limit, action=value.action)


def _find_first_answer(
    learning: Learning | None,
    model: str,
    release: str,
    journal: JournalReader,
    now: datetime,
    earlier: Sequence[Verdict],
) -> datetime | None:
    """Return when a release first answered a request; None if it has learned no labels, or has not answered yet."""
    if learning is None:
        return None
    for verdict in earlier:
        known = verdict.evidence.get("first_answer")
        if verdict.check == "learning" and verdict.subject == release and known is not None:
            return convert(known, datetime)
    answers = journal.read(f"predictions/{model}", learning.labels.last, now)
    if answers.is_empty():
        return None
    first = answers.filter(pl.col("release") == release, pl.col("role") != "shadow")["known_at"].min()
    assert first is None or isinstance(first, datetime)
    return first

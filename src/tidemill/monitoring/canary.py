"""The canary: judges a challenger by what it and the champion answered since it started."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.guards import Answers, LiveBehaviour
from tidemill.checks.traffic import (
    CanaryClock,
    LossComparison,
    check_answers,
    check_traffic,
    compare_arms,
    compare_pairs,
)
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.model import Signature
from tidemill.core.policy import ModelPolicy
from tidemill.core.prediction import failures_kind
from tidemill.core.resources import JournalReader
from tidemill.core.rollout import Rollout
from tidemill.core.route import Role, Route
from tidemill.data.arrays import Floats, Ints
from tidemill.data.metrics import losses, restrict_classes
from tidemill.data.spellings import unify_columns
from tidemill.monitoring.windows import extract_scores, is_labelled, read_truth, read_window

_RECENT = timedelta(days=1)  # without a canary, failures of the champion in this time are counted
_BLOCKS_AT_LEAST = 8  # in the longest canary
_PARTS = 12  # of a block
_FEW_PARTS = 3  # with rows in fewer parts of a block, they arrived in batches
_LEAST_TIME = timedelta(days=3)  # before, rows cannot show how much days differ


class Arms(Struct, frozen=True):
    """The rows that champion and challenger answered in a canary, with `truth` where it is known."""

    champion: pl.DataFrame
    challenger: pl.DataFrame

    @property
    def pairs(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the rows of the champion and of the challenger with the same ids, in the order of time."""
        if not (self.champion.width and self.challenger.width):
            return self.champion.head(0), self.challenger.head(0)
        shared = self.champion.select("id").join(self.challenger.select("id"), on="id")
        champion, challenger = (
            rows.join(shared, on="id", how="semi").sort("known_at", "id") for rows in (self.champion, self.challenger)
        )
        return champion, challenger


def find_canary_start(routes: Sequence[Route]) -> datetime:
    """Return the time since which the champion and the challenger of the last route have been the same.

    Another share is the same canary: what it has proven so far counts.
    """
    current = routes[-1]
    since = current.since
    for route in reversed(routes):
        if _find_releases(route) != _find_releases(current):
            break
        since = route.since
    return since


def validate_online(
    policy: ModelPolicy,
    signatures: dict[str, Signature],
    route: Route,
    journal: JournalReader,
    now: datetime,
    since: datetime | None = None,
    *,
    is_awaited: bool = False,
) -> list[Verdict]:
    """Return the verdict on a route's challenger, if there is one, and those on a champion that fails to answer.

    Rows of a bound release are no part of the canary; one that fails to answer them has a verdict too.

    Parameters
    ----------
    policy
        the policy of the model.
    signatures
        the signatures of the route's releases, by label.
    route
        the current route.
    journal
        the journal with predictions, failures and labels.
    now
        the time of the look.
    since
        the start of the canary; by default the time of the route.
    is_awaited
        whether a newer release waits for the end of the canary.
    """
    champion, challenger = route.arm("champion"), route.arm("challenger")
    if champion is None:
        return []
    recent = max(route.since, now - _RECENT)
    bound = [verdict for arm in route.bound for verdict in _judge_answers(policy, arm.release, journal, recent, now)]
    if challenger is None:
        return [*_judge_answers(policy, champion.release, journal, recent, now), *bound]
    since = since or route.since
    rows = read_window(journal, policy.name, since, now)
    rows = unify_columns(rows, {"truth": policy.problem.spellings})
    arms = Arms(*(_select(rows, label) for label in (champion.release, challenger.release)))
    failures = journal.read(failures_kind(policy.name), since, now)
    behaviour = _find_behaviour(arms, failures, champion.release, challenger.release, signatures)
    ours, theirs = signatures[challenger.release], signatures[champion.release]
    clock = _find_clock(policy.rollout, arms, ours, since, now)
    traffic = check_traffic(
        _compare(arms, theirs, ours, policy.rollout, since, now),
        policy.rollout,
        subject=challenger.release,
        reference=champion.release,
        clock=replace(clock, share=challenger.share, is_awaited=is_awaited),
        behaviour=behaviour,
    )
    answers = check_answers(behaviour, policy.rollout.failures, subject=champion.release)
    return [traffic, *([answers] if answers else []), *bound]


def _judge_answers(
    policy: ModelPolicy, release: str, journal: JournalReader, since: datetime, now: datetime
) -> list[Verdict]:
    failures = journal.read(failures_kind(policy.name), since, now)
    if failures.is_empty():
        return []
    rows = _select(journal.read(f"predictions/{policy.name}", since, now), release)
    behaviour = LiveBehaviour(champion=_count_answers(rows, failures, release))
    answers = check_answers(behaviour, policy.rollout.failures, subject=release)
    return [answers] if answers else []


def _find_releases(route: Route) -> list[str]:
    roles: tuple[Role, ...] = ("champion", "challenger")
    return [arm.release for role in roles if (arm := route.arm(role))]


def _select(rows: pl.DataFrame, label: str) -> pl.DataFrame:
    return rows.filter(pl.col("release") == label) if rows.width else rows


def _find_clock(rollout: Rollout, arms: Arms, signature: Signature, since: datetime, now: datetime) -> CanaryClock:
    """Return how far the canary is: after its maximum it continues while labels arrive, up to its extension."""
    maximum, block = parse_duration(rollout.maximum), _find_block(rollout)
    blocks, age = maximum // block, _count_blocks(block, since, now) * block
    early = age < min(parse_duration(rollout.shortest), maximum)
    if age < maximum:
        return CanaryClock(early=early, blocks=blocks)
    rows = arms.challenger
    labelled = rows.filter(is_labelled(rows, signature)) if rows.height else rows
    newest = labelled["truth_known_at"].max() if labelled.height else None
    still_arriving = isinstance(newest, datetime) and now - newest <= maximum / 2
    extended = still_arriving and age <= maximum + parse_duration(rollout.extension)
    return CanaryClock(extended=extended, ended=not extended, blocks=blocks)


def _find_block(rollout: Rollout) -> timedelta:
    return min(parse_duration(rollout.block), parse_duration(rollout.maximum) / _BLOCKS_AT_LEAST)


def _count_blocks(block: timedelta, since: datetime, now: datetime) -> int:
    """Return the age of a canary in blocks, to the nearest.

    A canary begins when the training that a daily look asked for has ended: each next look is a little less than whole
    days later.
    """
    return int((now - since) / block + 0.5)


def _compare(
    arms: Arms, champion: Signature, challenger: Signature, rollout: Rollout, since: datetime, now: datetime
) -> LossComparison:
    """Compare the losses on the rows that both answered; on the rows of each where both answered few."""
    common = tuple(name for name in champion.classes if name in challenger.classes)
    block = _find_block(rollout)
    part = block / _PARTS
    closed = _count_blocks(block, since, now)

    def measure(rows: pl.DataFrame, signature: Signature) -> tuple[Floats, Ints]:
        rows = _filter_labelled(rows, champion, common)
        if rows.is_empty():
            return np.empty(0), np.empty(0, dtype=np.int64)
        return _compute_losses(rows, signature, common), _find_parts(rows, since, part)

    pairs = arms.pairs
    paired, shadowed = measure(pairs[0], champion), measure(pairs[1], challenger)
    own = measure(arms.champion, champion), measure(arms.challenger, challenger)
    if 4 * len(paired[0]) >= min(len(own[0][0]), len(own[1][0])):
        parts = shadowed[1]
        in_batches = len(np.unique(parts)) < _FEW_PARTS * len(np.unique(parts // _PARTS))
        shows_days = not in_batches and closed * block >= _LEAST_TIME
        return compare_pairs(shadowed[0], paired[0], parts // _PARTS, closed, shows_days=shows_days)
    ours, theirs = ((losses, parts // _PARTS) for losses, parts in (own[1], own[0]))
    return compare_arms(ours, theirs, closed)


def _filter_labelled(rows: pl.DataFrame, champion: Signature, common: tuple[str, ...]) -> pl.DataFrame:
    """Return the rows with a label that both releases can predict."""
    if rows.is_empty():
        return rows
    truth = read_truth(rows["truth"], champion)
    return rows.filter(truth.is_in(list(common)) if common else truth.is_not_null())


def _find_parts(rows: pl.DataFrame, since: datetime, part: timedelta) -> Ints:
    microseconds = (rows["known_at"] - since).dt.total_microseconds().to_numpy()
    return np.asarray(microseconds // max(part // timedelta(microseconds=1), 1), dtype=np.int64)


def _compute_losses(rows: pl.DataFrame, signature: Signature, common: tuple[str, ...]) -> Floats:
    truth, scores = extract_scores(rows, signature)
    if common in ((), signature.classes) or not len(scores):
        return losses(truth, scores)
    return losses(*restrict_classes(truth, scores, common))


def _find_behaviour(
    arms: Arms, failures: pl.DataFrame, champion: str, challenger: str, signatures: dict[str, Signature]
) -> LiveBehaviour:
    pairs = arms.pairs
    ours = failures
    if failures.width:
        # A row that the champion fails on too is no fault of the challenger.
        ids = failures.filter(pl.col("release") == champion)["id"]
        ours = failures.filter(~pl.col("id").is_in(ids.implode()))
    return LiveBehaviour(
        challenger=_count_answers(arms.challenger, ours, challenger),
        champion=_count_answers(arms.champion, failures, champion),
        predictions=_pair_predictions(pairs, signatures[champion], signatures[challenger]),
        milliseconds=(_read_times(pairs[1]), _read_times(pairs[0])),
    )


def _count_answers(rows: pl.DataFrame, failures: pl.DataFrame, label: str) -> Answers:
    failed = _select(failures, label)
    requests = failed["known_at"].n_unique() if failed.width else 0
    return Answers(asked=rows.height + failed.height, failed=failed.height, requests=requests)


def _pair_predictions(
    pairs: tuple[pl.DataFrame, pl.DataFrame], champion: Signature, challenger: Signature
) -> tuple[tuple[Floats, Floats], ...]:
    """Return the predictions of challenger and champion on the same rows: numbers, or probabilities of each class."""
    if pairs[0].is_empty():
        return ()
    if champion.task == "regression":
        return ((pairs[1]["value"].to_numpy(), pairs[0]["value"].to_numpy()),)
    names = [name for name in champion.classes if name in challenger.classes]
    names = names[1:] if champion.classes == challenger.classes and len(names) == 2 else names

    def read(rows: pl.DataFrame, signature: Signature, name: str) -> Floats:
        return rows["probability"].list.get(signature.classes.index(name), null_on_oob=True).to_numpy()

    return tuple((read(pairs[1], challenger, name), read(pairs[0], champion, name)) for name in names)


def _read_times(rows: pl.DataFrame) -> Floats:
    """Return the milliseconds of a row; empty for rows that an older version stored."""
    if "milliseconds" not in rows.columns:
        return np.empty(0)
    return rows["milliseconds"].drop_nulls().to_numpy()

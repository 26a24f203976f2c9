"""`backtest --tune`: chooses a policy on the first part of the history and judges it on later rows."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tidemill.backtest.answers import list_labels
from tidemill.backtest.comparison import (
    LossDifference,
    Period,
    PolicyResult,
    compute_difference,
    compute_mean_loss,
)
from tidemill.backtest.costs import Cost, CostRates, compute_cost, find_rates
from tidemill.backtest.evaluations import Evaluations, TuneProgress
from tidemill.backtest.expectation import predict_count, predict_mean
from tidemill.backtest.knobs import KnobName, Space, describe_settings
from tidemill.backtest.policies import build_calendar_policy
from tidemill.backtest.search import Evaluation, Search
from tidemill.backtest.sources import ReplaySources
from tidemill.clock import parse_duration
from tidemill.compose.session import open_history
from tidemill.core.columns import TIME
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError
from tidemill.project.project import Project
from tidemill.project.rhythm import NEEDED_LABELS, NEEDED_WEEKS, SHARE_TO_CHOOSE

Decision = Literal["better", "cheaper", "not confirmed", "nothing better", "too few rows"]
_SHARE_TO_JUDGE = 0.35  # the part of the budget that the judgement gets
TUNED, WRITTEN, CALENDAR, WRITTEN_CALENDAR = "tuned", "written", "calendar", "written calendar"


class Judgement(Struct, frozen=True, kw_only=True):
    """A policy on rows that it was not chosen on.

    `difference` is the mean loss of the tuned policy minus that of this one; None for the tuned policy itself.
    """

    name: str
    settings: str
    loss: float
    metrics: dict[str, float]
    trainings: int
    cost: Cost
    wrong_promotions: int
    difference: LossDifference | None = None


class TunedPromise(Struct, frozen=True, kw_only=True):
    """The mean loss on the rows to choose on, its 95 % prediction interval for the later rows, and the loss there.

    The retrainings on the later rows have such an interval too.
    """

    loss: float
    low: float
    high: float
    observed: float
    trainings: tuple[int, int]
    observed_trainings: int

    @property
    def holds(self) -> bool:
        """Whether the loss is not above its interval (a lower one breaks nothing), and the trainings are in theirs."""
        least, most = self.trainings
        return self.observed <= self.high and least <= self.observed_trainings <= most


class TuningResult(Struct, frozen=True, kw_only=True):
    """The result of a search: what it chose, on which rows, and how that did on later rows.

    `chosen` and `difference` (the loss of the chosen policy minus that of the policy as written) are on the rows to
    choose on, `judgements` on the later rows; the first judgement is of the tuned policy. `results` are their replays.
    `promise` compares the tuned policy on both; None with fewer than three weeks.
    """

    project: str
    model: str
    metric: str
    loss_name: str
    decision: Decision
    reason: str
    choose: Period
    judge: Period
    rates: CostRates
    settings: dict[KnobName, str] = {}
    evaluations: list[Evaluation] = []
    failed: dict[str, str] = {}
    difference: LossDifference | None = None
    judgements: list[Judgement] = []
    results: dict[str, PolicyResult] = {}
    promise: TunedPromise | None = None
    is_complete: bool = True
    seconds: float = 0.0

    @property
    def changes_policy(self) -> bool:
        """Whether the search proposes a change."""
        return self.decision in ("better", "cheaper")

    @property
    def settings_text(self) -> str:
        """The chosen settings as a text."""
        return describe_settings(self.settings)

    @property
    def chosen(self) -> Evaluation | None:
        """The chosen policy on the rows to choose on."""
        whole = [evaluation for evaluation in self.evaluations if not evaluation.is_scan]
        return next((evaluation for evaluation in whole if evaluation.settings == self.settings), None)


def tune(
    project: Project, model: str, period: Period, budget: timedelta, folder: Path, report_progress: TuneProgress
) -> tuple[TuningResult, Policy]:
    """Search for a policy, and return the result with the policy that it proposes (the present one for no change).

    Parameters
    ----------
    project
        The project.
    model
        The name of the model; empty for the only one.
    period
        The rows to predict: the first part chooses, the rest judges.
    budget
        About how long the search may take. Results are stored in `folder`, so that a second call continues.
    folder
        The folder of the search.
    report_progress
        Is called with a line for each policy.

    Raises
    ------
    InputError
        if the source has no event time.
    TidemillError
        if the policy as it is written cannot be replayed.
    """
    began = time.monotonic()
    name = project.model(model).name
    choose, judge = split_period(period)
    rates, history, reason = _measure_rows(project, name, choose, judge)
    problem = project.model(name).problem
    common = {
        "project": project.name,
        "model": name,
        "metric": problem.metric,
        "loss_name": "squared error" if problem.task == "regression" else "log loss",
        "choose": choose,
        "judge": judge,
        "rates": rates,
    }
    if reason:
        return TuningResult(decision="too few rows", reason=reason, **common), project.policy  # type: ignore[arg-type]
    definition = project.policy.sources[problem.source]
    space = Space(
        project.policy,
        name,
        history=history,
        period=choose.end - choose.begin,
        delivery=parse_duration(definition.delivery or "1d"),
    )
    evaluations = Evaluations(project, name, folder, report_progress)
    report_progress(f"choosing on {_describe(choose)}")
    seconds = budget.total_seconds() * (1 - _SHARE_TO_JUDGE)
    search = Search(space, evaluations, choose, rates, seconds, report_progress)
    chosen = search.run()
    if not search.is_complete:
        report_progress("  the time of the search is over; a second call continues it with --budget of more time")
    policy = space.apply(chosen.settings)
    report_progress(f"judging on {_describe(judge)}")
    results = _judge(space, chosen, policy, judge, evaluations)
    judgements = _list_judgements(results, chosen, rates)
    written = search.evaluated[0]
    difference = compute_difference([chosen.result], [written.result]) if chosen.settings else None
    decision, reason = _decide(chosen, written, difference, judgements, is_complete=search.is_complete)
    evaluations.clean()
    result = TuningResult(
        decision=decision,
        reason=reason,
        settings=chosen.settings,
        evaluations=search.evaluated,
        failed=search.failed,
        difference=difference,
        judgements=judgements,
        results=results,
        promise=_compare_with_promise(chosen.result, results[TUNED], choose, judge),
        is_complete=search.is_complete,
        seconds=time.monotonic() - began,
        **common,  # type: ignore[arg-type]
    )
    return result, policy if result.changes_policy else project.policy


def split_period(period: Period) -> tuple[Period, Period]:
    """Return the rows to choose on and the later rows to judge on; the second begins at midnight."""
    middle = period.begin + (period.end - period.begin) * SHARE_TO_CHOOSE
    middle = max(middle.replace(hour=0, minute=0, second=0, microsecond=0), period.begin)
    return Period(period.begin, middle), Period(middle, period.end)


def _measure_rows(project: Project, model: str, choose: Period, judge: Period) -> tuple[CostRates, timedelta, str]:
    """Return the cost rates, the length of the history before the period, and why the rows are too few, if they are."""
    policy = project.model(model)
    source = policy.problem.source
    options = project.policy.backtest
    sources = ReplaySources(project.folder, open_history(project), source, choose.begin, options)
    labels = list_labels(sources.rows, policy.problem)
    reason = ""
    for period, what in ((choose, "choose a policy on"), (judge, "judge it on")):
        count = labels.filter(labels["time"].is_between(period.begin, period.end, closed="left")).height
        weeks = (period.end - period.begin) / timedelta(weeks=1)
        if weeks < NEEDED_WEEKS or count < NEEDED_LABELS:
            reason = (
                f"there are too few rows to {what}: {count:,} labelled rows in {weeks:.1f} weeks "
                f"({_describe(period)}), and {NEEDED_LABELS} in {NEEDED_WEEKS} weeks are needed"
            )
            break
    inside = labels.filter(labels["time"].is_between(choose.begin, choose.end, closed="left"))["value"]
    rates = find_rates(policy.problem, inside if inside.len() else labels["value"])
    return rates, choose.begin - sources.rows[TIME][0], reason


def _judge(
    space: Space, chosen: Evaluation, policy: Policy, judge: Period, evaluations: Evaluations
) -> dict[str, PolicyResult]:
    """Return the replays on the later rows: the tuned policy, the written one, and calendars of as many trainings."""
    plans = {TUNED: policy, WRITTEN: space.policy} if chosen.settings else {TUNED: policy}
    results = _require(evaluations.replay(plans, judge))
    trainings = results[TUNED].trainings
    calendars = {CALENDAR: build_calendar_policy(policy, judge, trainings)}
    if "window" in chosen.settings:
        calendars[WRITTEN_CALENDAR] = build_calendar_policy(space.policy, judge, trainings)
    results |= _require(evaluations.replay(calendars, judge))
    return results


def _require(results: dict[str, PolicyResult | TidemillError]) -> dict[str, PolicyResult]:
    replayed = {}
    for name, result in results.items():
        if isinstance(result, TidemillError):
            raise TidemillError(f"the policy {name!r} cannot be judged: {result.problem}", result.cure)
        replayed[name] = result
    return replayed


def _compare_with_promise(
    chosen: PolicyResult, later: PolicyResult, choose: Period, judge: Period
) -> TunedPromise | None:
    """Return what the rows to choose on promise of a policy, and what the later rows show; None with too few weeks."""
    days, later_days = ((period.end - period.begin) / timedelta(days=1) for period in (choose, judge))
    interval = predict_mean([(rows, loss) for _, rows, loss in chosen.weeks], len(later.weeks))
    if interval is None:
        return None
    return TunedPromise(
        loss=compute_mean_loss([chosen]),
        low=interval[0],
        high=interval[1],
        observed=compute_mean_loss([later]),
        trainings=predict_count(max(chosen.trainings - 1, 0), days, later_days),
        observed_trainings=max(later.trainings - 1, 0),
    )


def _list_judgements(results: dict[str, PolicyResult], chosen: Evaluation, rates: CostRates) -> list[Judgement]:
    about = {
        TUNED: describe_settings(chosen.settings),
        WRITTEN: "as written",
        CALENDAR: "a calendar of as many trainings, on the same rows as the tuned policy",
        WRITTEN_CALENDAR: "a calendar of as many trainings, on the rows of the policy as written",
    }
    return [
        Judgement(
            name=name,
            settings=about[name],
            loss=compute_mean_loss([result]),
            metrics=result.metrics,
            trainings=result.trainings,
            cost=compute_cost(result, rates),
            wrong_promotions=result.wrong_promotions,
            difference=None if name == TUNED else compute_difference([results[TUNED]], [result]),
        )
        for name, result in results.items()
    ]


def _decide(
    chosen: Evaluation,
    written: Evaluation,
    difference: LossDifference | None,
    judgements: list[Judgement],
    *,
    is_complete: bool,
) -> tuple[Decision, str]:
    """Return whether to propose the chosen policy, by the later rows, and why."""
    if not chosen.settings or difference is None:
        so_far = "" if is_complete else " so far"
        return "nothing better", f"no policy was cheaper than the one as written on the rows to choose on{so_far}"
    tuned = judgements[0]
    other = next(judgement for judgement in judgements if judgement.name == WRITTEN)
    later = other.difference
    assert later is not None
    interval = f"{later.mean:+.4f} ({later.low:+.4f} to {later.high:+.4f})"
    costs = f"cost {tuned.cost.total:.1f} instead of {other.cost.total:.1f}"
    if later.high < 0 and tuned.cost.total < other.cost.total:
        return "better", f"its loss is lower on the later rows, too: {interval}; {costs}"
    saves = tuned.trainings < other.trainings and chosen.trainings < written.trainings
    if tuned.cost.total < other.cost.total and later.low <= 0 and (difference.high < 0 or saves):
        return "cheaper", f"its loss does not differ beyond the interval on the later rows: {interval}; {costs}"
    return "not confirmed", f"the later rows do not confirm it: loss {interval}; {costs}"


def _describe(period: Period) -> str:
    return f"{period.begin:%Y-%m-%d} to {period.end:%Y-%m-%d}"

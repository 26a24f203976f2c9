"""Regimes: decides whether the champion still fits the newest rows, and which earlier release fits better (recall)."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct

from tidemill.core.model import PredictionTask
from tidemill.data.arrays import Booleans, Floats

# A row exceeds a level if its loss is above that share's quantile of the held-out losses. If a model fits, a share of
# about `level` of the rows exceeds it; if it does not, a share of one of the rates does.
_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)
_RATES = (0.25, 0.5, 0.8)
_NOVEL_RATES = (0.5, 0.8)
_UNKNOWING_RATE = 0.5
_STORED_LOSSES = 257
_LEAST_ACCEPTANCE = 3.0
_MOST_REJECTION = 3.0
_LEAST_DEVIATIONS = 2.0
_LEAST_ROWS_TO_CONTRADICT = 20
_LEAST_NOVEL_ROWS = 20
_LEAST_FADED_ROWS = 25
_LEAST_EXCESS = 2.0
_LEAST_UNLABELLED_ROWS = 8
_LEAST_LOG_LOSS = 0.2
_MOST_LOG_LOSS = float(-np.log(0.01))
_LEAST_SHARE = 0.5
_OUTLIER = 4.0
_CHOICE_DEVIATIONS = 1.64

RegimeOutcome = Literal["fits", "recall", "novel"]
By = Literal["", "labels", "features"]


class ErrorProfile(Struct, frozen=True, kw_only=True):
    """The losses of a model on `rows` held-out rows: mean, variance, and at most 257 of the sorted losses.

    `baseline` is the mean loss of the trivial baseline on these rows; None if it is unknown.
    """

    rows: int
    mean: float
    variance: float
    losses: tuple[float, ...]
    baseline: float | None = None

    @property
    def knows(self) -> bool:
        """Return whether the model is better than the trivial baseline: one that is not fits any rows, and none."""
        return self.baseline is None or self.mean < self.baseline


def profile_errors(losses: Floats, baseline: float | None = None) -> ErrorProfile:
    """Return the error profile of a model from its losses on rows that it has not learned, shape (rows,).

    Losses that are not finite are excluded. `baseline` is the mean loss of the trivial baseline on these rows.

    >>> profile_errors(np.array([0.5, 0.1, 0.3])).losses
    (0.1, 0.3, 0.5)
    """
    values = np.sort(losses[np.isfinite(losses)])
    if not len(values):
        return ErrorProfile(rows=0, mean=0.0, variance=0.0, losses=(), baseline=baseline)
    kept = np.linspace(0, len(values) - 1, min(len(values), _STORED_LOSSES)).round().astype(int)
    return ErrorProfile(
        rows=len(values),
        mean=float(values.mean()),
        variance=float(values.var()),
        losses=tuple(values[kept].tolist()),
        baseline=baseline,
    )


class Rejection(NamedTuple):
    """The evidence (in nats) that the newest rows do not fit an error profile: those from the index `start` on.

    It is the largest log-likelihood ratio of "a share `rate` of the rows exceeds `threshold`" to "a share `share`
    does", which is the share of the held-out rows.
    """

    evidence: float
    start: int
    threshold: float
    share: float
    rate: float


def reject(losses: Floats, profile: ErrorProfile, rates: Sequence[float] = _RATES) -> Rejection:
    """Return the evidence that the newest of some losses (in the order of their rows) do not fit a profile.

    It is the CUSUM statistic (Page 1954) with the start of the change unknown, for each of several levels and of the
    `rates`. A loss that is not finite exceeds each level.
    """
    best = Rejection(0.0, len(losses), np.inf, 0.0, 1.0)
    for threshold, share in _find_thresholds(profile):
        exceeds = ~(losses <= threshold)
        for rate in rates:
            if rate < _LEAST_EXCESS * share:
                continue
            sums = np.cumsum(_log_ratios(exceeds, share, rate)[::-1])
            at = int(sums.argmax()) if len(sums) else 0
            if len(sums) and sums[at] > best.evidence:
                best = Rejection(float(sums[at]), len(losses) - 1 - at, threshold, share, rate)
    return best


def _find_thresholds(profile: ErrorProfile) -> list[tuple[float, float]]:
    """Return thresholds of losses, each with the share of the rows above it that is expected if the model fits."""
    stored = np.asarray(profile.losses)
    if not len(stored):
        return []
    thresholds = {float(stored[int((1 - level) * (len(stored) - 1))]) for level in _LEVELS}
    above = {threshold: float((stored > threshold).mean()) * profile.rows for threshold in thresholds}
    return [(threshold, (count + 1) / (profile.rows + 2)) for threshold, count in above.items()]


def _log_ratios(exceeds: Booleans, share: float, rate: float) -> Floats:
    return np.asarray(np.where(exceeds, np.log(rate / share), np.log((1 - rate) / (1 - share))), dtype=np.float64)


class Settings(NamedTuple):
    """How much evidence a decision needs: `evidence` in nats for a recall by labels, `novel` for all other changes.

    `features` is whether inputs alone can decide where there are no labels. The losses of a `task` are log losses or
    squared errors.
    """

    evidence: float = 7.0
    novel: float = 12.0
    features: bool = True
    task: PredictionTask = "classification"

    def find_least_increase(self, profile: ErrorProfile) -> float:
        """Return the least increase of the mean loss that matters: 0.2 of a log loss, half of a squared error."""
        return _LEAST_LOG_LOSS if self.task == "classification" else _LEAST_SHARE * profile.mean

    def clip(self, losses: Floats, profile: ErrorProfile) -> Floats:
        """Return losses without outliers, for a mean: a probability counts as at least 0.01."""
        most = _MOST_LOG_LOSS if self.task == "classification" else _OUTLIER * max(profile.losses, default=0.0)
        return np.minimum(np.nan_to_num(losses, nan=np.inf), most)


class InputFit(NamedTuple):
    """How the newest rows fit the inputs of a stored release better than those of the champion.

    `evidence` is in nats, for the rows from the index `start` on; `fits` is whether these rows fit the release.
    """

    evidence: float
    start: int
    fits: bool


class RegimeWindow(NamedTuple):
    """The newest rows of a stream, oldest first.

    Attributes
    ----------
    labelled
        Which rows have a label, shape (rows,).
    losses
        Returns the losses of a release on the labelled rows, shape (labelled rows,); None if it cannot predict them.
    inputs
        Returns how the rows fit the inputs of stored releases better than those of the champion, in their order; only
        called if the champion's inputs are rejected.
    inputs_changed
        Returns whether the newest rows may not be from the inputs of the champion.
    replaced
        The release that the champion replaced, if the champion was recalled; empty otherwise.
    """

    labelled: Booleans
    losses: Callable[[str], Floats | None]
    inputs: Callable[[Sequence[str]], list[InputFit]]
    inputs_changed: Callable[[], bool]
    replaced: str = ""


class Tried(NamedTuple):
    """A stored release that was compared on the rows that the champion does not fit: its mean loss, and the result.

    It was compared on the newest of these rows, from the index `start` on, on which the champion's loss is `champion`.
    """

    release: str
    loss: float
    accepted: float
    rejected: float
    fits: bool
    start: int = 0
    champion: float = 0.0


class RegimeDecision(NamedTuple):
    """The decision on the newest rows: the champion `fits`, `recall` the release, or the regime is `novel`.

    `start` is the index of the first row of the change, among the rows of the window; `evidence` is in nats.
    """

    outcome: RegimeOutcome
    by: By = ""
    release: str = ""
    start: int = 0
    evidence: float = 0.0
    loss: float = 0.0
    tried: tuple[Tried, ...] = ()


def decide(
    champion: str,
    stored: Sequence[str],
    profiles: Callable[[str], ErrorProfile | None],
    window: RegimeWindow,
    settings: Settings,
) -> RegimeDecision:
    """Decide whether the champion fits the newest rows of a stream, and which stored release fits them better.

    Labels decide where there are some: the champion's losses are compared with its error profile, and only if they are
    rejected, the losses of the stored releases with theirs. A stored release is recalled if it fits the rows since the
    change, and is better than the champion on the same rows. A regime is novel only if at least about half of the
    newest rows exceed a level: a model that gets somewhat worse is no new regime. Features decide where fewer than 20
    rows since the change of the inputs have a label, and at least 8 have none.

    Where the first labels reject a recalled champion, and no release fits, the release that it replaced is recalled if
    it is clearly better on the same rows: the recall was wrong.

    A release that is not better than the trivial baseline knows no regime: it is never recalled, and as the champion it
    is treated as rejected on all rows.

    `stored` are the releases that can be recalled, the preferred first.
    """
    indices = np.flatnonzero(window.labelled)
    own = profiles(champion)
    losses = window.losses(champion) if len(indices) and own is not None and own.rows else None
    rejection = novel = None
    if own is not None and losses is not None:
        knows_nothing = Rejection(max(settings.evidence, settings.novel), 0, np.inf, 0.0, _UNKNOWING_RATE)
        rejection = reject(losses, own) if own.knows else knows_nothing
        novel = reject(losses, own, _NOVEL_RATES) if own.knows else knows_nothing
    if own is not None and losses is not None and rejection and novel and rejection.evidence >= settings.evidence:
        by_labels = _decide_by_labels(own, stored, profiles, window, settings, losses, rejection, novel)
        if by_labels.outcome != "fits":
            return by_labels._replace(start=int(indices[by_labels.start]))
        return by_labels
    unlabelled = len(window.labelled) - len(indices)
    if settings.features and stored and unlabelled >= _LEAST_UNLABELLED_ROWS and window.inputs_changed():
        knowing = [name for name in stored if (profile := profiles(name)) is None or profile.knows]
        return _decide_by_features(knowing, window, settings)
    return RegimeDecision("fits", evidence=rejection.evidence if rejection else 0.0)


def _decide_by_labels(
    own: ErrorProfile,
    stored: Sequence[str],
    profiles: Callable[[str], ErrorProfile | None],
    window: RegimeWindow,
    settings: Settings,
    losses: Floats,
    rejection: Rejection,
    novel: Rejection,
) -> RegimeDecision:
    clipped = settings.clip(losses, own)
    newest = clipped[rejection.start :]
    loss = float(newest.mean())
    increase = settings.find_least_increase(own)
    usual = float(settings.clip(np.asarray(own.losses), own).mean())
    if own.knows and loss - usual < increase:
        return RegimeDecision("fits", evidence=rejection.evidence)
    tried = []
    for release in stored:
        profile, others = profiles(release), window.losses(release)
        if profile is None or not profile.rows or not profile.knows or others is None:
            continue
        on_newest = settings.clip(others, own)[rejection.start :]
        compared = _try(release, on_newest, newest, profile, rejection.rate, len(stored))
        is_better = compared.champion - compared.loss >= increase / 2
        tried.append(compared._replace(fits=bool(compared.fits and is_better)))
    decision = RegimeDecision("novel", "labels", "", 0, rejection.evidence, loss, tuple(tried))
    fitting = [candidate for candidate in tried if candidate.fits]
    if not fitting and window.replaced in stored:
        fitting = _find_wrongly_replaced(window, settings, own, newest, rejection.start, increase)
    if fitting:
        best = min(fitting, key=lambda candidate: (-round(candidate.accepted, 6), candidate.loss))
        start = rejection.start + best.start
        return decision._replace(outcome="recall", release=best.release, start=start, loss=best.champion)
    is_new = novel.evidence >= settings.novel and len(losses) - novel.start >= _LEAST_NOVEL_ROWS
    is_new = is_new and (not own.knows or float(clipped[novel.start :].mean()) - usual >= increase)
    return decision._replace(start=novel.start) if is_new else decision._replace(outcome="fits")


def _find_wrongly_replaced(
    window: RegimeWindow, settings: Settings, own: ErrorProfile, champion: Floats, start: int, increase: float
) -> list[Tried]:
    """Return the release that the champion replaced, if its loss on the rows from an index on is clearly lower.

    It does not need to fit these rows: of two releases that do not, the better one serves until there is a model.
    """
    others = window.losses(window.replaced)
    if others is None or len(champion) < _LEAST_ROWS_TO_CONTRADICT:
        return []
    losses = settings.clip(others, own)[start:]
    differences = champion - losses
    mean, error = float(differences.mean()), float(differences.std()) / float(np.sqrt(len(differences)))
    if mean < increase / 2 or mean < _LEAST_DEVIATIONS * error:
        return []
    return [Tried(window.replaced, float(losses.mean()), 0.0, 0.0, fits=True, champion=float(champion.mean()))]


def _try(release: str, losses: Floats, champion: Floats, profile: ErrorProfile, rate: float, stored: int) -> Tried:
    """Compare a stored release with its own profile, and with the champion on the same rows.

    It is accepted if its losses are not as bad as those of the champion, of which a share of `rate` exceeds a level.
    While one regime fades into another, it fits only the newest of the rows: then it is compared on these, if they are
    at least 25, with more evidence.
    """
    sums = np.zeros(len(losses))
    for threshold, share in _find_thresholds(profile):
        if rate >= _LEAST_EXCESS * share:
            sums = np.maximum(sums, np.cumsum(-_log_ratios(~(losses <= threshold), share, rate)[::-1]))
    needed = _LEAST_ACCEPTANCE + np.log(max(stored, 1))
    whole = _compare(release, losses, champion, profile, float(sums[-1]), 0)
    at = int(sums.argmax())
    start = len(losses) - 1 - at
    if (whole.fits and whole.accepted >= needed) or not start or at + 1 < _LEAST_FADED_ROWS:
        return whole._replace(fits=whole.fits and whole.accepted >= needed)
    newest = _compare(release, losses[start:], champion[start:], profile, float(sums[at]), start)
    return newest._replace(fits=newest.fits and newest.accepted >= needed + _LEAST_ACCEPTANCE)


def _compare(
    release: str, losses: Floats, champion: Floats, profile: ErrorProfile, accepted: float, start: int
) -> Tried:
    against = reject(losses, profile, _NOVEL_RATES)
    differences = champion - losses
    mean, deviation = float(differences.mean()), float(differences.std())
    is_better = mean > 0 and mean * np.sqrt(len(differences)) >= _LEAST_DEVIATIONS * deviation
    fits = against.evidence < _MOST_REJECTION and is_better
    return Tried(release, float(losses.mean()), accepted, against.evidence, bool(fits), start, float(champion.mean()))


def _decide_by_features(stored: Sequence[str], window: RegimeWindow, settings: Settings) -> RegimeDecision:
    best: tuple[str, InputFit] | None = None
    for release, fit in zip(stored, window.inputs(stored), strict=True):
        labelled = window.labelled[fit.start :]
        undecided = labelled.sum() < _LEAST_ROWS_TO_CONTRADICT and (~labelled).sum() >= _LEAST_UNLABELLED_ROWS
        is_proof = fit.fits and fit.evidence >= settings.novel and undecided
        if is_proof and (best is None or fit.evidence > best[1].evidence):
            best = release, fit
    if best is None:
        return RegimeDecision("fits")
    return RegimeDecision("recall", "features", best[0], best[1].start, best[1].evidence)


def prefers_regime(
    of_all: Floats, of_regime: Floats, deviations: float = _CHOICE_DEVIATIONS, baseline: Floats | None = None
) -> bool:
    """Return whether a model of the regime's rows is clearly better than one of all rows, by losses on the same rows.

    If it is not, all rows are the better choice: their model also knows the earlier regimes. It is clear if the mean
    difference is more than so many standard errors above zero. Where a model of all rows is not better than the trivial
    `baseline`, it knows no regime, so the lower mean decides.
    """
    differences = of_all - of_regime
    if not len(differences):
        return False
    if baseline is not None and len(baseline) and of_all.mean() >= baseline.mean():
        return float(differences.mean()) > 0
    reach = deviations * float(differences.std()) / float(np.sqrt(len(differences)))
    return float(differences.mean()) > reach

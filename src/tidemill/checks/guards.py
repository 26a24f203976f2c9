"""Guard rails of a canary: what stops a challenger at once, without waiting for labels."""

import math

import numpy as np
from msgspec import Struct

from tidemill.core.rollout import Rollout
from tidemill.data.arrays import Floats

_PROOF = 1000.0  # the e-value at which a share of failures is above its limit: at most once in 1,000 canaries by chance
_MINIMUM_REQUESTS = 3  # failures in fewer requests may come from one odd request
_MINIMUM_PREDICTIONS = 100
_MINIMUM_TIMES = 20
_SLOW_MS = 100.0


class Answers(Struct, frozen=True, kw_only=True):
    """The rows that an arm was asked for, those that it failed on, and the number of requests with failures."""

    asked: int = 0
    failed: int = 0
    requests: int = 0

    @property
    def share(self) -> float:
        """Return the share of the rows that the arm failed on; 0 without rows."""
        return self.failed / self.asked if self.asked else 0.0


class LiveBehaviour(Struct, frozen=True, kw_only=True):
    """What the arms of a canary did, with and without labels.

    `predictions` are pairs of arrays, shape (rows,), of the challenger and the champion on the same rows: one pair for
    each class, or one of numbers. `milliseconds` are the times of a row, of the challenger and of the champion.
    """

    challenger: Answers = Answers()
    champion: Answers = Answers()
    predictions: tuple[tuple[Floats, Floats], ...] = ()
    milliseconds: tuple[Floats, Floats] = (np.empty(0), np.empty(0))


def fails_too_often(answers: Answers, limit: float) -> bool:
    """Return whether an arm fails on more than a share `limit` of its rows, beyond chance, at any number of looks.

    The e-value is the ratio of the likelihood of the failures under all shares (uniform) to that under `limit`: a
    mixture, so that it is valid at every look (Robbins 1970).
    """
    failed, answered = answers.failed, answers.asked - answers.failed
    if answers.requests < _MINIMUM_REQUESTS or answers.share <= limit:
        return False
    mixture = math.lgamma(failed + 1) + math.lgamma(answered + 1) - math.lgamma(answers.asked + 2)
    bound = failed * math.log(max(limit, 1e-9)) + answered * math.log1p(-min(limit, 1 - 1e-9))
    return mixture - bound > math.log(_PROOF)


def find_harm(rollout: Rollout, behaviour: LiveBehaviour, *, with_distance: bool) -> tuple[str, dict[str, float]]:
    """Return why the challenger must stop at once, or an empty text, and the numbers that were compared.

    `with_distance` is whether predictions that are far from the champion's are harm: not where labels show more.
    """
    challenger, champion = behaviour.challenger, behaviour.champion
    numbers: dict[str, float] = {}
    if challenger.failed or champion.failed:
        numbers = {
            "challenger_failed": challenger.failed,
            "challenger_asked": challenger.asked,
            "champion_failed": champion.failed,
            "champion_asked": champion.asked,
        }
    if fails_too_often(challenger, rollout.failures):
        problem = f"it failed to answer {challenger.failed} of {challenger.asked} rows that the champion can answer"
        return problem, numbers
    slow, times = _find_slowness(rollout, *behaviour.milliseconds)
    numbers |= times
    if slow:
        return slow, numbers
    distance = max((_find_distance(*pair) for pair in behaviour.predictions), default=0.0)
    if behaviour.predictions and len(behaviour.predictions[0][0]) >= _MINIMUM_PREDICTIONS:
        numbers["prediction_distance"] = distance
        if with_distance and distance > rollout.distance:
            rows = len(behaviour.predictions[0][0])
            problem = f"its predictions are far from the champion's on the same {rows} rows: a distance of "
            return problem + f"{distance:.2f} (Kolmogorov-Smirnov), limit {rollout.distance:g}", numbers
    return "", numbers


def _find_slowness(rollout: Rollout, challenger: Floats, champion: Floats) -> tuple[str, dict[str, float]]:
    challenger, champion = challenger[np.isfinite(challenger)], champion[np.isfinite(champion)]
    if len(challenger) < _MINIMUM_TIMES:
        return "", {}
    high = float(np.quantile(challenger, 0.95))
    numbers = {"challenger_ms": float(np.median(challenger)), "challenger_ms_95": high}
    if rollout.latency_ms is not None and high > rollout.latency_ms:
        return f"it is slow: 5% of its rows took {high:.0f} ms or more, limit {rollout.latency_ms:g} ms", numbers
    if len(champion) < _MINIMUM_TIMES:
        return "", numbers
    ours, theirs = numbers["challenger_ms"], float(np.median(champion))
    numbers["champion_ms"] = theirs
    if ours > _SLOW_MS and ours > rollout.slower * theirs:
        return f"it is slow: {ours:.0f} ms for a row, the champion {theirs:.0f} ms (medians)", numbers
    return "", numbers


def _find_distance(challenger: Floats, champion: Floats) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples of the same length."""
    points = np.sort(np.concatenate((challenger, champion)))
    shares = [np.searchsorted(np.sort(values), points, side="right") for values in (challenger, champion)]
    return float(np.abs(shares[0] - shares[1]).max() / max(len(challenger), 1))

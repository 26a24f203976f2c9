"""The guard rails of a canary: failures, slowness and predictions that are far from the champion's."""

import numpy as np
import pytest

from tidemill.checks.guards import Answers, LiveBehaviour, fails_too_often, find_harm
from tidemill.core.rollout import Rollout


def find(behaviour: LiveBehaviour, *, with_distance: bool = True, rollout: Rollout | None = None) -> str:
    return find_harm(rollout or Rollout(), behaviour, with_distance=with_distance)[0]


@pytest.mark.parametrize(
    ("asked", "failed", "requests", "stops"),
    [
        (600, 200, 200, True),
        (3, 3, 3, True),
        (200, 200, 1, False),  # one odd request
        (100_000, 900, 900, False),  # below the limit of 1 %
        (100, 2, 2, False),  # chance
        (1000, 40, 40, True),
        (0, 0, 0, False),
    ],
)
def test_a_challenger_that_fails_on_more_rows_than_the_limit_stops(
    asked: int, failed: int, requests: int, stops: bool
) -> None:
    answers = Answers(asked=asked, failed=failed, requests=requests)
    assert fails_too_often(answers, 0.01) is stops
    assert bool(find(LiveBehaviour(challenger=answers))) is stops


def test_failures_at_the_limit_rarely_stop_at_any_look() -> None:
    """At most 1 in 1,000 streams; with 300, more than 3 would come once in 3,000 runs."""
    failures = np.random.default_rng(1).random((300, 2000)) < 0.01
    counts = failures.cumsum(axis=1)
    stopped = sum(
        any(
            fails_too_often(Answers(asked=look, failed=int(row[look - 1]), requests=int(row[look - 1])), 0.01)
            for look in range(10, 2001, 10)
        )
        for row in counts
    )
    assert stopped <= 3


def test_predictions_far_from_the_champions_stop_it_unless_labels_favour_them() -> None:
    champion = np.random.default_rng(2).uniform(0, 0.1, 200)
    far = LiveBehaviour(predictions=((champion + 0.5, champion),))
    assert "far from the champion's" in find(far)
    assert find(far, with_distance=False) == ""
    assert find(far, rollout=Rollout(distance=1.0)) == ""
    assert find(LiveBehaviour(predictions=((champion + 0.02, champion),))) == ""
    assert find(LiveBehaviour(predictions=((champion[:50] + 0.5, champion[:50]),))) == "", "too few rows"


def test_a_slow_challenger_stops() -> None:
    quick = np.full(50, 5.0)
    assert "it is slow" in find(LiveBehaviour(milliseconds=(quick * 40, quick)))
    assert find(LiveBehaviour(milliseconds=(quick * 15, quick))) == "", "below 100 ms"
    assert find(LiveBehaviour(milliseconds=(quick * 40, quick * 20))) == "", "the champion is slow too"
    assert "limit 8 ms" in find(LiveBehaviour(milliseconds=(quick * 2, quick)), rollout=Rollout(latency_ms=8))

"""An earlier release is recalled if it is proven to be better than a champion whose quality is too low."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from msgspec import json
from msgspec.structs import replace

from tests.monitoring.test_regimes import NOON, POLICY, Live, Shelf
from tidemill.checks.earlier_releases import compare_earlier, find_proven
from tidemill.core.check import Outcome, Verdict
from tidemill.core.policy import Watch, WatchValue
from tidemill.monitoring.earlier_releases import find_failed_window, judge_earlier
from tidemill.monitoring.stored_releases import StoredRelease

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def live(tmp_path: Path, shelf: Shelf) -> Live:
    shelf.prefix = str(tmp_path)
    return Live(tmp_path, shelf)


def judge(live: Live, *earlier: str, refused: str = "") -> Verdict | None:
    def examine(_: str, stored: StoredRelease) -> str:
        return "it is refused" if refused and stored.model is live.shelf.models[refused] else ""

    arms = [live.shelf.arm(name) for name in earlier]
    now = NOON + timedelta(minutes=live.rows)
    shelf = live.shelf
    return judge_earlier(POLICY, shelf.arm("a"), arms, shelf, live.journal, WEEK, now, examine)  # type: ignore[arg-type]


def test_the_release_with_the_lowest_loss_is_recalled_and_a_refused_one_is_named(live: Live) -> None:
    """Rows of two concepts are mixed, so that no change is found; the release of the more frequent one is better."""
    for _ in range(20):
        live.serve("b", 8, centre=0)
        live.serve("c", 5, centre=0)
    verdict = judge(live, "b", "c")
    assert verdict is not None
    assert (verdict.action, verdict.reference, verdict.evidence["by"]) == ("recall", "shop/b", "quality")
    assert verdict.evidence["rows"] == 260
    assert json.decode(json.encode(verdict), type=Verdict) == verdict, "it can be stored"
    other = judge(live, "b", "c", "broken", refused="b")
    assert other is not None
    assert (other.reference, sorted(other.evidence["refused"])) == ("shop/c", ["shop/b", "shop/broken"])


def test_nothing_is_recalled_without_proof(live: Live) -> None:
    live.serve("a", 90, centre=0)
    assert judge(live, "b") is None
    live.serve("a", 200, centre=0, late=100)
    assert judge(live, "b", "c") is None
    assert judge(live) is None


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_releases_that_are_as_good_are_rarely_proven_to_be_better(memory: float) -> None:
    """Of 200 windows with 32 earlier releases of the champion's quality, at most 5 % have a wrong proof."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        noise = random.normal(size=(33, 1_000))
        for row in range(1, 1_000):
            noise[:, row] += memory * noise[:, row - 1]
        own, *others = noise
        earlier = {str(number): own + other for number, other in enumerate(others)}
        wrong += bool(find_proven(compare_earlier(own, earlier, 0.95), 0.0))
    assert wrong <= 18  # of a binomial distribution with .05, 99 % are at most 18


def test_a_release_that_is_better_by_less_than_the_margin_is_not_recalled() -> None:
    random = np.random.default_rng(2)
    own = random.exponential(0.5, 4_000)
    found = compare_earlier(own, {"better": own - 0.03 + random.normal(0, 0.1, 4_000)}, 0.95)
    assert find_proven(found, 0.01)
    assert not find_proven(found, 0.04)


def test_a_window_failed_if_the_newest_verdict_on_a_metric_failed() -> None:
    values = (WatchValue(value="log_loss", limit=0.1, window="7d", action="retrain"),)
    policy = replace(POLICY, watch=Watch(values=values))

    def find(
        *outcomes: Outcome, hours: float = 1, subject: str = "shop/a", metric: str = "log_loss", value: float = 0.45
    ) -> timedelta:
        verdicts = [
            Verdict(
                check="performance",
                subject=subject,
                outcome=outcome,
                action="hold",
                reason="",
                evidence={"metric": metric, "value": value, "reference": 0.4, "limit": 0.1},
                time=NOON - timedelta(hours=hours),
            )
            for outcome in outcomes
        ]
        return find_failed_window(policy, "shop/a", verdicts, NOON)

    assert find("fail", "pass") == find("undecided", value=0.51) == WEEK
    assert find("undecided") == timedelta(0)
    assert find("pass", "fail") == find() == find("fail", hours=200) == timedelta(0)
    assert find("fail", subject="shop/b") == find("fail", metric="brier") == timedelta(0)


def test_a_season_that_began_in_the_window_is_proven_by_its_newer_half(live: Live) -> None:
    live.serve("a", 260, centre=0)
    live.serve("b", 260, centre=0)
    verdict = judge(live, "b", "c")
    assert verdict is not None
    assert (verdict.reference, verdict.evidence["rows"]) == ("shop/b", 260)

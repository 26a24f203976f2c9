"""The rules of promotion, as a table: each row is a case, and the rules that it breaks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tidemill.checks.promotion import Approval, Override, PromotionCase, judge_promotion, list_approvers
from tidemill.core.build import Build
from tidemill.core.environment import Environment

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)  # a Friday
BUILD = Build(
    id="b1", project="shop", number=7, commit="4f2a91c" + "0" * 33, state="passed", created=NOW, environment="ci",
    branch="main", authors=("ada@example.org",), pusher="ada", artifacts={"wheel": "w" * 64},
)  # fmt: skip
PRODUCTION = Environment(after="preproduction", runs=3, soak="1d", approvals=2, freeze=("fri 16:00 - mon 08:00",))
MEASURED = replace(PRODUCTION, thresholds={"roc_auc": ">= 0.7"}, valid_data=True)
PEOPLE = {"ada": ("ada@example.org", "al"), "bob": ("bob@example.org",), "eve": ("eve@example.org",)}


def approved(*actors: str) -> tuple[Approval, ...]:
    return tuple(Approval(actor=actor, time=NOW + timedelta(seconds=n)) for n, actor in enumerate(actors))


def lifted(rule: Any, hours: float = 1) -> Override:
    return Override(actor="bob", rule=rule, until=NOW + timedelta(hours=hours), reason="outage")


READY = PromotionCase(
    build=BUILD,
    environment="production",
    settings=PRODUCTION,
    now=NOW,
    by="bob",
    authors=frozenset({"ada@example.org", "ada"}),
    people=PEOPLE,
    approvals=approved("bob", "eve"),
    healthy_since=NOW - timedelta(days=2),
    successful_runs=3,
)


def broken(case: PromotionCase) -> set[str]:
    verdict = judge_promotion(case)
    failed = {finding["about"] for finding in verdict.evidence["findings"] if finding["outcome"] == "fail"}
    assert verdict.stops == bool(failed)
    assert (verdict.outcome == "fail") == bool(failed)
    return failed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        # An approval never shortens another rule, however many there are.
        ({"successful_runs": 2}, {"runs"}),
        ({"successful_runs": 0, "approvals": approved("bob", "eve", "kim", "lee")}, {"runs"}),
        ({"healthy_since": NOW - timedelta(hours=23)}, {"soak"}),
        # The quality and the data in the environment before.
        ({"settings": MEASURED, "metrics": {"roc_auc": 0.8}}, set()),
        ({"settings": MEASURED, "metrics": {"roc_auc": 0.69}}, {"thresholds"}),
        ({"settings": MEASURED, "metrics": {"rmse": 3.0}}, {"thresholds"}),
        ({"settings": MEASURED, "metrics": {}}, {"thresholds"}),
        ({"settings": MEASURED, "metrics": {"roc_auc": 0.8}, "stopped": {"rows/b": "it is empty"}}, {"data"}),
        ({"stopped": {"rows/b": "it is empty"}}, set()),
        ({"settings": MEASURED, "overrides": (lifted("thresholds"),)}, set()),
        ({"healthy_since": NOW - timedelta(hours=1), "approvals": approved("bob", "eve", "kim")}, {"soak"}),
        ({"healthy_since": None}, {"soak"}),
        # The author, under any name, is nobody who approves; nor does a person count twice.
        ({"approvals": approved("bob")}, {"approvals"}),
        ({"approvals": approved("bob", "ada")}, {"approvals"}),
        ({"approvals": approved("bob", "al")}, {"approvals"}),
        ({"approvals": approved("bob", "ADA@example.org")}, {"approvals"}),
        ({"approvals": approved("bob", "bob@example.org")}, {"approvals"}),
        ({"approvals": approved("bob", "Bob")}, {"approvals"}),
        ({"approvals": approved("bob", "al", "eve")}, set()),
        # An author of an earlier commit since the last promotion is an author, too.
        ({"authors": frozenset({"ada", "eve@example.org"})}, {"approvals"}),
        # Only named approvers count, if there are any.
        ({"settings": replace(PRODUCTION, approvers=("bob", "kim"))}, {"approvals"}),
        ({"settings": replace(PRODUCTION, approvers=("bob@example.org", "eve"))}, set()),
        # A build that CI refused, or could not judge, is deployed by nobody, and no override lifts that.
        ({"build": replace(BUILD, state="refused", reason="a test failed")}, {"build"}),
        ({"build": replace(BUILD, state="error")}, {"build"}),
        ({"settings": replace(PRODUCTION, branch="main")}, set()),
        ({"settings": replace(PRODUCTION, branch="release/*")}, {"branch"}),
        # Freeze windows, in the zone of the environment.
        ({"now": NOW.replace(hour=15, minute=59)}, set()),
        ({"now": NOW.replace(hour=16)}, {"freeze"}),
        ({"settings": replace(PRODUCTION, zone="Asia/Tokyo")}, {"freeze"}),
        # A pause stops automation, and no person.
        ({"paused": "paused by bob"}, set()),
        ({"paused": "paused by bob", "by": ""}, {"paused"}),
        # An override lifts its own rule only, until it expires.
        ({"successful_runs": 0, "overrides": (lifted("runs"),)}, set()),
        ({"successful_runs": 0, "overrides": (lifted("runs", -1),)}, {"runs"}),
        ({"successful_runs": 0, "overrides": (lifted("soak"),)}, {"runs"}),
        ({"approvals": (), "overrides": (lifted("approvals"),)}, set()),
        ({"build": replace(BUILD, state="refused"), "overrides": (lifted("build"),)}, {"build"}),
        ({"successful_runs": 0, "approvals": (), "healthy_since": None}, {"runs", "approvals", "soak"}),
    ],
)
def test_rules(changes: dict[str, Any], expected: set[str]) -> None:
    assert broken(replace(READY, **changes)) == expected


def test_what_is_missing_is_listed_with_its_command() -> None:
    verdict = judge_promotion(replace(READY, approvals=(), successful_runs=1, failed_runs=2))
    assert "0 of 2 approvals" in verdict.reason
    assert "1 of 3 successful runs of training in preproduction, 2 failed" in verdict.reason
    assert "tidemill deploy approve 7 --to production" in verdict.reason


def test_an_override_is_a_warning_with_its_author() -> None:
    verdict = judge_promotion(replace(READY, successful_runs=0, overrides=(lifted("runs"),)))
    assert verdict.outcome == "warn"
    assert "overridden by bob until 2026-11-27 13:00: outage" in verdict.reason


def test_a_promotion_names_digests() -> None:
    evidence = judge_promotion(READY).evidence
    assert evidence["commit"] == BUILD.commit
    assert evidence["wheel"] == "w" * 64
    assert evidence["approved_by"] == ["bob", "eve"]


def test_a_rollback_needs_no_approval_but_a_passed_build() -> None:
    bare = replace(READY, approvals=(), successful_runs=0, healthy_since=None)
    assert not judge_promotion(bare, is_rollback=True).stops
    assert judge_promotion(replace(bare, build=replace(BUILD, state="refused")), is_rollback=True).stops


def test_approvers_are_counted_in_the_order_of_their_approvals() -> None:
    assert list_approvers(replace(READY, approvals=approved("eve", "ada", "bob", "eve"))) == ["eve", "bob"]

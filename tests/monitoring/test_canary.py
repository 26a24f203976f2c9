"""The canary on a journal: which rows are compared, which blocks count, and how long it runs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from tidemill.core.check import Verdict
from tidemill.core.model import Signature
from tidemill.core.policy import ModelPolicy, Problem, Rollout
from tidemill.core.route import Arm, Role, Route
from tidemill.journal.files import FileJournal
from tidemill.monitoring.canary import find_canary_start, validate_online

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
SIGNATURE = Signature(inputs=(), task="classification", classes=("no", "yes"))
SIGNATURES = {"shop/1": SIGNATURE, "shop/2": SIGNATURE}
POLICY = ModelPolicy(name="shop", problem=Problem(decision="d", source="rows", label="late"))


def arm(version: int, role: Role, share: float = 0.0) -> Arm:
    return Arm(release=f"shop/{version}", version=version, package="p", role=role, share=share)


def route(*arms: Arm, since: datetime = START, version: int = 1) -> Route:
    return Route(id=f"r{version}", environment="test", model="shop", version=version, arms=arms, since=since, reason="")


CANARY = route(arm(1, "champion", 0.8), arm(2, "challenger", 0.2), arm(2, "shadow"))


class Traffic:
    """Rows of a model over days, with the probability of "yes" of the champion and of the challenger."""

    def __init__(self, folder: Path, days: float = 8, rows: int = 400) -> None:
        self.journal = FileJournal(folder)
        random = np.random.default_rng(5)
        chance = random.uniform(0.1, 0.9, rows)
        self.chance = chance
        self.truth = np.where(random.random(rows) < chance, "yes", "no")
        self.rows = pl.DataFrame({"id": [f"p{index:05}" for index in range(rows)]}).with_columns(
            key=pl.lit(""),
            known_at=pl.Series([START + timedelta(days=days) * (index + 1) / (rows + 1) for index in range(rows)]).cast(
                pl.Datetime("us", "UTC")
            ),
        )
        self.rows = self.rows.with_columns(time=pl.col("known_at"))

    def add(self, release: str, role: str, chance: Any, rows: pl.DataFrame | None = None) -> None:
        chance = np.clip(np.asarray(chance) * np.ones(self.rows.height), 0.001, 0.999)
        frame = self.rows.with_columns(
            release=pl.lit(release),
            role=pl.lit(role),
            probability=pl.Series(np.column_stack((1 - chance, chance)).tolist()),
        )
        self.journal.append("predictions/shop", frame if rows is None else frame.join(rows, on="id", how="semi"))

    def label(self, rows: pl.DataFrame | None = None, late: timedelta = timedelta(minutes=1)) -> None:
        labels = self.rows.select("id", "key", "time", pl.col("known_at") + late, pl.Series("value", self.truth))
        self.journal.append("labels/shop", labels if rows is None else labels.join(rows, on="id", how="semi"))

    def fail(self, release: str, role: str, rows: pl.DataFrame) -> None:
        self.journal.append(
            "failures/shop", rows.with_columns(release=pl.lit(release), role=pl.lit(role), problem=pl.lit("DataError"))
        )

    def judge(self, days: float, **rollout: Any) -> list[Verdict]:
        policy = replace(POLICY, rollout=Rollout(**({"margin": 0.1} | rollout)))
        return validate_online(policy, SIGNATURES, CANARY, self.journal, START + timedelta(days=days))


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    return Traffic(tmp_path)


@pytest.fixture
def equal(traffic: Traffic) -> Traffic:
    """Both releases predict nearly the same, and all labels are known."""
    traffic.add("shop/1", "champion", traffic.chance)
    traffic.add("shop/2", "shadow", traffic.chance + 0.01)
    traffic.label()
    return traffic


def test_rows_that_both_predicted_decide(equal: Traffic) -> None:
    (verdict,) = equal.judge(8.1)
    assert (verdict.action, verdict.evidence["rows"]) == ("promote", 400)
    assert verdict.evidence["same_rows"] is True


def test_rows_that_the_challenger_served_and_the_champion_shadowed_count_too(traffic: Traffic) -> None:
    served = traffic.rows.head(100)
    traffic.add("shop/1", "champion", traffic.chance, traffic.rows.tail(300))
    traffic.add("shop/2", "shadow", traffic.chance, traffic.rows.tail(300))
    traffic.add("shop/2", "challenger", traffic.chance, served)
    traffic.add("shop/1", "shadow", traffic.chance, served)
    traffic.label()
    (verdict,) = traffic.judge(8.1)
    assert verdict.evidence["rows"] == 400


def test_without_a_shadow_the_own_rows_decide(traffic: Traffic) -> None:
    traffic.add("shop/1", "champion", traffic.chance, traffic.rows[::2])
    traffic.add("shop/2", "challenger", 1 - traffic.chance, traffic.rows[1::2])
    traffic.label()
    (verdict,) = traffic.judge(8.1)
    assert (verdict.action, verdict.evidence["same_rows"]) == ("rollback", False)


def test_only_complete_blocks_decide(equal: Traffic) -> None:
    early, later = equal.judge(2.4)[0], equal.judge(4.4)[0]
    assert (early.action, early.evidence["blocks"], early.evidence["rows"]) == ("hold", 2, 100)
    assert "2 complete blocks of time (minimum 7" in early.reason
    assert (later.action, later.evidence["blocks"], later.evidence["rows"]) == ("promote", 4, 200)


def test_a_shorter_block_decides_sooner(equal: Traffic) -> None:
    early, late = equal.judge(2.8, block="6h")[0], equal.judge(3.1, block="6h")[0]
    assert (early.action, early.evidence["blocks"]) == ("promote", 11)
    assert (late.action, late.evidence["blocks"]) == ("promote", 12)
    assert float(early.evidence["upper"]) > float(late.evidence["upper"])


def test_rows_of_one_batch_a_day_need_a_week(traffic: Traffic) -> None:
    """Fifty rows at each midnight do not show how much the days differ."""
    midnight = traffic.rows["known_at"].dt.truncate("1d") + timedelta(hours=6)
    traffic.rows = traffic.rows.with_columns(known_at=midnight, time=midnight)
    traffic.add("shop/1", "champion", traffic.chance)
    traffic.add("shop/2", "shadow", traffic.chance + 0.01)
    traffic.label()
    early, late = traffic.judge(5.5)[0], traffic.judge(8.1)[0]
    assert (early.action, late.action) == ("hold", "promote")
    assert "(minimum 7, as rows may depend on each other)" in early.reason


def test_blocks_are_at_most_an_eighth_of_the_longest_canary(equal: Traffic) -> None:
    (verdict,) = equal.judge(3.7, maximum="4d")
    assert (verdict.action, verdict.evidence["blocks"]) == ("promote", 7)


def test_a_look_a_little_before_the_end_of_a_block_counts_it(equal: Traffic) -> None:
    """A canary starts when a training has ended, so that daily looks are a little before the end of each day."""
    hour = 1 / 24
    assert [equal.judge(days - hour)[0].evidence["blocks"] for days in (3, 5)] == [3, 5]
    assert [equal.judge(days - hour)[0].action for days in (2, 3)] == ["hold", "promote"]


def test_labels_that_come_late_count_when_they_are_known(traffic: Traffic) -> None:
    traffic.add("shop/1", "champion", traffic.chance)
    traffic.add("shop/2", "shadow", traffic.chance)
    traffic.label(late=timedelta(days=5))
    (early,), (late,) = traffic.judge(8.1, minimum=200), traffic.judge(13.1, minimum=200)
    assert (early.action, late.action) == ("hold", "promote")
    assert early.evidence["rows"] < 200 < late.evidence["rows"]


def test_an_undecided_canary_is_extended_while_labels_arrive(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, days=30)
    traffic.add("shop/1", "champion", traffic.chance)
    traffic.add("shop/2", "shadow", traffic.chance)
    traffic.label(traffic.rows[::20])
    many = {"minimum": 1000}
    assert [traffic.judge(days, **many)[0].action for days in (13, 20, 30)] == ["hold"] * 3
    assert traffic.judge(20, **many)[0].evidence["extended"] is True
    assert traffic.judge(20, extension="0d", **many)[0].action == "rollback"
    assert traffic.judge(20, undecided="better", **many)[0].evidence["extended"] is True
    assert traffic.judge(20, undecided="better", extension="0d", **many)[0].action == "rollback", "too few labels"
    assert traffic.judge(38, **many)[0].action == "rollback", "no label for more than half of the maximum"
    assert traffic.judge(50, **many)[0].action == "rollback"


def test_without_any_label_a_canary_ends_at_its_maximum(traffic: Traffic) -> None:
    traffic.add("shop/1", "champion", traffic.chance)
    traffic.add("shop/2", "shadow", traffic.chance)
    assert [traffic.judge(days)[0].action for days in (13.4, 14 - 1 / 24)] == ["hold", "rollback"]


def test_a_challenger_that_fails_on_rows_stops_at_once(equal: Traffic) -> None:
    equal.fail("shop/2", "challenger", equal.rows.with_columns(id=pl.lit("x") + pl.col("id")).head(40))
    (verdict,) = equal.judge(8.1)
    assert (verdict.outcome, verdict.action) == ("fail", "rollback")
    assert "failed to answer 40 of 440 rows" in verdict.reason
    assert verdict.evidence["challenger_failed"] == 40


def test_rows_that_the_champion_fails_on_too_are_no_fault_of_the_challenger(equal: Traffic) -> None:
    failed = equal.rows.with_columns(id=pl.lit("x") + pl.col("id")).head(40)
    equal.fail("shop/2", "challenger", failed)
    equal.fail("shop/1", "champion", failed)
    traffic, answers = equal.judge(8.1)
    assert traffic.action == "promote"
    assert (answers.check, answers.subject, answers.action) == ("answers", "shop/1", "experiment")


def test_a_champion_that_fails_is_reported_without_a_canary(equal: Traffic) -> None:
    equal.fail("shop/1", "champion", equal.rows.with_columns(id=pl.lit("x") + pl.col("id")))
    champion = route(arm(1, "champion", 1.0))
    (verdict,) = validate_online(POLICY, {}, champion, equal.journal, START + timedelta(days=8))
    assert verdict.check == "answers"
    assert "failed to answer" in verdict.reason
    assert validate_online(POLICY, {}, champion, equal.journal, START + timedelta(days=12)) == []


def test_a_challenger_with_another_class_is_compared_on_the_common_classes(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path)
    traffic.truth = np.array(["yes"] * 300 + ["lost"] * 100)
    traffic.add("shop/1", "champion", 0.8)
    shadow = traffic.rows.with_columns(
        release=pl.lit("shop/2"), role=pl.lit("shadow"), probability=pl.lit([0.05, 0.05, 0.9])
    )
    traffic.journal.append("predictions/shop", shadow)
    traffic.label()
    wide = Signature(inputs=(), task="classification", classes=("lost", "no", "yes"))
    now = START + timedelta(days=8.1)
    (verdict,) = validate_online(POLICY, SIGNATURES | {"shop/2": wide}, CANARY, traffic.journal, now)
    assert (verdict.action, verdict.evidence["rows"]) == ("promote", 300)
    assert verdict.evidence["challenger_loss"] == pytest.approx(-np.log(0.9 / 0.95)), "of the common classes"


def test_without_a_champion_or_rows_there_is_no_decision(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    assert validate_online(POLICY, {}, route(), journal, START) == []
    (verdict,) = validate_online(POLICY, SIGNATURES, CANARY, journal, START + timedelta(days=1))
    assert verdict.action == "hold"


def test_another_share_continues_the_canary() -> None:
    day = timedelta(days=1)
    first = route(arm(1, "champion", 1.0), since=START)
    small = route(arm(1, "champion", 0.9), arm(2, "challenger", 0.1), since=START + day, version=2)
    large = route(arm(1, "champion", 0.5), arm(2, "challenger", 0.5), since=START + 3 * day, version=3)
    other = route(arm(1, "champion", 0.5), arm(3, "challenger", 0.5), since=START + 4 * day, version=4)
    assert find_canary_start([first, small, large]) == START + day
    assert find_canary_start([first, small, large, other]) == START + 4 * day

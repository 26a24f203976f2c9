"""The judgement of regimes on live rows: which stored releases are compared, recalled and refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import json
from msgspec.structs import replace

from tidemill.checks.regime import profile_errors
from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Training
from tidemill.core.regime import Regimes
from tidemill.core.route import Arm
from tidemill.data.encoding import encode, fit_encoding
from tidemill.data.statistics import profile
from tidemill.errors import Corrupt
from tidemill.journal.files import FileJournal
from tidemill.models.flavors import lightgbm
from tidemill.monitoring.newest_rows import count_labelled, read_newest_rows
from tidemill.monitoring.regimes import RegimeCase, judge_regime
from tidemill.monitoring.stored_releases import StoredRelease
from tidemill.registry.regimes import Episode
from tidemill.training.fit import fit_lightgbm

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = ModelPolicy(
    name="shop",
    problem=Problem(decision="d", source="rows", label="late"),
    training=Training(params={"num_leaves": 7, "min_data_in_leaf": 5}, rounds=40),
)
Concept = Callable[[pl.DataFrame], pl.Series]
CONCEPTS: dict[str, Concept] = {
    "a": lambda rows: rows["x"] > 0,
    "b": lambda rows: rows["x"] <= 0,
    "c": lambda rows: rows["y"] > 0,
}


def draw(seed: int, rows: int, centre: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {"x": random.normal(size=rows), "y": random.normal(size=rows), "z": random.normal(centre, 1, rows)}
    )


def label(rows: pl.DataFrame, concept: str) -> pl.Series:
    return CONCEPTS[concept](rows).cast(pl.Int64).cast(pl.String).replace({"0": "no", "1": "yes"})


class Shelf:
    """Packages in memory, one for each concept; `loaded` counts how often each is read."""

    def __init__(self) -> None:
        self.models = {name: self._fit(name, centre) for name, centre in (("a", 0.0), ("b", 4.0), ("c", 8.0))}
        self.loaded: list[str] = []
        self.prefix = ""

    @staticmethod
    def _fit(name: str, centre: float) -> Model:
        rows = draw(ord(name), 600, centre)
        encoding = fit_encoding(rows, ("x", "y", "z"))
        truth = (label(rows, name) == "yes").to_numpy().astype(int)
        matrix = encode(encoding, rows)
        booster = fit_lightgbm(
            matrix[:450],
            truth[:450],
            task="classification",
            classes=2,
            policy=POLICY.training,
            names=encoding.names,
            categorical=encoding.categorical,
            rounds=40,
        )
        signature = Signature(inputs=encoding.inputs, task="classification", classes=("no", "yes"))
        model = lightgbm.pack(Manifest(name="shop", flavor="lightgbm", signature=signature), booster, encoding)
        stored = StoredRelease(model)
        errors = profile_errors(stored.compute_losses(rows[450:], label(rows[450:], name)))
        files = {"errors.json": json.encode(errors), "profile.json": json.encode(profile(rows))}
        return replace(model, files=model.files | files)

    def load(self, digest: str) -> Model:
        self.loaded.append(digest)
        if digest.endswith("broken"):
            raise Corrupt("its bytes have changed", "restore a backup")
        return self.models[digest.rpartition("/")[2]]

    def arm(self, name: str) -> Arm:
        return Arm(release=f"shop/{name}", version=1, package=f"{self.prefix}/{name}", role="champion", share=1.0)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return Shelf().models


@pytest.fixture
def shelf(models: dict[str, Model], tmp_path: Path) -> Shelf:
    shelf = Shelf.__new__(Shelf)
    shelf.models, shelf.loaded, shelf.prefix = dict(models), [], str(tmp_path)
    return shelf


class Live:
    """A journal with rows of concepts, one each minute; the labels of the newest `late` rows are unknown."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.journal, self.shelf, self.rows = FileJournal(folder / "journal"), shelf, 0

    def serve(self, concept: str, rows: int, *, centre: float, late: int = 0) -> None:
        features = draw(self.rows + 1000, rows, centre)
        times = [NOON + timedelta(minutes=self.rows + number) for number in range(rows)]
        known = pl.Series("known_at", times, dtype=pl.Datetime("us", "UTC"))
        keys = pl.Series("key", [f"r{self.rows + number}" for number in range(rows)])
        base = pl.DataFrame([known, keys, known.alias("time")]).with_columns(pl.lit("").alias("id"))
        served = base.with_columns(
            pl.lit("champion").alias("role"), pl.lit("shop/a").alias("release"), features.to_struct("features")
        )
        self.journal.append("predictions/shop", served)
        labels = base.with_columns(label(features, concept).alias("value"))
        self.journal.append("labels/shop", labels.head(rows - late))
        self.rows += rows

    def judge(
        self,
        champion: str,
        *stored: str,
        policy: ModelPolicy = POLICY,
        examine: Callable[[str, StoredRelease], str] = lambda *_: "",
        episode: Episode | None = None,
        start: datetime | None = None,
        requests: tuple[int, ...] = (),
    ) -> Verdict:
        case = RegimeCase(self.shelf.arm(champion), [self.shelf.arm(name) for name in stored], episode, start, requests)
        now = NOON + timedelta(minutes=self.rows)
        return judge_regime(policy, case, self.shelf, self.journal, now, examine)  # type: ignore[arg-type]


@pytest.fixture
def live(tmp_path: Path, shelf: Shelf) -> Live:
    return Live(tmp_path, shelf)


def test_rows_that_fit_the_champion_load_no_other_release(live: Live) -> None:
    live.serve("a", 300, centre=0)
    verdict = live.judge("a", *(["b", "c"] * 50))
    assert (verdict.outcome, verdict.action) == ("pass", "proceed")
    assert len(set(live.shelf.loaded)) == 1


def test_a_release_is_recalled_by_labels_where_inputs_are_equal(live: Live, shelf: Shelf) -> None:
    shelf.models["d"] = replace(
        shelf.models["b"], files=shelf.models["b"].files | {"profile.json": shelf.models["a"].files["profile.json"]}
    )
    live.serve("a", 200, centre=0)
    live.serve("b", 15, centre=0)
    verdict = live.judge("a", "c", "d")
    assert (verdict.action, verdict.reference, verdict.evidence["by"]) == ("recall", "shop/d", "labels")
    changed = datetime.fromisoformat(verdict.evidence["start"])
    assert abs((changed - NOON) / timedelta(minutes=1) - 200) <= 3


def test_a_release_is_recalled_by_inputs_while_labels_are_missing(live: Live) -> None:
    live.serve("a", 200, centre=0)
    live.serve("b", 15, centre=4, late=15)
    verdict = live.judge("a", "c", "b")
    assert (verdict.action, verdict.reference, verdict.evidence["by"]) == ("recall", "shop/b", "features")
    only_labels = replace(POLICY, regimes=Regimes(features=False))
    assert live.judge("a", "c", "b", policy=only_labels).action == "proceed"


def test_a_look_alike_is_undone_by_its_first_labels(live: Live) -> None:
    """The inputs are those of `b`, the concept is that of `c`: `b` is recalled, and its labels reject it."""
    live.serve("a", 200, centre=0)
    live.serve("c", 60, centre=4, late=60)
    assert live.judge("a", "b").reference == "shop/b"
    start = NOON + timedelta(minutes=200)
    live.serve("c", 40, centre=4)
    verdict = live.judge("b", "a", "c", start=start)
    assert (verdict.action, verdict.reference, verdict.evidence["by"]) == ("recall", "shop/c", "labels")
    live.serve("c", 40, centre=4, late=20)
    assert live.judge("c", "b", "a", start=start).action == "proceed"


def test_a_release_that_is_refused_is_named_and_the_next_one_is_recalled(live: Live, shelf: Shelf) -> None:
    shelf.models["twin"] = shelf.models["b"]
    live.serve("a", 200, centre=0)
    live.serve("b", 20, centre=4)
    tried: list[StoredRelease] = []

    def refuse_first(_: str, stored: StoredRelease) -> str:
        tried.append(stored)
        return "the environment of its lock cannot be built" if len(tried) == 1 else ""

    verdict = live.judge("a", "b", "twin", examine=refuse_first)
    assert (verdict.action, len(tried)) == ("recall", 2)
    (refused,) = verdict.evidence["refused"]
    assert {refused, verdict.reference} == {"shop/b", "shop/twin"}


def test_a_package_that_cannot_be_loaded_is_refused(live: Live) -> None:
    live.serve("a", 200, centre=0)
    live.serve("b", 40, centre=4)
    verdict = live.judge("a", "broken", "b")
    assert verdict.reference == "shop/b"
    assert verdict.evidence["refused"] == {"shop/broken": "its bytes have changed"}
    alone = live.judge("a", "broken")
    assert alone.evidence["novel"]


def test_a_release_with_other_inputs_is_not_compared(live: Live, shelf: Shelf) -> None:
    model = shelf.models["b"]
    needed = replace(model.manifest.signature.inputs[0], name="unknown", nullable=False)
    signature = replace(model.manifest.signature, inputs=(needed, *model.manifest.signature.inputs[1:]))
    shelf.models["other"] = replace(model, manifest=replace(model.manifest, signature=signature))
    live.serve("a", 200, centre=0)
    live.serve("b", 40, centre=4)
    verdict = live.judge("a", "other")
    assert "shop/other" in verdict.evidence["refused"]
    assert verdict.evidence["novel"]


def test_a_new_regime_collects_then_requests_a_training_and_again_after_twice_as_many(live: Live) -> None:
    live.serve("a", 200, centre=0)
    live.serve("b", 60, centre=4)
    first = live.judge("a", "c")
    assert (first.outcome, first.action) == ("fail", "collect")
    episode = Episode(since=datetime.fromisoformat(first.evidence["start"]))
    live.serve("b", 250, centre=4)
    due = live.judge("a", "c", episode=episode)
    assert (due.action, due.evidence["start"]) == ("retrain", first.evidence["start"])
    assert due.evidence["of_regime"] >= 300
    assert live.judge("a", "c", episode=episode, requests=(due.evidence["of_regime"],)).action == "hold"
    live.serve("b", 320, centre=4)
    assert live.judge("a", "c", episode=episode, requests=(due.evidence["of_regime"],)).action == "retrain"


def test_the_release_of_a_new_regime_is_trained_again_while_it_is_young(live: Live) -> None:
    live.serve("b", 700, centre=4)
    assert live.judge("b", start=NOON, requests=(300,)).action == "retrain"
    assert live.judge("b", start=NOON, requests=(400,)).action == "proceed"
    assert live.judge("b", start=NOON, requests=(300, 200, 100)).action == "proceed"
    assert live.judge("b", start=NOON).action == "proceed"


def test_a_package_of_an_earlier_version_is_not_judged_by_labels(live: Live, shelf: Shelf) -> None:
    files = {name: content for name, content in shelf.models["a"].files.items() if name != "errors.json"}
    shelf.models["old"] = replace(shelf.models["a"], files=files)
    live.serve("b", 100, centre=0)
    verdict = live.judge("old", "b")
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
    assert "no error profile" in verdict.reason


def test_without_predictions_nothing_is_decided(live: Live) -> None:
    assert live.judge("a", "b").reason == "there are no predictions yet"


def test_a_class_that_the_champion_does_not_know_is_a_new_regime(live: Live) -> None:
    live.serve("a", 200, centre=0)
    live.serve("a", 60, centre=0, late=60)
    times = pl.Series([NOON + timedelta(minutes=200 + n) for n in range(60)], dtype=pl.Datetime("us", "UTC"))
    labels = pl.DataFrame(
        {"known_at": times, "id": [""] * 60, "key": [f"r{200 + n}" for n in range(60)], "time": times, "value": "lost"}
    )
    live.journal.append("labels/shop", labels)
    assert live.judge("a", "b").evidence["novel"]


def test_the_newest_rows_reach_back_to_the_newest_labels(live: Live) -> None:
    live.serve("a", 500, centre=0)
    live.serve("a", 400, centre=0, late=400)
    now = NOON + timedelta(minutes=900)
    rows = read_newest_rows(live.journal, POLICY, now)
    assert rows["truth"].count() == POLICY.regimes.rows
    assert rows.height == POLICY.regimes.rows + 400
    assert count_labelled(live.journal, POLICY, NOON + timedelta(minutes=450), now) == 50
    since = NOON + timedelta(minutes=890)
    assert read_newest_rows(live.journal, POLICY, now, since).height == 10

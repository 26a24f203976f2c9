"""`models`: stages, comparison, and what promoting by hand says."""

import shutil
from pathlib import Path

import joblib
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases, the first of which answers."""
    folder = tmp_path_factory.mktemp("models") / "shop"
    make_project(folder)
    tidemill(folder, "run", "training")
    file = folder / "tidemill.toml"
    file.write_text(file.read_text() + "\n[gate.thresholds]\nroc_auc = '>= 0.5'\n")
    before = file.read_text()
    file.write_text(before.replace("[training]", "[training]\nrounds = 5", 1))
    tidemill(folder, "run", "training")
    file.write_text(before)
    return folder


def test_stages_come_from_the_routes(shop: Path) -> None:
    stages = {one["version"]: one["stage"] for one in listed(shop, "models", "list")}
    assert stages == {1: "production", 2: "canary"}
    assert listed(shop, "models", "show", "shop/2")["stage"] == "canary"
    assert "production" in tidemill(shop, "models", "show", "shop/1").stdout
    assert "canary" in tidemill(shop, "models", "list").stdout


def test_a_release_is_shown_slice_by_slice(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    make_project(folder, replace={"[gate] ": '[gate]\nslices = ["carrier"]\n#'})
    tidemill(folder, "run", "training")
    shown = listed(folder, "models", "show", "shop")
    assert set(shown["slices"]) == {"carrier=steady", "carrier=swift", "carrier=thrifty"}
    low, high = shown["slice_intervals"]["carrier=swift"]["log_loss"]
    assert low < shown["slices"]["carrier=swift"]["log_loss"] < high
    reported = tidemill(folder, "models", "show", "shop").stdout
    assert f"({low:.3f} to {high:.3f})" in reported


def test_what_cannot_answer_is_not_promoted(shop: Path, tmp_path: Path) -> None:
    made = tmp_path / "model.joblib"
    joblib.dump(LogisticRegression().fit([[1.0], [2.0], [3.0]], ["a", "b", "a"]), made)
    pl.DataFrame({"x": [1.0, 2.0]}).write_csv(tmp_path / "samples.csv")
    words = ("models", "register", str(made), "--samples", str(tmp_path / "samples.csv"), "--task", "classification")
    registered = tidemill(shop, *words, "--classes", "a,b", "--name", "foreign").stderr
    assert "it cannot be promoted" in " ".join(registered.split())
    assert "is not trusted" in tidemill(shop, "models", "promote", "foreign", "--reason", "because", code=2).stderr
    tidemill(shop, *words, "--classes", "x,y", "--name", "named", "--trust")
    assert (
        "its signature has x, y" in tidemill(shop, "models", "promote", "named", "--reason", "because", code=2).stderr
    )
    assert listed(shop, "models", "history", "--name", "foreign") == []
    assert listed(shop, "models", "history", "--name", "named") == []


def test_two_releases_side_by_side(shop: Path) -> None:
    found = listed(shop, "models", "compare", "shop/1", "shop/2")
    assert (found["a"], found["b"], found["stages"]) == ("shop/1", "shop/2", ["production", "canary"])
    one, two = found["metrics"]["test_log_loss"]
    assert one != two
    assert found["signature"] == []
    assert found["environment"] == {}
    assert set(found["data"]) >= {"iterations"}
    reported = tidemill(shop, "models", "compare", "shop/1", "shop/2").stdout
    assert "test_log_loss" in reported
    assert "signature: equal" in reported
    assert found["same_test_rows"] == ("b - a" in reported) == ("different test rows" not in reported)
    assert found["same_test_rows"]
    assert "does not exist" in tidemill(shop, "models", "compare", "shop/1", "shop/9", code=2).stderr


def test_metrics_of_different_test_rows_are_not_subtracted(shop: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(shop, tmp_path / "shop"))
    file = other / "tidemill.toml"
    file.write_text(file.read_text().replace('test = "14d"', 'test = "10d"'))
    tidemill(other, "run", "training")
    found = listed(other, "models", "compare", "shop/1", "shop/3")
    assert not found["same_test_rows"]
    reported = tidemill(other, "models", "compare", "shop/1", "shop/3").stdout
    assert "of different test rows: they cannot be subtracted" in reported
    assert "b - a" not in reported


def test_promoting_what_nobody_watches_is_warned_of(shop: Path) -> None:
    assert tidemill(shop, "models", "promote", "shop/2", "--reason", "because").stderr == ""
    text = (shop / "tidemill.toml").read_text()
    (shop / "tidemill.toml").write_text(text[: text.index("[[watch.values]]")])
    try:
        reported = tidemill(shop, "models", "promote", "shop/1", "--reason", "because")
    finally:
        (shop / "tidemill.toml").write_text(text)
    assert "nothing watches model 'shop'" in reported.stderr
    back = tidemill(shop, "models", "rollback", "--reason", "because")
    assert "shop/2 serves model shop again" in back.stdout
    served = [row["arms"][0]["release"] for row in listed(shop, "models", "history")]
    assert served == ["shop/1", "shop/1", "shop/2", "shop/1", "shop/2"]
    now = open_session(make_project(shop.parent / "other")).clock.now().isoformat()
    assert listed(shop, "models", "history", "--at", now)[0]["arms"][0]["release"] == "shop/2"


@pytest.mark.parametrize("wrong", ["roc_auc = 0.7", 'roc_auc = "0.7"', 'roc_auc = ">= much"'])
def test_a_threshold_that_is_none_is_refused_with_its_line(shop: Path, wrong: str) -> None:
    file = shop / "tidemill.toml"
    text = file.read_text()
    file.write_text(text.replace("roc_auc = '>= 0.5'", wrong))
    try:
        reported = tidemill(shop, "models", "list", code=2)
    finally:
        file.write_text(text)
    assert f"line {len(text.splitlines())}" in reported.stderr
    assert "gate.thresholds" in reported.stderr

"""Requirements of the kit on small values, and expectations on a small model."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.projects import make_project
from tidemill import step
from tidemill.errors import ConfigurationError
from tidemill.testing import kit
from tidemill.testing.kit.artifacts import _can_be, _require_values
from tidemill.testing.kit.training import Call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> kit.SampleTraining:
    project = make_project(tmp_path_factory.mktemp("kit") / "shop")
    sample = kit.take_sample(project, project.model(), rows=800)
    return kit.train_sample(sample, tmp_path_factory.mktemp("workspace"))


@step
def summarize(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, float]]:
    return rows, {}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ((pl.DataFrame(), {"rows": 1}), ""),
        (pl.DataFrame(), "declares 2 artifacts and returned 1"),
        ((pl.DataFrame(), {}, 3), "declares 2 artifacts and returned 3"),
        (({}, {}), "returned a dict, an artifact that it does not declare: its annotation says DataFrame"),
        ((pl.DataFrame(), {"rows": "many"}), "returned a dict"),
        ((None, {}), "returned None"),
    ],
)
def test_a_step_must_return_what_it_declares(returned: Any, message: str) -> None:
    call = Call(node="summarize", step=summarize, returned=returned, digest="", files=())
    if not message:
        return _require_values(call)
    with pytest.raises(kit.KitFailure, match=r"step 'summarize'") as failure:
        _require_values(call)
    assert message in str(failure.value)
    return None


@pytest.mark.parametrize(
    ("given", "needed", "fits"),
    [
        (int, float, True),
        (bool, int, True),
        (str, int, False),
        (pl.DataFrame, pl.DataFrame | None, True),
        (pl.DataFrame | None, pl.DataFrame, True),
        (dict[str, int], pl.DataFrame, False),
        (list[int], list[float], True),
        (list[int], dict[str, int], False),
        (Any, int, True),
    ],
)
def test_types_of_outputs_and_parameters_fit(given: Any, needed: Any, fits: bool) -> None:
    assert _can_be(given, needed) is fits


def test_expectations_of_a_file_hold_or_fail_with_a_row(trained: kit.SampleTraining, tmp_path: Path) -> None:
    file = tmp_path / "expectations.toml"
    file.write_text(
        '[[direction]]\ncolumn = "distance_km"\ntimes = 3.0\nprediction = "not lower"\nshare = 0.9\ntolerance = 0.1\n'
    )
    kit.require_expectations(trained, kit.read_expectations(file))
    with pytest.raises(kit.KitFailure, match="'distance_km' × 3 the prediction is not higher in only"):
        kit.require_direction(trained, kit.Direction(column="distance_km", times=3.0, prediction="not higher"))
    with pytest.raises(kit.KitFailure, match="case of 'carrier' changes"):
        kit.require_invariance(trained, kit.Invariance(column="carrier", change="case"))
    kit.require_invariance(trained, kit.Invariance(column="carrier", change="case", tolerance=1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[invariance]]\ncolum = "carrier"\n', "colum"),
        ('[[direction]]\ncolumn = "items"\nprediction = "up"\n', "Invalid enum value 'up'"),
        ("[[direction]\n", "expectations.toml"),
    ],
)
def test_a_wrong_file_of_expectations_names_the_fault(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "expectations.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        kit.read_expectations(file)


def test_an_expectation_of_an_unknown_input_names_the_inputs(trained: kit.SampleTraining) -> None:
    with pytest.raises(ConfigurationError, match="names 'weight', which is no input of the model"):
        kit.require_invariance(trained, kit.Invariance(column="weight", value=1))


def test_the_training_leaves_the_project_as_it_was(trained: kit.SampleTraining) -> None:
    folder = trained.sample.project.folder
    assert trained.run.state == "done"
    assert not (folder / ".tidemill").exists()
    assert all(not call.files for call in trained.calls)


def test_a_table_without_the_label_and_one_without_labels_say_so(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    table = project.folder / "data" / "shop.csv"
    rows = pl.read_csv(table)
    rows.drop("late").write_csv(table)
    with pytest.raises(kit.KitFailure, match="has no column 'late', the label of model 'shop'"):
        kit.take_sample(project, project.model())
    rows.with_columns(late=pl.lit(None)).write_csv(table)
    with pytest.raises(kit.KitFailure, match="no row of source 'rows' has a label"):
        kit.take_sample(project, project.model())
    table.unlink()
    with pytest.raises(kit.KitFailure, match=r"has no rows for the tests: .*generate-tests --sample"):
        kit.take_sample(project, project.model())

"""tidemill.toml: what it may say, and errors that name the file, the line and the cure."""

from pathlib import Path

import numpy as np
import pytest

from tests.project.wrong_settings import BASE, TRIGGER, WRONG
from tidemill.core.metric import list_metrics
from tidemill.core.policy import Policy
from tidemill.data.metrics import Truth, measure, measure_more
from tidemill.errors import ConfigurationError
from tidemill.project.configuration import digest_policy, find_project, read_policy


def read(folder: Path, text: str) -> Policy:
    (folder / "tidemill.toml").write_text(text)
    return read_policy(folder / "tidemill.toml")


def test_one_model_is_stated_in_top_level_tables(tmp_path: Path) -> None:
    policy = read(tmp_path, BASE + '[gate]\nmargin = 0.01\n[inputs]\nrequest = ["hour"]\n')
    assert list(policy.models) == ["flights"]
    model = policy.models["flights"]
    assert (model.name, model.problem.label, model.gate.margin, model.inputs.request) == (
        "flights",
        "late",
        0.01,
        ("hour",),
    )
    assert model.training.estimator == "lightgbm"
    assert policy.sources["flights"].time == "departure"


@pytest.mark.parametrize("split", ["time", "random", "stratified", "group"])
def test_a_split_that_fits_is_taken(tmp_path: Path, split: str) -> None:
    group = 'group = "tail"\nfeedback = true\n[inputs]\nrequest = ["hour", "tail"]\n' if split == "group" else ""
    assert read(tmp_path, BASE + f'[training]\nsplit = "{split}"\n{group}').models["flights"].training.split == split


def test_several_models_stand_under_their_names(tmp_path: Path) -> None:
    problem = '[models.{0}.problem]\ndecision = "d"\nsource = "flights"\nlabel = "{0}"\n'
    policy = read(tmp_path, BASE + problem.format("cancelled") + problem.format("diverted"))
    assert {name: model.problem.label for name, model in policy.models.items()} == {
        "cancelled": "cancelled",
        "diverted": "diverted",
        "flights": "late",
    }


def test_the_digest_shows_what_it_prints_and_not_how(tmp_path: Path) -> None:
    message = digest_policy(read(tmp_path, BASE))
    assert digest_policy(read(tmp_path, "# a comment\n" + BASE.replace("\n\n", "\n\n\n"))) == message
    assert digest_policy(read(tmp_path, BASE + "[gate]\nmargin = 0.01\n")) != message


@pytest.mark.parametrize(("text", "message", "cure"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_reported_with_its_line_and_cure(
    tmp_path: Path, text: str, message: str, cure: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        read(tmp_path, text)
    assert raised.value.exit_code == 2
    if "duration" not in raised.value.problem:
        assert "tidemill.toml" in raised.value.problem
    assert cure.replace("\\", "") in raised.value.cure


CODE = "from tidemill.recipes import ingestion, watching as looking\n\ndef training(): ...\n"


@pytest.mark.parametrize("name", ["training", "ingestion", "looking"])
def test_a_trigger_starts_what_pipeline_py_defines(tmp_path: Path, name: str) -> None:
    (tmp_path / "pipeline.py").write_text(CODE)
    read(tmp_path, TRIGGER.replace('"training"', f'"{name}"') + 'on = "data"\n')


@pytest.mark.parametrize("code", ["from kit import *\n", "def training(:\n"])
def test_what_only_running_the_code_could_tell_is_not_held_against_a_trigger(tmp_path: Path, code: str) -> None:
    (tmp_path / "pipeline.py").write_text(code)
    read(tmp_path, TRIGGER + 'on = "data"\n')


def test_what_else_names_a_pipeline_must_name_one_that_is_defined(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(CODE)
    for text, line in (
        (BASE + '[backtest]\nskip = ["ingestoin"]\n', 13),
        (TRIGGER + 'on = "run"\nwhere = { subject = "ingestoin" }\n', 16),
    ):
        with pytest.raises(
            ConfigurationError, match=f"line {line}: pipeline.py defines no pipeline 'ingestoin'"
        ) as raised:
            read(tmp_path, text)
        assert "did you mean 'ingestion'?" in raised.value.cure


def test_a_trigger_may_start_itself_where_it_is_bounded(tmp_path: Path) -> None:
    read(tmp_path, TRIGGER + 'on = "run"\nbudget = 3\n')
    read(tmp_path, TRIGGER + 'on = "run"\nwhere = { pipeline = "watching" }\n')


def test_every_metric_that_is_measured_is_known() -> None:
    truth = Truth("classification", np.array([0, 1, 1, 0]), ("no", "yes"))
    scores = np.array([[0.6, 0.4], [0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    numbers = Truth("regression", np.array([1.0, 2.0, 4.0]))
    measured = measure(truth, scores) | measure_more(truth, scores)
    assert sorted(measured) == sorted(list_metrics("classification"))
    measured = measure(numbers, np.array([1.0, 2.5, 3.0])) | measure_more(numbers, np.array([1.0, 2.5, 3.0]))
    assert sorted(measured) == sorted(list_metrics("regression"))


def test_an_address_may_be_a_variable(tmp_path: Path) -> None:
    policy = read(tmp_path, BASE + '[watch]\nnotify = ["${TEAM}", "log"]\n')
    assert policy.models["flights"].watch.notify == ("${TEAM}", "log")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + BASE) == read(tmp_path, BASE)


def test_a_trigger_of_a_pipeline_that_is_not_defined_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(CODE)
    with pytest.raises(ConfigurationError, match=r"tidemill.toml, line 14: .*'trainig', which pipeline.py") as raised:
        read(tmp_path, TRIGGER.replace('"training"', '"trainig"') + 'on = "data"\n')
    assert raised.value.cure == "it defines: ingestion, looking, training; did you mean 'training'?"


def test_a_step_is_no_pipeline_that_a_trigger_could_start(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(CODE.replace("def training", "@tidemill.step(retries=2)\ndef training"))
    with pytest.raises(ConfigurationError, match=r"line 14: .*'training', which is a step in pipeline.py") as raised:
        read(tmp_path, TRIGGER + 'on = "data"\n')
    assert raised.value.cure == "it defines: ingestion, looking"


TWICE = {
    "a step and a pipeline": ("@step\ndef mine(): ...\n@pipeline\ndef mine(): ...\n", "step in line 2"),
    "a step and a recipe": ("from recipes import (\n    mine,\n)\n@step\ndef mine(): ...\n", "import in line 1"),
    "a recipe and a pipeline": ("@pipeline\ndef mine(): ...\nfrom recipes import mine\n", "pipeline in line 2"),
    "two metrics": ("@metric\ndef mine(): ...\n@metric(latest=1)\ndef mine(): ...\n", "metric in line 2"),
}


@pytest.mark.parametrize(("code", "message"), TWICE.values(), ids=TWICE)
def test_two_things_of_one_name_are_refused(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "pipeline.py").write_text(code)
    with pytest.raises(
        ConfigurationError, match=rf"pipeline.py, line \d: .*'mine' has the name of .*{message}"
    ) as raised:
        read(tmp_path, BASE)
    assert "rename one of them" in raised.value.cure


def test_one_name_may_be_bound_in_several_ways(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "try:\n    from fast import mine\nexcept ImportError:\n    from slow import mine\n"
        "from a import other\nfrom b import other\nfrom tidemill.recipes import training as recipe\n"
        "@pipeline\ndef training(): ...\ndef mine_too(): ...\ndef mine_too(): ...\n"
    )
    read(tmp_path, TRIGGER + 'on = "data"\n')


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_policy(tmp_path / "tidemill.toml")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_policy(tmp_path)
    (tmp_path / "tidemill.toml").write_bytes(BASE.replace("Warn", "Warn\xe9").encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is not UTF-8") as raised:
        read_policy(tmp_path / "tidemill.toml")
    assert "UTF-8" in raised.value.cure


def test_a_project_is_found_from_inside(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text(BASE)
    inside = tmp_path / "data" / "raw"
    inside.mkdir(parents=True)
    assert find_project(inside) == tmp_path.resolve()
    assert find_project(tmp_path) == tmp_path.resolve()


def test_where_there_is_no_project_the_cure_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no tidemill.toml in .* or above") as raised:
        find_project(tmp_path)
    assert "tidemill init" in raised.value.cure


def test_the_example_fits() -> None:
    example = Path(__file__).parents[2] / "examples" / "flights" / "tidemill.toml"
    assert "flights" in read_policy(example).models


WATCHED = '[[watch.values]]\nvalue = "age"\nlimit = 1\naction = "retrain"\nwindow = "60d"\n'


def test_what_is_kept_and_how_long(tmp_path: Path) -> None:
    kept = read(tmp_path, BASE).retention
    assert (kept.runs, kept.orphans, kept.releases, kept.journal) == ("90d", "7d", None, None)
    kept = read(tmp_path, BASE + '[retention]\nruns = "30d"\nreleases = 3\njournal = "400d"\n').retention
    assert (kept.runs, kept.releases, kept.journal) == ("30d", 3, "400d")


@pytest.mark.parametrize(
    ("more", "cure"),
    [
        ('[retention]\njournal = "10d"\n', "shorten the window"),
        (WATCHED + '[retention]\njournal = "60d"\n', "shorten the window"),
        ('[training]\nfeedback = true\n[retention]\njournal = "400d"\n', "set a window in its [training]"),
        ("[retention]\nreleases = 0\n", "in this range"),
        ('[retention]\nruns = "soon"\n', "7d"),
    ],
)
def test_a_journal_is_not_cut_shorter_than_it_is_looked_back_on(tmp_path: Path, more: str, cure: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, BASE + more)
    assert cure in refused.value.cure

"""Classes of labels: spellings of one class are reported before a training, and other classes stop their batch."""

import re
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from tests.projects import listed, tidemill
from tidemill.compose.session import open_session
from tidemill.project.project import Project


def make_answers(rows: int, seed: int, spell: dict[str, str] | None = None) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    answers = np.where(x + random.normal(size=rows) / 3 > 0, "yes", "no")
    spelled = [(spell or {}).get(answer, answer) for answer in answers]
    return pl.DataFrame({"row": [f"r{seed}-{row}" for row in range(rows)], "x": x, "answer": spelled})


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    make_answers(400, 1).write_csv(tmp_path / "first.csv")
    tidemill(tmp_path, "init", "survey", "--from", "first.csv", "--label", "answer", "--key", "row")
    file = tmp_path / "survey" / "tidemill.toml"
    file.write_text(file.read_text().replace("data/survey.csv", "data/*.csv"))
    tidemill(tmp_path / "survey", "run", "training")
    return tmp_path / "survey"


def set_problem(project: Path, line: str) -> None:
    file = project / "tidemill.toml"
    file.write_text(file.read_text().replace("[problem]\n", f"[problem]\n{line}\n"))


def test_a_later_file_with_other_spellings_is_stopped_and_the_cure_works(survey: Path) -> None:
    make_answers(100, 2, {"yes": "Y", "no": "N"}).write_csv(survey / "data" / "second.csv")
    stopped = tidemill(survey, "run", "training", code=3)
    for text in ("'answer'", "such as", "Y", "N", "the domain is no, yes", "tidemill data accept rows"):
        assert text in stopped.stderr
    tidemill(survey, "run", "training")  # later trainings are not stopped by the batch
    setting = re.search(r"spellings = \{.*?\}", stopped.stderr)
    assert setting
    set_problem(survey, setting[0])
    tidemill(survey, "run", "training")
    assert listed(survey, "models", "show", "survey")["data"]["rows"] == 500
    assert [batch["state"] for batch in listed(survey, "data", "batches")] == ["accepted", "accepted"]


def test_a_new_class_is_accepted_by_a_person(survey: Path) -> None:
    make_answers(100, 2, {"yes": "perhaps"}).write_csv(survey / "data" / "second.csv")
    stopped = tidemill(survey, "run", "ingestion", code=3).stderr
    assert 'spellings = { "perhaps" = … }, where … is one of no, yes' in stopped  # no guess: it could be the wrong one
    assert "perhaps" in tidemill(survey, "data", "validate", "data/second.csv", code=3).stdout
    tidemill(survey, "data", "accept", "rows", "--reason", "a third answer is possible now")
    tidemill(survey, "run", "ingestion")
    assert listed(survey, "status")["needs"] == []


def test_labels_over_http_have_the_spellings(survey: Path) -> None:
    set_problem(survey, 'spellings = { Y = "yes" }')
    tidemill(survey, "run", "training")
    session = open_session(Project(survey))
    (route,) = session.workspace.board.routes().values()
    (arm,) = [arm for arm in route.arms if arm.role in ("challenger", "champion")][-1:]
    assert session.packages.load(arm.package).manifest.spellings == {"Y": "yes"}


def test_spellings_of_one_class_are_reported_before_a_training(tmp_path: Path) -> None:
    half = make_answers(300, 1), make_answers(100, 2, {"yes": "YES ", "no": "No"})
    pl.concat(half).write_csv(tmp_path / "dirty.csv")
    pl.concat((half[0], make_answers(100, 2))).write_csv(tmp_path / "clean.csv")
    reported = tidemill(tmp_path, "init", "dirty", "--from", "dirty.csv", "--label", "answer", "--key", "row").stdout
    assert "label 'answer' spells one class in several ways: 'No' for 'no', 'YES ' for 'yes'" in reported
    tidemill(tmp_path, "init", "clean", "--from", "clean.csv", "--label", "answer", "--key", "row")
    losses = []
    for name in ("dirty", "clean"):
        run = msgspec.json.decode(tidemill(tmp_path / name, "run", "training", "--json").stdout)
        losses.append(run["metrics"]["test_log_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=0.01)


def test_a_project_without_the_setting_is_stopped_with_the_cure(tmp_path: Path) -> None:
    pl.concat((make_answers(300, 1), make_answers(100, 2, {"yes": "Yes"}))).write_csv(tmp_path / "dirty.csv")
    tidemill(tmp_path, "init", "dirty", "--from", "dirty.csv", "--label", "answer", "--key", "row")
    file = tmp_path / "dirty" / "tidemill.toml"
    file.write_text(re.sub(r"spellings = .*\n", "", file.read_text()))
    failed = tidemill(tmp_path / "dirty", "run", "training", code=2)
    assert "'Yes' for 'yes'" in failed.stderr
    (verdict,) = listed(tmp_path / "dirty", "checks", "list", "--check", "schema")
    assert verdict["outcome"] == "warn"
    setting = re.search(r"spellings = \{.*?\}", failed.stderr)
    assert setting
    set_problem(tmp_path / "dirty", setting[0])
    tidemill(tmp_path / "dirty", "run", "training")

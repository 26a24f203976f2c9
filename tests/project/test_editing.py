"""Editing tidemill.toml: only the wanted values change, comments stay, and an unusual layout is an error."""

import itertools
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.backtest.knobs import Settings, Space
from tidemill.core.policy import Policy
from tidemill.errors import ConfigurationError
from tidemill.project.configuration import read_policy
from tidemill.project.editing import edit_policy, list_changes, show_difference
from tidemill.project.project import Project


def make_space(policy: Policy) -> Space:
    days = timedelta(days=1)
    return Space(policy, "shop", history=300 * days, period=400 * days, delivery=days)


def read_edited(project: Project, text: str) -> Policy:
    file = project.folder / "edited.toml"
    file.write_text(text)
    return read_policy(file)


def test_every_combination_of_settings_can_be_written_and_is_read_back(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    space = make_space(project.policy)
    knobs = [("", *knob.values) for knob in space.list_knobs()]
    names = [knob.name for knob in space.list_knobs()]
    assert len(names) == 6
    for values in itertools.islice(itertools.product(*knobs), 0, None, 23):
        settings: Settings = {name: value for name, value in zip(names, values, strict=True) if value}
        wanted = space.apply(settings)
        text = edit_policy(project.folder / "tidemill.toml", project.policy, wanted)
        assert read_edited(project, text) == wanted, settings


def test_comments_and_other_lines_stay(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "tidemill.toml"
    before = file.read_text()
    wanted = make_space(project.policy).apply({"window": "84d", "cooldown": "3d", "limit": "0.5"})
    after = edit_policy(file, project.policy, wanted)
    removed = [line for line in before.splitlines() if line not in after.splitlines()]
    assert len(removed) == 2, "one cooldown and one limit"
    assert 'cooldown = "3d"         # ' in after, "the comment stays in its column"
    assert after.count("#") == before.count("#")
    assert file.read_text() == before, "nothing is written"
    assert not list(file.parent.glob(".*.draft"))


def test_a_trigger_is_added_and_removed_again(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "tidemill.toml"
    before = file.read_text()
    with_calendar = make_space(project.policy).apply({"calendar": "monthly"})
    added = edit_policy(file, project.policy, with_calendar)
    assert 'cron = "0 6 1 * *"' in added
    file.write_text(added + "\n# the last line is a comment\n")
    space = make_space(with_calendar)
    removed = edit_policy(file, with_calendar, space.apply({"calendar": "none"}))
    assert "# the last line is a comment" in removed
    assert read_edited(project, removed) == project.policy
    assert removed.splitlines()[: len(before.splitlines())] == before.splitlines()


def test_an_unusual_layout_is_an_error_that_names_the_changes(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "tidemill.toml"
    text = file.read_text()
    head, tail = text.split("[training]\n")
    table, rest = tail.split("\n\n", 1)
    values = ", ".join(line.split("  ")[0] for line in table.splitlines())
    file.write_text(f"training = {{ {values}, window = '60d' }}\n" + head + rest)
    present = read_policy(file)
    wanted = make_space(present).apply({"window": "84d"})
    with pytest.raises(ConfigurationError) as raised:
        edit_policy(file, present, wanted)
    assert "models.shop.training.window: 60d → 84d" in str(raised.value)


def test_a_project_with_several_models_is_edited_in_the_tables_of_the_model(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "tidemill.toml"
    text = file.read_text()
    tables = ("problem", "inputs", "training", "gate", "rollout", "serving", "watch")
    for name in tables:
        text = text.replace(f"[{name}]", f"[models.shop.{name}]").replace(f"[[{name}.", f"[[models.shop.{name}.")
    file.write_text(text)
    present = read_policy(file)
    wanted = make_space(present).apply({"window": "56d", "limit": "2"})
    assert read_edited(project, edit_policy(file, present, wanted)) == wanted


def test_a_value_is_added_to_a_table_with_lists_over_several_lines(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    file = project.folder / "tidemill.toml"
    file.write_text(file.read_text().replace("[training]\n", '[training]\npackages = [\n    "numpy",\n]\n'))
    present = read_policy(file)
    wanted = make_space(present).apply({"window": "84d", "canary": "2d"})
    assert read_edited(project, edit_policy(file, present, wanted)) == wanted


def test_differences_name_paths_and_values(tmp_path: Path) -> None:
    policy = make_project(tmp_path / "shop").policy
    model = policy.models["shop"]
    other = replace(policy, models={"shop": replace(model, training=replace(model.training, window="28d"))})
    assert list_changes(policy, other) == ["models.shop.training.window: None → 28d"]
    assert show_difference("a\nb", "a\nc").splitlines()[-2:] == ["-b", "+c"]
    assert show_difference("a", "a") == ""

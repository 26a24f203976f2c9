"""Decisions of people need a reason: without one, a command does nothing, and nothing is written to the audit log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from tests.projects import make_project, tidemill
from tidemill.cli.main import command_line
from tidemill.compose.session import open_session
from tidemill.errors import InputError
from tidemill.ledger.decisions import require_reason
from tidemill.project.project import Project

_VALUES = {"NAME=VALUE": "order_id=1", "--rule": "soak", "--to": "test", "build": "1", "environment": "test"}


def list_deciding(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Iterate over the commands that have the option --reason."""
    for name, child in getattr(command, "commands", {}).items():
        yield from list_deciding(child, (*words, name))
    if any("--reason" in parameter.opts for parameter in command.params):
        yield words, command


DECIDING = dict(list_deciding(typer.main.get_command(command_line(""))))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an environment; nothing was trained or built."""
    folder = tmp_path_factory.mktemp("reasons") / "shop"
    make_project(folder)
    with (folder / "tidemill.toml").open("a") as file:
        file.write("\n[environments.test]\n")
    return folder


def fill_in(command: click.Command) -> Iterator[str]:
    """Iterate over a value for each parameter that the command requires."""
    for parameter in command.params:
        if parameter.required:
            name = parameter.opts[0]
            value = _VALUES.get(name, _VALUES.get(parameter.human_readable_name, "x"))
            yield from (value,) if parameter.param_type_name == "argument" else (name, value)


def test_the_commands_that_decide_are_known() -> None:
    assert len(DECIDING) >= 22
    assert {("data", "accept"), ("tokens", "revoke"), ("triggers", "pause"), ("deploy", "override")} <= DECIDING.keys()


@pytest.mark.parametrize("words", DECIDING, ids=" ".join)
def test_a_decision_without_a_reason_is_refused_before_anything_happens(shop: Path, words: tuple[str, ...]) -> None:
    required = tuple(fill_in(DECIDING[words]))
    for given in ((), ("--reason", ""), ("--reason", " \t"), ("--reason", "…")):
        refused = tidemill(shop, *words, *required, *given, code=2).stderr
        assert "the decision has no reason" in refused, given
        assert "--reason" in refused
    refused = tidemill(shop, *words, *required, "--reason", "it is \x1b[31mbetter", code=2).stderr
    assert "control characters" in refused
    assert not open_session(Project(shop), "ci").workspace.ledger.audit.find()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  it is better ", "it is better"),
        ("two\r\nlines", "two lines"),
        ("sur Lyon : œuvre", "sur Lyon : œuvre"),
        ("精度が高い", "精度が高い"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("3", "3"),
    ],
)
def test_a_reason_is_kept_on_one_line(given: str, kept: str) -> None:
    assert require_reason(given) == kept


@pytest.mark.parametrize("given", ["not \udce9 UTF-8", "a \x07bell", "hidden\x9b"])
def test_a_reason_that_is_no_text_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="control characters, or is not UTF-8"):
        require_reason(given)

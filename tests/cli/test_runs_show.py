"""The commands that tell what runs left, as users type them: the items that are shown, and what wrong ids come to."""

import re
from pathlib import Path

import pytest
from msgspec import json

from tests.projects import listed, tidemill
from tests.projects import session_of as shop_of

FAILING = """
from tidemill import pipeline, step

@step
def shout(times: int) -> str:
    for place in range(times):
        print(f"line {place} of ünïcode [bold]and marks[/bold]")
    return "done"

@step
def fall(message: str) -> int:
    raise RuntimeError("it fell " + message)

@pipeline
def falling(times: int = 3) -> None:
    fall(shout(times))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases, the second of which was compared with the first, and a run that failed."""
    folder = tmp_path_factory.mktemp("evidence") / "shop"
    shop_of(folder)
    with (folder / "pipeline.py").open("a") as file:
        file.write(FAILING)
    tidemill(folder, "run", "training")
    policy = folder / "tidemill.toml"
    policy.write_text(policy.read_text().replace("[training]\n", "[training]\nseed = 11\n", 1))
    tidemill(folder, "run", "training")
    tidemill(folder, "run", "falling", code=1)
    return folder


def runs(shop: Path) -> list[str]:
    """The ids of its runs, the oldest first."""
    return [run["id"] for run in listed(shop, "runs", "list")][::-1]


def test_show_shows_every_item_of_a_run(shop: Path) -> None:
    first, second, _ = runs(shop)
    shown = tidemill(shop, "runs", "show", second).stdout
    message = re.sub(r" +", " ", shown)
    story = listed(shop, "runs", "show", second)
    for heading in ("Versions", "Parameters", "Metrics", "Verdicts", "Steps", "Artifacts"):
        assert f"\n{heading}\n" in shown
    for item in ("started 20", "ended 20", "started by", "executor inline", "policy ", "packages python 3"):
        assert item in message, item
    assert f"compared with shop/1, package {story['compared_with']['package'][:12]}, run {first}" in message
    assert "metric test baseline train" in message
    for step in story["steps"]:
        assert f"{step['step']} {step['state']} " in message
        assert step["code"][:8] in shown
    for name, artifact in story["artifacts"].items():
        assert f"{name} " in message
        assert artifact["id"][:12] in shown
    shown = tidemill(shop, "runs", "show", first).stdout
    for role in ("anomalies", "rows seen", "statistics", "vocabularies", "metrics", "model package", "verdict"):
        assert f"  {role} " in shown, role
    assert max(map(len, shown.splitlines())) <= 120


def test_show_shows_a_failure_in_its_place(shop: Path) -> None:
    shown = tidemill(shop, "runs", "show", runs(shop)[2]).stdout
    assert shown.startswith("falling  failed in ")
    assert "it fell done" in shown


def test_logs_are_kept_for_each_step_and_reported_as_they_were(shop: Path) -> None:
    run = runs(shop)[2]
    reported = tidemill(shop, "runs", "logs", run).stdout
    assert "line 0 of ünïcode [bold]and marks[/bold]" in reported
    assert "RuntimeError: it fell done" in reported
    alone = tidemill(shop, "runs", "logs", run, "--step", "fall").stdout
    assert "line 0" not in alone
    assert "RuntimeError" in alone
    assert [one["step"] for one in listed(shop, "runs", "logs", run)] == ["shout", "fall"]
    one_line(tidemill(shop, "runs", "logs", run, "--step", "nope", code=2).stderr, "no step 'nope' — its steps are:")


def test_the_whole_of_a_long_log_is_kept(shop: Path) -> None:
    tidemill(shop, "run", "falling", "-p", "times=1500", code=1)
    run = runs(shop)[-1]
    end = tidemill(shop, "runs", "logs", run, "--step", "shout").stdout
    whole = tidemill(shop, "runs", "logs", run, "--step", "shout", "--full").stdout
    assert "line 1499 " in end
    assert len(end) < len(whole)
    assert [f"line {place} " in whole for place in (0, 700, 1499)] == [True] * 3


def test_two_runs_are_laid_side_by_side(shop: Path) -> None:
    first, second, failed = runs(shop)[:3]
    shown = tidemill(shop, "runs", "diff", first, second).stdout
    assert "compared with" in shown
    assert "policy" in shown
    assert "equal: graph" in shown
    assert "only in a:" in tidemill(shop, "runs", "diff", first, failed).stdout
    assert listed(shop, "runs", "diff", first, second)["a"] == first


def test_lineage_is_drawn_up_and_down_and_as_a_picture(shop: Path, tmp_path: Path) -> None:
    first = runs(shop)[0]
    up = tidemill(shop, "runs", "lineage", "shop/1").stdout
    assert up.startswith("release shop/1")
    assert "batch rows/" in up
    assert f"start of run {first[:18]}  training" in up
    down = tidemill(shop, "runs", "lineage", first, "--down").stdout
    assert "0 predictions in production" in down
    assert "route in production" in down
    tidemill(shop, "runs", "lineage", "shop/1", "--svg", str(tmp_path / "x.svg"))
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    found = listed(shop, "runs", "lineage", "shop/1", "--depth", "2")
    assert found["subject"] == "shop/1"
    assert len(found["nodes"]) == 3


def test_export_prints_events_line_by_line(shop: Path) -> None:
    lines = tidemill(shop, "runs", "export", runs(shop)[0]).stdout.splitlines()
    kinds = [json.decode(line)["eventType"] for line in lines]
    assert kinds.count("START") == kinds.count("COMPLETE") == len(kinds) / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runs", "show", "0000000000"), "there is no run '0000000000' — list the runs"),
        (("runs", "logs", "0000"), "there is no run"),
        (("checks", "show", "0000000000"), "list the ids: `tidemill checks list`"),
        (("runs", "diff", "01", "02"), "too short"),
        (("runs", "lineage", "ffffffff"), "no record has the id 'ffffffff' — use the id of a run"),
        (("runs", "lineage", "01a1fa52-bbaf-7ab8-9884-7923109a3862"), "--env selects another environment"),
        (("runs", "lineage", "shop/99"), "release 'shop/99' does not exist"),
        (("runs", "lineage", "shop/1", "--depth", "-1"), "depth"),
        (("runs", "lineage", "shop/1", "--svg", "/proc/nope/x.svg"), "cannot be written"),
        (("show", "training", "--svg", "/proc/nope/x.svg"), "cannot be written"),
    ],
)
def test_what_is_not_there_is_one_line_with_a_cure(shop: Path, words: tuple[str, ...], message: str) -> None:
    one_line(tidemill(shop, *words, code=2).stderr, message)


def test_a_beginning_of_several_runs_and_an_unknown_format_are_one_line(shop: Path) -> None:
    first, second = runs(shop)[:2]
    shared = first[: next(place for place, pair in enumerate(zip(first, second, strict=True)) if len(set(pair)) > 1)]
    one_line(tidemill(shop, "runs", "show", shared, code=2).stderr, "several ids start with")
    one_line(tidemill(shop, "runs", "export", first, "--format", "xml", code=2).stderr, "no format 'xml'")
    one_line(
        tidemill(shop, "runs", "export", first, "--url", "http://127.0.0.1:1/", code=1).stderr, "cannot be reached"
    )


def one_line(message: str, expected: str) -> None:
    assert expected in message
    assert " — " in message
    assert len(message.strip().splitlines()) == 1

"""Some faults of the benchmark of reliability, so that it cannot rot: nothing is lost, and all goes on."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.__main__ import format_results, merge
from benchmarks.reliability.tally import Tally, format_table

_TALLIES = {"1": Tally("kill", tries=1, note="a"), "2": Tally("kill", tries=2, named=1, note="b")}
_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the shop of the first run for the next ones."""
    return tmp_path_factory.mktemp("reliability") / "shop"


def run(shop: Path, part: str, tries: int) -> dict[str, Any]:
    """Run a part in a process of its own, which forks, and return its faults."""
    words = ("--sqlite", "--json", "--shop", str(shop), "--only", part, "--tries", str(tries))
    command = [sys.executable, "-m", "benchmarks.reliability", *words]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    faults: dict[str, Any] = json.loads(done.stdout)["faults"]
    return faults


@pytest.mark.parametrize(("part", "tries"), [("kills", 4), ("services", 2)])
def test_nothing_acknowledged_is_lost_to_a_kill(shop: Path, part: str, tries: int) -> None:
    tallies = run(shop, part, tries).values()
    assert sum(tally["tries"] for tally in tallies) == tries
    for tally in tallies:
        assert (tally["lost"], tally["recovered"], tally["problems"]) == (0, tally["tries"], [])
    assert sum(tally["acknowledged"] for tally in tallies) > 0


def test_a_damaged_file_is_named_and_read_by_nobody(shop: Path) -> None:
    tallies = run(shop, "damage", 3)  # a truncated ledger, blob and journal
    tried = [tally for tally in tallies.values() if tally["tries"]]
    assert [(tally["lost"], tally["named"]) for tally in tried] == [(0, 1)] * 3


def test_a_full_disk_costs_nothing_that_was_acknowledged(shop: Path) -> None:
    for tally in run(shop, "disk", 1).values():
        assert tally["lost"] == 0
        assert tally["recovered"] == tally["tries"]
        assert tally["tries"] or tally["note"] or tally["fault"].endswith("a service")


def test_an_edited_record_of_each_kind_is_found(shop: Path) -> None:
    for tally in run(shop, "edits", 7).values():
        assert (tally["tries"], tally["named"]) == (1, 1), tally["problems"]


def test_the_table_has_a_row_for_each_fault_and_a_line_for_each_problem() -> None:
    tally = Tally("kill -9 of a command")
    tally.add("run training", acknowledged=2)
    tally.add("models promote", acknowledged=1, lost=["the route"], broken=["no board"])
    *table, empty, lost, broken = format_table([tally, Tally("full disk", note="not tried: no root")]).splitlines()
    assert [cell.strip() for cell in table[2].split("|")[1:-1]] == ["kill -9 of a command", "2", "3", "1", "1", "–", ""]
    assert "not tried: no root" in table[3]
    assert (empty, lost) == ("", "- kill -9 of a command: models promote: LOST the route")
    assert broken.endswith("no board")


def test_the_results_of_several_runs_are_added() -> None:
    one, two = (
        {"machine": "m", "seed": seed, "faults": {"kill": asdict(tally) | {"commit": f"c{seed}"}}}
        for seed, tally in _TALLIES.items()
    )
    merged = merge([one, two, two])
    kill = merged["faults"]["kill"]
    assert (merged["seed"], kill["tries"], kill["named"], kill["note"]) == ("1, 2", 5, 2, "a; b")
    assert kill["commit"] == "c1 and c2"


def test_the_table_names_the_commit_of_each_row_if_they_differ() -> None:
    rows = [asdict(Tally(name, tries=1)) | {"commit": commit} for name, commit in (("kill", "c1"), ("disk", "c2"))]
    assert "| commit c1" in format_results(rows)
    assert "| commit c2" in format_results(rows)
    assert format_results(rows[:1]).startswith("commit c1\n")

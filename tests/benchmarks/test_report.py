"""What a benchmark prints: a number or a reason for each contender, and the table in the README replaced whole."""

from pathlib import Path

import pytest

from benchmarks._report import Figure, build_figure, format_table, write_between

_FIGURE = Figure("a step", "ms", "≤ 1.5")


def test_a_missing_value_is_a_reason_and_never_dropped() -> None:
    found = build_figure(_FIGURE, [1.0, 3.0, 2.0], [0.5], {"slow": [1234.5], "broken": "failed (1): no such table"})
    assert found == {
        "ours": 2.0,
        "floor": 0.5,
        "peers": {"slow": 1234.5, "broken": "failed (1): no such table"},
        "ratio": 4.0,
        "unit": "ms",
        "repeats": 3,
    }
    lines = format_table((_FIGURE,), {"a step": found}).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")] == ["", "a step, ms", "≤ 1.5", "2", "0.5", "1,234", "–", ""]
    assert lines[-1] == "- broken: failed (1): no such table (a step)"


def test_without_ours_there_is_no_ratio() -> None:
    assert build_figure(_FIGURE, "failed (1): broken", [0.5], {})["ratio"] is None


def test_the_table_in_a_readme_is_replaced_whole(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- it -->\nold\n<!-- /it -->\nafter\n")
    for text in ("new", "newer"):
        write_between(readme, "it", text)
    assert readme.read_text() == "before\n<!-- it -->\nnewer\n<!-- /it -->\nafter\n"
    with pytest.raises(SystemExit, match="<!-- other -->"):
        write_between(readme, "other", "new")

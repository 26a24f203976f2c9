"""Charts: what Plotly itself accepts, distinguished without colour, and text that stays text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import plotly.graph_objects as go
import pytest

from tidemill.data.charts import (
    ChartMark,
    ChartSeries,
    Figure,
    TrafficChange,
    TrafficShare,
    draw_difference,
    draw_outcome_counts,
    draw_over_time,
    draw_traffic_shares,
)

START = datetime(2013, 3, 1, tzinfo=UTC)
WEEKS = [START + timedelta(weeks=week) for week in range(4)]


def lines() -> list[ChartSeries]:
    return [
        ChartSeries(name, WEEKS, [0.5, 0.4, 0.6, level], [100] * 4) for name, level in (("loop", 0.4), ("static", 0.7))
    ]


def changes() -> list[TrafficChange]:
    return [
        TrafficChange(WEEKS[0], [TrafficShare("m/1", "champion", 1.0)], "the first release"),
        TrafficChange(
            WEEKS[1], [TrafficShare("m/1", "champion", 0.8), TrafficShare("m/2", "challenger", 0.2)], "canary of 20%"
        ),
        TrafficChange(WEEKS[2], [TrafficShare("m/2", "champion", 1.0)], "promoted"),
    ]


def marks() -> list[ChartMark]:
    return [
        ChartMark(WEEKS[1], "released", "canary"),
        ChartMark(WEEKS[2], "promoted", "not worse"),
        ChartMark(WEEKS[2], "odd", "x"),
    ]


FIGURES: dict[str, Figure] = {
    "over time": draw_over_time(lines(), marks(), "log loss"),
    "over time, no marks": draw_over_time(lines(), [], "log loss"),
    "difference": draw_difference(lines(), "static", "difference"),
    "answering": draw_traffic_shares(changes(), WEEKS[3]),
    "answering, nobody": draw_traffic_shares([], WEEKS[3]),
    "counts": draw_outcome_counts({"gate": {"pass": 3, "fail": 1}, "drift": {"warn": 2, "undecided": 1}}),
    "counts, none": draw_outcome_counts({}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_plotly_knows_every_word_of_a_figure(name: str) -> None:
    go.Figure(FIGURES[name])  # raises for a property or a value that is none


def test_series_differ_without_their_colours() -> None:
    data = FIGURES["over time"]["data"][:2]
    assert data[0]["line"]["dash"] != data[1]["line"]["dash"]
    assert data[0]["marker"]["symbol"] != data[1]["marker"]["symbol"]


def test_marks_stand_in_lanes_in_their_order() -> None:
    assert FIGURES["over time"]["layout"]["yaxis2"]["categoryarray"] == ["released", "promoted", "odd"]


def test_a_difference_is_to_the_same_week_of_the_reference() -> None:
    (only,) = FIGURES["difference"]["data"]
    assert only["name"] == "loop"
    assert only["y"] == pytest.approx([0, 0, 0, -0.3])


def test_a_stretch_lasts_until_the_share_changes() -> None:
    def lasted(role: str) -> list[tuple[str, float]]:
        trace: dict[str, Any] = next(one for one in FIGURES["answering"]["data"] if one["name"] == role)
        return [(release, length / 86_400_000) for release, length in zip(trace["y"], trace["x"], strict=True)]

    assert lasted("champion") == [("m/1", 7.0), ("m/1", 7.0), ("m/2", 7.0)]
    assert lasted("challenger") == [("m/2", 7.0)]


def test_a_stretch_continues_where_only_another_release_changes() -> None:
    kept = TrafficShare("m/1", "champion", 1.0)
    drawn = draw_traffic_shares(
        [TrafficChange(WEEKS[0], [kept], "a"), TrafficChange(WEEKS[1], [kept, TrafficShare("m/2", "shadow", 0)], "b")],
        WEEKS[3],
    )
    assert drawn["data"][0]["x"] == [21 * 86_400_000]


def test_text_is_never_taken_for_markup() -> None:
    evil = '<a href="javascript:alert(1)">x</a>'
    drawn = [
        draw_over_time([ChartSeries(evil, WEEKS, [1, 2, 3, 4])], [ChartMark(WEEKS[0], evil, evil)], evil),
        draw_traffic_shares([TrafficChange(WEEKS[0], [TrafficShare(evil, "champion", 1.0)], evil)], WEEKS[1]),
        draw_outcome_counts({evil: {"pass": 1}}),
    ]
    assert "<a href" not in str(drawn)

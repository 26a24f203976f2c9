"""The table of the benchmark of streams, and the times of the streams without any."""

import gzip
from datetime import datetime, timedelta
from typing import Any

from benchmarks._stream_tables import STREAMS
from benchmarks.streams import to_table

FIGURES: dict[str, Any] = {
    "metric": "log_loss",
    "predictions": 1454,
    "days": 61,
    "static": 0.57539,
    "loop": 0.54592,
    "calendar": 0.51366,
    "trainings": 5,
    "difference": [0.03226, 0.0021, 0.06801],
    "refusals": 2,
    "wrong_refusals": 1,
    "promotions": 1,
    "wrong_promotions": 0,
    "rollbacks": 0,
    "wrong_rollbacks": 0,
    "looks": {"drift": {"fail": 129, "pass": 51, "undecided": 62}},
    "seconds": 118.8,
}


def test_the_table_has_a_row_for_each_stream_with_its_source() -> None:
    lines = to_table({"weather": FIGURES, "air": {"failed": "the first training released no model"}}).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    weather, air = lines[2], lines[3]
    assert "**0.5459** : 5" in weather
    assert "+0.0323 (+0.0021 to +0.068)" in weather
    assert "2 : 1" in weather
    assert "129 of 242" in weather
    assert "the first training released no model" in air
    assert sum(line.startswith("- *") for line in lines) == 2


def test_a_stream_without_times_gets_an_even_rhythm() -> None:
    weather = next(stream for stream in STREAMS if stream.name == "weather")
    rows = weather.make(b"feat_1,target\n1.5,0\n2.5,1.0\n3.5,0\n")
    assert rows["target"].to_list() == ["dry", "rain", "dry"]
    assert rows["time"].diff().drop_nulls().to_list() == [timedelta(hours=1)] * 2
    assert rows["time"][0] == datetime(2020, 1, 1)


def test_the_days_of_an_ordinal_date_and_of_a_text() -> None:
    made = {stream.name: stream.make for stream in STREAMS}
    approval = made["approval"](gzip.compress(b"ordinal_date,gallup\n736389,43.8\n736390,43.9\n"))
    assert approval["time"].to_list() == [datetime(2017, 3, 1), datetime(2017, 3, 2)]
    hours = [datetime(2010, 1, 1) + timedelta(hours=hour) for hour in range(50)]
    lines = [f"{time:%Y/%m/%d %H:%M},{place}" for place, time in enumerate(hours)]
    temperatures = made["temperatures"]("\n".join(["date,temp", *lines]).encode())
    assert temperatures.select("temp", "1 days before", "2 days before").rows() == [(48, 24, 0), (49, 25, 1)]
    sky = made["sky"](b"date,precipitation,wind,weather\n2012/01/01,1.5,4,rain\n2012/01/02,0,5,sun\n")
    assert sky.select("wind before", "weather before", "month").rows() == [(4, "rain", 1)]


def test_the_hours_of_the_bicycles_are_those_of_their_days() -> None:
    bicycles = next(stream for stream in STREAMS if stream.name == "bicycles")
    rows = bicycles.make(b"day,hr,casual,registered,bikers\n1,0,1,2,3\n365,23,1,2,3\n")
    assert rows["time"].to_list() == [datetime(2011, 1, 1), datetime(2011, 12, 31, 23)]
    assert rows.columns == ["hr", "bikers", "time"]

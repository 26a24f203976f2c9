"""An online learner over HTTP: labels change what is served through a gated update, and wrong labels do not."""

from pathlib import Path
from typing import Any

import httpx
import polars as pl

from tests.daemon.test_up import until, up
from tests.learners import BEGIN, MODEL, flip, make_readings, to_requests, write_sensors
from tests.projects import listed, tidemill

_WATCH = """
[[watch.values]]
value = "learning"
limit = 1.0
action = "experiment"

[[triggers]]
name = "watch"
cron = "0 0 1 1 *"
pipeline = "watching"

[[triggers]]
name = "labels"
"""


def predict(client: httpx.Client, readings: pl.DataFrame, name: str) -> Any:
    reply = client.post(f"/predict/{MODEL}", json={"rows": to_requests(readings, name, BEGIN)})
    assert reply.status_code == 200, reply.text
    return reply.json()


def label(client: httpx.Client, predictions: list[Any], values: list[str]) -> None:
    labels = [{"id": row["id"], "value": value} for row, value in zip(predictions, values, strict=True)]
    reply = client.post(f"/labels/{MODEL}", json={"labels": labels})
    assert reply.status_code == 200, reply.text


def list_probabilities(answers: Any) -> list[float]:
    return [row["probabilities"]["yes"] for row in answers["predictions"]]


def test_labels_change_the_served_answers_through_a_gated_update(tmp_path: Path) -> None:
    folder = tmp_path / "sensors"
    write_sensors(folder, replace={'\n[[triggers]]\nname = "labels"\n': _WATCH})
    tidemill(folder, "run", "training")
    probe = make_readings(50, 77, weight=2.0)
    readings = make_readings(240, 1, weight=2.0)
    with up(folder) as (client, _):
        before = predict(client, probe, "p")
        assert before["release"] == "sensors/1"
        label(client, predict(client, readings, "a")["predictions"], readings["alarm"].to_list())
        until(lambda: predict(client, probe, "q")["release"] == "sensors/2")
        after = predict(client, probe, "p")
        moved = [abs(x - y) for x, y in zip(list_probabilities(before), list_probabilities(after), strict=True)]
        assert max(moved) > 0.1
        gate = listed(folder, "checks", "list", "--check", "gate")[0]
        assert gate["action"] == "proceed"
        assert gate["evidence"]["test_then_train_loss"] < gate["evidence"]["loss_without_learning"]

        tidemill(folder, "triggers", "fire", "watching")
        delay = until(lambda: listed(folder, "checks", "list", "--check", "learning"))[0]
        seconds = delay["evidence"]["label_to_answer_seconds"]
        assert delay["outcome"] == "pass"
        assert 0 < seconds["middle"] <= seconds["longest"] < 90
        assert "240 labels were used" in delay["reason"]

        newer = make_readings(160, 5, weight=0.0)
        wrong = [flip(alarm) for alarm in newer["alarm"]]
        label(client, predict(client, newer, "b")["predictions"], wrong)
        until(lambda: listed(folder, "checks", "list", "--check", "gate")[0]["action"] == "stop")
        refused = listed(folder, "checks", "list", "--check", "gate")[0]
        assert "not better than the trivial baseline" in refused["reason"]
        again = predict(client, probe, "p")
        assert again["release"] == "sensors/2"
        assert list_probabilities(again) == list_probabilities(after)
    assert [release["version"] for release in listed(folder, "models", "list")] == [2, 1]

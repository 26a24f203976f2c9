"""Requests over a real port: predictions, labels, and an error with its cure for each wrong request."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import polars as pl
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.kit import MODEL, ROW, ServingKit, package, predicting_nan, running, until
from tidemill.core.model import Model
from tidemill.labels.feedback import match
from tidemill.models.load import load

ID = "01a1f9f0-7c0a-71d4-8637-74d19981451f"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServingKit, httpx.Client]]:
    """A server of one model, for requests that change nothing."""
    kit = ServingKit(tmp_path_factory.mktemp("http"))
    kit.route(kit.arm(3, package()))
    with running(kit) as (_, client):
        yield kit, client


@pytest.fixture
def client(shared: tuple[ServingKit, httpx.Client]) -> httpx.Client:
    return shared[1]


def post_rows(client: httpx.Client, *rows: dict[str, Any], model: str = MODEL) -> httpx.Response:
    return client.post(f"/predict/{model}", json={"rows": rows})


def assert_error(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "cure"}
    assert body["cure"]
    assert "Traceback" not in response.text
    for word in words:
        assert word in response.text


def test_a_prediction(client: httpx.Client) -> None:
    response = post_rows(client, ROW, ROW | {"distance": 100})
    assert response.status_code == 200
    body = response.json()
    assert (body["model"], body["release"], len(body["predictions"])) == (MODEL, "flights/3", 2)
    rows = pl.DataFrame([ROW, ROW | {"distance": 100.0}]).select("carrier", "distance", "delay")
    expected = load(package()).predict(rows)
    assert expected.probabilities is not None
    for index, prediction in enumerate(body["predictions"]):
        assert set(prediction) == {"id", "value", "probabilities"}
        assert prediction["value"] == expected.values[index]
        assert list(prediction["probabilities"].values()) == expected.probabilities[index].tolist()
        assert list(prediction["probabilities"]) == ["false", "true"]


def test_keys_and_features_are_joined_row_by_row(client: httpx.Client) -> None:
    key, features = {"carrier": "UA", "flight": 12}, {"distance": 800.0, "delay": 4, "when": ROW["when"]}
    joined = client.post(f"/predict/{MODEL}", json={"keys": [key], "features": [features]}).json()
    alone = post_rows(client, ROW).json()
    assert joined["predictions"][0]["probabilities"] == alone["predictions"][0]["probabilities"]
    assert client.post(f"/predict/{MODEL}", json={"keys": [ROW]}).status_code == 200


def test_predictions_of_a_large_request_are_in_order(client: httpx.Client) -> None:
    rows = [ROW | {"distance": float(number)} for number in range(10_000)]
    together = post_rows(client, *rows).json()["predictions"]
    assert len(together) == 10_000
    assert together[4321]["probabilities"] == post_rows(client, rows[4321]).json()["predictions"][0]["probabilities"]


def test_no_rows_give_no_predictions(client: httpx.Client) -> None:
    assert post_rows(client).json() == {"model": MODEL, "release": "flights/3", "predictions": []}


def test_health_and_readiness(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"alive": True}
    ready = client.get("/ready")
    releases = [{"release": "flights/3", "role": "champion", "share": 0.0}]
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "models": {MODEL: {"route": 1, "releases": releases}}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"rows": [{"distance": NaN}]}',
        b'{"rows": [{"distance": Infinity}]}',
        b'{"rows": [{"distance": 1e999}]}',
        b"[" * 100_000,
        b"[]",
        b'{"rows": {}}',
        b'{"rows": [1]}',
        b"{}",
        b'{"rows": [], "keys": []}',
        b'{"rows": [], "features": []}',
        b'{"keys": [{}], "features": []}',
    ],
)
def test_an_invalid_request_is_400(client: httpx.Client, body: bytes) -> None:
    assert_error(client.post(f"/predict/{MODEL}", content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"distance": "far"}, ("row 1", "'distance'", "number")),
        ({"distance": None}, ("row 1", "'distance'", "missing")),
        ({"delay": 1.5}, ("row 1", "'delay'", "integer")),
        ({"carrier": 7}, ("row 1", "'carrier'", "text")),
        ({"carrier": ["UA"]}, ("row 1", "'carrier'")),
        ({"when": "tomorrow"}, ("row 1", "'when'", "time")),
        ({"flight": {"number": 1}}, ("row 1", "'flight'")),
    ],
)
def test_data_that_does_not_fit_is_422(client: httpx.Client, row: dict[str, Any], words: tuple[str, ...]) -> None:
    assert_error(post_rows(client, ROW, ROW | row), 422, *words)


def test_the_error_names_a_missing_column(client: httpx.Client) -> None:
    assert_error(post_rows(client, {}), 422, "'distance'")


def test_unknown_models_and_paths_are_404(client: httpx.Client) -> None:
    assert_error(post_rows(client, ROW, model="tr%C3%A4ins"), 404, "träins", MODEL)
    assert_error(client.post("/labels/", json={"labels": []}), 404)
    assert_error(client.get("/"), 404, "/predict/{model}")
    assert_error(client.post("/v2/models", json={}), 404)


def test_other_methods_are_405(client: httpx.Client) -> None:
    response = client.get(f"/labels/{MODEL}")
    assert_error(response, 405, "POST")
    assert response.headers["allow"] == "POST"
    for method in ("POST", "DELETE"):
        response = client.request(method, "/health")
        assert_error(response, 405, "GET")
        assert response.headers["allow"] == "GET, HEAD"
    assert client.head("/health").status_code == 200


def test_a_request_that_is_too_large_is_413(client: httpx.Client) -> None:
    assert_error(post_rows(client, *[{}] * 10_001), 413, "10,001 rows")
    assert_error(client.post(f"/predict/{MODEL}", content=b" " * 10_000_001, headers=JSON), 413, "10,000,000")
    unknown_length = (b" " * 1_000_000 for _ in range(11))
    with suppress(httpx.WriteError):  # the connection may be closed before the whole body is sent
        assert_error(client.post(f"/predict/{MODEL}", content=unknown_length, headers=JSON), 413)
    assert client.get("/health").status_code == 200


def test_a_foreign_page_cannot_forge_labels(client: httpx.Client) -> None:
    """A browser names the page that sends; `curl -d` names no page, and sends JSON as a form."""
    own = str(client.base_url).rstrip("/")
    other_port = f"http://127.0.0.1:{(client.base_url.port or 80) + 1}"
    foreign = ("https://evil.example", "http://localhost.evil.example:8000", "null", other_port, f"{own}1")
    malformed = ("http://[", "http://", "evil", f"{own}/path", "http://127.0.0.1:port", "http://a b", "\x80")
    for origin in (*foreign, *malformed, own.replace("http:", "https:"), own.replace("127.0.0.1", "localhost")):
        headers: dict[bytes, bytes] = {b"origin": origin.encode("latin-1")}
        assert_error(client.post(f"/labels/{MODEL}", content=b'{"labels": []}', headers=headers), 403)
    for headers in ({}, {b"origin": own.encode()}, {b"content-type": b"application/x-www-form-urlencoded"}):
        assert client.post(f"/labels/{MODEL}", content=b'{"labels": []}', headers=headers).status_code == 200


def test_a_compressed_body_is_415(client: httpx.Client) -> None:
    assert_error(client.post(f"/predict/{MODEL}", content=b"", headers=JSON | {"content-encoding": "gzip"}), 415)


def test_no_model_is_503_and_not_ready(kit: ServingKit) -> None:
    with running(kit) as (_, client):
        assert_error(post_rows(client, ROW), 503, "no model is loaded")
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        kit.route(kit.arm(1, package()))
        until(lambda: client.get("/ready").status_code == 200)
        assert post_rows(client, ROW).status_code == 200


def test_a_model_that_predicts_nan_is_500_without_a_traceback(kit: ServingKit) -> None:
    kit.route(kit.arm(1, predicting_nan(package())))
    with running(kit) as (_, client):
        assert_error(post_rows(client, ROW), 500, "predicted NaN", "flights/1")


def test_each_prediction_names_its_release_where_there_are_several(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package(1)), kit.arm(2, package(2), "challenger", 0.5))
    with running(kit) as (_, client):
        body = post_rows(client, *[ROW | {"flight": number} for number in range(100)]).json()
    assert body["release"] == "flights/1"
    assert {prediction["release"] for prediction in body["predictions"]} == {"flights/1", "flights/2"}


def test_the_old_release_stays_in_service_where_the_new_one_is_broken(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        broken = package(2, samples=[{"distance": "far"}])
        kit.route(kit.arm(2, broken))
        until(lambda: "failed" in client.get("/ready").json()["models"][MODEL])
        ready = client.get("/ready")
        assert ready.status_code == 200
        failed = ready.json()["models"][MODEL]["failed"]
        assert failed["route"] == 2
        assert "'distance'" in failed["problem"]
        assert post_rows(client, ROW).json()["release"] == "flights/1"
        assert f'tidemill_route_failed{{model="{MODEL}"}} 1.0' in client.get("/metrics").text


def test_accepted_labels_are_in_the_journal(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        name = post_rows(client, ROW).json()["predictions"][0]["id"]
        labels = [
            {"id": name, "value": True, "time": "2013-03-01T14:00:00Z"},
            {"key": "UA|12", "time": ROW["when"], "value": False},
            {
                "key": {"carrier": "UA", "flight": 12},
                "time": "2013-03-01T10:30:00Z",
                "value": False,
                "known_at": "2013-03-02",
            },
        ]
        before = datetime.now(UTC)
        assert client.post(f"/labels/{MODEL}", json={"labels": labels}).json() == {"accepted": 3}
        rows = kit.labels().sort("known_at")
        assert rows["known_at"][0] == datetime(2013, 3, 1, 14, tzinfo=UTC)
        assert rows["known_at"][1] == datetime(2013, 3, 2, tzinfo=UTC)
        assert before <= rows["known_at"][2] <= datetime.now(UTC)
        row = datetime(2013, 3, 1, 10, 30, tzinfo=UTC)
        assert rows.drop("known_at").rows() == [
            (name, "", None, "true"),
            ("", "UA|12", row, "false"),
            ("", "UA|12", row, "false"),
        ]
    assert kit.predictions()["key"].to_list() == ["UA|12"]
    assert kit.predictions()["time"].to_list() == [row]


def test_the_key_of_a_label_is_a_value_in_any_writing(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        keys = [{"carrier": "UA", "flight": number} for number in (12, 12.0, "12")]
        labels = [{"key": key, "time": ROW["when"], "value": True} for key in keys]
        assert client.post(f"/labels/{MODEL}", json={"labels": labels}).json() == {"accepted": 3}
        assert kit.labels()["key"].to_list() == ["UA|12"] * 3


def test_the_key_of_one_column_is_a_value_in_any_writing(kit: ServingKit) -> None:
    kit.route(kit.arm(1, identified(package(), key=("flight",))))
    with running(kit) as (_, client):
        labels = [{"key": key, "time": ROW["when"], "value": True} for key in (7, 7.0, "7", "a|b", True)]
        assert client.post(f"/labels/{MODEL}", json={"labels": labels}).json() == {"accepted": 5}
        assert kit.labels()["key"].to_list() == ["7", "7", "7", "a|b", "true"]


@pytest.mark.parametrize("without", ["key", "time"])
def test_a_label_by_key_is_refused_if_it_would_fit_no_prediction(kit: ServingKit, without: str) -> None:
    kit.route(kit.arm(1, identified(package(), **{without: () if without == "key" else ""})))
    with running(kit) as (_, client):
        label = {"key": "UA|12", "time": ROW["when"], "value": True}
        assert_error(client.post(f"/labels/{MODEL}", json={"labels": [label]}), 422, "label 0", "id of the prediction")
        name = post_rows(client, ROW).json()["predictions"][0]["id"].upper()
        assert client.post(f"/labels/{MODEL}", json={"labels": [{"id": name, "value": True}]}).json() == {"accepted": 1}
    assert match(kit.predictions(), kit.labels()).rows["truth"].to_list() == ["true"]


def identified(model: Model, **changes: Any) -> Model:
    """The same package with another key or event time."""
    return replace(model, manifest=replace(model.manifest, **changes))


@pytest.mark.parametrize(
    ("label", "status", "words"),
    [
        ({"id": ID}, 400, ("value",)),
        ({"id": ID, "value": None}, 400, ("value",)),
        ({"id": ID, "value": [1]}, 400, ("value",)),
        ({"value": True}, 422, ("label 1",)),
        ({"value": True, "key": "UA|12"}, 422, ("label 1", "event time")),
        ({"value": True, "key": {"carrier": "UA"}, "time": "2013-03-01"}, 422, ("label 1", "'flight'")),
        (
            {"value": True, "key": "UA", "time": "2013-03-01"},
            422,
            ("label 1: the key 'UA' has 1 of 2", "carrier, flight"),
        ),
        (
            {"value": True, "key": 12, "time": "2013-03-01"},
            422,
            ("label 1: the key '12' has 1 of 2", "carrier, flight"),
        ),
        ({"value": True, "id": "7" * 201}, 422, ("label 1: '777", "is not the id")),
        ({"value": True, "id": ID, "time": "later"}, 422, ("label 1", "time")),
        ({"value": "late", "id": ID}, 422, ("label 1 is 'late'", "'false', 'true'")),
        ({"value": 2, "id": ID}, 422, ("label 1 is '2'", "'false', 'true'")),
        ({"value": "yes", "id": ID}, 422, ("label 1 is 'yes'", "'false', 'true'")),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    shared: tuple[ServingKit, httpx.Client], label: dict[str, Any], status: int, words: tuple[str, ...]
) -> None:
    kit, client = shared
    good = {"id": ID, "value": True}
    assert_error(client.post(f"/labels/{MODEL}", json={"labels": [good, label]}), status, *words)
    assert kit.labels().is_empty()


def test_labels_of_ids_that_no_prediction_has_are_stored_with_a_warning(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        labels = [{"id": ID, "value": True}, {"id": "order 7", "value": True}, {"id": "x", "value": False}]
        reply = client.post(f"/labels/{MODEL}", json={"labels": labels}).json()
    assert reply["accepted"] == 3
    assert "label 1 (and 1 more): 'order 7' is not the id of a prediction" in reply["warnings"][0]
    assert sorted(kit.labels()["id"].to_list()) == sorted([ID, "order 7", "x"])


def test_the_labels_of_a_request_can_have_another_type_than_the_classes_but_only_one(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    values = [True, "true", " True ", 1, 1.0, "1", False, 0]
    with running(kit) as (_, client):
        labels = [{"id": str(UUID(int=index)), "value": value} for index, value in enumerate(values)]
        mixed = client.post(f"/labels/{MODEL}", json={"labels": labels})
        assert mixed.status_code == 422
        assert mixed.json()["error"].startswith("label 1 is 'true', a text, and label 0 is 'true', a truth value")
        for kind in (bool, str, int | float):
            alike = [label for label in labels if isinstance(label["value"], kind)]
            alike = [label for label in alike if kind is bool or not isinstance(label["value"], bool)]
            assert client.post(f"/labels/{MODEL}", json={"labels": alike}).json() == {"accepted": len(alike)}
    assert kit.labels().sort("id")["value"].to_list() == ["true"] * 6 + ["false"] * 2


def test_metrics_count_requests_rows_and_labels(kit: ServingKit, tmp_path: Path) -> None:
    kit.route(kit.arm(1, package()), kit.arm(2, package(2), "shadow"))
    with running(kit) as (_, client):
        post_rows(client, ROW, ROW)
        post_rows(client, {})
        client.post(f"/labels/{MODEL}", json={"labels": [{"id": ID, "value": True}]})
        until(lambda: 'outcome="written"' in client.get("/metrics").text)
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(response.text)
        for sample in metric.samples
    }
    assert (
        samples.items()
        >= {
            ("tidemill_requests_total", MODEL, "200"): 2,
            ("tidemill_requests_total", MODEL, "422"): 1,
            ("tidemill_request_seconds_bucket", "+Inf", MODEL): 2,
            ("tidemill_request_seconds_count", MODEL): 2,
            ("tidemill_rows_total", MODEL): 2,
            ("tidemill_predictions_total", "flights/1", "champion"): 2,
            ("tidemill_predictions_total", "flights/2", "shadow"): 2,
            ("tidemill_journal_rows_total", "written"): 4,
            ("tidemill_labels_total", MODEL): 1,
            ("tidemill_route_version", MODEL): 1,
        }.items()
    )

"""A request that does not fit its model is reported: in the reply, in a counter, and with 422 where that is strict."""

from typing import Any

import httpx
import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.serving.kit import MODEL, ROW, ServingKit, package, running
from tests.serving.test_service import ROWS, start_service
from tidemill.checks.table import check_table
from tidemill.core.check import SchemaEvidence
from tidemill.core.feature import Entity, FeatureSet, FeatureView
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.core.schema import Column, ColumnType, Schema
from tidemill.errors import DataError
from tidemill.serving.request_check import RequestChecker

COLUMNS = (
    Column(name="carrier", type="text", missing=0.05, domain=("UA", "AA", "DL")),
    Column(name="flight", type="integer", missing=0.05),
    Column(name="distance", type="number", missing=0.05, low=0.0, high=5000.0),
    Column(name="delay", type="integer", missing=0.05, low=-60.0),
    Column(name="when", type="time", missing=0.05),
    Column(name="late", type="boolean", missing=0.05),
)


def bounded(model: Model) -> Model:
    """The same package, trained under a schema."""
    return replace(model, manifest=replace(model.manifest, columns=COLUMNS))


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in ROW.items() if name not in names}


@pytest.mark.parametrize(
    ("row", "expected", "message"),
    [
        (without("delay") | {"dealy": 4}, [("absent input", "delay"), ("unknown column", "dealy")], "'delay'?"),
        (
            without("carrier") | {"CARRIER": "UA"},
            [("absent input", "carrier"), ("unknown column", "CARRIER")],
            "'carrier'?",
        ),
        (ROW | {"quux": 1}, [("unknown column", "quux")], "column 'quux' is unknown (row 0)"),
        (without("delay"), [("absent input", "delay")], "send null"),
        (ROW | {"distance": 5001}, [("outside range", "distance")], "'distance' is 5001.0, outside its range 0 … 5000"),
        (ROW | {"distance": -0.5}, [("outside range", "distance")], "-0.5"),
        (ROW | {"delay": -61}, [("outside range", "delay")], "at least -60"),
        (ROW | {"carrier": "ua"}, [("outside domain", "carrier")], "'ua', outside its domain (UA, AA, DL)"),
        (
            ROW | {"carrier": "B6", "distance": 1e9},
            [("outside domain", "carrier"), ("outside range", "distance")],
            "B6",
        ),
    ],
)
def test_what_does_not_fit_is_a_warning_and_strictly_an_error(
    kit: ServingKit, row: dict[str, Any], expected: list[tuple[str, str]], message: str
) -> None:
    kit.route(kit.arm(1, bounded(package())))
    lenient, strict = start_service(kit), start_service(kit, strict={MODEL})
    result = lenient.predict_request(MODEL, [row])
    assert result.rows.height == 1
    assert sorted((warning.kind, warning.column) for warning in result.warnings) == expected
    assert message in " ".join(warning.message for warning in result.warnings)
    with pytest.raises(DataError, match="do not fit model 'flights'") as refused:
        strict.predict_request(MODEL, [row])
    assert message in refused.value.problem
    assert "strict = false" in refused.value.cure
    for service in (lenient, strict):
        counted = [service.metrics.value("tidemill_warnings_total", model=MODEL, kind=kind) for kind, _ in expected]
        assert counted == [1] * len(expected)
    assert kit.predictions().height == 1


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        without("flight", "when"),
        ROW | {"late": True},
        ROW | {"delay": None, "carrier": None},
        ROW | {"distance": 0, "delay": -60},
        ROW | {"distance": 5000.0, "delay": 10**9},
    ],
)
def test_a_request_that_fits_has_no_warnings(kit: ServingKit, row: dict[str, Any]) -> None:
    kit.route(kit.arm(1, bounded(package())))
    service = start_service(kit, strict={MODEL})
    assert service.predict_request(MODEL, [row]).warnings == ()
    assert service.predict_request(MODEL, [row] * 100).warnings == ()


def test_a_warning_counts_its_rows_and_names_the_first(kit: ServingKit) -> None:
    kit.route(kit.arm(1, bounded(package())))
    rows = [ROW] * 50 + [ROW | {"distance": 9e9}, ROW | {"gate": "A1"}, ROW | {"distance": -1}, without("carrier")]
    found = {warning.column: warning for warning in start_service(kit).predict_request(MODEL, rows).warnings}
    assert {name: (warning.rows, warning.row) for name, warning in found.items()} == {
        "distance": (2, 50),
        "gate": (1, 51),
        "carrier": (1, 53),
    }
    assert "2 of 54 rows, first row 50" in found["distance"].message


def test_a_frame_is_checked_as_json_is(kit: ServingKit) -> None:
    kit.route(kit.arm(1, bounded(package())))
    service = start_service(kit)
    assert service.predict_request(MODEL, ROWS).warnings == ()
    odd = ROWS.drop("delay").with_columns(pl.lit("XX").alias("carrier"), pl.lit(1).alias("dealy"))
    kinds = [warning.kind for warning in service.predict_request(MODEL, odd).warnings]
    assert kinds == ["unknown column", "absent input", "outside domain"]


def test_an_input_that_was_often_null_may_be_absent_where_requests_are_strict(kit: ServingKit) -> None:
    columns = tuple(replace(column, missing=0.3) if column.name == "delay" else column for column in COLUMNS)
    model = package()
    kit.route(kit.arm(1, replace(model, manifest=replace(model.manifest, columns=columns))))
    service = start_service(kit, strict={MODEL})
    absent = service.predict_request(MODEL, [without("delay")])
    assert [warning.kind for warning in absent.warnings] == ["absent optional input"]
    null = service.predict_request(MODEL, [ROW | {"delay": None}])
    assert absent.rows["probability"].to_list() == null.rows["probability"].to_list()
    with pytest.raises(DataError, match="'carrier' is absent"):
        service.predict_request(MODEL, [without("carrier")])


def test_of_a_package_without_a_schema_only_the_names_are_checked(kit: ServingKit) -> None:
    model = package()
    old = {name: value for name, value in msgspec.to_builtins(model.manifest).items() if name != "columns"}
    kit.route(kit.arm(1, replace(model, manifest=msgspec.convert(old, Manifest))))
    service = start_service(kit)
    assert service.predict_request(MODEL, [ROW | {"distance": 9e9, "carrier": "XX"}]).warnings == ()
    assert [warning.column for warning in service.predict_request(MODEL, [ROW | {"dealy": 4}]).warnings] == ["dealy"]


def test_features_of_views_need_not_be_sent(kit: ServingKit) -> None:
    view = FeatureView(name="airline", entity=Entity("airline", ("carrier",)), source="airlines", columns=("delay",))
    features = FeatureSet(request=("distance",), views=(view,))
    rows = ROWS.with_columns(airline_delay=pl.col("delay").cast(pl.Float64))
    model = package(names=("distance", "airline_delay"), frame=rows, features=features)
    kit.route(kit.arm(1, model))
    service = start_service(kit, strict={MODEL})
    assert service.predict_request(MODEL, [{"carrier": "UA", "distance": 100.0}]).warnings == ()
    assert service.predict_request(MODEL, [{"distance": 100.0, "airline_delay": 7}]).warnings == ()


@settings(max_examples=60, deadline=None)
@given(sent=st.lists(st.sets(st.sampled_from(["carrier", "flight", "airline_delay", "airline_age"])), min_size=1))
def test_a_row_has_the_features_of_a_view_or_the_key_of_its_entity(sent: list[set[str]]) -> None:
    """Without both, the features could only be missing values."""
    view = FeatureView(
        name="airline", entity=Entity("flight", ("carrier", "flight")), source="airlines", columns=("delay", "age")
    )
    inputs = tuple(Input(name=name, type="number") for name in ("airline_delay", "airline_age"))
    manifest = Manifest(
        name=MODEL,
        flavor="lightgbm",
        signature=Signature(inputs=inputs, task="regression"),
        features=FeatureSet(request=(), views=(view,)),
        key=(),
    )
    rows: list[dict[str, Any]] = [dict.fromkeys(names) for names in sent]
    checker = RequestChecker(manifest, ("carrier", "flight"))
    absent = {
        key: [i for i, names in enumerate(sent) if key not in names and not {"airline_delay", "airline_age"} <= names]
        for key in ("carrier", "flight")
    }
    expected = [("absent input", key, len(at), at[0]) for key, at in absent.items() if at]
    warnings = checker.check(rows, pl.DataFrame(rows))
    assert [(each.kind, each.column, each.rows, each.row) for each in warnings] == expected


def test_the_reply_has_the_warnings_and_the_metrics_count_them(kit: ServingKit) -> None:
    kit.route(kit.arm(1, bounded(package())))
    with running(kit) as (_, client):
        assert "warnings" not in predict(client, ROW).json()
        body = predict(client, without("delay") | {"dealy": 4}).json()
        metrics = client.get("/metrics").text
    assert len(body["predictions"]) == 1
    assert body["warnings"][0] == {
        "kind": "unknown column",
        "column": "dealy",
        "rows": 1,
        "row": 0,
        "message": "column 'dealy' is unknown (row 0); did you mean 'delay'?",
    }
    assert f'tidemill_warnings_total{{kind="absent input",model="{MODEL}"}} 1.0' in metrics


def test_a_strict_service_replies_422(kit: ServingKit) -> None:
    kit.route(kit.arm(1, bounded(package())))
    with running(kit, strict={MODEL}) as (_, client):
        assert predict(client, ROW).status_code == 200
        refused = predict(client, ROW | {"distance": 9e9})
    assert refused.status_code == 422
    assert "'distance' is 9000000000.0, outside its range 0 … 5000" in refused.json()["error"]
    assert kit.predictions().height == 1


def predict(client: httpx.Client, *rows: dict[str, Any]) -> httpx.Response:
    return client.post(f"/predict/{MODEL}", json={"rows": rows})


NUMBERS = st.one_of(st.none(), st.integers(-10, 10), st.floats(-10, 10))
VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    "number": NUMBERS,
    "integer": st.one_of(st.none(), st.integers(-10, 10)),
    "text": st.one_of(st.none(), st.sampled_from(["a", "b", "A", " a", ""])),
    "boolean": st.one_of(st.none(), st.booleans()),
}
DOMAINS: dict[ColumnType, list[str]] = {
    "number": ["-3", "0", "1.5", "7"],
    "integer": ["-3", "0", "7"],
    "text": ["a", "b"],
    "boolean": ["true", "false"],
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Column, list[Any]]:
    """A column of a schema, and values of its type."""
    kind: ColumnType = draw(st.sampled_from(list(VALUES)))
    domain = draw(st.one_of(st.none(), st.lists(st.sampled_from(DOMAINS[kind]), min_size=1, unique=True)))
    ends = st.lists(st.integers(-8, 8), min_size=2, max_size=2).map(sorted) if kind in ("number", "integer") else None
    low, high = draw(ends) if ends is not None else (None, None)
    low, high = (None if draw(st.booleans()) else end for end in (low, high))
    column = Column(name="x", type=kind, low=low, high=high, domain=tuple(domain) if domain else None)
    return column, draw(st.lists(VALUES[kind], min_size=1, max_size=5))


@given(tables(), st.sampled_from([1, 20]))
def test_a_value_has_a_warning_where_a_batch_with_it_would_be_stopped(
    case: tuple[Column, list[Any]], times: int
) -> None:
    column, values = case
    signature = Signature(inputs=(Input(name="x", type=column.type),), task="regression")
    manifest = Manifest(name="m", flavor="lightgbm", signature=signature, columns=(column,))
    dtype = {"number": pl.Float64, "integer": pl.Int64, "text": pl.String, "boolean": pl.Boolean}[column.type]
    frame = pl.DataFrame({"x": pl.Series(values * times, dtype=dtype, strict=False)})
    evidence = check_table(frame, Schema(source="s", columns=(column,)), "batch")[0].read(SchemaEvidence)
    stopped = {"below range": "outside range", "above range": "outside range"}
    expected = {stopped.get(one["kind"], one["kind"]): one["rows"] for one in evidence.anomalies}
    if len(evidence.anomalies) != len(expected):  # values on both sides of the range
        expected["outside range"] = sum(one["rows"] for one in evidence.anomalies if one["kind"].endswith(" range"))
    checker = RequestChecker(manifest, ())
    for found in (checker.check([{"x": value} for value in values * times], frame), checker.check(None, frame)):
        assert {warning.kind: warning.rows for warning in found} == expected

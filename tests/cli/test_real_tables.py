"""21 real tables, from `init` to every row over HTTP: the replies equal the package's and the recorded metrics.

The tables are files of packages in the development group; nothing is downloaded by a test.

- scikit-learn (BSD-3-Clause)
- statsmodels (BSD-3-Clause; each table is in the public domain, or published with the permission of its author)
- vega-datasets (MIT; the tables have the BSD-3-Clause licence)
- plotly (MIT)
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import polars as pl
import pytest
from sklearn import datasets
from sklearn.metrics import log_loss, mean_squared_error

from tests.projects import tidemill
from tidemill.compose.session import open_session
from tidemill.core import resources
from tidemill.core.context import Context
from tidemill.core.model import Model
from tidemill.flow.session import Session
from tidemill.models.load import load
from tidemill.project.project import Project
from tidemill.recipes.rows import keep_window, read_labelled, take_snapshot
from tidemill.recipes.training import split
from tidemill.registry.routing import find_current_route
from tidemill.serving.server import HttpServer
from tidemill.training.evaluate import filter_classes

_ROWS_OF_REQUEST = 500


class RealTable(NamedTuple):
    """A file that a package ships, its label, and options of `init`."""

    package: str
    path: str
    label: str
    options: tuple[str, ...] = ()
    separator: str = ","
    date_format: str = ""

    def __str__(self) -> str:
        return Path(self.path).name.partition(".")[0]

    @property
    def file(self) -> Path:
        """Return the file in the package."""
        found = find_spec(self.package)
        assert found is not None
        assert found.origin is not None
        return Path(found.origin).parent / self.path

    def read(self) -> pl.DataFrame:
        """Return the rows of the file, read independently of Tidemill."""
        if self.file.suffix == ".json":
            return pl.DataFrame(json.loads(self.file.read_text()), infer_schema_length=None)
        rows = pl.read_csv(self.file, separator=self.separator, infer_schema_length=None)
        # A request has dates in ISO 8601, also if those of the file are "Jan 1 2000".
        return rows.with_columns(pl.col("date").str.to_date(self.date_format)) if self.date_format else rows


def statsmodels(name: str, label: str, *options: str, separator: str = ",") -> RealTable:
    return RealTable("statsmodels", f"datasets/{name}/{name}.csv", label, options, separator)


TABLES = (
    statsmodels("fair", "affairs"),
    statsmodels("randhie", "mdvis"),
    statsmodels("anes96", "'vote'", separator="\t"),
    statsmodels("star98", "PR50M"),
    statsmodels("modechoice", "choice", separator=";"),
    statsmodels("macrodata", "realgdp"),
    statsmodels("engel", "foodexp"),
    statsmodels("cancer", "cancer"),
    statsmodels("grunfeld", "invest"),
    RealTable("vega_datasets", "_data/cars.json", "Miles_per_Gallon"),
    RealTable("vega_datasets", "_data/airports.csv", "state"),
    RealTable("vega_datasets", "_data/seattle-weather.csv", "weather"),
    RealTable("vega_datasets", "_data/stocks.csv", "price", date_format="%b %d %Y"),
    RealTable("plotly", "package_data/datasets/tips.csv.gz", "tip"),
    RealTable("plotly", "package_data/datasets/gapminder.csv.gz", "lifeExp"),
    RealTable("vega_datasets", "_data/iowa-electricity.csv", "net_generation"),
)
SKLEARN = ("iris", "wine", "breast_cancer", "diabetes", "digits")


def load_sklearn(name: str) -> pl.DataFrame:
    """Return a table of scikit-learn with its label `target`: class names, or numbers."""
    bunch = getattr(datasets, f"load_{name}")()
    inputs = {column: bunch.data[:, index] for index, column in enumerate(bunch.feature_names)}
    target = [str(bunch.target_names[index]) for index in bunch.target] if "target_names" in bunch else bunch.target
    return pl.DataFrame(inputs).with_columns(pl.Series("target", target))


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_row_of_a_shipped_file_is_predicted_over_http(table: RealTable, tmp_path: Path) -> None:
    copy = tmp_path / table.file.name
    copy.write_bytes(table.file.read_bytes())
    check_every_row(tmp_path, copy, table.read(), table.label, table.options)


@pytest.mark.parametrize("name", SKLEARN)
def test_every_row_of_a_table_of_scikit_learn_is_predicted_over_http(name: str, tmp_path: Path) -> None:
    rows = load_sklearn(name)
    rows.write_parquet(file := tmp_path / f"{name}.parquet")
    check_every_row(tmp_path, file, rows, "target", ())


def check_every_row(folder: Path, file: Path, rows: pl.DataFrame, label: str, options: tuple[str, ...]) -> None:
    """Create a project from a file, train, serve, and compare the replies for all rows with the package's values."""
    tidemill(folder, "init", "mine", "--from", file.name, "--label", label, *options)
    keep_candidate(folder / "mine" / "tidemill.toml")
    tidemill(folder / "mine", "run", "training")
    session = open_session(Project(folder / "mine"))
    model = load_champion(session)
    requests = json.loads(rows.drop(label).write_json())
    with serving(session) as client:
        replies = ask(client, requests)
        assert len(replies) == rows.height
        expected = load(model).predict(rows.drop(label))
        convert = str if expected.probabilities is not None else float  # a class of numbers is a number in a reply
        assert [convert(reply["value"]) for reply in replies] == expected.values
        if expected.probabilities is not None:
            assert to_probabilities(replies) == expected.probabilities.tolist()
        assert_recorded_metrics(session, model, client)


def keep_candidate(configuration: Path) -> None:
    """Serve the model that was tested, without a fit on all rows: its recorded metrics are those of its replies."""
    text = configuration.read_text()
    configuration.write_text(text.replace("[training]\n", "[training]\nrefit = false\n"))


def load_champion(session: Session) -> Model:
    route = find_current_route(session.resource(resources.BooksReader), session.workspace.environment, "mine")
    assert route is not None
    champion = route.arm("champion")
    assert champion is not None
    return session.workspace.packages.load(champion.package)


@contextmanager
def serving(session: Session) -> Iterator[httpx.Client]:
    """Serve the workspace of a session, and close it."""
    server = HttpServer(session.workspace, session.clock, port=0, strict=session.project.policy.strict_models)
    server.start()
    try:
        with httpx.Client(base_url=server.address, timeout=120) as client:
            yield client
    finally:
        server.stop()


def ask(client: httpx.Client, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    replies = []
    for start in range(0, len(rows), _ROWS_OF_REQUEST):
        response = client.post("/predict/mine", json={"rows": rows[start : start + _ROWS_OF_REQUEST]})
        assert response.status_code == 200, response.text
        assert "warnings" not in response.json(), response.text
        replies += response.json()["predictions"]
    return replies


def to_probabilities(replies: list[dict[str, Any]]) -> list[list[float]]:
    return [list(reply["probabilities"].values()) for reply in replies]


def assert_recorded_metrics(session: Session, model: Model, client: httpx.Client) -> None:
    """Compare the metrics that the training recorded with those of the replies for the test rows."""
    policy, signature = session.project.policy.models["mine"], model.manifest.signature
    sources, tables = session.resource(resources.Sources), session.resource(resources.Tables)
    journal, books = session.resource(resources.Journal), session.resource(resources.BooksReader)
    context = Context(run="", step="", environment=session.workspace.environment, model="mine", cause={})
    snapshot = take_snapshot(policy, session.clock.now(), [], tables, journal, sources, books, context)
    rows = keep_window(read_labelled(snapshot, policy.problem, tables), snapshot, policy.training)
    test = filter_classes(split(rows, policy, sources)[2], policy.problem.label, signature.classes)
    replies = ask(client, json.loads(test.select(field.name for field in signature.inputs).write_json()))
    truth = test[policy.problem.label]
    if signature.classes:
        names = [str(value) for value in truth]
        positions = [signature.classes.index(name) for name in names]
        measured = log_loss(positions, np.array(to_probabilities(replies)), labels=range(len(signature.classes)))
        assert measured == pytest.approx(model.manifest.metrics["test_log_loss"], rel=1e-9)
    else:
        measured = mean_squared_error(truth, [reply["value"] for reply in replies]) ** 0.5
        assert measured == pytest.approx(model.manifest.metrics["test_rmse"], rel=1e-9)

"""Asks a service for the sample rows of the models in production, and predicts them here with the same packages."""

from functools import cache
from typing import Any

import msgspec

from tidemill.checks.infrastructure import Answers
from tidemill.core.model import Model
from tidemill.core.resources import BooksReader, Packages
from tidemill.core.route import Route
from tidemill.delivery.http_client import predict
from tidemill.errors import TidemillError
from tidemill.models.inputs import SAMPLES, load_samples
from tidemill.models.load import load
from tidemill.models.package import to_files
from tidemill.registry.routing import find_current_route

_MOST_ROWS = 50


def list_routes_in_force(books: BooksReader, environment: str) -> list[Route]:
    """Return the current route of each model that is in production in an environment."""
    models = sorted(books.routes.values("model", environment=environment))
    routes = [find_current_route(books, environment, model) for model in models]
    return [route for route in routes if route is not None and route.arm("champion") is not None]


def read_sample_rows(model: Model) -> list[dict[str, Any]]:
    """Return sample rows of a package in the form of a request."""
    content = to_files(model).get(SAMPLES, b"[]")
    return msgspec.json.decode(content, type=list[dict[str, Any]])[:_MOST_ROWS]


def ask_service(address: str, route: Route, packages: Packages) -> Answers:
    """Return the predictions of a service for the sample rows of a champion, beside those of its packages here."""
    champion = route.arm("champion")
    assert champion is not None
    by_release = {arm.release: arm.package for arm in route.arms}

    @cache
    def expect(release: str) -> list[dict[str, Any]]:
        return _predict_samples(packages.load(by_release.get(release, champion.package)))

    try:
        rows = read_sample_rows(packages.load(champion.package))
        received = predict(address, route.model, rows) if rows else []
        expected = [expect(prediction["release"])[index] for index, prediction in enumerate(received)]
    except TidemillError as failure:
        return Answers(model=route.model, release=champion.release, problem=failure.problem)
    return Answers(model=route.model, release=champion.release, expected=expected, received=received)


def _predict_samples(model: Model) -> list[dict[str, Any]]:
    """Predict the sample rows of a package in this process."""
    predictions = load(model).predict(load_samples(model).head(_MOST_ROWS))
    if predictions.probabilities is None:
        return [{"value": float(value), "probabilities": None} for value in predictions.values]
    classes = model.manifest.signature.classes
    tables = [dict(zip(classes, row, strict=True)) for row in predictions.probabilities.tolist()]
    return [{"value": value, "probabilities": table} for value, table in zip(predictions.values, tables, strict=True)]

"""Helpers of the service's tests: real packages, a real workspace, routes, and a running server."""

import re
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import msgspec
import numpy as np
import polars as pl

from tidemill.blobs.packages import BlobPackages
from tidemill.clock import Clock, SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.core.route import Arm, Role, Route
from tidemill.data.encoding import encode, fit_encoding
from tidemill.models.flavors.lightgbm import pack
from tidemill.serving.server import HttpServer

MODEL = "flights"
ROW: dict[str, Any] = {"carrier": "UA", "flight": 12, "when": "2013-03-01T10:30:00Z", "distance": 800.0, "delay": 4}


def history(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Rows for training and for requests: keys `carrier` and `flight`, time `when`."""
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "carrier": random.choice(["UA", "AA", "DL"], rows),
            "flight": random.integers(1, 10_000, rows),
            "distance": random.uniform(100, 2000, rows),
            "delay": random.integers(-10, 60, rows),
            "when": pl.datetime_range(datetime(2013, 1, 1), datetime(2013, 12, 1), "1h", time_zone="UTC", eager=True)[
                :rows
            ],
        }
    )


def package(
    seed: int = 1,
    *,
    task: str = "classification",
    names: tuple[str, ...] = ("carrier", "distance", "delay"),
    frame: pl.DataFrame | None = None,
    features: FeatureSet | None = None,
    samples: list[dict[str, Any]] | None = None,
) -> Model:
    """A LightGBM package; a different seed predicts differently. Only `distance` is required."""
    rows = history() if frame is None else frame
    encoding = fit_encoding(rows, names)
    target = np.random.default_rng(seed).random(rows.height) + rows["delay"].to_numpy() / 100
    regression = task == "regression"
    settings = {"objective": "l2" if regression else "binary", "verbose": -1, "num_threads": 1, "seed": seed}
    data = lightgbm.Dataset(encode(encoding, rows), target if regression else target > 0.7)
    inputs = tuple(
        Input(name=column.name, type=column.type, nullable=column.name != "distance") for column in encoding.inputs
    )
    manifest = Manifest(
        name=MODEL,
        flavor="lightgbm",
        signature=Signature(
            inputs=inputs,
            task="regression" if regression else "classification",
            classes=() if regression else ("false", "true"),
        ),
        features=features,
        key=("carrier", "flight"),
        time="when",
    )
    model = pack(manifest, lightgbm.train(settings, data, 10), encoding)
    files = {} if samples is None else {"samples.json": msgspec.json.encode(samples)}
    return Model(manifest=model.manifest, files=model.files | files)


def predicting_nan(model: Model) -> Model:
    """The same package with trees that predict NaN."""
    text = re.sub(r"tree_sizes=.*\n", "", model.files["model.txt"].decode())
    text = re.sub(r"(?<=leaf_value=)\S.*", lambda match: " ".join("nan" for _ in match[0].split()), text)
    return Model(manifest=model.manifest, files=model.files | {"model.txt": text.encode()})


def raising(model: Model) -> Model:
    """The same package with an encoding that reads carriers as numbers: it loads, and raises when it predicts."""
    encoding = model.files["encoding.json"].decode().replace('"category"', '"number"').replace('"text"', '"number"')
    return Model(manifest=model.manifest, files=model.files | {"encoding.json": encoding.encode()})


def requiring(model: Model, name: str) -> Model:
    """The same package with one more required input, which no request contains."""
    signature = model.manifest.signature
    inputs = (*signature.inputs, Input(name=name, type="number", nullable=False))
    changed = msgspec.structs.replace(signature, inputs=inputs)
    return Model(manifest=msgspec.structs.replace(model.manifest, signature=changed), files=model.files)


class ServingKit:
    """A workspace with packages and routes of one model."""

    def __init__(self, folder: Path) -> None:
        self.workspace = open_workspace(folder)
        self.packages = BlobPackages(self.workspace.blobs)
        self._version = 0

    def arm(self, version: int, model: Model, role: Role = "champion", share: float = 0.0, value: str = "") -> Arm:
        package = self.packages.save(model)
        release = f"{MODEL}/{version}"
        return Arm(release=release, version=version, package=package, role=role, share=share, value=value)

    def route(self, *arms: Arm, model: str = MODEL, key: str = "") -> Route:
        """Publish the arms as the next version of the route; `key` names the regimes."""
        self._version += 1
        route = Route(
            id=f"route-{self._version}",
            environment="production",
            model=model,
            version=self._version,
            arms=arms,
            since=datetime(2013, 3, 1, tzinfo=UTC),
            reason="a test",
            key=key,
        )
        self.workspace.board.publish(route)
        return route

    def predictions(self, model: str = MODEL) -> pl.DataFrame:
        return self.workspace.journal.read(f"predictions/{model}")

    def labels(self, model: str = MODEL) -> pl.DataFrame:
        return self.workspace.journal.read(f"labels/{model}")


@contextmanager
def running(
    kit: ServingKit, clock: Clock | None = None, strict: Container[str] = ()
) -> Iterator[tuple[HttpServer, httpx.Client]]:
    """A server of the workspace on a free port, and a client of it."""
    server = HttpServer(kit.workspace, clock or SystemClock(), port=0, strict=strict)
    server.start()
    try:
        with httpx.Client(base_url=server.address, timeout=30) as client:
            yield server, client
    finally:
        server.stop()


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for a condition; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is still false after {seconds} s"
        time.sleep(0.01)

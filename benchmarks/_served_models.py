"""Model packages and a prediction service in a process of its own, for the benchmarks of the service."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from tidemill.blobs.packages import BlobPackages
from tidemill.compose.backends import open_workspace
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.core.route import Arm, Role, Route
from tidemill.data.encoding import encode, fit_encoding

FEATURES = 20
SERVE = """
import sys
from pathlib import Path
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.serving.server import serve
serve(open_workspace(Path(sys.argv[1])), SystemClock(), port=0, ready=lambda address: print(address, flush=True))
"""


class RunningService(NamedTuple):
    """The process of a service, and its host and port."""

    process: "subprocess.Popen[str]"
    host: str
    port: int


def make_rows(count: int, seed: int = 0) -> pl.DataFrame:
    """Return rows with numbers `n0` … and one text column."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"n{index}": random.normal(size=count) for index in range(FEATURES - 1)}
    return pl.DataFrame(columns | {"channel": random.choice(["web", "shop", "phone"], count)})


def make_body(count: int) -> bytes:
    """Return the body of a request with so many rows."""
    return json.dumps({"rows": make_rows(count, 7).to_dicts()}).encode()


def make_package(kind: str, name: str = "model", seed: int = 0) -> Model:
    """Return a package of the flavor `lightgbm` or `sklearn`."""
    rows = make_rows(2000, seed)
    encoding = fit_encoding(rows, tuple(rows.columns))
    matrix, target = encode(encoding, rows), (rows["n0"].to_numpy() + rows["n1"].to_numpy() > 0).astype(int)
    inputs = tuple(Input(name=column.name, type=column.type) for column in encoding.inputs)
    signature = Signature(inputs=inputs, task="classification", classes=("0", "1"), label="integer")
    manifest = Manifest(name=name, flavor=kind, signature=signature)
    if kind == "lightgbm":
        import lightgbm

        from tidemill.models.flavors.lightgbm import pack

        settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
        return pack(manifest, lightgbm.train(settings, lightgbm.Dataset(matrix, target), 100), encoding)
    from sklearn.linear_model import LogisticRegression

    from tidemill.models.flavors.sklearn import pack as pack_estimator

    return pack_estimator(manifest, LogisticRegression().fit(np.nan_to_num(matrix), target), encoding)


def publish(folder: Path, model: str, *packages: tuple[Model, Role], version: int = 1) -> None:
    """Route a model to packages, each in its role."""
    workspace = open_workspace(folder)
    arms = tuple(
        Arm(
            release=f"{model}/{number}",
            version=number,
            package=BlobPackages(workspace.blobs).save(package),
            role=role,
            share=0.5 if role == "challenger" else 0.0,
        )
        for number, (package, role) in enumerate(packages, 1)
    )
    route = Route(
        id=f"route-{model}-{version}",
        environment="production",
        model=model,
        version=version,
        arms=arms,
        since=datetime(2026, 1, 1, tzinfo=UTC),
        reason="a benchmark",
    )
    workspace.board.publish(route)


@contextmanager
def serving(folder: Path, program: str = SERVE, log: Path | None = None) -> Iterator[RunningService]:
    """Run the service of a workspace in a process of its own."""
    with (log or folder / "service.log").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        try:
            found = re.search(r"http://([^:]+):(\d+)", process.stdout.readline())
            if found is None:
                raise SystemExit("the service did not start")
            yield RunningService(process, found[1], int(found[2]))
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)

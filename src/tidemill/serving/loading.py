"""Loading of routes: each release of a route is loaded and warmed up before it predicts."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.core.model import Manifest, Signature
from tidemill.core.resources import Packages
from tidemill.core.route import Arm, Role, Route
from tidemill.core.signing import PackageSigner
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, TidemillError
from tidemill.models.load import load
from tidemill.models.predictions import Predictions, Predictor
from tidemill.models.usage import choose_example
from tidemill.serving.request_check import RequestChecker
from tidemill.serving.router import find_champion_index

SAMPLES = "samples.json"


class LoadedPackage(Struct, frozen=True):
    """A model package with its predictor, the reader of its rows, and a sample row if it has one."""

    digest: str
    manifest: Manifest
    predictor: Predictor
    reader: RowReader
    example: dict[str, Any] | None = None

    @property
    def signature(self) -> Signature:
        return self.manifest.signature


class LoadedArm(Struct, frozen=True):
    """An arm of a route with its package; `label` names the release, as in `flights/3`."""

    arm: Arm
    loaded: LoadedPackage

    @property
    def label(self) -> str:
        return self.arm.release

    @property
    def role(self) -> Role:
        return self.arm.role


class LoadedRoute(Struct, frozen=True):
    """A route in force with its loaded arms, in the order of the route; without arms if the model is withdrawn.

    `other_columns` are the columns that a request may contain besides the champion's inputs: keys and times, keys and
    features of views, inputs of the other arms, the key of the regimes. The `checker` is that of the champion. `bound`
    has the index of the arm that is bound to each value of the key.
    """

    route: Route
    arms: tuple[LoadedArm, ...]
    champion: int = 0
    other_columns: tuple[str, ...] = ()
    checker: RequestChecker | None = None
    bound: dict[str, int] = {}

    @property
    def manifest(self) -> Manifest:
        """The champion's manifest, which names the columns of the key and of the event time."""
        return self.arms[self.champion].loaded.manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of all arms, the champion's first; none for a regression."""
        arms = (self.arms[self.champion], *self.arms)
        return tuple(dict.fromkeys(name for arm in arms for name in arm.loaded.signature.classes))

    @property
    def spellings(self) -> dict[str, str]:
        """Other spellings of the classes, of all arms."""
        return {other: used for arm in self.arms for other, used in arm.loaded.manifest.spellings.items()}

    @property
    def reader(self) -> RowReader:
        """The champion's reader, which checks the requested rows."""
        return self.arms[self.champion].loaded.reader


class Scores(Struct, frozen=True):
    """An arm's predictions for n rows, the inputs as the model received them, and which predictions are finite."""

    predictions: Predictions
    inputs: pl.DataFrame
    finite: npt.NDArray[np.bool_]


def load_route(
    route: Route, packages: Packages, cache: Mapping[str, LoadedPackage], signer: PackageSigner | None = None
) -> LoadedRoute:
    """Load the packages of a route, except those in `cache` (by digest), and warm them up.

    The `signer` verifies the signature of a package before anything in it is loaded.

    Raises
    ------
    ConfigurationError
        if the route has no champion.
    Corrupt
        if the environment demands signatures, and that of a package is absent or not valid.
    TidemillError
        if a package cannot be loaded or cannot predict its own samples, or the arms have different tasks.
    """
    if not route.arms:
        return LoadedRoute(route, ())
    champion = find_champion_index(route)
    known = dict(cache)
    for arm in route.arms:
        if arm.package not in known:
            known[arm.package] = _load_package(arm, packages, signer)
    loaded = [known[arm.package] for arm in route.arms]
    for arm, package in zip(route.arms, loaded, strict=True):
        if package.signature.task != loaded[champion].signature.task:
            raise TidemillError(
                f"{arm.role} {arm.release} is a {package.signature.task}, its champion is a "
                f"{loaded[champion].signature.task}",
                "route only releases of one task together",
            )
    arms = tuple(LoadedArm(arm, package) for arm, package in zip(route.arms, loaded, strict=True))
    others = _list_columns(loaded[champion].manifest, [package.manifest for package in loaded], route.key)
    checker = RequestChecker(loaded[champion].manifest, others, route.key)
    bound = {arm.value: index for index, arm in enumerate(route.arms) if arm.role == "bound"}
    return LoadedRoute(route, arms, champion, others, checker, bound)


def score(arm: LoadedArm, rows: pl.DataFrame, indices: npt.NDArray[np.intp] | None = None) -> Scores:
    """Return an arm's scores for the rows at `indices` (for all rows, if that is None).

    Raises
    ------
    DataError
        if any of the rows, also outside `indices`, does not fit the arm's signature; for a bound arm, only a row at
        `indices`.
    TidemillError
        if the model raises.
    """
    if indices is not None and arm.role == "bound":
        inputs = arm.loaded.reader.read_frame(rows[indices])
    else:
        inputs = arm.loaded.reader.read_frame(rows)
        inputs = inputs if indices is None else inputs[indices]
    try:
        predictions = arm.loaded.predictor.predict(inputs)
    except DataError:
        raise
    except Exception as error:
        raise TidemillError(
            f"release {arm.label} failed: {type(error).__name__}", "see the service's log, or roll back"
        ) from error
    if len(predictions.values) != inputs.height:
        raise TidemillError(
            f"release {arm.label} returned {len(predictions.values)} predictions for {inputs.height} rows",
            "roll back to another release",
        )
    return Scores(predictions, inputs, _find_finite(arm.loaded.signature, predictions))


def _find_finite(signature: Signature, predictions: Predictions) -> npt.NDArray[np.bool_]:
    if signature.task == "regression":
        return np.isfinite(np.asarray(predictions.values, dtype=np.float64))
    if predictions.probabilities is None:
        return np.ones(len(predictions.values), dtype=np.bool_)
    return np.asarray(np.isfinite(predictions.probabilities).all(axis=1), dtype=np.bool_)


def _load_package(arm: Arm, packages: Packages, signer: PackageSigner | None) -> LoadedPackage:
    """Verify and load a package, and predict its own sample rows, if it has any; an error names the release."""
    try:
        return _load_verified(arm, packages, signer)
    except TidemillError as error:
        if arm.release not in error.problem:
            error.problem = f"release {arm.release} cannot be loaded: {error.problem}"
        raise
    except Exception as error:
        problem = f"release {arm.release} cannot be loaded: {type(error).__name__}: {error}"
        raise TidemillError(problem, "see the service's log, or promote another release") from error


def _load_verified(arm: Arm, packages: Packages, signer: PackageSigner | None) -> LoadedPackage:
    model = packages.load(arm.package)
    if signer is not None:
        signer.verify(model, arm.signature, arm.release)
    loaded = LoadedPackage(arm.package, model.manifest, load(model), RowReader(model.manifest.signature.inputs))
    if SAMPLES in model.files:
        rows = msgspec.json.decode(model.files[SAMPLES], type=list[dict[str, object]])
        loaded = replace(loaded, example=choose_example(rows))
        samples = loaded.reader.read_json(rows)
        if samples.height and not score(LoadedArm(arm, loaded), samples).finite.all():
            raise TidemillError(f"release {arm.release} predicts NaN for its own sample rows", "train it again")
    return loaded


def _list_columns(champion: Manifest, manifests: list[Manifest], key: str) -> tuple[str, ...]:
    names = [*champion.key, champion.time, *([key] if key else [])]
    for manifest in manifests:
        names += [column.name for column in manifest.signature.inputs]
        for view in manifest.features.views if manifest.features else ():
            names += [*view.entity.keys, *view.features]
    return tuple(dict.fromkeys(names))

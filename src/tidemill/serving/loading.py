"""Loading of routes: each release of a route is loaded and warmed up before it predicts."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.resources import Packages
from tidemill.core.route import Arm, Role, Route
from tidemill.core.signing import PackageSigner
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, TidemillError, Transient
from tidemill.models.load import load
from tidemill.models.predictions import Predictions, Predictor, describe_invalid, find_valid
from tidemill.models.usage import choose_example
from tidemill.serving.fenced import FencedPredictor
from tidemill.serving.request_check import RequestChecker
from tidemill.serving.router import find_champion_index
from tidemill.serving.worker import ModelError

SAMPLES = "samples.json"


class PackageLoader(Protocol):
    """Loads the package of a release of a model."""

    def __call__(self, package: Model, model: str, release: str) -> Predictor: ...


def load_in_process(package: Model, model: str, release: str) -> Predictor:
    """Return the predictor of a package, in this process."""
    del model, release
    return load(package)


class LoadedPackage(Struct, frozen=True):
    """A model package with its predictor, the reader of its rows, and a sample row if it has one."""

    digest: str
    manifest: Manifest
    predictor: Predictor
    reader: RowReader
    example: dict[str, Any] | None = None

    @property
    def is_in_process(self) -> bool:
        """Return whether its predictions need no other process, so that they take microseconds and cannot hang."""
        return not isinstance(self.predictor, FencedPredictor)

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
    has the index of the arm that is bound to each value of the key. `is_immediate` is set if a prediction waits for no
    other process and no store.
    """

    route: Route
    arms: tuple[LoadedArm, ...]
    champion: int = 0
    other_columns: tuple[str, ...] = ()
    checker: RequestChecker | None = None
    bound: dict[str, int] = {}
    is_immediate: bool = False

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
    """An arm's predictions for n rows, the inputs as the model received them, and which predictions are valid.

    A prediction is valid if it is finite, and its probabilities are in [0, 1] and have the sum 1.
    """

    predictions: Predictions
    inputs: pl.DataFrame
    valid: npt.NDArray[np.bool_]

    @property
    def problem(self) -> str:
        """What is wrong with the predictions that are not valid, in words."""
        return describe_invalid(self.predictions, self.valid)


def load_route(
    route: Route,
    packages: Packages,
    cache: Mapping[str, LoadedPackage],
    signer: PackageSigner | None = None,
    loader: PackageLoader = load_in_process,
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
            known[arm.package] = _load_package(route.model, arm, packages, signer, loader)
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
    is_immediate = all(
        arm.loaded.manifest.features is None and (arm.loaded.is_in_process or arm.role == "shadow") for arm in arms
    )
    return LoadedRoute(route, arms, champion, others, checker, bound, is_immediate)


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
    except (DataError, Transient):
        raise
    except Exception as error:
        name = error.args[0].partition(":")[0] if isinstance(error, ModelError) else type(error).__name__
        raise TidemillError(f"release {arm.label} failed: {name}", "see the service's log, or roll back") from error
    if len(predictions.values) != inputs.height:
        raise TidemillError(
            f"release {arm.label} returned {len(predictions.values)} predictions for {inputs.height} rows",
            "roll back to another release",
        )
    try:
        valid = find_valid(arm.loaded.signature, predictions)
    except (ValueError, TypeError, IndexError) as error:
        raise TidemillError(
            f"release {arm.label} returned predictions of another form than its signature",
            "roll back to another release",
        ) from error
    return Scores(predictions, inputs, valid)


def _load_package(
    name: str, arm: Arm, packages: Packages, signer: PackageSigner | None, loader: PackageLoader
) -> LoadedPackage:
    """Verify and load a package, and predict its own sample rows, if it has any; an error names the release."""
    try:
        return _load_verified(name, arm, packages, signer, loader)
    except TidemillError as error:
        if arm.release not in error.problem:
            error.problem = f"release {arm.release} cannot be loaded: {error.problem}"
        raise
    except Exception as error:
        problem = f"release {arm.release} cannot be loaded: {type(error).__name__}: {error}"
        raise TidemillError(problem, "see the service's log, or promote another release") from error


def _load_verified(
    name: str, arm: Arm, packages: Packages, signer: PackageSigner | None, loader: PackageLoader
) -> LoadedPackage:
    model = packages.load(arm.package)
    if signer is not None:
        signer.verify(model, arm.signature, arm.release)
    predictor = loader(model, name, arm.release)
    loaded = LoadedPackage(arm.package, model.manifest, predictor, RowReader(model.manifest.signature.inputs))
    if SAMPLES in model.files:
        rows = msgspec.json.decode(model.files[SAMPLES], type=list[dict[str, object]])
        loaded = replace(loaded, example=choose_example(rows))
        samples = loaded.reader.read_json(rows)
        if samples.height and not (scores := score(LoadedArm(arm, loaded), samples)).valid.all():
            raise TidemillError(
                f"release {arm.release} predicts {scores.problem} for its own sample rows",
                "train it again",
            )
    return loaded


def _list_columns(champion: Manifest, manifests: list[Manifest], key: str) -> tuple[str, ...]:
    names = [*champion.key, champion.time, *([key] if key else [])]
    for manifest in manifests:
        names += [column.name for column in manifest.signature.inputs]
        for view in manifest.features.views if manifest.features else ():
            names += [*view.entity.keys, *view.features]
    return tuple(dict.fromkeys(names))

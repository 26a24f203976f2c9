"""The predictor: takes up a route, with each of its releases loaded and warmed up before it answers."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.core.model import Manifest, Signature
from tidemill.core.resources import Packages
from tidemill.core.route import Arm, Route
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, TidemillError
from tidemill.models.load import load
from tidemill.models.predictions import Predictions, Predictor
from tidemill.serving.router import place_of_champion

SAMPLES = "samples.json"


class Loaded(Struct, frozen=True):
    """A package that answers, and the reader of its rows."""

    digest: str
    manifest: Manifest
    predictor: Predictor
    reader: RowReader

    @property
    def signature(self) -> Signature:
        return self.manifest.signature


class LiveArm(Struct, frozen=True):
    """An arm of a route with its package; `label` names the release, as in `flights/3`."""

    arm: Arm
    loaded: Loaded

    @property
    def label(self) -> str:
        return self.arm.release


class Live(Struct, frozen=True):
    """A route that is in force: its arms are loaded, in the order of the route's; none where it was withdrawn.

    `others` are the columns that may be used beside the champion's inputs: keys and times, keys and features of
    views, inputs of the other arms.
    """

    route: Route
    arms: tuple[LiveArm, ...]
    champion: int = 0
    others: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """The champion's, which says how rows are known."""
        return self.arms[self.champion].loaded.manifest

    @property
    def reader(self) -> RowReader:
        """The champion's, which reads the rows that are asked about."""
        return self.arms[self.champion].loaded.reader


class Scores(Struct, frozen=True):
    """What an arm says of n rows, the inputs as it saw them, and which answers are finite numbers."""

    answers: Predictions
    inputs: pl.DataFrame
    finite: npt.NDArray[np.bool_]


def take_up(route: Route, packages: Packages, known: Mapping[str, Loaded]) -> Live:
    """Load what a route names, unless it is `known` by its digest, and warm it up.

    Raises
    ------
    ConfigurationError
        if the route has no champion.
    TidemillError
        if a package cannot be loaded, or does not answer its own samples, or the arms have different tasks.
    """
    if not route.arms:
        return Live(route, ())
    champion = place_of_champion(route)
    loaded = [known[arm.package] if arm.package in known else _load(arm, packages) for arm in route.arms]
    for arm, each in zip(route.arms, loaded, strict=True):
        if each.signature.task != loaded[champion].signature.task:
            raise TidemillError(
                f"{arm.role} {arm.release} is a {each.signature.task}, its champion is not",
                "route releases of one task together",
            )
    arms = tuple(LiveArm(arm, each) for arm, each in zip(route.arms, loaded, strict=True))
    return Live(route, arms, champion, _others(loaded[champion].manifest, [each.manifest for each in loaded]))


def score(arm: LiveArm, rows: pl.DataFrame, places: npt.NDArray[np.intp] | None = None) -> Scores:
    """What an arm says of the rows at `places` (of all, where that is None).

    Raises
    ------
    DataError
        if the rows, also those elsewhere, do not fit its signature.
    TidemillError
        if the model raises.
    """
    inputs = arm.loaded.reader.read_frame(rows)
    if places is not None:
        inputs = inputs[places]
    try:
        answers = arm.loaded.predictor.predict(inputs)
    except DataError:
        raise
    except Exception as wrong:
        raise TidemillError(
            f"release {arm.label} failed: {type(wrong).__name__}", "look into the service's log, or roll back"
        ) from wrong
    if len(answers.values) != inputs.height:
        raise TidemillError(
            f"release {arm.label} gave {len(answers.values)} answers to {inputs.height} rows", "roll back to another"
        )
    return Scores(answers, inputs, _finite(arm.loaded.signature, answers))


def _finite(signature: Signature, answers: Predictions) -> npt.NDArray[np.bool_]:
    if signature.task == "regression":
        return np.isfinite(np.asarray(answers.values, dtype=np.float64))
    if answers.probabilities is None:
        return np.ones(len(answers.values), dtype=np.bool_)
    return np.asarray(np.isfinite(answers.probabilities).all(axis=1), dtype=np.bool_)


def _load(arm: Arm, packages: Packages) -> Loaded:
    """A package that has answered its own sample rows, where it brings any."""
    model = packages.load(arm.package)
    loaded = Loaded(arm.package, model.manifest, load(model), RowReader(model.manifest.signature.inputs))
    if SAMPLES in model.files:
        rows = msgspec.json.decode(model.files[SAMPLES], type=list[dict[str, object]])
        samples = loaded.reader.read_json(rows)
        if samples.height and not score(LiveArm(arm, loaded), samples).finite.all():
            raise TidemillError(f"release {arm.release} answers NaN to its own sample rows", "train it again")
    return loaded


def _others(champion: Manifest, manifests: list[Manifest]) -> tuple[str, ...]:
    names = [*champion.key, champion.time]
    for manifest in manifests:
        names += [each.name for each in manifest.signature.inputs]
        for view in manifest.features.views if manifest.features else ():
            names += [*view.entity.keys, *view.features]
    return tuple(dict.fromkeys(names))

"""Loads a package so that it answers."""

from tidemill import plugin
from tidemill.core.model import Model
from tidemill.models.environment import compare_versions
from tidemill.models.flavors import BUILT_IN
from tidemill.models.predictions import Predictor
from tidemill.telemetry import logger


def load(model: Model) -> Predictor:
    """The predictor of a package, by its flavor; versions that differ from those it was made with are logged.

    Raises
    ------
    NotFound
        for a flavor that is not installed.
    DataError
        if the package does not hold what its manifest says.
    InputError
        if it would have to be unpickled, and nobody vouched for it.
    """
    flavor = model.manifest.flavor
    make = BUILT_IN[flavor]() if flavor in BUILT_IN else plugin.load("flavors", flavor)
    if differences := compare_versions(model.manifest.environment):
        logger("models").warning(
            "model %r was made with other versions: %s", model.manifest.name, ", ".join(map(str, differences))
        )
    predictor: Predictor = make(model)
    return predictor

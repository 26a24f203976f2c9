"""Loads a package so that it answers."""

from tidemill import plugin
from tidemill.core.model import Model
from tidemill.models.answers import Predictor
from tidemill.models.flavors import OWN


def load(model: Model) -> Predictor:
    """The predictor of a package, by its flavor; raises `NotFound` for a flavor that is not installed."""
    flavor = model.manifest.flavor
    make = OWN[flavor]() if flavor in OWN else plugin.load("flavors", flavor)
    predictor: Predictor = make(model)
    return predictor

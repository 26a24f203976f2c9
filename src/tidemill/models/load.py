"""Loads a package so that it answers."""

import hashlib
from functools import lru_cache

import msgspec

from tidemill import plugin
from tidemill.core.model import Model
from tidemill.models.environment import compare_versions
from tidemill.models.flavors import BUILT_IN
from tidemill.models.predictions import Predictor
from tidemill.telemetry import logger

_KEPT = 4


class _Package:
    """A package by what its predictor depends on, which its metrics are not."""

    def __init__(self, model: Model) -> None:
        self.model = model
        manifest = model.manifest
        said = (manifest.flavor, manifest.name, manifest.signature, manifest.trusted, manifest.environment)
        digest = hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=32)
        for name, content in sorted(model.files.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        self._digest = digest.digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Package) and self._digest == other._digest


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


def load_once(model: Model) -> Predictor:
    """As `load`; the four packages that this process used last stay loaded, so that a training's steps share them.

    For steps that only ask for answers: they get a predictor that others have asked before.
    """
    return _loaded(_Package(model))


@lru_cache(_KEPT)
def _loaded(package: _Package) -> Predictor:
    return load(package.model)

"""Loads a package as a predictor."""

import hashlib
from functools import lru_cache

import msgspec

from tidemill import plugin
from tidemill.core.model import Model
from tidemill.models.adopting import require_tried
from tidemill.models.environment import compare_versions
from tidemill.models.flavors import BUILT_IN
from tidemill.models.predictions import Predictor
from tidemill.models.transforming import TransformingPredictor, load_transformer
from tidemill.telemetry import get_logger

_CACHE_SIZE = 4


class _CacheKey:
    """A package, compared by all that its predictor depends on; its metrics do not count."""

    def __init__(self, model: Model) -> None:
        self.model = model
        manifest = model.manifest
        features = manifest.features
        parts = (
            *(manifest.flavor, manifest.name, manifest.signature, manifest.trusted, manifest.environment),
            features.transformations if features else (),
        )
        digest = hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=32)
        for name, content in sorted(model.files.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        self._digest = digest.digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _CacheKey) and self._digest == other._digest


def load(model: Model) -> Predictor:
    """Return the predictor of a package, as `load_here` does; a package from elsewhere is first tried in a child.

    Raises
    ------
    DataError
        also if the child ended while it loaded the package.
    """
    require_tried(model)
    return load_here(model)


def load_here(model: Model) -> Predictor:
    """Return the predictor of a package, which takes raw rows.

    Log a warning if the installed versions differ from those of the package.

    Raises
    ------
    NotFound
        if the flavor is not installed.
    DataError
        if the content of the package contradicts its manifest.
    InputError
        if the package is a pickle that is not trusted.
    """
    flavor = model.manifest.flavor
    make = BUILT_IN[flavor]() if flavor in BUILT_IN else plugin.load("flavors", flavor)
    if differences := compare_versions(model.manifest.environment):
        get_logger("models").warning(
            "model %r was created with other versions: %s", model.manifest.name, ", ".join(map(str, differences))
        )
    predictor: Predictor = make(model)
    transformer = load_transformer(model)
    return predictor if transformer is None else TransformingPredictor(predictor, transformer)


def load_cached(model: Model) -> Predictor:
    """Return the predictor of a package as `load` does; keep the last four for the steps of a run.

    Only for steps that predict rows: several callers use the same predictor.
    """
    return _load_key(_CacheKey(model))


@lru_cache(_CACHE_SIZE)
def _load_key(key: _CacheKey) -> Predictor:
    return load(key.model)

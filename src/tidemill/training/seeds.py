"""Seeds every estimator of a training: its parameters, its parts, and the global generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_PARAMETER = "random_state"
# LightGBM's names for its seed.
LIGHTGBM_SEEDS = frozenset({"seed", "random_seed", _PARAMETER})


def seed_estimator(estimator: Any, seed: int) -> None:
    """Set `random_state` of an estimator and of its parts, such as the steps of a pipeline, if it is None.

    A part that is not an estimator, such as the splitter of a cross-validation, is seeded by its attribute.
    """
    if not hasattr(estimator, "get_params"):
        return
    params = estimator.get_params(deep=True)
    unset = [name for name, value in params.items() if value is None and name.split("__")[-1] == _PARAMETER]
    if unset:
        estimator.set_params(**dict.fromkeys(unset, seed))
    for part in params.values():
        if not hasattr(part, "get_params") and getattr(part, _PARAMETER, seed) is None:
            setattr(part, _PARAMETER, seed)


@contextmanager
def use_global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy, which estimators without `random_state` use; restore them."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)

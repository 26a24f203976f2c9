"""LightGBM is imported without what it does not need, and code that needs all of it still gets that."""

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
from tidemill.host.boosting import import_lightgbm

own = import_lightgbm()
assert import_lightgbm() is own
heavy = {"sklearn", "pandas"} & set(sys.modules)
print("heavy:", sorted(heavy))

random = np.random.default_rng(0)
rows, target = random.normal(size=(400, 3)), random.integers(0, 2, 400)
params = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True}
booster = own.train(params, own.Dataset(rows, target), 5)

import lightgbm
import sklearn.base
assert sys.meta_path and import_lightgbm() is lightgbm
assert isinstance(lightgbm.LGBMClassifier(n_estimators=2, verbosity=-1).fit(rows, target), sklearn.base.BaseEstimator)
again = lightgbm.train(params, lightgbm.Dataset(rows, target), 5)
print("equal:", again.model_to_string() == booster.model_to_string())
print("loads:", (lightgbm.Booster(model_str=booster.model_to_string()).predict(rows) == booster.predict(rows)).all())
"""


def test_lightgbm_is_imported_without_scikit_learn_and_is_whole_for_other_code() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["heavy: []", "equal: True", "loads: True"]

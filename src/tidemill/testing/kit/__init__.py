"""The ML test kit: requirements of a project, which its tests call; each fails with a message and its cure.

`tidemill ci generate-tests` writes tests that call them. A test passes the fixtures `sample` and `trained` of
`tidemill.testing.plugin`.
"""

from tidemill.project.project import Project
from tidemill.testing.kit.artifacts import require_declared_artifacts, require_finished, require_fitting_steps
from tidemill.testing.kit.checks import require_gate, require_plans, require_schema, require_watch
from tidemill.testing.kit.convergence import require_falling_loss, require_overfit
from tidemill.testing.kit.determinism import require_equal_trainings
from tidemill.testing.kit.expectations import (
    Direction,
    Expectations,
    Invariance,
    read_expectations,
    require_direction,
    require_expectations,
    require_invariance,
)
from tidemill.testing.kit.failing import KitFailure
from tidemill.testing.kit.features import require_finite_features, require_offline_online, require_row_wise
from tidemill.testing.kit.labels import require_kept_label, require_label
from tidemill.testing.kit.leakage import require_known_inputs, require_no_future, require_no_leak
from tidemill.testing.kit.methods import require_encoders, require_unseen_level, to_one_hot
from tidemill.testing.kit.predictions import require_finite_predictions, require_order_invariance
from tidemill.testing.kit.rows import draw_rows, list_edges
from tidemill.testing.kit.sample import Sample, take_sample, write_references
from tidemill.testing.kit.secrets import plant_secrets, require_no_secret
from tidemill.testing.kit.training import SampleTraining, train_sample

__all__ = [
    "Direction",
    "Expectations",
    "Invariance",
    "KitFailure",
    "Project",
    "Sample",
    "SampleTraining",
    "draw_rows",
    "list_edges",
    "plant_secrets",
    "read_expectations",
    "require_declared_artifacts",
    "require_direction",
    "require_encoders",
    "require_equal_trainings",
    "require_expectations",
    "require_falling_loss",
    "require_finished",
    "require_finite_features",
    "require_finite_predictions",
    "require_fitting_steps",
    "require_gate",
    "require_invariance",
    "require_kept_label",
    "require_known_inputs",
    "require_label",
    "require_no_future",
    "require_no_leak",
    "require_no_secret",
    "require_offline_online",
    "require_order_invariance",
    "require_overfit",
    "require_plans",
    "require_row_wise",
    "require_schema",
    "require_unseen_level",
    "require_watch",
    "take_sample",
    "to_one_hot",
    "train_sample",
    "write_references",
]

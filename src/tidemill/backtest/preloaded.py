"""What the server of replays imports: the slowest libraries that start no threads when they are imported."""

import scipy.special  # noqa: F401

from tidemill.host.boosting import import_lightgbm

import_lightgbm()

"""Judges the promotions of an environment: both models on the labelled rows that were served after the decision."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from tidemill.backtest.comparison import TrainingStory
from tidemill.core.resources import Packages
from tidemill.core.route import Route
from tidemill.data.arrays import Floats
from tidemill.errors import DataError
from tidemill.monitoring.stored_releases import StoredRelease, load_release
from tidemill.monitoring.windows import is_labelled, unpack_features

_AFTER = timedelta(days=14)
_NEEDED_ROWS = 10


def count_observed_wrong_promotions(
    packages: Packages, margin: float, stories: Sequence[TrainingStory], routes: Sequence[Route], served: pl.DataFrame
) -> int | None:
    """Return how many promoted models were worse than the champion before them by more than the margin of the canary.

    Both models predict the labelled rows that were served in the 14 days after the promotion. A promotion with fewer
    than ten of them is not judged; None if there are promotions and none can be judged.
    """
    promoted = [story for story in stories if story.ending == "promoted"]
    judged = [_is_wrong(packages, margin, story, routes, served) for story in promoted]
    known = [wrong for wrong in judged if wrong is not None]
    return None if promoted and not known else sum(known)


def _is_wrong(
    packages: Packages, margin: float, story: TrainingStory, routes: Sequence[Route], served: pl.DataFrame
) -> bool | None:
    decided, package = story.settled, _find_package(routes, story.release)
    before = _find_champion(routes, decided) if decided else None
    if decided is None or before is None or package is None or not served.width:
        return None
    pair = [load_release(packages, digest) for digest in (package, before)]
    rows = served.filter(pl.col("known_at") > decided, pl.col("known_at") <= decided + _AFTER)
    for release in pair:
        if rows.height:
            rows = rows.filter(is_labelled(rows, release.manifest.signature))
    if rows.height < _NEEDED_ROWS:
        return None
    try:
        candidate, champion = (_compute_losses(release, rows) for release in pair)
    except DataError:  # the inputs of the two differ, so the rows that one was served do not fit the other
        return None
    return bool((candidate - champion).mean() > margin)


def _find_package(routes: Sequence[Route], release: str) -> str | None:
    return next((arm.package for route in routes for arm in route.arms if arm.release == release), None)


def _find_champion(routes: Sequence[Route], until: datetime) -> str | None:
    """Return the package of the champion before a time."""
    earlier = [route for route in routes if route.since < until]
    arm = max(earlier, key=lambda route: route.version).arm("champion") if earlier else None
    return arm.package if arm else None


def _compute_losses(release: StoredRelease, rows: pl.DataFrame) -> Floats:
    return release.compute_losses(unpack_features(rows), rows["truth"])

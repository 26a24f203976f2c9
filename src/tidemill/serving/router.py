"""The router: which arm of a route answers which prediction."""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidemill.core.route import Route
from tidemill.data.sketch import splitmix64
from tidemill.errors import ConfigurationError


def assign(ids: Sequence[str], route: Route) -> npt.NDArray[np.intp]:
    """The place in `route.arms` of the arm that answers each id, shape (ids,).

    An id is what a prediction sticks to: the row's key, or its own id where it has none. The same id always gets
    the same arm while the challengers stay the same: widening a share only adds ids to it, and another challenger
    draws another sample. Each challenger gets its share, the champion the rest, a shadow nothing. The draw is
    CRC-32 of the id, seeded by the first challenger's name, then the finalizer of splitmix64.

    Raises
    ------
    ConfigurationError
        if the route has no champion.
    """
    champion = place_of_champion(route)
    challengers = [place for place, arm in enumerate(route.arms) if arm.role == "challenger" and arm.share > 0]
    if not challengers:
        return np.full(len(ids), champion, dtype=np.intp)
    edges = np.cumsum([route.arms[place].share for place in challengers])
    slots = np.searchsorted(edges, draw(ids, salt=route.arms[challengers[0]].release), side="right")
    return np.array([*challengers, champion], dtype=np.intp)[slots]


def place_of_champion(route: Route) -> int:
    """The place of the champion in `route.arms`; raises `ConfigurationError` where there is none."""
    for place, arm in enumerate(route.arms):
        if arm.role == "champion":
            return place
    raise ConfigurationError(
        f"version {route.version} of the route of {route.model!r} has no champion",
        "publish a route whose first arm is a champion",
    )


def draw(ids: Sequence[str], salt: str = "") -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each id, always the same for the same id and salt."""
    seed = zlib.crc32(salt.encode())
    mixed = splitmix64(np.array([zlib.crc32(name.encode(), seed) for name in ids], dtype=np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)

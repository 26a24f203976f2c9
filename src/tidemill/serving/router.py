"""The router: assigns each prediction to an arm of its route."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tidemill.core.route import Route
from tidemill.errors import ConfigurationError


def assign_arms(ids: Sequence[str], route: Route) -> npt.NDArray[np.intp]:
    """Return the index in `route.arms` of the arm for each id, shape (ids,).

    An id is the row's key, or the id of its prediction if it has no key. The same id always gets the same arm
    while the challengers stay the same: a larger share only adds ids, and another challenger draws another sample.
    Each challenger gets its share, the champion gets the rest, a shadow gets nothing. The draw is CRC-32 of the id,
    seeded by the first challenger's name, then the finalizer of splitmix64.

    Raises
    ------
    ConfigurationError
        if the route has no champion.
    """
    champion = find_champion_index(route)
    challengers = [index for index, arm in enumerate(route.arms) if arm.role == "challenger" and arm.share > 0]
    if not challengers:
        return np.full(len(ids), champion, dtype=np.intp)
    edges = np.cumsum([route.arms[index].share for index in challengers])
    slots = np.searchsorted(edges, draw_uniform(ids, salt=route.arms[challengers[0]].release), side="right")
    return np.array([*challengers, champion], dtype=np.intp)[slots]


def assign_bound(values: Sequence[str | None], bound: Mapping[str, int]) -> npt.NDArray[np.intp]:
    """Return the index of the arm that is bound to the value of each row, shape (rows,); -1 for a row without one."""
    return np.fromiter((bound.get(value, -1) if value else -1 for value in values), dtype=np.intp, count=len(values))


def find_champion_index(route: Route) -> int:
    """Return the index of the champion in `route.arms`; raise `ConfigurationError` if there is none."""
    for index, arm in enumerate(route.arms):
        if arm.role == "champion":
            return index
    raise ConfigurationError(
        f"version {route.version} of the route of {route.model!r} has no champion",
        "publish a route whose first arm is a champion",
    )


def draw_uniform(ids: Sequence[str], salt: str = "") -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each id, always the same for the same id and salt."""
    seed = zlib.crc32(salt.encode())
    mixed = _mix(np.array([zlib.crc32(name.encode(), seed) for name in ids], dtype=np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mix(raw: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix numbers by splitmix64: each bit of a result depends on each bit of its number, equally on each machine.

    Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014, figure 17.
    """
    mixed = raw + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed

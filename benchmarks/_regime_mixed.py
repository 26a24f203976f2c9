"""Mixed traffic: after rows of one regime, the rows of two regimes come in turn at random, with and without a key."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks._regime_loop import POLICY, Forest, Loop
from benchmarks._regime_streams import SEGMENT, Stream, planes
from tidemill.checks.regime import prefers_regime
from tidemill.data.arrays import Ints

_MIXED = 3_000
_DEVIATIONS = 2.33
_TEST_SHARE = 1 / 3


def mix(seed: int, *, moved: bool) -> Stream:
    """Return 1,500 rows of A, then 3,000 of A and B at random; with `moved`, B has other inputs."""
    random, concepts = np.random.default_rng(seed + 6), planes(seed, 2, moved=moved)
    count = SEGMENT + _MIXED
    regimes = ((random.random(count) < 0.5) & (np.arange(count) >= SEGMENT)).astype(np.int64)
    parts = [concept(random, count) for concept in concepts]
    rows = np.where(regimes[:, None] == 0, parts[0][0], parts[1][0])
    return Stream(rows, np.where(regimes == 0, parts[0][1], parts[1][1]), regimes, (0, SEGMENT))


def serve_by_key(stream: Stream, every: int = 10) -> Ints:
    """Return the predictions where a key names the regime of each row, by the rules of the pipeline `recalling`.

    The champion learns the first rows. A value is trained at the minimum of labelled rows and at each doubling, and
    bound if a model of its rows is clearly better than one of all rows; else the model of all rows is the champion.
    """
    predictions = np.zeros(len(stream.classes), dtype=np.int64)
    bound: dict[int, Forest] = {}
    due = {int(value): POLICY.minimum for value in np.unique(stream.regimes)}
    champion: Forest | None = None
    for begin in range(0, len(stream.classes), every):
        end = min(begin + every, len(stream.classes))
        for value in due if champion else ():
            at = begin + np.flatnonzero(stream.regimes[begin:end] == value)
            if len(at) and champion:
                predictions[at] = bound.get(value, champion).predict(stream.rows[at])
        seen = stream.regimes[:end]
        for value in due:
            own = np.flatnonzero(seen == value)
            if len(own) < due[value]:
                continue
            due[value] = 2 * len(own)
            test, free = own[-int(len(own) * _TEST_SHARE) :], np.flatnonzero(~np.isin(seen, list(bound)))
            everything, alone = (
                Forest(stream.rows[rows[rows < test[0]]], stream.classes[rows[rows < test[0]]]).compute_losses(
                    stream.rows[test], stream.classes[test]
                )
                for rows in (free if value not in bound else np.arange(end), own)
            )
            if value in bound or (len(free) > len(own) and prefers_regime(everything, alone, _DEVIATIONS)):
                bound[value] = Forest(stream.rows[own], stream.classes[own])
            else:
                champion = Forest(stream.rows[free], stream.classes[free])
    return predictions


def measure_mixed(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the accuracy on the second half of the mixed rows: with a key, without one, and of an oracle.

    The oracle is a model of each regime that has learned all rows of the regime before.
    """
    found = []
    for title, moved in (("the same inputs", False), ("other inputs", True)):
        scores: dict[str, list[float]] = {"key": [], "no key": [], "oracle": []}
        for seed in seeds:
            stream, first = mix(seed, moved=moved), SEGMENT + _MIXED // 2
            predictions = {
                "key": serve_by_key(stream),
                "no key": Loop(stream, every=10, delay=0, recalls=True).run().predictions,
                "oracle": _serve_by_oracle(stream, first),
            }
            for name, predicted in predictions.items():
                scores[name].append(float((predicted[first:] == stream.classes[first:]).mean()))
        found.append({"inputs": title} | {name: round(float(np.mean(values)), 3) for name, values in scores.items()})
    return found


def _serve_by_oracle(stream: Stream, first: int) -> Ints:
    predictions = np.zeros(len(stream.classes), dtype=np.int64)
    for value in np.unique(stream.regimes):
        own = np.flatnonzero(stream.regimes == value)
        model = Forest(stream.rows[own[own < first]], stream.classes[own[own < first]])
        predictions[own] = model.predict(stream.rows[own])
    return predictions

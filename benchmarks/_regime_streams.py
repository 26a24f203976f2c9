"""Streams with recurring regimes: rows, labels, and the true regime of each row."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from tidemill.data.arrays import Floats, Ints

SEQUENCE = (0, 1, 0, 2, 1, 0, 2, 0)
SEGMENT = 1_500


class Stream(NamedTuple):
    """Rows (rows, columns) with their classes; `regimes` is the regime of each row, `starts` where segments begin."""

    rows: Floats
    classes: Ints
    regimes: Ints
    starts: tuple[int, ...]


Concept = Callable[[np.random.Generator, int], tuple[Floats, Ints]]


def _join(concepts: Sequence[Concept], seed: int, sequence: Sequence[int], lengths: Sequence[int]) -> Stream:
    random = np.random.default_rng(seed)
    parts = [concepts[regime](random, length) for regime, length in zip(sequence, lengths, strict=True)]
    return Stream(
        np.vstack([rows for rows, _ in parts]),
        np.concatenate([classes for _, classes in parts]),
        np.repeat(sequence, lengths),
        tuple(np.concatenate(([0], np.cumsum(lengths)[:-1])).tolist()),
    )


def _from_river(make: Callable[[int], object]) -> list[Concept]:
    """Return the concepts of a generator of river, each with an endless iterator of its own."""
    iterators = [iter(make(index).take(10**9)) for index in range(3)]  # type: ignore[attr-defined]

    def draw(index: int) -> Concept:
        def concept(_: np.random.Generator, length: int) -> tuple[Floats, Ints]:
            pairs = [next(iterators[index]) for _ in range(length)]
            return (
                np.array([[float(value) for value in row.values()] for row, _ in pairs]),
                np.array([int(label) for _, label in pairs]),
            )

        return concept

    return [draw(index) for index in range(3)]


def stagger(seed: int) -> list[Concept]:
    """STAGGER (Schlimmer & Granger 1986): three concepts that contradict each other, with the same inputs."""
    from river.datasets import synth

    return _from_river(lambda index: synth.STAGGER(classification_function=index, seed=seed * 17 + 5))


def sea(seed: int) -> list[Concept]:
    """SEA (Street & Kim 2001): thresholds of a sum, nearly the same, with 5 % of the labels wrong."""
    from river.datasets import synth

    return _from_river(lambda index: synth.SEA(variant=(0, 3, 2)[index], noise=0.05, seed=seed * 17 + 5))


def agrawal(seed: int) -> list[Concept]:
    """Agrawal (1993): decisions on loans by three rules, with the same inputs."""
    from river.datasets import synth

    return _from_river(lambda index: synth.Agrawal(classification_function=(0, 2, 6)[index], seed=seed * 17 + 5))


def rbf(seed: int) -> list[Concept]:
    """Radial basis functions: each regime has other centres, so other inputs and another concept."""
    from river.datasets import synth

    return _from_river(
        lambda index: synth.RandomRBF(
            seed_model=seed * 31 + index, seed_sample=seed * 17 + 5, n_features=10, n_centroids=20
        )
    )


def sine(seed: int) -> list[Concept]:
    """Sine (Gama 2004): two curves and the reversal of one, with the same inputs."""
    from river.datasets import synth

    return _from_river(lambda index: synth.Sine(classification_function=(0, 1, 2)[index], seed=seed * 17 + 5))


def image_segments(seed: int) -> list[Concept]:
    """Image segments (UCI) seen by three sensors, with another gain and offset in each column."""
    datasets: Any = import_module("river.datasets")
    pairs = list(datasets.ImageSegments())
    rows = np.array([[float(value) for value in row.values()] for row, _ in pairs])
    names = sorted({label for _, label in pairs})
    return _sensors(rows, np.array([names.index(label) for _, label in pairs]), seed)


def digits(seed: int) -> list[Concept]:
    """Handwritten digits (UCI): upright, rotated by a quarter, and inverted."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = loaded.data.reshape(-1, 8, 8)
    variants = [loaded.data, np.rot90(images, 1, (1, 2)).reshape(-1, 64), (16 - images).reshape(-1, 64)]
    return _halves(variants, loaded.target, seed)


def cancer(seed: int) -> list[Concept]:
    """Breast cancer (UCI) from three laboratories: another gain and offset in each column."""
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer()
    return _sensors(loaded.data, loaded.target, seed)


def _sensors(rows: Floats, classes: Ints, seed: int) -> list[Concept]:
    random = np.random.default_rng(seed)
    deviation = rows.std(axis=0)
    variants = [rows] + [
        rows * random.uniform(0.6, 1.6, rows.shape[1]) + deviation * random.normal(0, 0.7, rows.shape[1])
        for _ in range(2)
    ]
    return _halves(variants, classes, seed)


def _halves(variants: Sequence[Floats], classes: Ints, seed: int) -> list[Concept]:
    """Return concepts whose first visit draws from one half of the rows, and later visits from the other half."""
    order = np.random.default_rng(seed + 1).permutation(len(classes))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    visited: set[int] = set()

    def draw(index: int) -> Concept:
        def concept(random: np.random.Generator, length: int) -> tuple[Floats, Ints]:
            chosen = random.choice(halves[index in visited], length)
            visited.add(index)
            rows = variants[index][chosen]
            return rows + random.normal(0, 0.02, rows.shape) * variants[index].std(axis=0), classes[chosen]

        return concept

    return [draw(index) for index in range(len(variants))]


def planes(seed: int, regimes: int = 3, *, moved: bool = False) -> list[Concept]:
    """Half-spaces in five dimensions, another one in each regime; with `moved`, around another centre each."""
    random = np.random.default_rng(seed + 2)
    normals = random.normal(size=(regimes, 5))
    centres = random.normal(0, 1.5, size=(regimes, 5)) if moved else np.zeros((regimes, 5))

    def draw(index: int) -> Concept:
        def concept(random: np.random.Generator, length: int) -> tuple[Floats, Ints]:
            offsets = random.normal(size=(length, 5))
            classes = (offsets @ normals[index] + random.normal(0, 0.1, length) > 0).astype(np.int64)
            return offsets + centres[index], classes

        return concept

    return [draw(index) for index in range(regimes)]


def recurring(concepts: list[Concept], seed: int, *, jitter: bool = False) -> Stream:
    """Return the sequence A B A C B A C A, with segments of 1,500 rows, or of 1,200 to 1,800 at random."""
    lengths = [SEGMENT] * len(SEQUENCE)
    if jitter:
        lengths = np.random.default_rng(seed + 3).integers(1_200, 1_800, len(SEQUENCE)).tolist()
    return _join(concepts, seed, SEQUENCE, lengths)


def gradual(concepts: list[Concept], seed: int, width: int = 300) -> Stream:
    """Return the same sequence, in which each change is a mixture of both regimes over `width` rows."""
    stream = recurring(concepts, seed)
    rows, classes, regimes = stream.rows.copy(), stream.classes.copy(), stream.regimes.copy()
    random = np.random.default_rng(seed + 4)
    for start, earlier in zip(stream.starts[1:], SEQUENCE[:-1], strict=True):
        late = np.flatnonzero(random.random(width) > (np.arange(width) + 0.5) / width) + start
        rows[late], classes[late] = concepts[earlier](random, len(late))
        regimes[late] = earlier
    return Stream(rows, classes, regimes, stream.starts)


def many(seed: int, regimes: int = 20) -> Stream:
    """Return twenty regimes, each of them once, then each once more in another order."""
    order = np.random.default_rng(seed + 5).permutation(regimes)
    sequence = [*range(regimes), *order.tolist()]
    return _join(planes(seed, regimes), seed, sequence, [800] * len(sequence))


def unchanging(concepts: list[Concept], seed: int, rows: int = 60_000) -> Stream:
    """Return rows of one regime only."""
    return _join(concepts, seed, [0], [rows])


def look_alike(seed: int) -> Stream:
    """Return A B A' B A A': A' has the inputs of A and another concept, B has other inputs."""
    concepts = planes(seed, 2, moved=True)

    def reversed_concept(random: np.random.Generator, length: int) -> tuple[Floats, Ints]:
        rows, classes = concepts[0](random, length)
        return rows, 1 - classes

    return _join([*concepts, reversed_concept], seed, (0, 1, 2, 1, 0, 2), [SEGMENT] * 6)


STREAMS: dict[str, Callable[[int], Stream]] = {
    "image segments": lambda seed: recurring(image_segments(seed), seed),
    "Agrawal": lambda seed: recurring(agrawal(seed), seed),
    "RBF": lambda seed: recurring(rbf(seed), seed),
    "STAGGER": lambda seed: recurring(stagger(seed), seed),
    "SEA": lambda seed: recurring(sea(seed), seed),
    "sine": lambda seed: recurring(sine(seed), seed),
    "digits": lambda seed: recurring(digits(seed), seed),
    "cancer": lambda seed: recurring(cancer(seed), seed),
    "half-spaces": lambda seed: recurring(planes(seed), seed, jitter=True),
    "half-spaces, moved": lambda seed: recurring(planes(seed, moved=True), seed, jitter=True),
    "STAGGER, gradual": lambda seed: gradual(stagger(seed), seed),
    "look-alikes": look_alike,
    "twenty regimes": many,
}

"""Counts distinct values in bounded space; sketches can be merged and are equal in every process and version."""

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.data.arrays import Floats

Hashes = npt.NDArray[np.uint64]
SKETCH_SIZE = 256
_AT_ONCE = 65_536
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))


def hash_values(values: pl.Series | Floats) -> Hashes:
    """Return a 64-bit hash for each number or text, shape (values,)."""
    if isinstance(values, pl.Series):
        parts = [_text_hashes(values[at : at + _AT_ONCE]) for at in range(0, len(values), _AT_ONCE)]
        return splitmix64(np.concatenate([*parts, np.empty(0, np.uint64)]))
    return splitmix64((values + 0.0).view(np.uint64))  # -0.0 becomes 0.0


def keep_smallest_hashes(hashes: Hashes) -> Hashes:
    """Return the 256 smallest distinct hashes, sorted: the sketch of a set (Bar-Yossef et al. 2002, algorithm 2)."""
    if len(hashes) > 64 * SKETCH_SIZE:
        # Mixed hashes are uniform: of many distinct hashes, the smallest ones are below this bound.
        near = np.unique(hashes[hashes < np.uint64(2**64 * 16 * SKETCH_SIZE / len(hashes))])
        if len(near) >= SKETCH_SIZE:
            return near[:SKETCH_SIZE]
        hashes = pl.Series(hashes).unique().to_numpy()
    return np.unique(hashes)[:SKETCH_SIZE]


def estimate_distinct(sketch: Hashes) -> int:
    """Return the number of distinct values in a sketch: exact below 256, else an estimate with an error of 6 %."""
    if len(sketch) < SKETCH_SIZE:
        return len(sketch)
    return round((SKETCH_SIZE - 1) / ((float(sketch[-1]) + 1) / 2.0**64))


def splitmix64(raw: Hashes) -> Hashes:
    """Mix numbers so that every bit of a result depends on every bit of its number; equal on each machine and Python.

    Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014, figure 17.
    """
    mixed = raw + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _text_hashes(words: pl.Series) -> Hashes:
    """Return a polynomial hash of each text's bytes, by prefix sums over all texts (Karp & Rabin 1987)."""
    joined = "".join(words.to_list()).encode("utf-8", "surrogatepass")
    letters = np.frombuffer(joined, dtype=np.uint8).astype(np.uint64) + np.uint64(1)
    ends = words.str.len_bytes().to_numpy().astype(np.int64).cumsum()
    starts = np.concatenate((np.zeros(1, dtype=np.int64), ends[:-1])) if len(ends) else ends
    powers = np.concatenate((np.ones(1, np.uint64), np.full(len(letters), _BASE).cumprod(dtype=np.uint64)))
    sums = np.concatenate((np.zeros(1, np.uint64), (letters * powers[:-1]).cumsum(dtype=np.uint64)))
    back = np.concatenate((np.ones(1, np.uint64), np.full(len(letters), _INVERSE).cumprod(dtype=np.uint64)))
    hashes: Hashes = (sums[ends] - sums[starts]) * back[starts]
    return hashes

"""The classes of a classification: their order, which is that of the probabilities, and the values that mean them."""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from math import isfinite
from typing import TypeVar

import polars as pl

from tidemill.errors import ConfigurationError

K = TypeVar("K")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_CANONICAL_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,4})?", re.ASCII)
_BOOLEANS = {"true": Decimal(1), "false": Decimal(0)}


def order_classes(names: Iterable[str], positive: str = "") -> tuple[str, ...]:
    """Return the distinct classes in order: by value if all are numbers, otherwise as text.

    With two classes, the second one is the positive class.

    `positive` names the positive class of two.

    >>> order_classes(["10", "9", "1"]), order_classes(["no", "yes"]), order_classes(["no", "yes"], positive="no")
    (('1', '9', '10'), ('no', 'yes'), ('yes', 'no'))

    Raises
    ------
    ConfigurationError
        if `positive` is not one of two classes.
    """
    ordered = sorted(set(names))
    numbers = [_number(name) for name in ordered]
    if None not in numbers:
        ordered = [name for _, name in sorted(zip(numbers, ordered, strict=True))]
    if not positive:
        return tuple(ordered)
    if positive not in ordered or len(ordered) != 2:
        raise ConfigurationError(
            f"positive is {positive!r}, which is not one of two classes: the label has {', '.join(ordered)}",
            "set positive under [problem] to one of two classes, or remove it: ROC AUC and F1 are means over more",
        )
    return (*(name for name in ordered if name != positive), positive)


def match_classes(values: pl.Series, classes: Sequence[str]) -> pl.Series:
    """Return the class that each value means; null for a value that means none, and for a null.

    A value means the class that has its text, also with spaces around it. A number means the class with the same
    value, as `1`, `1.0` and `"1.0"` mean the class `1`; a class with leading zeros is text. If the classes are
    `true` and `false`, or `1` and `0`, each of `true`, `True`, `"TRUE"`, `1` and `"1.0"` means the first of them.

    >>> match_classes(pl.Series([1, 0, 2]), ["false", "true"]).to_list()
    ['true', 'false', None]
    >>> match_classes(pl.Series([" 7.0", "07", "seven"]), ["7", "8"]).to_list()
    ['7', '7', None]
    """
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        return pl.Series(values.name, [None] * len(values), dtype=pl.String)
    texts = values.cast(pl.String)
    find_class = _create_matcher(classes)
    meanings = {text: find_class(text) for text in texts.drop_nulls().unique().to_list()}
    return texts.replace_strict(list(meanings), list(meanings.values()), default=None, return_dtype=pl.String)


def _create_matcher(classes: Sequence[str]) -> Callable[[str], str | None]:
    """Return a function from a text to the class that it means, or None."""
    exact = {name: name for name in classes}
    stripped = _drop_ambiguous((name.strip(), name) for name in classes)
    words = {name.strip().casefold() for name in classes}
    numbers = _drop_ambiguous(
        (Decimal(name.strip()), name) for name in classes if _CANONICAL_NUMBER.fullmatch(name.strip())
    )
    if words == _BOOLEANS.keys():
        numbers = _drop_ambiguous((_BOOLEANS[name.strip().casefold()], name) for name in classes)
    has_booleans = len(classes) == 2 and numbers.keys() == set(_BOOLEANS.values())

    def find_class(text: str) -> str | None:
        bare = text.strip()
        ordered = exact.get(text) or stripped.get(bare)
        if ordered is None and _NUMBER.fullmatch(bare):
            return numbers.get(Decimal(bare))
        if ordered is None and has_booleans and bare.casefold() in _BOOLEANS:
            return numbers[_BOOLEANS[bare.casefold()]]
        return ordered

    return find_class


def _drop_ambiguous(pairs: Iterable[tuple[K, str]]) -> dict[K, str]:
    """Return the names by their keys, without the keys that several names share."""
    names: dict[K, list[str]] = {}
    for key, name in pairs:
        names.setdefault(key, []).append(name)
    return {key: ordered[0] for key, ordered in names.items() if len(ordered) == 1}


def _number(name: str) -> float | None:
    try:
        number = float(name)
    except ValueError:
        return None
    return number if isfinite(number) else None

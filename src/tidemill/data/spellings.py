"""Spellings of classes: finds those that probably mean one class, and replaces them by the one that is declared."""

from collections.abc import Mapping

import polars as pl

from tidemill.data.keys import count_values, to_class_names

_ABBREVIATIONS = {"y": "yes", "n": "no", "t": "true", "f": "false"}
_MAX_CLASSES = 1_000
_SHOWN = 5

Spellings = Mapping[str, str]
"""Other spellings of classes, each with the spelling that is used; a class with itself is a class of its own."""


def find_spellings(labels: pl.Series, declared: Spellings | None = None) -> dict[str, str]:
    """Return the classes of a label that are probably other spellings of a more frequent class, with that class.

    Classes are alike that differ only in letter case and spaces, and `y` and `yes`, `n` and `no`, `t` and `true`, `f`
    and `false`. Classes of one letter that differ in case, such as `a` and `A`, may be different ones: they are alike
    only as an abbreviation. `declared` spellings are not returned.

    >>> find_spellings(pl.Series(["yes", "yes", "Yes", " y", "no"]))
    {' y': 'yes', 'Yes': 'yes'}
    """
    if labels.dtype != pl.String and not isinstance(labels.dtype, pl.Categorical | pl.Enum):
        return {}
    counted = count_values(unify_spellings(labels, declared or {})).rows()
    if len(counted) > _MAX_CLASSES:
        return {}
    plain = {name: " ".join(name.split()).casefold() for name, _ in counted}
    words = set(plain.values())
    groups: dict[str, list[str]] = {}
    for name, _ in sorted(counted, key=lambda pair: (-pair[1], -len(plain[pair[0]]), pair[0])):
        word = plain[name]
        full = _ABBREVIATIONS.get(word, "")
        is_letter = len(word) == 1 and not (full and full in words)
        key = name.strip() if is_letter else full if full in words else word
        groups.setdefault(key, []).append(name)
    known = {*(declared or {}), *(declared or {}).values()}
    found = {other: used for used, *others in groups.values() for other in others if not {other, used} <= known}
    return dict(sorted(found.items()))


def unify_spellings(labels: pl.Series, spellings: Spellings) -> pl.Series:
    """Return labels in which each declared spelling is replaced; other values, and their type, stay as they are."""
    others = {other: used for other, used in spellings.items() if other != used}
    if not others or labels.dtype.is_nested() or labels.dtype == pl.Binary:
        return labels
    names = labels.cast(pl.String) if labels.dtype == pl.String else to_class_names(labels)
    if not names.is_in(list(others)).any():
        return labels
    return names.replace(list(others), list(others.values())).alias(labels.name)


def unify_columns(rows: pl.DataFrame, labels: Mapping[str, Spellings]) -> pl.DataFrame:
    """Return rows whose label columns, each with its spellings, have only the spellings that are used."""
    declared = {name: rows[name] for name, spellings in labels.items() if spellings and name in rows.columns}
    if not declared:
        return rows
    return rows.with_columns(unify_spellings(values, labels[name]) for name, values in declared.items())


def describe_spellings(label: str, found: Spellings) -> str:
    """Return a sentence about spellings that were found."""
    pairs = [f"{other!r} for {used!r}" for other, used in found.items()]
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return f"label {label!r} spells one class in several ways: {', '.join(pairs[:_SHOWN])}{more}"


def suggest_setting(found: Spellings) -> str:
    """Return the setting that makes the spellings one class, as a line of TOML."""
    from msgspec import json

    pairs = ", ".join(f"{json.encode(other).decode()} = {json.encode(used).decode()}" for other, used in found.items())
    return f"spellings = {{ {pairs} }}"

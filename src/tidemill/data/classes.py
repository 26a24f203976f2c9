"""The order of a classification's classes, which is that of its probabilities."""

from collections.abc import Iterable
from math import isfinite

from tidemill.errors import ConfigurationError


def order_classes(names: Iterable[str], positive: str = "") -> tuple[str, ...]:
    """The distinct classes in order: by value where all are numbers, else as text; of two the second is the positive.

    `positive` names the positive class of two.

    >>> order_classes(["10", "9", "1"]), order_classes(["no", "yes"]), order_classes(["no", "yes"], positive="no")
    (('1', '9', '10'), ('no', 'yes'), ('yes', 'no'))

    Raises
    ------
    ConfigurationError
        if `positive` is not one of two classes.
    """
    found = sorted(set(names))
    numbers = [_number(name) for name in found]
    if None not in numbers:
        found = [name for _, name in sorted(zip(numbers, found, strict=True))]
    if not positive:
        return tuple(found)
    if positive not in found or len(found) != 2:
        raise ConfigurationError(
            f"positive is {positive!r}, which is not one of two classes: the label has {', '.join(found)}",
            "set positive under [problem] to one of two classes, or remove it: ROC AUC and F1 are means over more",
        )
    return (*(name for name in found if name != positive), positive)


def _number(name: str) -> float | None:
    try:
        number = float(name)
    except ValueError:
        return None
    return number if isfinite(number) else None

"""MetricFilter: finds records by the value of a metric."""

from msgspec import Struct


class MetricFilter(Struct, frozen=True):
    """A metric compared with a number, such as test_log_loss < 0.5; `sign` is one of <=, >=, <, > and =."""

    name: str
    sign: str
    value: float

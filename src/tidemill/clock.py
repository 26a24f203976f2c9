"""Time is passed in, never taken: the same loop runs on the wall clock and over history."""

import random
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol, runtime_checkable

from msgspec import Meta

from tidemill.errors import ConfigurationError


@runtime_checkable
class Clock(Protocol):
    """Tells facts their time (`now`, UTC), measures durations (`monotonic`, seconds) and mints ids."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def mint(self) -> str:
        """A fresh UUIDv7: ids of later instants sort later."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def mint(self) -> str:
        return uuid7(self.now(), random.getrandbits(74))


class VirtualClock:
    """A clock that only moves when told to; its ids are the same for the same seed.

    >>> clock = VirtualClock(datetime(2013, 3, 1, tzinfo=UTC))
    >>> clock.advance(datetime(2013, 3, 2, tzinfo=UTC)); clock.now().day
    2
    """

    def __init__(self, start: datetime, seed: int = 0) -> None:
        self._now = start
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        """Real seconds: what work really cost is measured, also in a replay."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def advance(self, to: datetime) -> None:
        """Move to `to`; a clock never runs backwards."""
        self._now = max(self._now, to)

    def mint(self) -> str:
        return uuid7(self._now, self._random.getrandbits(74))


def uuid7(moment: datetime, entropy: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 bits of `entropy`."""
    value = int(moment.timestamp() * 1000) << 80
    value |= 0x7 << 76 | (entropy >> 62 & 0xFFF) << 64 | 0b10 << 62 | entropy & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def moment_of(identifier: str) -> datetime:
    """The instant at which a UUIDv7 was minted."""
    return datetime.fromtimestamp((uuid.UUID(identifier).int >> 80) / 1000, UTC)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Span = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?[smhdw]$")]


def span(text: Span) -> timedelta:
    """A length of time as people write it.

    >>> span("7d"), span("1.5h")
    (datetime.timedelta(days=7), datetime.timedelta(seconds=5400))
    """
    try:
        return timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is not a length of time", 'write a number and a unit, such as "30m", "12h", "7d", "2w"'
        ) from None

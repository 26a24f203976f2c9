"""Clocks: code gets the time from a clock, so that the same loop runs in real time and over history."""

import random
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Protocol, runtime_checkable

from msgspec import Meta

from tidemill.errors import ConfigurationError


@runtime_checkable
class Clock(Protocol):
    """A source of the time (`now`, UTC), of durations (`monotonic`, seconds) and of ids."""

    writable: ClassVar[bool] = False

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def mint(self) -> str:
        """Return a new UUIDv7; ids of later times sort later."""
        ...


class _IdGenerator:
    """Generates increasing ids, also within a millisecond and when the clock goes back (RFC 9562, section 6.2,
    method 2).
    """

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator
        self._lock = threading.Lock()
        self._last = self._entropy = 0

    def mint(self, time_: datetime) -> str:
        with self._lock:
            now = int(time_.timestamp() * 1000)
            if now > self._last:
                self._last, self._entropy = now, self._generator.getrandbits(73)
            else:
                self._entropy += 1 + self._generator.getrandbits(32)
            return _format_uuid7(self._last, self._entropy)


class SystemClock:
    """The machine's clock."""

    writable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._ids = _IdGenerator(random.SystemRandom())  # a forked process must not repeat the ids of its parent

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def mint(self) -> str:
        return self._ids.mint(self.now())


class VirtualClock:
    """A clock that only moves by `advance` and `sleep`; equal seeds generate equal ids.

    >>> clock = VirtualClock(datetime(2013, 3, 1, tzinfo=UTC))
    >>> clock.advance(datetime(2013, 3, 2, tzinfo=UTC)); clock.now().day
    2
    """

    writable: ClassVar[bool] = False

    def __init__(self, start: datetime, seed: int = 0) -> None:
        self._now = start
        self._ids = _IdGenerator(random.Random(seed))

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        """Return real seconds, so that the real duration of work is measured in a replay, too."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def advance(self, target: datetime) -> None:
        """Move to a time; the clock never goes back."""
        self._now = max(self._now, target)

    def mint(self) -> str:
        return self._ids.mint(self._now)


def uuid7(time_: datetime, entropy: int) -> str:
    """Return a UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 bits of `entropy`."""
    return _format_uuid7(int(time_.timestamp() * 1000), entropy)


def _format_uuid7(milliseconds: int, entropy: int) -> str:
    value = milliseconds << 80
    value |= 0x7 << 76 | (entropy >> 62 & 0xFFF) << 64 | 0b10 << 62 | entropy & (1 << 62) - 1
    text = f"{value:032x}"  # as `str(uuid.UUID(int=value))`, in a third of its time: each prediction has an id
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def read_id_time(identifier: str) -> datetime:
    """Return the time at which a UUIDv7 was generated."""
    return datetime.fromtimestamp((uuid.UUID(identifier).int >> 80) / 1000, UTC)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DurationText = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?[smhdw]$")]


def parse_duration(text: DurationText) -> timedelta:
    """Parse a duration such as "30m" or "7d"; raise `ConfigurationError` if it is invalid.

    >>> parse_duration("7d"), parse_duration("1.5h")
    (datetime.timedelta(days=7), datetime.timedelta(seconds=5400))
    """
    try:
        return timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is not a duration", 'write a number and a unit, such as "30m", "12h", "7d", "2w"'
        ) from None

"""Time is passed in, never taken: the same loop runs on the wall clock and over history."""

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
    """Tells facts their time (`now`, UTC), measures durations (`monotonic`, seconds) and mints ids."""

    writable: ClassVar[bool] = False

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def mint(self) -> str:
        """A fresh UUIDv7: ids of later instants sort later."""
        ...


class _Mint:
    """Mints ids of which each is larger than the one before, also within a millisecond or when the clock goes back
    (RFC 9562, section 6.2, method 2).
    """

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck
        self._lock = threading.Lock()
        self._last = self._entropy = 0

    def mint(self, moment: datetime) -> str:
        with self._lock:
            now = int(moment.timestamp() * 1000)
            if now > self._last:
                self._last, self._entropy = now, self._luck.getrandbits(73)
            else:
                self._entropy += 1 + self._luck.getrandbits(32)
            return _uuid7(self._last, self._entropy)


class SystemClock:
    """The machine's clock."""

    writable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._ids = _Mint(random.SystemRandom())  # a fork must not mint its parent's ids

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def mint(self) -> str:
        return self._ids.mint(self.now())


class VirtualClock:
    """A clock that only moves when told to; its ids are the same for the same seed.

    >>> clock = VirtualClock(datetime(2013, 3, 1, tzinfo=UTC))
    >>> clock.advance(datetime(2013, 3, 2, tzinfo=UTC)); clock.now().day
    2
    """

    writable: ClassVar[bool] = False

    def __init__(self, start: datetime, seed: int = 0) -> None:
        self._now = start
        self._ids = _Mint(random.Random(seed))

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
        return self._ids.mint(self._now)


def uuid7(moment: datetime, entropy: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 bits of `entropy`."""
    return _uuid7(int(moment.timestamp() * 1000), entropy)


def _uuid7(milliseconds: int, entropy: int) -> str:
    value = milliseconds << 80
    value |= 0x7 << 76 | (entropy >> 62 & 0xFFF) << 64 | 0b10 << 62 | entropy & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def read_id_time(identifier: str) -> datetime:
    """The instant at which a UUIDv7 was minted."""
    return datetime.fromtimestamp((uuid.UUID(identifier).int >> 80) / 1000, UTC)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DurationText = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?[smhdw]$")]


def parse_duration(text: DurationText) -> timedelta:
    """A length of time as people write it.

    >>> parse_duration("7d"), parse_duration("1.5h")
    (datetime.timedelta(days=7), datetime.timedelta(seconds=5400))
    """
    try:
        return timedelta(**{_UNITS[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is not a length of time", 'write a number and a unit, such as "30m", "12h", "7d", "2w"'
        ) from None

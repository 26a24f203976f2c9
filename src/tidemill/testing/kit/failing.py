"""Failures of the ML test kit: one line that says what is wrong with which object, and the action that fixes it."""

from typing import NoReturn


class KitFailure(AssertionError):
    """A project does not have a property that the kit requires; pytest reports it as a failed test."""


def fail(problem: str, cure: str) -> NoReturn:
    """Fail the test with a message."""
    __tracebackhide__ = True
    raise KitFailure(f"{problem} — {cure}")

"""Kills commands with SIGKILL: at random times, at named points, and at the moment of their acknowledgement."""

import random
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.reliability.commands import COMMANDS, Command, State, find_lost
from benchmarks.reliability.shop import Shop, Yard
from benchmarks.reliability.state import read_state
from benchmarks.reliability.tally import Tally, report

_WAYS = ("random", "point", "acknowledged")


class Killer:
    """Kills commands and looks at what they leave; it learns how long each command runs."""

    def __init__(self, yard: Yard, generator: random.Random) -> None:
        self._yard = yard
        self._generator = generator
        self._lasts: dict[str, float] = {}
        self._untouched: State | None = None

    def try_command(self, command: Command, way: str, tally: Tally) -> None:
        """Kill a command once, look for all acknowledged facts, repeat the command, and look again."""
        with self._yard.copy() as shop:
            for words in command.before:
                shop.require(*words)
            if command.prepare is not None:
                command.prepare(shop)
            before = self._read_before(shop, command)
            point = self._generator.choice(command.points) if way == "point" and command.points else ""
            ended = self._kill(shop, command, way, point)
            what = f"{command.name}, {way}{f' ({point})' if point else ''}"
            is_acknowledged = ended.code == 0 or command.acknowledgement in ended.text
            if ended.code not in (0, -9):
                tally.add(what, broken=[ended.summary])
                return
            lost, broken = self._look(shop, command, before, is_acknowledged)
            tally.add(what, acknowledged=len(command.before) + is_acknowledged, lost=lost, broken=broken)

    def _read_before(self, shop: Shop, command: Command) -> State:
        if command.before:
            return read_state(shop)
        if self._untouched is None:
            self._untouched = read_state(shop)
        return self._untouched

    def _kill(self, shop: Shop, command: Command, way: str, point: str) -> Any:
        lasts = self._lasts.get(command.name)
        variables = {"TIDEMILL_FAULT": point} if point else {}
        child = shop.start(*command.words, **variables)
        if point or lasts is None:
            ended = child.wait()
            if not point:
                self._lasts[command.name] = time.monotonic() - child.started
        elif way == "acknowledged":
            while child.is_running() and command.acknowledgement not in child.out + child.err:
                time.sleep(0.0005)
            ended = child.kill(group=self._generator.random() < 0.5)
        else:
            deadline = child.started + self._generator.uniform(0.0, 1.1) * lasts
            while child.is_running() and time.monotonic() < deadline:
                time.sleep(0.0005)
            ended = child.kill(group=self._generator.random() < 0.5)
        child.end_group()
        return ended

    def _look(
        self, shop: Shop, command: Command, before: State, is_acknowledged: bool
    ) -> tuple[Sequence[str], Sequence[str]]:
        after = read_state(shop)
        lost = list(find_lost(before, after, command))
        if is_acknowledged and not command.fact(after):
            lost.append(f"what `tidemill {' '.join(command.words)}` acknowledged")
        again = shop.run(*(command.again or command.words))
        repeated = read_state(shop)
        lost += [text for text in find_lost(before, repeated, command) if text not in lost]
        broken = list(repeated["problems"])
        if again.code and not any(text in again.text for text in command.done):
            broken.append(f"the same command again: {again.summary}")
        if not command.fact(repeated):
            broken.append("the command did not have its effect when it was repeated")
        return lost, broken


def try_kills(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Kill all commands in turn, on each database, `tries` times in all."""
    tallies = []
    for yard in yards:
        tally = Tally(f"kill -9 of a command, {yard.kind}")
        killer = Killer(yard, generator)
        number = 0
        while tally.tries < tries // len(yards):
            command = COMMANDS[number % len(COMMANDS)]
            way = _WAYS[(number // len(COMMANDS) + number) % len(_WAYS)]
            killer.try_command(command, way, tally)
            number += 1
            if number % 10 == 0:
                report(f"{tally.fault}: {tally.tries} tries, {tally.lost} lost, {tally.recovered} recovered")
        tallies.append(tally)
    return tallies

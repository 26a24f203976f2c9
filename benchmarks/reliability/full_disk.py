"""Fills the disk of the workspace at random points: a small file system in memory, or a limit of the size of files."""

import errno
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tidemill.cli.main
from benchmarks.reliability.child import Child, Ended
from benchmarks.reliability.commands import COMMANDS, Command, find_lost
from benchmarks.reliability.service import Answered, Service
from benchmarks.reliability.shop import Shop, Yard
from benchmarks.reliability.state import read_state
from benchmarks.reliability.tally import Tally

_SIZE = 64 * 2**20
_MOST_LEFT = 400_000
_COMMANDS = [command for command in COMMANDS if command.name not in ("gc",)]


def try_full_disks(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Fill the disk before and while commands and services write."""
    tally, serving = Tally("full disk, a command"), Tally("full disk, a service")
    tally.named, serving.named = 0, None
    is_mounted = can_mount()
    if not is_mounted:
        tally.note = "a limit of the size of files: only root can mount a small file system"
        serving.note = "not tried: only root can mount a small file system"
    for number in range(tries):
        with _small_disk(yards[0]) if is_mounted else yards[0].copy() as shop:
            if number % 4 == 3 and is_mounted:
                _try_service(shop, serving)
            else:
                command = _COMMANDS[generator.randrange(len(_COMMANDS))]
                _try_command(shop, command, generator.randrange(_MOST_LEFT), tally, is_mounted=is_mounted)
    return [tally, serving]


def can_mount() -> bool:
    """Return whether this process may mount a file system."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def _small_disk(yard: Yard) -> Iterator[Shop]:
    with yard.copy() as shop:
        disk = shop.state
        subprocess.run(["cp", "-a", disk, shop.folder / "copy"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tidemill", disk], check=True)
        try:
            subprocess.run(["cp", "-a", f"{shop.folder / 'copy'}/.", disk], check=True)
            yield shop
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


def fill(folder: Path, left: int) -> Path:
    """Fill the file system of a folder up to `left` bytes; return the file that fills it."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        while True:
            free = os.statvfs(folder)
            count = max(0, free.f_bavail * free.f_frsize - left)
            try:
                if count:
                    os.posix_fallocate(file.fileno(), 0, count)
                return filler
            except OSError as error:  # a running service has written something meanwhile
                if error.errno != errno.ENOSPC:
                    raise


def _try_command(shop: Shop, command: Command, left: int, tally: Tally, *, is_mounted: bool) -> None:
    for words in command.before:
        shop.require(*words)
    if command.prepare is not None:
        command.prepare(shop)
    before = read_state(shop)
    ended = _run_without_space(shop, command, left) if is_mounted else _run_with_small_files(shop, command, left)
    after = read_state(shop)
    lost = list(find_lost(before, after, command))
    if ended.code == 0 and not command.fact(after):
        lost.append(f"what `tidemill {' '.join(command.words)}` acknowledged")
    again = shop.run(*(command.again or command.words))
    repeated = read_state(shop)
    broken = list(repeated["problems"])
    if again.code and not any(text in again.text for text in command.done):
        broken.append(f"the same command with space: {again.summary}")
    if not command.fact(repeated):
        broken.append("the command did not have its effect with space")
    is_clear = ended.code == 0 or ("—" in ended.err and "bug in Tidemill" not in ended.err)
    what = f"{command.name}, {left:,} bytes left"
    tally.add(what, acknowledged=int(ended.code == 0) + len(command.before), lost=lost, broken=broken, named=is_clear)
    if not is_clear:
        tally.problems[-1] += f": {ended.summary}"


def _run_without_space(shop: Shop, command: Command, left: int) -> Ended:
    filler = fill(shop.state, left)
    ended = shop.run(*command.words)
    filler.unlink()
    return ended


def _run_with_small_files(shop: Shop, command: Command, size: int) -> Ended:
    """Run a command that may let no file grow beyond a size."""

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return tidemill.cli.main.main(list(command.words))

    return Child(work, shop.folder, shop.logs, shop.environment).wait()


def _try_service(shop: Shop, tally: Tally) -> None:
    answered = Answered()
    service = Service(shop)
    broken = [text for text in (service.predict_and_label(answered, "before"),) if text]
    filler = fill(shop.state, 0)
    refused = 0
    for number in range(200):
        refused += bool(service.predict_and_label(answered, f"full{number}"))
    filler.unlink()
    broken += [text for text in (service.predict_and_label(answered, "after"), service.stop()) if text]
    state = read_state(shop)
    lost, _ = answered.find_lost(state, 0.0, 0.0)
    missing = set(answered.predictions) - set(state["journal"].get("predictions/shop", ()))
    lost += [f"prediction {key}" for key in missing]
    count = len(answered.labels) + len(answered.predictions)
    tally.add(f"{refused} of 200 refused", acknowledged=count, lost=lost, broken=[*broken, *state["problems"]])

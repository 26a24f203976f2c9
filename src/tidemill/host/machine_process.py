"""The program that `machine` runs in an interpreter: it needs the standard library only, and prints JSON."""

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

_MB = 1 << 20


def _read_number(path: str) -> float:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return float("inf")
    return float(text) if text.isdigit() else float("inf")


def _free_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), float("inf"))


def _control_group() -> float:
    """Return the memory that the control group leaves, of version 2 or 1."""
    folder = "/sys/fs/cgroup"
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="ascii").strip().splitlines()
    except OSError:
        own = []
    unified = next((line.split("::", 1)[1] for line in own if line.startswith("0::")), "/").rstrip("/")
    free = float("inf")
    for path in {f"{folder}{unified}", folder}:
        free = min(free, _read_number(f"{path}/memory.max") - _finite(_read_number(f"{path}/memory.current")))
    first = _read_number(f"{folder}/memory/memory.limit_in_bytes")
    return min(free, first - _finite(_read_number(f"{folder}/memory/memory.usage_in_bytes")))


def _finite(value: float) -> float:
    return value if value != float("inf") else 0.0


def _process_limit() -> float:
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((float(limit) for limit in limits if limit != resource.RLIM_INFINITY), default=float("inf"))


def _accelerators() -> list[str]:
    found = []
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        found += [line.strip() for line in listed.stdout.splitlines() if line.strip()] if listed.returncode == 0 else []
    found += [f"AMD GPU {path.name}" for path in Path("/sys/class/kfd/kfd/topology/nodes").glob("*") if _is_gpu(path)]
    return found


def _is_gpu(node: Path) -> bool:
    try:
        return "simd_count 0\n" not in (node / "properties").read_text(encoding="ascii")
    except OSError:
        return False


def main() -> None:
    memory = {
        "of the machine": _free_memory(),
        "of the control group": _control_group(),
        "of the process": _process_limit(),
    }
    least = min(memory, key=memory.__getitem__)
    packages = {
        found.metadata["Name"]: found.version for found in importlib.metadata.distributions() if found.metadata["Name"]
    }
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "packages": packages,
                "memory_mb": memory[least] / _MB,
                "memory_limit": least,
                "accelerators": _accelerators(),
            }
        )
    )


if __name__ == "__main__":
    main()

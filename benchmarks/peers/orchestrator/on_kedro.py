"""Kedro, as a library: a catalogue that keeps each result as a file, and its sequential or parallel runner."""

from typing import Any

from kedro.io import DataCatalog, SharedMemoryDataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import ParallelRunner, SequentialRunner
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.pickle import PickleDataset

from benchmarks.peers.orchestrator import work

_TRAINING = pipeline(
    [
        node(work.load, None, "frame", name="load"),
        node(work.validate, "frame", "report", name="validate"),
        node(work.split, ["frame", "report"], ["rows", "held"], name="split"),
        node(work.train, "rows", "model", name="train"),
        node(work.evaluate, ["model", "held"], "metrics", name="evaluate"),
        node(work.register, ["model", "metrics"], "registered", name="register"),
    ]
)


def chain(length: int, runner: Any, catalogue: Any) -> None:
    first = node(work.no_op, "state_0", "state_1", name="no_op_0")
    rest = [node(work.no_op, f"state_{i}", f"state_{i + 1}", name=f"no_op_{i}") for i in range(1, length)]
    kept = {f"state_{i}": PickleDataset(filepath=f"data/state_{i}.pkl") for i in range(1, length + 1)}
    given = PickleDataset(filepath="data/state_0.pkl")
    given.save({"number": 0})
    runner().run(pipeline([first, *rest]), catalogue({"state_0": given, **kept}))


def train(first: str = "load") -> None:
    frames = {name: ParquetDataset(filepath=f"data/{name}.parquet") for name in ("frame", "rows", "held")}
    others = ("report", "model", "metrics", "registered")
    kept = {name: PickleDataset(filepath=f"data/{name}.pkl") for name in others}
    SequentialRunner().run(_TRAINING.from_nodes(first), DataCatalog(frames | kept))


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {
        "inline": lambda length: chain(length, SequentialRunner, DataCatalog),
        "processes": lambda length: chain(length, ParallelRunner, SharedMemoryDataCatalog),
    }
    # It prints the nodes to go on from, and a person gives them back.
    work.drive(chains, train=train, resume=lambda: train("train"), count="keeps no record of what ran")

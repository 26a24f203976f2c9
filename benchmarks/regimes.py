"""Recurring regimes: how long a stream is served by the wrong model after a regime returned, and what it costs.

The decisions are those of `tidemill.checks.regime`, which the pipeline `recalling` makes too. Each stream is served by
the loop with recall, by the same loop without it, by a model of a sliding window and one of all rows (both fitted again
every 250 rows), and by an oracle that knows the regime of each row.
"""

import argparse
import itertools
import json
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, convert, to_builtins

from benchmarks._regime_loop import CONTENDERS, POLICY, Loop, Result, run_oracle
from benchmarks._regime_mixed import measure_mixed
from benchmarks._regime_streams import STREAMS, Stream, planes, stagger, unchanging
from benchmarks._report import describe_machine, write_between
from tidemill.data.arrays import Booleans, Ints

_PAGE = Path(__file__).parent / "README.md"
# The settings of [regimes] were chosen with the seeds 101 to 105; the table has others.
FINAL_SEEDS = (1, 2, 3)
EVERY = 10
_NEAR = 0.05
_BLOCK = 100
_AFTER = 500
_WORSE = 0.02
_JUDGED = 100
UNCHANGING_ROWS = 60_000


class Score(Struct, frozen=True, kw_only=True):
    """The score of a contender on one stream: the rows of each blind spot, and what it did."""

    stream: str
    seed: int
    delay: int
    contender: str
    blind: list[int]
    accuracy: float
    oracle: float
    overall: float
    recalls: int
    wrong: int
    undone: int
    trainings: int
    needless: int
    kept: int
    seconds: float


def score_stream(name: str, stream: Stream, seed: int, delay: int, contender: str, oracle: Ints) -> Score:
    """Return the score of a contender on a stream.

    A blind spot lasts from the first row of a segment whose regime was seen before until the accuracy of the next 100
    rows is within .05 of the oracle's in that segment. A recall is wrong if the release that it replaced would have
    been better on the next 100 rows of the segment, by more than .02. It is undone if another change follows within
    200 labelled rows. A training is needless if its regime had been trained before.
    """
    result = CONTENDERS[contender](stream, EVERY, delay)
    right, ideal = result.predictions == stream.classes, oracle == stream.classes
    blind, accuracy, best = _measure_returns(stream, right, ideal)
    wrong = _find_wrong_recalls(stream, result)
    changes = [change.row for change in result.changes]
    undone = sum(any(row < other <= row + 200 + delay for other in changes) for row in wrong)
    return Score(
        stream=name,
        seed=seed,
        delay=delay,
        contender=contender,
        blind=blind,
        accuracy=accuracy,
        oracle=best,
        overall=float(right[POLICY.minimum :].mean()),
        recalls=sum(change.kind == "recall" for change in result.changes),
        wrong=len(wrong),
        undone=undone,
        trainings=sum(change.kind == "training" for change in result.changes),
        needless=_count_needless(stream, result),
        kept=result.kept,
        seconds=result.seconds,
    )


def _segments(stream: Stream) -> list[tuple[int, int, int]]:
    bounds = itertools.pairwise([*stream.starts, len(stream.classes)])
    return [(begin, end, int(np.bincount(stream.regimes[begin:end]).argmax())) for begin, end in bounds]


def _measure_returns(stream: Stream, right: Booleans, ideal: Booleans) -> tuple[list[int], float, float]:
    """Return the blind spots, and the mean accuracies of the first 500 rows after a return: ours and the oracle's."""
    seen: set[int] = set()
    blind, accuracy, best = [], [], []
    for begin, end, regime in _segments(stream):
        if regime in seen:
            means = np.convolve(right[begin:end], np.ones(_BLOCK) / _BLOCK, "valid")
            near = np.flatnonzero(means >= ideal[begin:end].mean() - _NEAR)
            blind.append(int(near[0]) if len(near) else end - begin)
            accuracy.append(float(right[begin:end][:_AFTER].mean()))
            best.append(float(ideal[begin:end][:_AFTER].mean()))
        seen.add(regime)
    return blind, float(np.mean(accuracy or [np.nan])), float(np.mean(best or [np.nan]))


def _find_wrong_recalls(stream: Stream, result: Result) -> list[int]:
    models = {release.name: release.model for release in result.releases}
    wrong = []
    for earlier, change in itertools.pairwise(result.changes):
        end = next((end for _, end, _ in _segments(stream) if change.row < end), change.row)
        rows = slice(change.row, min(end, change.row + _JUDGED))
        if change.kind != "recall" or end - change.row < _JUDGED // 2:
            continue
        replaced, recalled = (
            float((models[name].predict(stream.rows[rows]) == stream.classes[rows]).mean())
            for name in (earlier.release, change.release)
        )
        if replaced > recalled + _WORSE:
            wrong.append(change.row)
    return wrong


def _count_needless(stream: Stream, result: Result) -> int:
    """Return the trainings for a new regime whose rows are of a regime that was trained before."""
    seen: set[int] = set()
    needless = 0
    starts: set[int] = set()
    for release in result.releases:
        regime = int(np.bincount(stream.regimes[release.regime : release.end]).argmax())
        needless += release.regime not in starts and regime in seen
        starts.add(release.regime)
        seen.add(regime)
    return needless


def measure(
    names: Sequence[str], seeds: Sequence[int], delays: Sequence[int], contenders: Sequence[str]
) -> list[Score]:
    """Return the scores of contenders on streams; with late labels, only those of recall."""
    scores = []
    for name, seed in itertools.product(names, seeds):
        try:
            stream = STREAMS[name](seed)
        except ImportError as missing:
            print(f"{name}: left out, because {missing.name} is not installed", file=sys.stderr)
            continue
        oracle = run_oracle(stream)
        for delay in delays:
            for contender in contenders if delay == delays[0] else ("recall",):
                scores.append(score_stream(name, STREAMS[name](seed), seed, delay, contender, oracle))
                print(f"{name} {seed} {delay} {contender}", file=sys.stderr, flush=True)
    return scores


def measure_unchanging(seeds: Sequence[int], rows: int) -> list[dict[str, Any]]:
    """Return what the loop does on rows of one regime: each change after the first trainings is needless."""
    found = []
    for name, concepts in (("half-spaces", planes), ("STAGGER", stagger)):
        for seed in seeds:
            try:
                stream = unchanging(concepts(seed), seed, rows)
            except ImportError:
                continue
            result = Loop(stream, every=EVERY, delay=0, recalls=True).run()
            changes = [change for change in result.changes if change.row > POLICY.minimum * 2 ** (POLICY.refits + 1)]
            seconds = result.seconds / rows * 1e3
            found.append({"stream": name, "seed": seed, "changes": len(changes), "ms_per_row": round(seconds, 3)})
    return found


def bound(wrong: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    share, z = wrong / count, 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _format_mean(values: Sequence[float]) -> str:
    """Return a mean, with its 95 % interval if there are several seeds."""
    reach = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f}" + (f" ± {reach:.3f}" if reach else "")


def to_table(scores: Sequence[Score], unchanged: Sequence[dict[str, Any]], mixed: Sequence[dict[str, Any]] = ()) -> str:
    """Return the scores as a Markdown table, with a row for each stream and contender."""
    columns = ["stream", "contender", "blind spot, median (mean)", "accuracy after a return", "oracle", "trainings"]
    columns += ["recalls", "wrong (undone)", "needless trainings", "kept"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    keys = dict.fromkeys((score.stream, score.delay, score.contender) for score in scores)
    for stream, delay, contender in keys:
        same = [score for score in scores if (score.stream, score.delay, score.contender) == (stream, delay, contender)]
        blind = [rows for score in same for rows in score.blind]
        title = stream if not delay else f"{stream}, labels {delay} rows late"
        is_loop = contender in ("recall", "retraining")
        own = contender == "recall"
        lines.append(
            f"| {title} | {contender} | {np.median(blind):.0f} ({np.mean(blind):.0f}) | "
            f"{_format_mean([score.accuracy for score in same])} | {np.mean([score.oracle for score in same]):.3f} | "
            f"{np.mean([score.trainings for score in same]):.1f} | "
            + (f"{np.mean([score.recalls for score in same]):.1f}" if own else "–")
            + " | "
            + (f"{sum(s.wrong for s in same)} ({sum(s.undone for s in same)})" if own else "–")
            + " | "
            + (f"{sum(score.needless for score in same)}" if is_loop else "–")
            + f" | {np.mean([score.kept for score in same]):.1f} |"
        )
    ours = [score for score in scores if score.contender == "recall"]
    returns = sum(len(score.blind) for score in ours)
    wrong = sum(score.wrong for score in ours)
    low, high = bound(wrong, returns)
    blind = [rows for score in ours if not score.delay for rows in score.blind]
    share, undone = 100 * wrong / max(returns, 1), sum(score.undone for score in ours)
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    lines.append("")
    lines.append(
        f"- Labels at once: the blind spot is {np.median(blind):.0f} rows (median), {np.mean(blind):.0f} (mean)."
    )
    lines.append(
        f"- {wrong} wrong recalls in {returns} returns ({share:.1f} in 100, 95 % interval {interval}); {undone} of "
        "them undone within 200 labelled rows."
    )
    for entry in unchanged:
        title = f"{UNCHANGING_ROWS:,} rows of {entry['stream']} without a change (seed {entry['seed']})"
        lines.append(f"- {title}: {entry['changes']} needless changes, {entry['ms_per_row']} ms per row.")
    for entry in mixed:
        lines.append(
            f"- Rows of two regimes mixed at random, with {entry['inputs']}: accuracy {entry['key']} with a key, "
            f"{entry['no key']} without one, {entry['oracle']} of an oracle."
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two streams and one seed; takes about a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help=f"write the table to {_PAGE.name}")
    parser.add_argument("--stream", action="append", choices=list(STREAMS), help="run only these streams")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="run only these contenders")
    parser.add_argument("--mixed", action="store_true", help="also measure mixed rows, beside a choice of streams")
    parser.add_argument("--at-once", action="store_true", help="no stream with late labels")
    parser.add_argument("--seeds", type=int, default=len(FINAL_SEEDS), help="the number of seeds")
    parser.add_argument("--first-seed", type=int, default=FINAL_SEEDS[0], help="the first of the seeds")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], help="JSON of earlier runs: only print their table"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    names = (
        [] if options.merge else options.stream or (["half-spaces", "look-alikes"] if options.quick else list(STREAMS))
    )
    seeds = range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
    contenders = options.contender or list(CONTENDERS)
    scores = measure(names, seeds, (0,) if options.quick or options.at_once else (0, 500), contenders)
    unchanged = [] if options.quick or options.stream or options.merge else measure_unchanging(seeds, UNCHANGING_ROWS)
    mixed = measure_mixed(seeds) if options.mixed or not (options.quick or options.stream or options.merge) else []
    parts = [json.loads(file.read_text()) for file in options.merge]
    scores += [convert(score, Score) for part in parts for score in part["scores"]]
    unchanged += [entry for part in parts for entry in part["unchanging"]]
    mixed += [entry for part in parts for entry in part["mixed"]]
    if options.json:
        print(json.dumps({"scores": to_builtins(scores), "unchanging": unchanged, "mixed": mixed}, indent=2))
        return
    known = sorted({score.seed for score in scores})
    text = f"{describe_machine()}; seeds: {', '.join(map(str, known))}\n\n{to_table(scores, unchanged, mixed)}"
    print(text)
    if options.markdown:
        write_between(_PAGE, "regimes", text)


if __name__ == "__main__":
    main()

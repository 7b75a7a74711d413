"""Northstar and its peers on the same work, side by side in one run: ``make bench``.

Prints a table of bars/s, the ratios, and as its last line one JSON object::

    {"northstar": {case: bars_per_s}, "ratios": {peer: {case: ratio}}, "equal": true}

Cases: ``dense_a`` … ``none_c`` (README.md). ``equal`` says that every engine did exactly what the reference does by
that engine's fill rule; where one did not, the first difference is printed and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, peers, reference

RUNNERS = peers.HERE / "runners"
SLOW_RUN_S = 20.0  # one such run says enough: it is long against any noise, and its peers have shorter ones
VARIANTS = ("dense", "none")


class Wrong(Exception):
    """An engine that failed or did not do the work."""


def run_once(engine: peers.Engine, python: Path, case: Path, variant: str) -> dict[str, Any]:
    """Run one engine once in a process of its own and check what it did against the reference."""
    with tempfile.NamedTemporaryFile(suffix=".fills", mode="r") as out:
        command = [str(python), str(RUNNERS / engine.runner), str(case), variant, out.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Wrong(f"{engine.name}, {variant}_{case.name}: " + "\n".join(done.stderr.strip().splitlines()[-5:]))
        line: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        fills = out.read().splitlines()
    expected = expectation(case, str(line["rule"]), variant)
    symbols_and_bars = np.load(case / "close.npy", mmap_mode="r").shape
    for what, got, want in (
        ("bars", line["bars"], symbols_and_bars[0] * symbols_and_bars[1]),
        ("orders", line["orders"], expected.orders),
        ("fills", len(fills), len(expected.fills)),
    ):
        if got != want:
            raise Wrong(f"{engine.name}, {variant}_{case.name}: {got} {what}, the reference has {want}")
    for n, (got, want) in enumerate(zip(fills, expected.fills, strict=True), 1):
        if got != want:
            raise Wrong(f"{engine.name}, {variant}_{case.name}: fill {n} is `{got}`, the reference has `{want}`")
    return line


Lines = dict[str, dict[str, list[dict[str, Any]]]]  #: case, engine, what each run printed
BUSY = 1.05  #: a run's wall time over its CPU time, from where on wall time says as much about the machine


def speed(line: dict[str, Any], seconds: str = "seconds") -> float:
    """Return bars a second of wall time, or of CPU time."""
    return float(line["bars"] / line[seconds])


def speeds(lines: Lines, engines: list[peers.Engine], seconds: str = "seconds") -> dict[str, dict[str, float]]:
    """Return each engine's median on each case."""

    def median(runs: list[dict[str, Any]]) -> float:
        return statistics.median(speed(line, seconds) for line in runs)

    return {engine.name: {case: median(of[engine.name]) for case, of in lines.items()} for engine in engines}


_EXPECTED: dict[tuple[Path, str, str], reference.Expected] = {}


def expectation(case: Path, rule: str, variant: str) -> reference.Expected:
    """Return the reference's orders and fills, calculated once."""
    key = (case, rule, variant)
    if key not in _EXPECTED:
        _EXPECTED[key] = reference.expected(case, rule, trade=variant == "dense")
    return _EXPECTED[key]


def rounds(engines: list[peers.Engine], repeats: int) -> Iterator[list[peers.Engine]]:
    """Yield the engines in turn, each round beginning with another, so that no one always runs on a warm machine."""
    for n in range(repeats):
        yield engines[n % len(engines) :] + engines[: n % len(engines)]


def measure(
    engines: list[peers.Engine], pythons: dict[str, Path], case: Path, variant: str, repeats: int
) -> dict[str, list[dict[str, Any]]]:
    """Run all engines on one case, interleaved."""
    lines: dict[str, list[dict[str, Any]]] = {engine.name: [] for engine in engines}
    for turn in rounds(engines, repeats):
        for engine in turn:
            if any(line["seconds"] > SLOW_RUN_S for line in lines[engine.name]):
                continue
            line = run_once(engine, pythons[engine.name], case, variant)
            lines[engine.name].append(line)
            progress = f"{variant}_{case.name:4} {engine.name:26} {speed(line):12,.0f} bars/s {line['fills']:7} fills"
            print(progress, file=sys.stderr, flush=True)
    return lines


def table(found: dict[str, dict[str, float]]) -> str:
    """Return bars/s and, below, how many times as fast as each peer Northstar is."""
    cases = list(next(iter(found.values())))
    head = f"{'bars/s':26}" + "".join(f"{case:>12}" for case in cases)
    rows = [f"{name:26}" + "".join(f"{of[case]:12,.0f}" for case in cases) for name, of in found.items()]
    ours = found[peers.NORTHSTAR.name]
    ratios = [
        f"{name:26}" + "".join(f"{ours[case] / of[case]:11.1f}x" for case in cases)
        for name, of in found.items()
        if name != peers.NORTHSTAR.name
    ]
    return "\n".join([head, *rows, "", f"{'northstar is faster than':26}", *ratios])


def order_costs(lines: Lines, engines: list[peers.Engine]) -> str:
    """Return what an order costs in each engine: the seconds that dense takes longer than none, an order, in µs."""
    letters = sorted({case[-1] for case in lines if {f"{variant}_{case[-1]}" for variant in VARIANTS} <= lines.keys()})
    rows = [f"{'µs an order':26}" + "".join(f"{letter:>12}" for letter in letters)]
    for engine in engines:
        row = f"{engine.name:26}"
        for letter in letters:
            dense, none = (
                statistics.median(line["seconds"] for line in lines[f"{variant}_{letter}"][engine.name])
                for variant in VARIANTS
            )
            orders = lines[f"dense_{letter}"][engine.name][0]["orders"]
            row += f"{(dense - none) / orders * 1e6:12,.1f}"
        rows.append(row)
    return "\n".join(rows) if letters else ""


def main() -> int:
    """Install the peers, make the data, run everything, print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true", help="small sizes, once: to see that all of it works")
    asked.add_argument("--repeats", type=int, help="runs of each engine on each case (3; with --quick 1)")
    asked.add_argument("--cases", default="dense_a,none_a,dense_b,none_b,dense_c,none_c", help="which, by comma")
    asked.add_argument("--peers", help="only peers whose names contain this: for a look, not for a claim")
    asked.add_argument("--reversion", type=float, default=0.99, help="of the prices; less of it, more crosses")
    args = asked.parse_args()
    if sys.version_info < peers.OLDEST:
        print("the benchmark needs Python 3.12: `make clean`, then `PYTHON=python3.12 make bench`", file=sys.stderr)
        return 2
    known = {f"{variant}_{name}" for variant in VARIANTS for name in data.SIZES}
    if unknown := set(args.cases.split(",")) - known:
        asked.error(f"unknown cases {sorted(unknown)}; there are {sorted(known)}")
    engines = [peers.NORTHSTAR, *(peer for peer in peers.ALL_PEERS if (args.peers or "") in peer.name)]
    sizes = data.QUICK if args.quick else data.SIZES
    repeats = args.repeats or (1 if args.quick else 3)
    try:
        pythons = {engine.name: peers.install(engine) for engine in engines}
        with tempfile.TemporaryDirectory(prefix="northstar-bench-") as folder:
            lines: Lines = {}
            for case in args.cases.split(","):
                variant, name = case.split("_")
                where = Path(folder) / name
                if not where.exists():
                    data.generate(where, sizes[name], reversion=args.reversion)
                lines[case] = measure(engines, pythons, where, variant, repeats)
    except (peers.PeerError, Wrong) as error:
        print(error, file=sys.stderr)
        print(json.dumps({"northstar": {}, "ratios": {}, "equal": False}))
        return 1

    print(table(speeds(lines, engines)))
    print("\n" + order_costs(lines, engines))
    waits = [line["seconds"] / line["cpu_seconds"] for of in lines.values() for runs in of.values() for line in runs]
    if statistics.median(waits) > BUSY:
        print(f"\nThe machine was busy: a run took {statistics.median(waits):.2f} times its CPU time. By CPU time:\n")
        print(table(speeds(lines, engines, "cpu_seconds")))
    crosses = {case: of["northstar"][0]["orders"] / of["northstar"][0]["bars"] for case, of in lines.items()}
    print("\nBars with an order: " + ", ".join(f"{case} {share:.1%}" for case, share in crosses.items()))
    theirs = speeds(lines, engines)
    ours = theirs.pop(peers.NORTHSTAR.name)
    ratios = {peer: {case: round(ours[case] / of[case], 3) for case in ours} for peer, of in theirs.items()}
    rounded = {case: round(fast) for case, fast in ours.items()}
    print(json.dumps({"northstar": rounded, "ratios": ratios, "equal": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

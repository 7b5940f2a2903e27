#!/usr/bin/python3
"""The experiments with memory: `make bench-memory`.

  memory.py FOLDER [--only a,b,...] [--resume] [--jobs N] [--seed N]

Each runs machines of its own in QEMU, which counts instructions (memlab.py), and leaves FOLDER/memory/NAME.json. Then tables
go to the terminal, plots and memory.json, {name: {value, unit, paper}}, into FOLDER, from all experiments that have a result
there. --only: these alone; --resume: only those without a result; --jobs: so
many at a time, which changes no figure (by default one a processor); --seed: other random numbers than seed 1 has, into
FOLDER/memory-seedN, to see how much they matter. docs/BENCHMARKS.md explains the figures.
"""
import argparse
import concurrent.futures
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time

import exp_balloon
import exp_policy
import exp_sharing
import exp_swap
import memlab

EXPERIMENTS = {
    "trips": ("a page into the balloon and back", exp_balloon.trips),
    "a": ("balloon cost", exp_balloon.cost),
    "scan": ("a page for the share scanner", exp_sharing.costs),
    "zip": ("a page compressed, to swap and back", exp_swap.cost),
    "b": ("sharing", exp_sharing.sharing),
    "c": ("active memory", exp_policy.active),
    "d": ("idle tax", exp_policy.idle_tax),
    "e": ("five guests", exp_policy.five),
    "f": ("a guest without balloon", exp_swap.uncooperative),
    "g": ("half of the guests idle", exp_policy.half_idle),
}
LONGEST = "g d e c a b f trips scan zip".split()
# name: (at least, at most)
GOALS = {"balloon_overhead_percent_max": (None, 1.4), "share_percent_10vms": (67, None), "scan_unique": (None, 3500),
         "share_page": (None, 10000), "idle_tax_gain_percent": (30, None), "uncooperative_gain": (3, None),
         "busy_loss_percent": (None, 5), "balloon_4k_inflate": (None, 1000), "balloon_4k_deflate": (None, 1000),
         "balloon_2m_per_4k": (None, 20), "zip_overhead_percent": (None, 10), "swap_out": (None, 3000), "swap_in": (None, 5000)}


def run(name, results):
    title, experiment = EXPERIMENTS[name]
    print(f"{name}: {title}", flush=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aerostat-memory-") as work:
        counter = iter(range(1000))
        found = experiment(Places(work, counter))
    with open(os.path.join(results, f"{name}.json"), "w", encoding="utf-8") as out:
        json.dump(found, out, indent=1)
    print(f"  {time.monotonic() - begin:.0f} s", flush=True)


class Places(os.PathLike):
    """A new folder each time a machine asks where to work."""

    def __init__(self, work, counter):
        self.work, self.counter = work, counter

    def __fspath__(self):
        return os.path.join(self.work, f"machine{next(self.counter)}")


def attempt(name, results):
    """In a process of its own. What it said, and whether it came to its end."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            run(name, results)
        except (AssertionError, OSError, LookupError, subprocess.SubprocessError) as error:
            print(f"  failed: {error}")
            return said.getvalue(), False
    return said.getvalue(), True


def run_all(names, results, jobs):
    """The longest first. Names of those that failed."""
    failed = []
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        going = {pool.submit(attempt, name, results): name for name in sorted(names, key=LONGEST.index)}
        for done in concurrent.futures.as_completed(going):
            said, good = done.result()
            print(said, end="", flush=True)
            if not good:
                failed.append(going[done])
    return failed


def collect(results):
    found = {}
    for name in EXPERIMENTS:
        path = os.path.join(results, f"{name}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found[name] = json.load(file)
    return found


def figures(found):
    return {name: figure for experiment in found.values() for name, figure in experiment["figures"].items()}


def show(measured):
    print(f"\n{'figure':30} {'value':>12} {'goal':>12}  {'unit':26} others")
    for name, (value, unit, paper) in measured.items():
        least, most = GOALS.get(name, (None, None))
        goal = f">= {least}" if least is not None else f"<= {most:,}" if most is not None else "-"
        missed = (least is not None and value < least) or (most is not None and value > most)
        print(f"{name:30} {value:>12,.2f}{'!' if missed else ' '}{goal:>12}  {unit:26} {paper}")


def write(folder, found, measured):
    path = os.path.join(folder, "memory.json")
    with open(path, "w", encoding="utf-8") as out:
        json.dump({name: dict(zip(("value", "unit", "paper"), figure)) for name, figure in measured.items()}, out, indent=2)
        out.write("\n")
    import plots  # pylint: disable=import-outside-toplevel  # matplotlib: tests of the experiments do without
    print(f"written to {path}" + "".join(f", {name}" for name in plots.draw(found, folder)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--only", default=",".join(EXPERIMENTS))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count(), 4))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    memlab.SEED = args.seed
    results = os.path.join(args.folder, "memory" if args.seed == 1 else f"memory-seed{args.seed}")
    os.makedirs(results, exist_ok=True)
    names = [name for name in args.only.split(",") if not (args.resume and os.path.exists(os.path.join(results, f"{name}.json")))]
    failed = run_all(names, results, args.jobs)
    found = collect(results)
    measured = figures(found)
    show(measured)
    if args.seed == 1:
        write(args.folder, found, measured)
    missing = [name for name in GOALS if name not in measured]
    print("not measured: " + " ".join(missing) if missing else "all measured")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

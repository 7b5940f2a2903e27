"""`make bench-memory` in short: small machines for moments. That experiments come to their end with every page proved, give
their figures and give the same ones again; how large a figure is nobody asks here."""
import json
import os
import sys

import pytest

import aerostat

sys.path.insert(0, os.path.join(aerostat.TOP, "tests", "bench"))
import exp_balloon  # noqa: E402
import exp_sharing  # noqa: E402
import exp_swap  # noqa: E402
import memlab  # noqa: E402
import memory  # noqa: E402


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module, name, value in ((exp_balloon, "FULL", 64), (exp_balloon, "TRIP", 16), (exp_swap, "SIZE", 24), (exp_swap, "LIMIT", 16),
                                (exp_swap, "WARM", 1), (exp_swap, "SECONDS", 1), (exp_swap, "FILE", 8), (exp_swap, "OUTPUT", 8),
                                (exp_swap, "JOB_LIMIT", 12), (exp_sharing, "SIZE", 16)):
        monkeypatch.setattr(module, name, value)


@pytest.mark.takes(30)
def test_balloon_and_sharing_have_their_figures(tmp_path):
    for name in ("trips", "scan"):
        memory.run(name, tmp_path)
    figures = memory.figures(memory.collect(tmp_path))
    assert set(figures) == {"balloon_4k_inflate", "balloon_4k_deflate", "balloon_2m_per_4k", "scan_unique", "share_page"}
    for name, (value, unit, _) in figures.items():
        assert value > 0 and unit and name in memory.GOALS, (name, value)


@pytest.mark.takes(30)
def test_a_run_repeats_exactly(tmp_path):
    """The same figures, and the same bytes on the console: time, random numbers and disks are the machine's own."""
    results = []
    for turn in ("first", "second"):
        folder = tmp_path / turn
        folder.mkdir()
        memory.run("zip", folder)
        results.append((folder / "zip.json").read_bytes())
    assert set(memory.figures(memory.collect(tmp_path / "first"))) == {"zip_overhead_percent", "swap_out", "swap_in"}
    assert results[0] == results[1]
    assert json.loads(results[0])["rows"][0]["swap-went"] > 0


@pytest.mark.takes(30)
def test_a_job_with_hints_and_compression_repeats_exactly(tmp_path, monkeypatch):
    """And another seed makes another run of it."""
    seen = [exp_swap.job(tmp_path / "first", exp_swap.NO_BALLOON, "30%"), exp_swap.job(tmp_path / "second", exp_swap.NO_BALLOON, "30%")]
    console = [(tmp_path / name / "console.txt").read_bytes() for name in ("first", "second")]
    assert console[0] == console[1] and seen[0] == seen[1]
    assert seen[0][1]["clean-out"] and seen[0][1]["not-read"] and seen[0][1]["zip-in"]
    monkeypatch.setattr(memlab, "SEED", 2)
    assert exp_swap.job(tmp_path / "other", exp_swap.NO_BALLOON, "30%") != seen[0]

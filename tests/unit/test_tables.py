"""The tables of docs/BENCHMARKS.md: what they say of figures, and that they find their places."""
import json
import os
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "bench"))
import bench  # noqa: E402
import memory  # noqa: E402
import tables  # noqa: E402


def put_json(folder, name, value):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def rows(markdown):
    """{first cell: the others}; every row has as many as the head."""
    lines = [line.strip("|").split("|") for line in markdown.splitlines()]
    assert all(len(line) == len(lines[0]) for line in lines), markdown
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def figure(median, mean, p99):
    return {"median": median, "mean": mean, "p99": p99, "unit": "instructions", "where": "here"}


def test_paths_and_growth(tmp_path):
    put_json(tmp_path, "paths.json", {"null_hypercall": figure(176, 177, 180), "cow_break": figure(1501, 1400, 2000),
                                      "boot_to_guest": figure(38000000, 38000000, 38000000), "cow_break.60": figure(1, 1, 1)})
    put_json(tmp_path, "paths-off.json", {"null_hypercall": figure(139, 140, 141)})
    put_json(tmp_path, "growth.json", {"cow_break.60": figure(1200, 0, 0), "cow_break.1": figure(1000, 0, 0), "cow_break.10": figure(1001, 0, 0),
                                       "scan_page.64": figure(2000, 0, 0), "scan_page.2048": figure(2100, 0, 0),
                                       "machine_cow_break.512": figure(5, 0, 0)})
    made = tables.tables(tmp_path)
    assert set(made) == {"paths", "growth"}
    seen = rows(made["paths"])
    assert seen["null hypercall"] == ["250", "176", "177", "180", "139", "1,371", "693"]
    assert seen["copy-on-write break"] == ["1,500", "**1,501**", "1,400", "2,000", "", "4,477", "-"]
    assert seen["hypervisor entry to first guest instruction"][:4] == ["60,000,000", "38,000,000", "", ""]
    grown = rows(made["growth"])
    assert grown["1, 10, 60 guests on 2 GiB"] == ["copy-on-write break", "1,000, 1,001, 1,200", "**20.0 %**"]
    assert grown["64, 2048 MiB in use"] == ["the share scan, a page", "2,000, 2,100", "5.0 %"]
    assert grown["512 MiB of machine"] == ["copy-on-write break", "5", "0.0 %"]


def test_memory_with_other_seeds(tmp_path):
    rate = {"plain": 100.0, "hints": 250.0}
    found = {"figures": {"compression_gain": (2, "times", "-"), "uncooperative_gain": (2.5, "times plain swap", "up to 10")},
             "rows": [{"plain": 10.0, "compression": 20.0}, rate]}
    put_json(tmp_path, "memory/f.json", found)
    put_json(tmp_path, "memory-seed2/f.json", dict(found, figures={"uncooperative_gain": (3.25, "times plain swap", "-")}))
    put_json(tmp_path, "memory.json", {name: dict(zip(("value", "unit", "paper"), value))
                                       for name, value in dict(found["figures"], swap_in=(2983.4, "instructions a page", "11,800")).items()})
    seen = rows(tables.tables(tmp_path)["memory"])
    assert seen["`uncooperative_gain` (times plain swap)"] == [
        "at least 3", "**2.50** (other seeds: 3.25); plain 100, hints 250 pages a second", "up to 10"]
    assert seen["`compression_gain` (times)"] == ["-", "2.00; memory at random, 10 to 20 pages a second", "-"]
    assert seen["`swap_in` (instructions a page)"] == ["at most 5,000", "2,983", "11,800"]


def test_tables_go_to_their_places():
    text = "a\n<!-- table one -->\nold\n<!-- end -->\nb\n<!-- table two -->\n<!-- end -->\n"
    assert tables.put(text, {"two": "| 2 |\n"}) == text.replace("two -->\n", "two -->\n| 2 |\n")
    assert tables.put(text, {"one": "\\1 new\n"}) == text.replace("old\n", "\\1 new\n")
    with pytest.raises(SystemExit):
        tables.put(text, {"three": ""})


def test_the_document_has_a_place_for_each_table():
    with open(os.path.join(TOP, "docs", "BENCHMARKS.md"), encoding="utf-8") as file:
        text = file.read()
    assert tables.put(text, {name: "x\n" for name in ("paths", "vmx", "growth", "memory")}).count("\nx\n") == 4


def test_every_goal_has_its_row():
    assert set(bench.GOALS) <= set(tables.PATHS)
    assert set(memory.LONGEST) == set(memory.EXPERIMENTS)

#!/usr/bin/python3
"""The tables of docs/BENCHMARKS.md from what was measured: `make bench-tables`.

  tables.py FOLDER [--write DOCUMENT]

Makes Markdown of paths.json, paths-off.json, paths-vmx.json, paths-vmx-off.json, growth.json, memory.json and memory/*.json in FOLDER, as
far as they are there, and prints it. --write: puts each table in its place in DOCUMENT instead, between the lines `<!-- table NAME -->` and `<!-- end -->`;
tables without results stay as they are. In bold: over the goal.
"""
import argparse
import glob
import json
import os
import re

import bench
import memory

MIB = 1 << 20
PATHS = {"null_hypercall": "null hypercall", "cpuid": "CPUID exit", "msr_read": "emulated MSR read", "msr_write": "emulated MSR write",
         "pio_write": "port write to an emulated device", "timer_upcall": "timer arm + upcall delivered",
         "fault_4k_stock": "fault, 4 KiB, from the cleared stock", "fault_4k_clear": "fault, 4 KiB, clearing it too",
         "fault_4k_order": "fault, 4 KiB, a page of those touched in order", "fault_2m_clear": "fault, 2 MiB, clearing it too",
         "cow_break": "copy-on-write break", "balloon_give": "a page back from the balloon", "balloon_take": "a page into the balloon",
         "boot_to_guest": "hypervisor entry to first guest instruction", "scan_page": "the share scan, a page",
         "hv_memory_bytes": "hypervisor's own memory, 1 GiB machine, no VMs (bytes)",
         "vm_overhead_bytes": "cost of a VM of 192 MiB beside its frames and page tables (bytes)"}
# Where the others' figure is not the plain number.
OTHERS = {("fault_4k_stock", 1): "3,023 (page present)", ("fault_2m_clear", 1): "284,000-562,000", ("boot_to_guest", 1): "1,590 M (Linux to init)",
          ("boot_to_guest", 2): "6,500-8,600 M (to dom0)", ("hv_memory_bytes", 2): "13.3 MiB"}


def load(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def table(head, rows):
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, ["---"] * len(head)] + rows).replace("| --- ", "|---").replace("--- |", "---|")


def number(value):
    return f"{value:,.0f}"


def judged(text, value, least=None, most=None):
    return f"**{text}**" if (least is not None and value < least) or (most is not None and value > most) else text


# ---- paths ----

def paths(found, off, peers):
    """A row for each path; off: the same with mitigations=off; peers: with what others take."""
    rows = []
    for name in [name for name in PATHS if name in found]:
        figure, (most, *others) = found[name], bench.GOALS.get(name, (None, None, None))
        single = figure["median"] == figure["p99"] == figure["mean"]  # measured once
        row = [PATHS[name], number(most) if most else "-", judged(number(figure["median"]), figure["median"], most=most)]
        row += ["", ""] if single and most and most > 10000 else [number(figure["mean"]), number(figure["p99"])]
        row.append(judged(number(off[name]["median"]), off[name]["median"], most=most) if name in off else "")
        if peers:
            row += [OTHERS.get((name, i), number(value) if value else "-") for i, value in enumerate(others, 1)]
        rows.append(row)
    return table(["path", "at most", "median", "mean", "p99", "median, `mitigations=off`"] + (["KVM", "Xen"] if peers else []), rows)


def growth(found):
    steps = {}
    for key, figure in found.items():
        name, size = key.rsplit(".", 1)
        steps.setdefault(name, []).append((int(size), figure["median"]))
    parts = (("guests on 2 GiB", [n for n in steps if n in PATHS and n != "scan_page"], ""), ("MiB in use", ["scan_page"], ""),
             ("MiB of machine", [n for n in steps if n.startswith("machine_")], "machine_"))
    rows = []
    for what, names, prefix in parts:
        for name in sorted((n for n in names if n in steps), key=lambda n: list(PATHS).index(n.removeprefix(prefix))):
            found_here = sorted(steps[name])
            values = [value for _, value in found_here]
            change = (max(values) / values[0] - 1) * 100
            rows.append([f"{', '.join(str(size) for size, _ in found_here)} {what}", PATHS[name.removeprefix(prefix)],
                         ", ".join(number(value) for value in values), judged(f"{change:.1f} %", change, most=bench.MOST_GROWTH)])
    return table(["what grows", "path", "median", "at most 10 %"], rows)


# ---- memory ----

def wanted(name):
    least, most = memory.GOALS.get(name, (None, None))
    return f"at least {number(least)}" if least is not None else "-" if most is None else f"at most {most:,}"


class Memory:
    def __init__(self, figures, details, others):
        self.figures, self.details, self.others = figures, details, others  # others: with other seeds

    def value(self, name, form="{:,.0f}"):
        """The figure, and what it is with other seeds."""
        here = self.figures[name]["value"]
        text = judged(form.format(here), here, *memory.GOALS.get(name, (None, None)))
        also = [seed[name]["value"] for seed in self.others if name in seed]
        return text + (f" (other seeds: {', '.join(form.format(value) for value in also)})" if also else "")

    def row(self, names, here, title=None):
        unit, paper = self.figures[names[0]]["unit"], self.figures[names[0]]["paper"]
        return [title or f"{', '.join(f'`{name}`' for name in names)} ({unit})", wanted(names[0]), here, paper]

    def simple(self, name, form="{:,.0f}", more=""):
        return self.row([name], self.value(name, form) + more) if name in self.figures else None

    def balloon(self):
        each = ", ".join(f"{row['overhead']:.2f} at {row['size']}" for row in self.details["a"]["rows"])
        return [self.simple("balloon_overhead_percent_max", "{:.2f}", f"; {each} MiB")]

    def sharing(self):
        rows, mixes = self.details["b"]["rows"], self.details["b"]["mixes"]
        ten = rows[-1]
        return [self.simple("share_percent_10vms", "{:.1f}", f"; of it zero {ten['zero']:.1f}; saved {ten['reclaimed']:.1f}"),
                ["one; two; five alike (% of memory)", "-", "; ".join(f"{rows[i]['shared']:.1f}" for i in (0, 1, 4)), "-"],
                ["; ".join(mix["mix"] for mix in mixes[1:]) + " (% of memory)", "-", "; ".join(f"{mix['shared']:.1f}" for mix in mixes[1:]),
                 "42.9, 29.2, 10.0 in three real mixes (OSDI'02)"]]

    def tax(self):
        ops = [row["ops"] for row in self.details["d"]["rows"]]
        return [self.simple("idle_tax_gain_percent", more=f"; {ops[0]:,.0f} to {ops[1]:,.0f} operations a second")]

    def five(self):
        return [self.simple("five_overcommit", "{:.2f}"), self.simple("five_swapped_after_peak")]

    def alone(self):
        at_random, job = self.details["f"]["rows"]
        return [self.simple("compression_gain", "{:.2f}", f"; memory at random, {at_random['plain']:,.0f} to {at_random['compression']:,.0f} pages a second"),
                self.simple("uncooperative_gain", "{:.2f}", "; " + ", ".join(f"{name} {rate:,.0f}" for name, rate in job.items()) + " pages a second")]

    def idle(self):
        row = self.details["g"]["rows"][0]
        return [self.simple("busy_loss_percent", "{:.2f}", f"; {row['overcommit']} : 1, no wrong page")]

    def table(self):
        rows = []
        for experiment, make in (("a", self.balloon), ("b", self.sharing), ("d", self.tax), ("e", self.five), ("f", self.alone), ("g", self.idle)):
            rows += make() if experiment in self.details else []
        told = {name for row in rows if row for name in re.findall(r"`(\w+)`", row[0])}
        rows += [self.simple(name, "{:.1f}" if self.figures[name]["value"] < 100 else "{:,.0f}") for name in self.figures if name not in told]
        return table(["figure", "wanted", "here", "others"], [row for row in rows if row])


def memory_of(folder):
    details = {name: load(folder, f"memory/{name}.json") for name in memory.EXPERIMENTS}
    others = []
    for seed in sorted(glob.glob(os.path.join(folder, "memory-seed*"))):
        also = memory.figures(memory.collect(seed))
        others.append({name: {"value": value} for name, (value, *_) in also.items()})
    return Memory(load(folder, "memory.json"), {name: found for name, found in details.items() if found}, others)


def tables(folder):
    """{name: Markdown} of what there is."""
    found, grown = load(folder, "paths.json"), load(folder, "growth.json")
    made = {}
    if found:
        made["paths"] = paths(found, load(folder, "paths-off.json") or {}, True)
    vmx = load(folder, "paths-vmx.json")
    if vmx:
        made["vmx"] = paths(vmx, load(folder, "paths-vmx-off.json") or {}, False)
    if grown:
        made["growth"] = growth(grown)
    if load(folder, "memory.json"):
        made["memory"] = memory_of(folder).table()
    return made


def put(text, made):
    """The document with these tables in their places."""
    for name, markdown in made.items():
        text, n = re.subn(rf"(<!-- table {name} -->\n).*?(<!-- end -->\n)", lambda m, new=markdown: m[1] + new + m[2], text, flags=re.S)
        if n != 1:
            raise SystemExit(f"{n} places for table {name}")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--write", metavar="DOCUMENT")
    args = parser.parse_args()
    made = tables(args.folder)
    if not args.write:
        print("\n".join(f"{name}\n\n{markdown}" for name, markdown in made.items()), end="")
        return
    with open(args.write, encoding="utf-8") as file:
        text = put(file.read(), made)
    with open(args.write, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"{args.write}: {', '.join(made)}")


if __name__ == "__main__":
    main()

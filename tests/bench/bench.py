#!/usr/bin/python3
"""What the paths through the hypervisor cost, in instructions: `make bench`.

  bench.py FOLDER [--compare EARLIER.json] [--where qemu,off,memory,bochs,growth] [--jobs N]

Runs guest workload `bench` in QEMU, which counts instructions (-icount), and in Bochs, whose TSC counts them on one CPU;
reads the hypervisor's own memory from its console. Prints a table beside the figures of other hypervisors and writes to FOLDER
paths.json (QEMU), paths-vmx.json (Bochs), both again with mitigations=off (paths-off.json, paths-vmx-off.json), and growth.json: {name: {median, mean, p99, unit, where}}. growth: the same paths
with more guests, the share scan with more memory, and what takes frames on larger machines; its figures are in paths.json, too, as
NAME.GUESTS, NAME.MIB and machine_NAME.MIB. --jobs: so many machines at a time (by default one a processor). docs/BENCHMARKS.md
explains the figures.
"""
import argparse
import concurrent.futures
import functools
import json
import os
import re
import sys
import tempfile
from contextlib import closing

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
from aerostat import MIB, Machine, clean, pairs, vm_section  # noqa: E402

# name: (at most, KVM with next-RIP, Xen 4.17), the others measured in the same emulator; None: no figure
GOALS = {
    "null_hypercall": (250, 1371, 693),
    "cpuid": (300, 1307, 806),
    "msr_read": (300, 1387, None),
    "msr_write": (300, 1425, None),
    "pio_write": (400, 1580, 1250),
    "timer_upcall": (1200, 5835, None),
    "fault_4k_stock": (600, 3023, None),
    "fault_4k_clear": (1100, 6428, None),
    "fault_2m_clear": (265000, 284000, None),
    "cow_break": (1500, 4477, None),
    "hv_memory_bytes": (8 * MIB, None, int(13.3 * MIB)),
    "vm_overhead_bytes": (64 << 10, None, None),
    "boot_to_guest": (60_000_000, 1_590_000_000, 6_500_000_000),
}
WHERE = {"qemu": "QEMU -icount, SVM", "bochs": "Bochs, VMX"}
HOST = "[host]\nshare-rate = 1000000\nballoon-rate = 1000000\n\n"
OFF = "mitigations=off"
BALLOON = "8M"  # of the guest that measures
PAGE = 4096
GUESTS = (1, 10, 60)
SCANNED_MIB = (64, 2048)
MACHINE_MIB = (512, 2048, 6144)  # for the frame allocator
FRAME_PATHS = ("fault_4k_stock", "fault_4k_clear", "fault_2m_clear", "cow_break", "balloon_give", "balloon_take")
MOST_GROWTH = 10  # percent


def figure(median, mean, p99, unit, where):
    return {"median": median, "mean": mean, "p99": p99, "unit": unit, "where": where}


def one(value, unit, where):
    return figure(value, value, value, unit, where)


def machine(work, emulator, config, mem, swap=0):
    qemu = {"cpu": "EPYC,+svm,+npt", "icount": True}
    parts = (("swap", swap),) if swap else ()
    return closing(Machine(work, emulator=emulator, config=config, mem=mem, parts=parts, qemu=qemu))


def paths(work, emulator, mem, guest_mem, others=0, options=""):
    """A machine on which one guest runs `bench`, and `others` do next to nothing; what the first prints."""
    config = f"[loader]\noptions = {options}\n\n" + HOST + vm_section("bench", guest_mem, "app=bench", disk=None, reservation="50%")
    config += "".join(vm_section(f"other{i}", 16, "app=idle mem=25%", disk=None) for i in range(others))
    found, where = {}, ", ".join(filter(None, (WHERE[emulator], options)))
    work = os.path.join(work, options or "plain")
    # What is not reserved has to have its place in swap; nothing goes there.
    with machine(os.path.join(work, emulator), emulator, config, mem, swap=mem) as m:
        m.start()
        text, line = m.expect(r"not started|first guest, bench, runs \d+ TSC ticks after entry", 300)
        assert line.group(0) != "not started", text
        found["boot_to_guest"] = one(int(re.search(r"runs (\d+)", line.group(0)).group(1)), "instructions", where)
        m.expect(r"aerostat> ", 100)
        m.ok(f"balloon bench {BALLOON}")
        # Not attached while it runs: what a byte costs on the way to the operator is not the port's cost.
        m.wait_for(lambda: m.show("bench").get("app-state") == "done", 900, every=5)
        m.send("vm console bench\r")
        text = m.expect(r"bench: end", 100)[0]
    for name, median, mean, p99 in re.findall(r"bench: (\w+) median=(\d+) mean=(\d+) p99=(\d+)", clean(text)):
        found[name] = figure(int(median), int(mean), int(p99), "instructions", where)
    return found


def memory(work):
    """1 GiB without VMs; then what one more of 192 MiB, all touched, takes beside its own frames and page tables."""
    config = "".join(vm_section(name, mib, "app=idle mem=97%", disk=None, autostart="no", reservation="100%")
                     for name, mib in (("first", 16), ("full", 192)))

    def own():
        return pairs(m.ok("host"))["frames-hypervisor"]

    def start(name, pages):
        m.ok(f"vm start {name}")
        m.wait_state(name, "running")
        m.wait_for(lambda: m.mem(name)["private"] + m.mem(name)["shared"] > pages, 120)

    with machine(os.path.join(work, "memory"), "qemu", config, 1024) as m:
        m.boot()
        alone = own()
        start("first", 3000)
        m.wait_for(lambda: m.host()["hints"], 120)  # the table of the share scan is the host's, not the VM's
        before = own()
        start("full", 46000)
        after = own()
    where = "QEMU, 1 GiB"
    return {"hv_memory_bytes": one(alone * PAGE, "bytes", where),
            "vm_overhead_bytes": one((after - before) * PAGE, "bytes", where)}


def scan_cost(work, mib):
    """Instructions of the share scanner for a page, in a guest of so much memory in use."""
    config = HOST + vm_section("full", mib, "app=idle mem=97%", disk=None, reservation="100%")
    with machine(os.path.join(work, f"scan{mib}"), "qemu", config, 2600) as m:
        m.boot()
        m.ok("set share-rate 0")
        m.wait_for(lambda: m.mem("full")["absent"] + m.mem("full")["zero"] < mib * 256 * 6 // 100, 600, every=5)
        m.ok("set min-free 1G")  # no plenty: the scanner looks into large pages
        m.ok("set share-rate 1000000")
        pages = mib * 256
        m.wait_for(lambda: m.host()["scanned"] > pages, 900, every=5)
        before = m.host()
        m.wait_for(lambda: m.host()["scanned"] > before["scanned"] + pages // 2, 900, every=5)
        after = m.host()
    cost = (after["scan-ns"] - before["scan-ns"]) // (after["scanned"] - before["scanned"])
    return one(cost, "instructions", f"QEMU -icount, {mib} MiB")


def beside(work, n):
    """The paths of one of n guests."""
    there = paths(os.path.join(work, f"guests{n}"), "qemu", 2048, 192, n - 1)
    del there["boot_to_guest"]  # the beginning of the others is in it
    return {f"{name}.{n}": dict(f, where=f"{f['where']}, {n} guests") for name, f in there.items()}


def scan(work, mib):
    return {f"scan_page.{mib}": scan_cost(work, mib)}


def machine_of(work, mib):
    """What takes frames on a machine of this size."""
    there = paths(os.path.join(work, f"machine{mib}"), "qemu", mib, 192)
    return {f"machine_{name}.{mib}": dict(there[name], where=f"QEMU -icount, SVM, {mib} MiB") for name in FRAME_PATHS if name in there}


# part: what finds its figures. The longest first: they are begun in this order.
PARTS = {
    "growth": [functools.partial(beside, n=n) for n in reversed(GUESTS)] + [functools.partial(scan, mib=mib) for mib in SCANNED_MIB] +
              [functools.partial(machine_of, mib=mib) for mib in MACHINE_MIB],
    "bochs": [functools.partial(paths, emulator="bochs", mem=192, guest_mem=96)],
    "bochs-off": [functools.partial(paths, emulator="bochs", mem=192, guest_mem=96, options=OFF)],
    "qemu": [functools.partial(paths, emulator="qemu", mem=1024, guest_mem=192)],
    "off": [functools.partial(paths, emulator="qemu", mem=1024, guest_mem=192, options=OFF)],
    "memory": [memory],
}


def measure(parts, jobs):
    """{part: figures}, in the order of their names and sizes."""
    with tempfile.TemporaryDirectory(prefix="aerostat-bench-") as work, concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        going = [(part, pool.submit(find, os.path.join(work, f"{part}{i}"))) for part in parts for i, find in enumerate(PARTS[part])]
        found = {part: {} for part in parts}
        for part, figures in going:
            found[part].update(figures.result())
    return found


def show(found, earlier):
    head = f"{'path':24} {'at most':>12} {'median':>12} {'mean':>12} {'p99':>12} {'KVM':>14} {'Xen 4.17':>14}"
    print(f"\n{next(iter(found.values()))['where']}\n{head}" + (f" {'earlier':>12} {'change':>8}" if earlier else ""))
    for name, f in found.items():
        most, kvm, xen = GOALS.get(name, (None, None, None))
        columns = [f"{v:,}" if v is not None else "-" for v in (most, f["median"], f["mean"], f["p99"])]
        peers = [f"{v:,}" if v is not None else "-" for v in (kvm, xen)]
        mark = " " if most is None or f["median"] <= most else "!"
        line = f"{name:24} {columns[0]:>12} {columns[1]:>12}{mark}{columns[2]:>12} {columns[3]:>12} {peers[0]:>14} {peers[1]:>14}"
        if earlier:
            was = earlier.get(name, {}).get("median")
            line += f" {was:>12,} {(f['median'] - was) * 100 / was:>+7.1f}%" if was else f" {'-':>12} {'-':>8}"
        print(line)


def show_growth(found):
    print(f"\n{'path':24} {'':>40} growth, at most {MOST_GROWTH}%")
    for name in dict.fromkeys(name.rsplit(".", 1)[0] for name in found):
        steps = sorted((int(key.rsplit(".", 1)[1]), f["median"]) for key, f in found.items() if key.rsplit(".", 1)[0] == name)
        first, last = steps[0][1], max(value for _, value in steps)
        grown = (last - first) * 100 / max(first, 1)
        text = "  ".join(f"{n}: {value:,}" for n, value in steps)
        print(f"{name:24} {text:>40} {grown:+7.1f}%{'!' if grown > MOST_GROWTH else ''}")


def write(folder, name, found):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as out:
        json.dump(found, out, indent=2)
        out.write("\n")
    print(f"written to {path}")


def report(folder, found, earlier):
    grown = found.get("growth", {})
    here = {**found.get("qemu", {}), **found.get("memory", {})}
    here = {name: here[name] for name in [*GOALS, *here] if name in here}
    if here:
        show(here, earlier)
        missing = [name for name in GOALS if name not in here]
        print("not measured: " + " ".join(missing) if missing else "all measured")
    for part, name in ("off", "paths-off.json"), ("bochs", "paths-vmx.json"), ("bochs-off", "paths-vmx-off.json"):
        if part in found:
            show(found[part], here if part == "off" else {})
            write(folder, name, found[part])
    if grown:
        show_growth(grown)
        write(folder, "growth.json", grown)
    if here or grown:
        write(folder, "paths.json", {**{name: f for name, f in here.items() if name in GOALS}, **grown})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--compare", default="")
    parser.add_argument("--where", default="qemu,off,memory,bochs,growth")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count(), 4))
    args = parser.parse_args()
    earlier, where = {}, args.where.split(",")
    if args.compare:
        with open(args.compare, encoding="utf-8") as old:
            earlier = json.load(old)
    os.makedirs(args.folder, exist_ok=True)
    found = measure([part for part in PARTS if part.removesuffix("-off") in where], args.jobs)
    report(args.folder, found, earlier)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""What the paths through the hypervisor cost, in instructions: `make bench`.

  bench.py OUT.json [--compare EARLIER.json] [--where qemu,bochs,memory] [--mitigations off]

Runs guest workload `bench` in QEMU, which counts instructions (-icount), and in Bochs, whose TSC counts them on one CPU;
reads the hypervisor's own memory from its console. Prints a table beside the figures of other hypervisors and writes OUT.json:
{name: {median, mean, p99, unit, where}}; names of Bochs' figures end in ".vmx". docs/BENCHMARKS.md explains the figures.
"""
import argparse
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
HOST = "[host]\nshare-rate = 1000000\n\n"
BENCH_VM = {"qemu": 192, "bochs": 96}
MACHINE = {"qemu": 1024, "bochs": 192}
PAGE = 4096


def figure(median, mean, p99, unit, where):
    return {"median": median, "mean": mean, "p99": p99, "unit": unit, "where": where}


def one(value, unit, where):
    return figure(value, value, value, unit, where)


def paths(work, emulator, options):
    """Boots a machine whose only guest runs `bench`; what the guest prints."""
    where = {"qemu": "QEMU -icount, SVM", "bochs": "Bochs, VMX"}[emulator]
    config = options + HOST + vm_section("bench", BENCH_VM[emulator], "app=bench", disk=None, reservation="100%")
    qemu = {"cpu": "EPYC,+svm,+npt", "icount": True}
    found = {}
    with closing(Machine(os.path.join(work, emulator), emulator=emulator, config=config, mem=MACHINE[emulator], parts=(),
                         qemu=qemu)) as m:
        m.start()
        text, found_line = m.expect(r"not started|first guest, bench, runs \d+ TSC ticks after entry", 300)
        assert found_line != "not started", text
        found["boot_to_guest"] = one(int(re.search(r"runs (\d+) TSC", m.console.after).group(1)), "instructions", where)
        m.expect(r"aerostat> ", 100)
        # Not attached while it runs: what a byte costs on the way to the operator is not the port's cost.
        m.wait_for(lambda: m.show("bench").get("app-state") == "done", 900, every=5)
        m.send("vm console bench\r")
        m.expect(r"bench: end", 100)
        text = clean(m.console.before)
    for name, median, mean, p99 in re.findall(r"bench: (\w+) median=(\d+) mean=(\d+) p99=(\d+)", text):
        found[name] = figure(int(median), int(mean), int(p99), "instructions", where)
    return found


def memory(work):
    """1 GiB without VMs; then what 192 MiB, all touched, takes beside its own frames and page tables."""
    config = vm_section("full", 192, "app=idle mem=97%", disk=None, autostart="no", reservation="100%")
    with closing(Machine(os.path.join(work, "memory"), config=config, mem=1024, parts=())) as m:
        m.boot()
        before = pairs(m.ok("host"))["frames-hypervisor"]
        m.ok("vm start full")
        m.wait_state("full", "running")
        m.wait_for(lambda: m.mem("full")["private"] > 46000, 120)
        m.ok("set share-rate 0")
        after = pairs(m.ok("host"))["frames-hypervisor"]
    where = "QEMU, 1 GiB"
    return {"hv_memory_bytes": one(before * PAGE, "bytes", where),
            "vm_overhead_bytes": one((after - before) * PAGE, "bytes", where)}


def show(found, earlier):
    head = f"{'path':24} {'at most':>12} {'median':>12} {'mean':>12} {'p99':>12} {'KVM':>14} {'Xen 4.17':>14}"
    print(head + (f" {'earlier':>12} {'change':>8}" if earlier else ""))
    for name, f in sorted(found.items(), key=lambda item: item[1]["where"] == "Bochs, VMX"):
        most, kvm, xen = GOALS.get(name.removesuffix(".vmx"), (None, None, None))
        columns = [f"{v:,}" if v is not None else "-" for v in (most, f["median"], f["mean"], f["p99"])]
        peers = [f"{v:,}" if v is not None else "-" for v in (kvm, xen)]
        mark = " " if most is None or f["median"] <= most else "!"
        line = f"{name:24} {columns[0]:>12} {columns[1]:>12}{mark}{columns[2]:>12} {columns[3]:>12} {peers[0]:>14} {peers[1]:>14}"
        if earlier:
            was = earlier.get(name, {}).get("median")
            line += f" {was:>12,} {(f['median'] - was) * 100 / was:>+7.1f}%" if was else f" {'-':>12} {'-':>8}"
        print(line)
    missing = [name for name in GOALS if name not in found]
    if missing:
        print("not measured: " + " ".join(missing))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--compare", default="")
    parser.add_argument("--where", default="qemu,memory,bochs")
    parser.add_argument("--options", default="", help="boot options, as in [loader] options")
    args = parser.parse_args()
    options = f"[loader]\noptions = {args.options}\n\n" if args.options else ""
    found = {}
    with tempfile.TemporaryDirectory(prefix="aerostat-bench-") as work:
        for part in args.where.split(","):
            if part == "memory":
                found.update(memory(work))
            elif part == "bochs":
                found.update({name + ".vmx": f for name, f in paths(work, "bochs", options).items()})
            else:
                found.update(paths(work, "qemu", options))
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with open(args.out, "w", encoding="utf-8") as out:
        json.dump(found, out, indent=2)
        out.write("\n")
    earlier = {}
    if args.compare:
        with open(args.compare, encoding="utf-8") as old:
            earlier = json.load(old)
    show(found, earlier)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()

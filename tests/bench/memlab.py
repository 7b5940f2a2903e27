"""Machines for the experiments with memory: QEMU that counts instructions, disks in the machine's own memory.

Time is instructions (-icount, one a nanosecond), random numbers come from a fixed seed, and the disks (boot option ramdisk)
take a fixed time, so a run repeats but for what comes from the console. A run starts from a CD image by BIOS, which takes seconds
where UEFI takes a minute of counted instructions.
"""
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
import aerostat  # noqa: E402
from aerostat import MIB, Machine, clean, pairs, vm_section  # noqa: E402,F401

PAGE = 4096
LATENCY_US, PAGE_US = 100, 4  # of the disks: a request, and each of its pages in turn
CPU = "EPYC,+svm,+npt"
EXTRA = ["-seed", "1", "-rtc", "base=2024-01-01,clock=vm"]
GRUB_CFG = """insmod all_video
set timeout=0
menuentry "Aerostat" {
	multiboot2 /boot/loader.elf
	module2 /boot/aerostat.elf aerostat.elf
	module2 /aerostat/aerostat.ini /aerostat/aerostat.ini
	module2 /aerostat/guest.elf /aerostat/guest.elf
}
"""


def pages(mib):
    return mib * MIB // PAGE


def make_iso(work, config):
    """A CD image with this configuration; starts without a menu."""
    tree = os.path.join(work, "tree")
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "boot", "grub"))
    os.makedirs(os.path.join(tree, "aerostat"))
    for name, text in (("boot/grub/grub.cfg", GRUB_CFG), ("aerostat/aerostat.ini", config)):
        with open(os.path.join(tree, name), "w", encoding="utf-8") as out:
            out.write(text)
    shutil.copy(os.path.join(aerostat.BUILD, "loader.elf"), os.path.join(tree, "boot"))
    shutil.copy(aerostat.IMAGE, os.path.join(tree, "boot", "aerostat.elf"))
    shutil.copy(aerostat.GUEST, os.path.join(tree, "aerostat"))
    iso = os.path.join(work, "bench.iso")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "--fonts=", "--locales=", "--themes=", "-o", iso, tree],
                   check=True, capture_output=True)
    return iso


@contextlib.contextmanager
def machine(work, vms, mem, swap=0, data=0, **host):
    """Booted, with `mem` MiB for hypervisor and guests beside the disks of swap and data MiB. vms: sections; host: [host]."""
    config = f"[loader]\noptions = ramdisk={swap},{data},{LATENCY_US},{PAGE_US}\n\n"
    config += "[host]\nlog-level = error\n"  # lines of the log would fall into those of the guests
    config += "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in host.items()) + "\n" + "".join(vms)
    work = os.fspath(work)  # a new one each time
    os.makedirs(work)
    m = Machine(work, mem=mem + swap + data, parts=(), iso=make_iso(work, config), bios=True, boot="cd",
                qemu={"cpu": CPU, "icount": True}, extra=EXTRA)
    with contextlib.closing(m):
        yield m.boot(300)


def reports(text, app, *fields):
    """The workload's lines of figures: a list of tuples of numbers."""
    found = []
    for line in re.findall(rf"^{app}: (.*=.*)$", text, re.M):
        values = dict(re.findall(r"(\w+)=([\d.]+)", line))
        if all(field in values for field in fields):
            found.append(tuple(float(values[field]) for field in fields))
    return found


def until_done(m, vm, app, timeout):
    """Attached to the VM's console until its workload has run its time; what it printed."""
    with m.guest_console(vm):
        return m.expect(rf"{app}: done", timeout)[0]


def throughput(text, app, counter, skip, seconds):
    """Mean of the workload's operations a second over `seconds` reports after the first `skip` (one each second)."""
    counts = [row[0] for row in reports(text, app, counter)]
    assert len(counts) >= skip + seconds, f"{len(counts)} reports of {app}:\n{text[-1500:]}"
    return (counts[skip + seconds - 1] - counts[skip - 1]) / seconds


def guest_stats(m, vm):
    """What `stats` on the VM's console says of the driver's costs: {"up_4k": (ticks, pages), ...}."""
    with m.guest_console(vm):
        m.send("stats\r")
        text = m.expect(r"balloon cost: [^\r\n]*ticks/pages")[1].group(0)
        m.expect(r"kernel: loops")
    return {name: (int(ticks), int(n)) for name, ticks, n in re.findall(r"(\w+)=(\d+)/(\d+)", text)}


def history(m, name):
    """The last two minutes of a VM or the host, a row a second: {field: [...]}."""
    lines = [line for line in m.ok(f"history {name} csv").splitlines() if re.match(r"[\w-]+(,[\w-]+)+$", line.strip())]
    head, rows = lines[0].strip().split(","), [line.strip().split(",") for line in lines[1:]]
    return {field: [int(row[i]) for row in rows] for i, field in enumerate(head)}


def settle(m, look, rounds=3, timeout=300):
    """Waits until look() has given the same for some rounds; returns it."""
    end, seen = time.monotonic() + timeout, [look()]
    while len(seen) < rounds or len(set(map(str, seen[-rounds:]))) > 1:
        assert time.monotonic() < end, f"does not settle: {seen[-5:]}"
        m.run_for(0.3)
        seen.append(look())
    return seen[-1]

"""Machines for the experiments with memory: QEMU that counts instructions, disks in the machine's own memory.

A run repeats to the last instruction. Time is instructions (-icount, one a nanosecond), random numbers come from a fixed seed
(SEED: the host's, and those of each guest by its name, so that machines that are compared see the same requests), the disks (boot option ramdisk) take a fixed time, and nothing comes from outside: QEMU puts the loader and its files into
memory before the first instruction (-kernel, -initrd), the console's commands stand in the configuration with their times
([commands]), and what the console says goes into a file, which never makes the machine wait.
"""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
import aerostat  # noqa: E402
from aerostat import MIB, emu, pairs  # noqa: E402,F401

PAGE = 4096
LATENCY_US, PAGE_US = 100, 4  # of the disks: a request, and each of its pages in turn
CPU = "EPYC,+svm,+npt"
SEED = 1
EXTRA = ["-rtc", "base=2024-01-01,clock=vm"]
HANG = 3600  # s of the real clock: so long no run takes
PROMPT = "aerostat> "
BAD = re.compile("|".join([aerostat.PANIC, aerostat.LOG_ERROR, aerostat.WRONG]))


def vm_section(name, memory, cmdline, **keys):
    return aerostat.vm_section(name, memory, f"{cmdline} seed={SEED}", **keys)


def pages(mib):
    return mib * MIB // PAGE


class Run:
    """What the console said, command by command."""

    def __init__(self, text):
        self.text = aerostat.clean(re.sub(r"[^\n]*\r\x1b\[K", "", text))  # rows that were wiped: prompts
        parts = re.split(rf"^{PROMPT}(.+)$", self.text, flags=re.M)
        self.said = list(zip(parts[1::2], parts[2::2]))

    def all(self, line):
        """Outputs of each time that this command ran."""
        found = [text for command, text in self.said if command == line]
        assert found, f"{line} did not run:\n{self.text[-2000:]}"
        return found

    def last(self, line):
        return self.all(line)[-1]

    def look(self, line):
        """Its key=value words; after the commands that have some to say."""
        return pairs(self.last(line))

    def console(self, vm):
        """What was seen of the VM's console, all times together."""
        return "\n".join(self.all(f"vm console {vm}"))

    def history(self, name):
        """The last two minutes of a VM or the host, a row a second: {field: [...]}."""
        lines = [line.strip() for line in self.last(f"history {name} csv").splitlines() if re.match(r"[\w-]+(,[\w-]+)+\s*$", line)]
        head, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
        return {field: [int(row[i]) for row in rows] for i, field in enumerate(head)}


def run(work, vms, mem, commands, swap=0, data=0, **host):
    """One life of a machine with `mem` MiB for hypervisor and guests beside the disks of swap and data MiB. vms: sections; host:
    [host]; commands: (second, console command), in order; the machine is switched off after them. Returns a Run."""
    config = f"[loader]\noptions = ramdisk={swap},{data},{LATENCY_US},{PAGE_US}\n\n"
    config += "[host]\nlog-level = error\n"  # lines of the log would fall into those of the guests
    config += "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in host.items()) + "\n" + "".join(vms)
    config += "[commands]\n" + "".join(f"{round(at, 3)} = {line}\n" for at, line in commands)
    config += f"{round(commands[-1][0] + 0.1, 3)} = shutdown force\n"
    work = os.fspath(work)  # a new one each time
    os.makedirs(work)
    ini, console = os.path.join(work, "aerostat.ini"), os.path.join(work, "console.txt")
    with open(ini, "w", encoding="utf-8") as out:
        out.write(config)
    for file in (os.path.join(aerostat.BUILD, "loader.elf"), aerostat.IMAGE, aerostat.GUEST):
        os.symlink(os.path.abspath(file), os.path.join(work, os.path.basename(file)))
    # Names without folders: the loader reads them, and longer ones take longer.
    qemu = emu.Qemu([], mem=mem + swap + data, accel="tcg", work=work, cpu=CPU, icount=True, bios=True, serial=f"file:{console}",
                    extra=EXTRA + ["-seed", str(SEED), "-kernel", "loader.elf", "-initrd", "aerostat.elf,aerostat.ini,guest.elf"])
    subprocess.run(qemu.command(), cwd=work, check=True, timeout=HANG, stdin=subprocess.DEVNULL, capture_output=True)
    with open(console, encoding="utf-8", errors="replace") as file:
        found = Run(file.read())
    bad = BAD.search(found.text)
    assert not bad, f"bad line on the console: {found.text[max(bad.start() - 500, 0):bad.end() + 1500]}"
    for command, text in found.said:
        assert not re.search("^error: ", text, re.M), f"{command}: {text}"
    assert found.said and found.said[-1][0] == "shutdown force", f"did not come to its end:\n{found.text[-2000:]}"
    return found


def reports(text, app, *fields):
    """The workload's lines of figures: a list of tuples of numbers."""
    found = []
    for line in re.findall(rf"^{app}: (.*=.*)$", text, re.M):
        values = dict(re.findall(r"(\w+)=([\d.]+)", line))
        if all(field in values for field in fields):
            found.append(tuple(float(values[field]) for field in fields))
    return found


def throughput(text, app, counter, skip, seconds):
    """Mean of the workload's operations a second over `seconds` reports after the first `skip` (one each second)."""
    assert f"{app}: done" in text, f"{app} was not done in its time:\n{text[-1500:]}"
    counts = [row[0] for row in reports(text, app, counter)]
    assert len(counts) >= skip + seconds, f"{len(counts)} reports of {app}:\n{text[-1500:]}"
    return (counts[skip + seconds - 1] - counts[skip - 1]) / seconds


def guest_stats(text):
    """What `stats` on the VM's console says of the driver's costs: {"up_4k": (ticks, pages), ...}."""
    line = re.findall(r"balloon cost: [^\r\n]*ticks/pages", text)[-1]
    return {name: (int(ticks), int(n)) for name, ticks, n in re.findall(r"(\w+)=(\d+)/(\d+)", line)}


def prove(at, *vms):
    """Commands that ask these guests at that time to check every page they own, and have the host proved afterwards."""
    ask = [(at, f"vm type {vm} check") for vm in vms]
    return ask + [(at + 20, f"vm console {vm}") for vm in vms] + [(at + 21, "mem check")]


def proved(run_, *vms):
    assert "sum check: ok" in run_.last("mem check"), run_.last("mem check")
    for vm in vms:
        match = re.search(r"check: (\d+) pages, (\d+) bad", run_.last(f"vm console {vm}"))
        assert match and int(match[1]) > 0 and match[2] == "0", (vm, run_.last(f"vm console {vm}")[-500:])

"""The operator's console disturbs no guest and holds no CPU."""
import re

import pytest

from aerostat import PROMPT, vm_section

SLICE_US = 5000  # SLICE_NS of vmm/sched.h
NAMES = [f"v{i}" for i in range(6)]
COMMANDS = ("help", "vm list", "vm show v0", "mem", "mem v0", "mem worst", "mem demand", "mem check", "balloon", "share", "zip",
            "swap", "top --plain", "top --plain effect 132x43", "top --json", "alerts all", "events 256", "history host free",
            "history host csv", "history v0 json", "metrics", "why v0", "whatif balloon v0 8M", "whatif reservation v0 16M", "forecast", "ledger", "get",
            "log 200", "host", "host work", "disk", "vm create t memory=16M", "whatif start t", "vm destroy t", "?", "vm set v0 shares high",
            "vm set v0 reservation 4M", "vm pause v0", "vm resume v0", "set share-rate 4000", "balloon v0 auto", "share ?",
            "vm create u memory=16M", "vm start u", "vm stop u force")


def test_top_disturbs_nobody(machine):
    """Six verifiers where four have room, and three screens of top for each of some keys."""
    m = machine(config="".join(vm_section(name, 48, "app=verify mem=85% zero=10% same=10%", disk="16M", balloon_max="15%")
                               for name in NAMES),
                mem=208, parts=(("swap", 320), ("data", 128))).boot()
    m.wait_for(lambda: m.host()["swap-out"] > 0, 180, every=1)
    m.send("top\r")
    m.expect(r"\x1b\[6n", 30)
    m.send("\x1b[43;132R")
    for keys, seen in (("1b", "page memory, by MCTLSZ"), ("2u", "page effect, by %CPU"), ("1r", "page memory, by SWR/s")):
        m.send(keys)
        for _ in range(3):
            m.expect(re.escape(seen), 60)
    m.send("q")
    m.expect(PROMPT, 60)
    m.wait_checked(*NAMES)
    m.check()


def longest_piece(m, line):
    """The longest time in us that the console kept its CPU for this command."""
    m.ok("host work reset")
    m.ok(line)
    row = re.search(r"^console +(\d+) +\d+ +\d+ +(\d+)", m.ok("host work"), re.M)
    assert int(row.group(1)) > 0
    return int(row.group(2))


@pytest.mark.takes(60)
def test_no_command_holds_a_cpu(machine):
    """Time is instructions, one a nanosecond: the same whatever else the emulator has to wait for."""
    m = machine(config="".join(vm_section(name, 24, "app=idle mem=60% same=20%", disk=None) for name in NAMES), mem=320,
                parts=(("swap", 320),), qemu={"icount": True}).boot()
    for name in NAMES:
        m.wait_state(name, "running")
        m.ok(f"balloon {name} 2M")
    m.run_for(3)
    took = {line: longest_piece(m, line) for line in COMMANDS}
    print("\n".join(f"{us:6} us  {line}" for line, us in sorted(took.items(), key=lambda item: -item[1])))
    assert all(us < SLICE_US for us in took.values()), took
    m.check()

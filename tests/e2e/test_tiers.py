"""All tiers in one run: memory falls in small steps, and each tier comes to work before the next; then everything returns.

The run is recorded: `tiers.txt` in the test's folder has the samples, the event log and the ledger.
"""
import os
import re

import pytest

from aerostat import MIB, vm_section

TIERS = ("shared", "balloon", "zip", "swap")
AT_WORK = 512  # pages, from which on a tier is at work: each guest has some, its kernel's, that cannot be shared or do not compress
LOOK_MS = 250
ORDER = ["high", "clear", "soft", "hard", "low"]
STATE = re.compile(r"state (\w+) -> (\w+) free=(\S+)")
NO_BALLOON = "without=3"  # neither 4 KiB nor 2 MiB units: the flood is met by what is left
# MiB. A step takes less than what lies between two states, so that none is jumped over.
SIZES = {"qemu": {"mem": 256, "min_free": 48, "base": 64, "step": 20, "flood": 96, "steps": 20, "swap": 1024, "worst": "low"},
         "bochs": {"mem": 144, "min_free": 24, "base": 48, "step": 12, "flood": 56, "steps": 18, "swap": 512, "worst": "hard"}}


class Record:
    """What is seen of the host, sample by sample, with what each tier had done at the moment at which another began."""

    def __init__(self, m, path):
        self.m, self.path = m, path
        self.first, self.lines = {}, []

    def note(self, line):
        self.lines.append(line)

    def sample(self):
        host = self.m.host()
        out = {"shared": host["shared"] // 4096, "balloon": host["balloon"] // 4096, "zip": host["zip-in"], "swap": host["swap-out"]}
        self.note(f"state={host['state']} free={host['free']} " + " ".join(f"{tier}={out[tier]}" for tier in TIERS))
        for tier in TIERS:
            if out[tier] >= AT_WORK:
                self.first.setdefault(tier, out)
        return host, out

    def save(self):
        for command in ("events 200", "ledger", "log 300"):
            self.note(f"---- {command}\n{self.m.ok(command)}")
        with open(self.path, "w", encoding="utf-8") as out:
            out.write("\n".join(self.lines) + "\n")


def config(size):
    """Two large guests that are alike, small ones that take the memory step by step, and one that takes it all."""
    content = "zero=10% same=30% soft=60% rate=300"
    text = f"[host]\nmin-free = {size['min_free']}M\n\n"
    for name in ("base0", "base1"):
        text += vm_section(name, size["base"], f"app=verify mem=80% {content}", share_group="all", balloon_max=10,
                           zip_max=2, balloon_rate=512, autostart="no")
    for i in range(size["steps"]):
        text += vm_section(f"step{i}", size["step"], "app=idle mem=60% zero=0 same=0 soft=90%", disk=None, balloon_max=10,
                           zip_max=2, balloon_rate=512, autostart="no")
    return text + vm_section("flood", size["flood"], f"app=verify mem=90% zero=0 same=0 soft=0 {NO_BALLOON}", disk=None,
                             autostart="no")


def settle(m, record, size, pages=300):
    """Waits until free memory stays where it is, looking all the while; less patiently while there is plenty. Looks count that are a
    quarter of a second of the machine's own time apart: on a slow host little happens in one of ours."""
    free, at, looks = None, m.uptime_ms(), 0

    def still():
        """free memory stays where it is"""
        nonlocal free, at, looks
        host, _ = record.sample()
        now = m.uptime_ms()
        if now - at >= LOOK_MS:
            looks = looks + 1 if free is not None and abs(host["free"] - free) < pages * 4096 else 0
            free, at = host["free"], now
        return looks >= (1 if host["free"] > 2 * size["min_free"] * MIB else 3)

    m.wait_for(still, 120, every=0.25)


def begin(m, name):
    """Once a guest has made its pages, what free memory does is what the host does."""
    m.ok(f"vm start {name}")
    m.wait_ready(name)


def fall(m, record, size):
    """Guest after guest, until swap is at work. Returns those that were started."""
    started = []
    for name in ["base0", "base1"] + [f"step{i}" for i in range(size["steps"])]:
        record.note(f"---- starts {name}")
        begin(m, name)
        started.append(name)
        if name == "base1":
            m.wait_for(lambda: record.sample()[1]["shared"] >= AT_WORK, 120, every=0.25)
        settle(m, record, size)
        if "swap" in record.first:
            break
    return started


def states_fallen_to(m):
    """In the order in which the host came to each for the first time from a better one; the log itself does not reach back as far."""
    seen = ["high"]
    with open(os.path.join(m.work, "console.txt"), encoding="utf-8") as console:
        said = console.read()
    for old, new, _ in STATE.findall(said):
        if ORDER.index(new) > ORDER.index(old) and new not in seen:
            seen.append(new)
    return seen


@pytest.mark.takes(150)
@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=pytest.mark.bochs)])
def test_every_tier_in_turn_and_back(machine, tmp_path, emulator):
    size = SIZES[emulator]
    m = machine(emulator=emulator, config=config(size), mem=size["mem"], parts=(("swap", size["swap"]), ("data", 256))).boot()
    free = m.frames()
    record = Record(m, tmp_path / "tiers.txt")
    try:
        started = fall(m, record, size)
        # By what they had done, not by when it was looked at: samples may be far between on a busy machine.
        for before, tier in zip(TIERS, TIERS[1:]):
            assert record.first[tier][before] >= 2 * AT_WORK, record.first
        m.check()
        # The last of it at once: the worst state (on Bochs guests are too slow for `low`), in which nobody may have more than its part.
        record.note("---- starts flood")
        m.ok("vm start flood")
        m.wait_for(lambda: record.sample()[0]["to-" + size["worst"]] > 0, 120, every=0.25)
        m.wait_checked("base0", "base1", "flood")
        m.check()
        # And back.
        for name in ["flood"] + started[2:]:
            record.note(f"---- stops {name}")
            m.ok(f"vm stop {name} force")
        for name in ["flood"] + started[2:]:
            m.wait_state(name, "created")

        def relaxed():
            """plenty again, and the balloons are empty"""
            host, out = record.sample()
            return host["state"] == "high" and not out["balloon"]

        m.wait_for(relaxed, 180, every=0.5)
        m.full_check("base0", "base1")
        for name in ("base0", "base1"):
            seen = m.mem(name)
            # What no workload reads, of the kernel and its tables, may stay away.
            assert seen["ballooned"] == 0 and seen["compressed"] + seen["swapped"] < 0.05 * seen["pages"], seen
        m.check()
        for name in ("base0", "base1"):
            m.ok(f"vm stop {name} force")
        m.wait_for(lambda: m.frames() == free, 60)
        host, _ = record.sample()
        assert host["swap-used"] == host["swap-reserved"] == host["zip"] == host["guests"] == 0, host
        assert host["checksum-errors"] == host["read-errors"] == host["write-errors"] == host["zip-errors"] == 0, host
        seen = states_fallen_to(m)
        assert seen == sorted(seen, key=ORDER.index) and {"clear", "soft", size["worst"]} <= set(seen), seen
        m.check()
    finally:
        record.save()

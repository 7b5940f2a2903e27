"""Faults of memory while VMs run: the swap disk goes, or takes nothing any more, swap is full, nothing can be taken back. Whatever
happens, a VM goes on as long as its pages are there, and is ended with a word about the page if one is not."""
import re

import pytest

from aerostat import MIB, pairs, vm_section
from bay import Bay

OWN = "zero=0% same=0% soft=0%"  # neither shared nor compressed


@pytest.fixture
def bay(tmp_path):
    """The swap disk of these tests."""
    one = Bay(str(tmp_path / "bay"), [("swap", 320 * MIB)])
    yield one
    one.close()


def alerts(m):
    """The alerts raised now: {(name, object): cause}."""
    rows = [row.split(None, 4) for row in m.ok("alerts").strip().splitlines()[1:]]
    return {(row[1], row[2]): row[4] for row in rows}


def told(m, name, thing):
    """Of an alert: raised now?, when raised, when cleared, how often."""
    row = re.search(rf"{name} +{thing} +(raised|no) +(\S+) +(\S+) +(\d+)", m.ok("alerts all"))
    return row.groups()


def wait_raised(m, name, thing, cause):
    """Waits for an alert whose cause says this."""
    m.wait_for(lambda: cause in alerts(m).get((name, thing), ""), 60)
    assert re.search(rf"critical +{thing} +{name} raised", m.ok("events 60"))


def wait_cleared(m, name, thing):
    m.wait_for(lambda: (name, thing) not in alerts(m), 60)
    state, raised, cleared, times = told(m, name, thing)
    assert state == "no" and raised == "-" and cleared.endswith("s") and int(times) >= 1
    assert re.search(rf"{thing} +{name} cleared: after", m.ok("events 60"))


def disk(m, name):
    """The figures of one device."""
    return pairs(re.search(rf"device={name}[^$]*?(?=\ndevice=|$)", m.ok("disk")).group(0).split("partition=")[0])


def limited(name, memory, limit, extra="", **keys):
    """A verifier that has pages in swap whatever the others do."""
    return vm_section(name, memory, f"app=verify mem=80% {OWN}{extra}", limit=f"{limit}M", **keys)


@pytest.mark.takes(40)
def test_swap_disk_is_pulled_out(machine, bay):
    """Who needs a page that was on it ends; who has all its pages runs on, and its balloon and compression serve it from now on."""
    config = limited("out", 64, 32, disk=None, balloon_max="1%") + \
        vm_section("in", 64, "app=verify mem=75% zero=5% same=0% soft=60%", disk="96M", zip_max="20%", balloon_max="40%")
    m = machine(config=config, mem=320, parts=(("data", 128),), device_errors=True, extra=bay.options).boot()
    m.ok("set alert-clear 2")
    m.wait_checked("out", "in")
    m.wait_for(lambda: m.mem("out")["swapped"] > 2000, 120)
    assert m.mem("in")["swapped"] == 0
    bay.pull()
    m.wait_state("out", "crashed")
    assert re.fullmatch(r"page 0x[0-9a-f]+ is lost: swap device gone", m.show("out")["why"])
    host, gone = m.host(), disk(m, "nvme2n1")
    assert host["swap"] == "failed" and host["swap-why"] == "the device is gone", host
    assert gone["state"] == "gone" and gone["resets"] == 0, gone
    wait_raised(m, "device", "host", "nvme2n1 gone, swap failed")
    assert "swap failed" in m.refused("vm start out")
    # Less for the one that is left: not a page is even offered to the disk.
    m.ok("vm set in limit 32M")
    m.wait_for(lambda: m.mem("in")["consumed"] <= 32 * 256 and m.mem("in")["ballooned"] > 2000 and m.mem("in")["compressed"], 120)
    m.wait_checked("in")
    after = m.host()
    assert after["swap-out"] == host["swap-out"] and after["write-errors"] == host["write-errors"] and \
        after["in-flight"] == "0/0" and m.mem("in")["swapped"] == 0, after
    m.ok("vm set in limit 0")
    m.full_check("in")
    assert ("device", "host") in alerts(m) and "in=" not in m.ok("why in")
    m.check()


@pytest.mark.takes(40)
def test_every_transfer_fails(machine, bay):
    """The controller answers, but nothing is read or written any more. What cannot leave RAM stays, and a limit that cannot be kept
    makes its VM wait until the operator has lifted it."""
    config = limited("out", 64, 32, disk=None, balloon_max="1%") + \
        vm_section("late", 64, f"app=verify mem=80% {OWN} rate=2000", limit="40M", balloon_max="1%", autostart="no", cpu_cap=5, disk=None)
    m = machine(config=config, mem=320, parts=(("data", 128),), device_errors=True, extra=bay.options).boot()
    m.ok("set alert-clear 2")
    m.wait_for(lambda: m.mem("out")["swapped"] > 2000, 120)
    m.ok("vm start late")
    bay.fail()  # long before it comes to its limit, as slow as it is
    m.wait_state("out", "crashed")
    m.ok("vm set late cpu-cap 0")
    assert re.fullmatch(r"page 0x[0-9a-f]+ is lost: swap read error", m.show("out")["why"])
    wait_raised(m, "device", "host", "swap failed")
    assert m.host()["swap-why"] == "too many write errors in a row"
    wait_raised(m, "starved", "late", "limit, swap failed")
    assert ("no-memory", "host") not in alerts(m)
    assert "It stands still" in m.ok("why late")
    m.ok("vm set late limit 0")
    wait_cleared(m, "starved", "late")
    m.wait_checked("late")
    m.full_check("late")
    assert m.mem("late")["swapped"] == 0 and disk(m, "nvme2n1")["state"] == "ok"
    m.check()


@pytest.mark.soak  # who reads the console too late would let the disk's second chance pass, too
@pytest.mark.takes(60)
def test_disk_that_answers_again(machine, bay):
    """No answer for some seconds, until the controller is reset: told meanwhile, over afterwards, and no page is lost."""
    m = machine(config=limited("out", 64, 32, disk=None, balloon_max="1%"), mem=320, parts=(("data", 64),), device_errors=True,
                extra=bay.options).boot()
    m.ok("set alert-clear 2")
    m.wait_for(lambda: m.mem("out")["swapped"] > 2000, 120)
    bay.hold(True)
    m.wait_for(lambda: disk(m, "nvme2n1")["resets"], 60, every=0.2)
    bay.hold(False)
    m.wait_for(lambda: int(told(m, "device", "host")[3]), 30)
    wait_cleared(m, "device", "host")
    m.wait_checked("out")
    m.ok("vm set out limit 0")
    m.full_check("out")
    host = m.host()
    assert host["swap"] == "on" and host["read-errors"] == host["checksum-errors"] == 0, host
    assert not {("device", "host"), ("starved", "out")} & set(alerts(m))
    m.check()


@pytest.mark.takes(40)
def test_nothing_can_be_taken_back(machine, bay):
    """No swap, no balloons, nothing that compresses or is equal, and more guests than memory: all of them wait, and the operator is told.
    One of them ends, and the others have never been wrong."""
    config = "".join(vm_section(f"v{i}", 80, f"app=verify mem=85% {OWN} without=3", cpu_cap=5, disk=None) for i in range(3))
    m = machine(config=config, mem=192, parts=(("data", 64),), device_errors=True, extra=bay.options).boot()
    m.ok("set alert-clear 2")
    bay.pull()  # long before there is a page on it, as slow as they are
    m.wait_for(lambda: m.host()["swap"] == "failed", 30)
    assert not m.host()["swap-used"]
    for i in range(3):
        m.ok(f"vm set v{i} cpu-cap 0")
    wait_raised(m, "no-memory", "host", "swap failed: ")
    # Not all at once: now and then one of them gets a page that has turned out to be equal to another.
    starved = [f"v{i}" for i in range(3) if int(told(m, "starved", f"v{i}")[3])]
    assert starved
    assert m.host()["state"] == "low"
    assert 'aerostat_alert_raised{alert="no-memory"} 1' in m.ok("metrics")
    m.ok("vm stop v2 force")
    wait_cleared(m, "no-memory", "host")
    for name in starved:
        if name != "v2":
            wait_cleared(m, "starved", name)
    m.wait_checked("v0", "v1")
    m.full_check("v0", "v1")
    m.check()


@pytest.mark.takes(40)
def test_swap_is_full(machine):
    """VMs whose limits leave them next to nothing in RAM fill what was promised to them. There is room for no other VM, nobody is ended."""
    config = "".join(limited(f"v{i}", 48, 8, disk=None, balloon_max="1%", zip_max=0) for i in range(2))
    m = machine(config=config, mem=256, parts=(("swap", 96), ("data", 64))).boot()
    m.ok("set alert-clear 2")
    m.ok("set alert-swap-full 70")
    wait_raised(m, "swap-full", "host", "of 96M")
    host = m.host()
    assert host["swap-reserved"] == 96 * MIB >= host["swap-used"] >= 0.7 * 96 * MIB, host
    assert "swap" in m.ok("vm create x memory=16M") + m.refused("vm start x")
    m.wait_checked("v0", "v1")
    assert pairs(m.ok("mem worst"))["backed"] == "yes"
    m.ok("vm set v0 limit 0")
    m.full_check("v0")
    m.ok("vm stop v1 force")
    wait_cleared(m, "swap-full", "host")
    m.wait_state("v1", "created")
    m.ok("vm start x")
    m.wait_up("x")
    m.wait_checked("v0")
    m.check()

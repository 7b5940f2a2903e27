"""The main job: more guest memory than the machine has, everybody alive and every byte right."""
import os

import pytest

from aerostat import vm_section

SECONDS = int(os.environ.get("AEROSTAT_PRESSURE_SECONDS", "120"))
MIXED = {
    "v1": "app=verify mem=85% zero=10% same=20%",
    "v2": "app=verify mem=85% zero=10% same=20%",
    "v3": "app=verify mem=85% zero=10% same=20%",
    "d1": "app=desktop mem=80%",
    "d2": "app=desktop mem=80%",
    "b1": "app=db size=48M cache=50%",
}


def assert_verified(machine, names):
    """Verifiers have checked pages and never saw a wrong byte."""
    for name in names:
        seen = machine.show(name)
        assert seen["state"] == "running", (name, seen)
        assert seen["checked"] > 0, (name, seen)
        assert seen["errors"] == 0, (name, seen)


def squeezed(machine):
    """Shared, ballooned and swapped at once, and swapped pages have come back."""
    host = machine.host()
    return host["shared"] != "0" and host["balloon"] != "0" and host["swap-used"] != "0" and host["swap-in"] > 0


def run_pressure(machine, names, seconds):
    machine.boot()
    for name in names:
        machine.wait_state(name, "running")
    waited, step, seen = 0, 5, False
    while waited < seconds:
        machine.run_for(step)
        waited += step
        seen = squeezed(machine) or seen
        if waited % 30 == 0:
            machine.check()
    assert seen, machine.ok("mem")
    for name in names:
        assert machine.show(name)["state"] == "running", name
    verifiers = [n for n in names if n[0] in "vdb"]
    machine.wait_for(lambda: all(machine.show(n)["checked"] > 0 for n in verifiers), 180, every=5)
    assert_verified(machine, verifiers)
    machine.check()
    return machine


def test_six_guests_on_half_a_gigabyte(machine):
    config = "".join(vm_section(n, 192, c, disk="160M") for n, c in MIXED.items())
    run_pressure(machine(config=config, mem=512), list(MIXED), SECONDS)


@pytest.mark.bochs
def test_smaller_on_vmx(machine):
    names = {"v1": "app=verify mem=80% zero=10% same=20%", "v2": "app=verify mem=80% zero=10% same=20%",
             "d1": "app=desktop mem=80%"}
    config = "".join(vm_section(n, 96, c, disk="64M") for n, c in names.items())
    parts = (("swap", 320), ("data", 256))
    run_pressure(machine(emulator="bochs", config=config, mem=192, parts=parts), list(names), min(SECONDS, 90))


def test_full_reservation_is_never_touched(machine):
    config = vm_section("mine", 96, "app=verify mem=85%", reservation="96M")
    config += "".join(vm_section(f"v{i}", 128, "app=verify mem=85%", disk="96M") for i in range(3))
    m = machine(config=config, mem=320).boot()
    reasons = []

    def neighbours_hurt():
        mine = m.mem("mine")
        reasons.append(mine)
        assert mine["ballooned"] == 0 and mine["swapped"] == 0 and mine["swap-out"] == 0, mine
        assert mine["balloon-target"] == 0, mine
        return sum(m.mem(f"v{i}")["ballooned"] for i in range(3)) and sum(m.mem(f"v{i}")["swap-out"] for i in range(3))

    m.wait_for(neighbours_hurt, 180, every=2)
    for _ in range(10):
        m.run_for(2)
        neighbours_hurt()
    m.wait_for(lambda: m.show("mine")["checked"] > 0, 60)
    assert_verified(m, ["mine"])
    m.check()


def test_memory_returns_when_guests_stop(machine):
    config = "".join(vm_section(f"v{i}", 128, "app=verify mem=85%", disk="96M", autostart="no") for i in range(4))
    m = machine(config=config, mem=320).boot()
    before = m.host()
    free_before = m.frames()
    for i in range(4):
        m.ok(f"vm start v{i}")
    m.wait_for(lambda: m.host()["balloon"] != "0" and m.host()["swap-out"] > 0, 180, every=2)
    for i in range(1, 4):
        m.ok(f"vm stop v{i} force")
    for i in range(1, 4):
        m.wait_state(f"v{i}", "created")
    # The survivor gets its memory back: the balloon deflates, and it still holds every byte.
    m.wait_for(lambda: m.mem("v0")["ballooned"] == 0, 180, every=2)
    checked = m.show("v0")["checked"]
    m.wait_for(lambda: m.show("v0")["checked"] > checked, 120, every=2)
    assert_verified(m, ["v0"])
    m.check()
    m.ok("vm stop v0")
    m.wait_state("v0", "created", 90)
    m.wait_for(lambda: m.frames() == free_before, 60, every=2)
    after = m.host()
    assert after["swap-used"] == before["swap-used"] == "0"
    m.check()

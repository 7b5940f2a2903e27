"""More than one CPU: the main job, shares of CPU time, and VMs that come and go while others run."""
import os
import random
import shutil

import pytest
import test_pressure
from aerostat import BOCHS_SMP, vm_section

SECONDS = test_pressure.SECONDS


def spinner(name, **keys):
    return vm_section(name, 32, "app=verify mem=50%", disk="", **keys)


def ran(machine, names, seconds):
    """Milliseconds each has run in that time."""
    before = {n: machine.show(n)["vcpu0-ran-ms"] for n in names}
    machine.run_for(seconds)
    return {n: machine.show(n)["vcpu0-ran-ms"] - before[n] for n in names}


def test_six_guests_on_two_cpus(machine):
    config = "".join(vm_section(n, 192, c, disk="160M") for n, c in test_pressure.MIXED.items())
    test_pressure.run_pressure(machine(config=config, mem=512, cpus=2), list(test_pressure.MIXED), SECONDS)


@pytest.mark.bochs
@pytest.mark.skipif(not shutil.which(BOCHS_SMP), reason="wants Bochs 3.1 (AEROSTAT_BOCHS)")
def test_smaller_on_vmx_with_two_cpus(machine):
    names = {"v1": "app=verify mem=80% zero=10% same=20%", "v2": "app=verify mem=80% zero=10% same=20%",
             "d1": "app=desktop mem=80%"}
    config = "".join(vm_section(n, 96, c, disk="64M") for n, c in names.items())
    parts = (("swap", 320), ("data", 256))
    m = machine(emulator="bochs", cpus=2, config=config, mem=192, parts=parts)
    test_pressure.run_pressure(m, list(names), min(SECONDS, 90))


def test_option_limits_cpus(machine):
    m = machine(config="[loader]\noptions = cpus=1\n\n" + spinner("v0"), mem=320, cpus=2).boot()
    m.wait_state("v0", "running")
    m.run_for(2)
    assert m.show("v0")["vcpu0-cpu"] == 0
    assert "smp: 1 of 2 CPUs" in m.ok("log")


def test_weights_when_cpus_are_short(machine):
    names = ["a", "b", "c", "d"]
    config = "".join(spinner(n, cpu_weight=w) for n, w in zip(names, (1000, 3000, 1000, 3000)))
    m = machine(config=config, mem=512, cpus=2).boot()
    for n in names:
        m.wait_state(n, "running")
    m.run_for(5)
    got = ran(m, names, 20)
    light, heavy = got["a"] + got["c"], got["b"] + got["d"]
    assert 2.85 <= heavy / light <= 3.15, got
    assert abs(got["a"] - got["c"]) < 0.1 * got["a"] and abs(got["b"] - got["d"]) < 0.1 * got["b"], got


def test_cap_holds(machine):
    m = machine(config=spinner("a", cpu_cap=25) + spinner("b"), mem=320, cpus=2).boot()
    for n in ("a", "b"):
        m.wait_state(n, "running")
    m.run_for(5)
    got = ran(m, ["a", "b"], 20)
    assert 0.2 <= got["a"] / got["b"] <= 0.3, got
    m.ok("vm set a cpu-cap 0")
    m.run_for(2)
    got = ran(m, ["a", "b"], 10)
    assert got["a"] / got["b"] > 0.7, got


def test_vms_come_and_go(machine):
    """Pause, resume, stop, crash and start while the others swap: nothing is lost, nothing stays behind."""
    names = [f"v{i}" for i in range(4)]
    config = "".join(vm_section(n, 96, "app=verify mem=80% zero=10% same=20%", disk="64M", autostart="no") for n in names)
    m = machine(config=config, mem=320, cpus=2).boot()
    free_before = m.frames()
    for n in names:
        m.ok(f"vm start {n}")
    choice = random.Random(1)
    for _ in range(int(os.environ.get("AEROSTAT_CHURN_ROUNDS", "30"))):
        n = choice.choice(names)
        state = m.show(n)["state"]
        if state == "created":
            m.ok(f"vm start {n}")
        elif state == "paused":
            m.ok(f"vm resume {n}")
        elif state == "running":
            m.ok(choice.choice([f"vm pause {n}", f"vm stop {n} force", f"vm stop {n} force"]))
        m.run_for(1)
    m.check()
    for n in names:
        if m.show(n)["state"] in ("running", "paused", "starting"):
            assert m.show(n)["errors"] == 0 if "errors" in m.show(n) else True
            m.ok(f"vm stop {n} force")
        m.wait_state(n, "created")
    m.wait_for(lambda: m.frames() == free_before, 60, every=2)
    m.check()

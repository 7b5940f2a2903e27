"""A guest can end only its own VM."""
import pytest

from aerostat import vm_section

# how, and what the operator reads as the reason
ENDS = [
    ("triple", "triple fault"), ("wildcall", None), ("badmem", "beyond memory"), ("hlt", "interrupts off"),
    ("ud", "crash"), ("pf", "crash"), ("stack", None), ("msr", None), ("cr4", None), ("io", None),
]


def bystander():
    return vm_section("good", 64, "app=verify mem=80%", disk="32M")


def crash_and_look(m, how, reason):
    m.ok(f"vm create bad memory=32M cmdline='app=crash how={how} after=1'")
    m.ok("vm start bad")
    m.wait_for(lambda: m.show("bad")["state"] == "crashed", 120)
    why = m.show("bad")["why"]
    assert reason is None or reason in why, why
    log = m.ok("log 200")
    assert "bad: crashed" in log and "rip" in log.lower(), "no dump of the guest's state in the log"
    m.ok("vm destroy bad")


def run_all(m, cases):
    m.boot()
    m.wait_for(lambda: m.show("good").get("checked", 0) > 0, 120)
    for how, reason in cases:
        before = m.show("good")["checked"]
        crash_and_look(m, how, reason)
        m.wait_for(lambda: m.show("good")["checked"] > before, 120)
        good = m.show("good")
        assert good["state"] == "running" and good["errors"] == 0, (how, good)
    m.check()


def test_every_way_on_svm(machine):
    run_all(machine(config=bystander(), mem=256), ENDS)


@pytest.mark.bochs
def test_every_way_on_vmx(machine):
    run_all(machine(emulator="bochs", config=bystander(), mem=192, parts=(("swap", 192), ("data", 64))), ENDS)


def test_spinning_guest_is_preempted_and_ended_by_the_watchdog(machine):
    m = machine(config=bystander(), mem=256).boot()
    m.wait_for(lambda: m.show("good").get("checked", 0) > 0, 120)
    m.ok("vm create bad memory=32M watchdog=5 cmdline='app=crash how=spin after=1'")
    m.ok("vm start bad")
    before = m.show("good")["checked"]
    m.wait_state("bad", "crashed", 120)
    assert "watchdog" in m.show("bad")["why"]
    assert m.show("good")["checked"] > before, "the spinning guest kept the other from running"
    m.check()


def test_spinning_guest_is_stopped_by_the_operator(machine):
    m = machine(config=bystander(), mem=256).boot()
    m.ok("vm create bad memory=32M watchdog=0 cmdline='app=crash how=spin after=1'")
    m.ok("vm start bad")
    m.run_for(5)
    m.ok("vm stop bad force")
    m.wait_state("bad", "created")
    m.check()

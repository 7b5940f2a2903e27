"""A guest can end only its own VM."""
import pytest

from aerostat import vm_section

REPORTED = "the guest reported a crash"
# Where the guest goes, and what the operator reads as the reason.
ENDS = {
    "triple": "triple fault", "ud": REPORTED, "gp": REPORTED, "de": REPORTED, "pf": REPORTED, "stack": REPORTED,
    "badmem": "beyond memory", "badwrite": "beyond memory", "badexec": "beyond memory", "cr3": "beyond memory",
    "idt": "beyond memory", "hlt": "interrupts off",
}
# What a guest survives, because it is refused or does nothing: it goes on to report a crash of its own accord.
SURVIVES = ["io", "msr", "cr4", "insn", "debug", "wildcall", "ringlie", "infolie"]
GOOD = vm_section("good", 48, "app=verify mem=80% rate=20000", disk="32M", autostart="no")


def start(m, how, keys="", after=1):
    m.ok(f"vm create rogue memory=32M disk=8M {keys} cmdline='app=crash how={how} after={after}'")
    m.ok("vm start rogue")


def sees(m, text):
    """The guest has printed it; so it has even if it has ended since."""
    with m.guest_console("rogue"):
        m.expect(text)


def ended(m, how, reason):
    """Only the rogue ends, for the reason, with the state of its processor in the log; the verifier stays clean."""
    m.wait_state("rogue", "crashed", 120)
    why = m.show("rogue")["why"]
    assert reason is None or reason in why, (how, why)
    log = m.ok("log 60")
    log = log[log.rindex("rogue: running"):]
    assert f"rogue: crashed: {why}" in log, (how, log)
    for register in ("rip", "rsp", "cr3", "cr0"):
        assert register in log.lower(), (how, "no dump of the guest's state", log)
    m.ok("vm destroy rogue")
    m.wait_checked("good")


def survived(m, how):
    """The guest came through its own misdeed: what it tried was refused, and did not hurt its kernel either."""
    sees(m, rf"crash: survived {how}\b")


def begin(m):
    """Free frames without any guest."""
    m.boot()
    free = m.settled_frames()
    m.ok("vm start good")
    m.wait_state("good", "running")
    m.wait_checked("good")
    return free


def end(m, free):
    """The verifier owns good pages only, and nobody left anything behind."""
    m.full_check("good")
    m.check()
    m.stop("good")
    m.wait_for(lambda: m.frames() == free, 30)
    m.check()


def stopped(m, may_end=False):
    """It runs on, having done its misdeed, until the operator ends it, and nobody else minds."""
    m.run_for(1)
    m.wait_checked("good")
    assert m.state("rogue") == "running" or may_end
    if may_end:
        m.command("vm stop rogue force")  # refused if it has ended by itself
    else:
        m.ok("vm stop rogue force")
    m.wait_for(lambda: m.state("rogue") in ("created", "crashed"), 30)
    m.ok("vm destroy rogue")


def balloon(m):
    """What lies to the balloon needs a target: one that breaks its promises, one that gives away its own code."""
    start(m, "balloonlie then=run", after=4)
    m.ok("balloon rogue 4M")  # before it lies
    survived(m, "balloonlie")
    seen = m.mem("rogue")
    assert seen["balloon-broken"] > 0 and seen["balloon-out"] > 0 and seen["sum"] == "ok", seen
    stopped(m)
    start(m, "selfballoon", after=4)
    m.ok("balloon rogue 4M")
    ended(m, "selfballoon", None)


def hints(m):
    """What lies to the host about its pages gets what it wrote itself, or zeroes; its own pages go out all the while."""
    start(m, "hintlie then=run", "limit=8M")
    with m.guest_console("rogue"):
        m.expect(r"hints that lie, \d+ times, \d+ refused, 0 foreign words", 120)
        m.expect(r"crash: survived hintlie\b", 60)
    stopped(m)


def run_all(m):
    free = begin(m)
    for how, reason in ENDS.items():
        start(m, how)
        ended(m, how, reason)
    for how in SURVIVES:
        start(m, how)
        survived(m, how)
        ended(m, how, REPORTED)
    balloon(m)
    hints(m)
    start(m, "cr0")
    if m.emulator == "qemu":  # QEMU's own SVM lets it leave 64-bit mode: anything may follow
        sees(m, r"crash: now: cr0")
        stopped(m, may_end=True)
    else:
        survived(m, "cr0")
        ended(m, "cr0", REPORTED)
    end(m, free)


@pytest.mark.takes(60)
def test_every_way_on_svm(machine):
    run_all(machine(config=GOOD, mem=256))


@pytest.mark.bochs
@pytest.mark.takes(200)
def test_every_way_on_vmx(machine):
    run_all(machine(emulator="bochs", config=GOOD, mem=192, parts=(("swap", 192), ("data", 64))))


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=[pytest.mark.bochs, pytest.mark.takes(40)])])
def test_spinning_guests_are_preempted(machine, emulator):
    """With interrupts off until the watchdog or the operator ends it, with interrupts on for ever; the other runs on."""
    m = machine(emulator=emulator, config=GOOD, mem=192, parts=(("swap", 192), ("data", 64)))
    free = begin(m)
    start(m, "spin", "watchdog=2")
    sees(m, r"crash: now: spin")
    m.wait_checked("good")
    ended(m, "spin", "watchdog")
    for how in ("spin", "spinon", "spinexit"):
        start(m, how)
        sees(m, rf"crash: now: {how}\b")
        stopped(m)
    end(m, free)

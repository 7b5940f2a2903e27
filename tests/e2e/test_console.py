"""The operator's console, and what it does to one VM when memory is plentiful."""
import pytest

from aerostat import DETACH, MIB, PROMPT, vm_section

CONFIG = vm_section("idle", 32, "app=idle mem=20%", disk=None)

MISTAKES = [
    "nonsense", "vm", "vm frob", "vm start", "vm start nobody", "vm create x memory=banana", "vm create x memory=64M frob=1",
    "vm create x cmdline=app=idle", "vm create ../x memory=64M", "vm create idle memory=64M", "vm create x memory=64M vcpus=0",
    "vm create x memory=7M", "vm create x memory=18446744073709551616", "vm create x memory=64M reservation=65M",
    "vm create x memory=64M limit=32M reservation=48M", "vm create x memory=64M 'cmdline=app=idle", "balloon idle 1Z",
    "balloon idle 31M", "balloon idle -1", "balloon nobody 1M", "set log-level loud", "set min-free 0", "set nothing 1",
    "mem nobody", "log 0", "log many", "vm resume idle", "vm start idle", "vm destroy idle", "vm stop idle gently",
    "vm set idle reservation 33M", "vm set idle shares 0", "vm set idle limit 4M", "vm set idle memory 64M", "shutdown now",
    "help nonsense", "vm show", "vm show idle idle",
]


@pytest.fixture
def console(machine):
    m = machine(config=CONFIG, mem=256).boot()
    m.wait_up("idle")
    return m


def test_mistakes_get_one_clear_line(console):
    before = console.settled_frames()
    for line in MISTAKES:
        console.refused(line)
    assert len(console.ok("vm list").strip().splitlines()) == 2, "a mistake made a VM"
    console.wait_for(lambda: console.frames() >= before - 64, 10)
    console.check()


def test_life_cycle(console):
    m = console
    m.ok("vm pause idle")
    assert m.state("idle") == "paused"
    m.ok("vm resume idle")
    assert m.state("idle") == "running"
    m.stop("idle")
    m.ok("vm start idle")
    m.wait_state("idle", "running")
    m.ok("vm stop idle force")
    m.wait_state("idle", "created")
    assert m.show("idle")["why"] == "stopped by the operator"
    m.ok("vm start idle")
    m.wait_state("idle", "running")
    m.ok("vm pause idle")
    m.ok("vm stop idle")  # a paused guest cannot answer
    m.wait_state("idle", "created")
    m.ok("vm destroy idle")
    m.refused("vm show idle")
    assert "idle" not in m.ok("vm list")


def test_a_guest_ends_and_restarts_itself(console):
    m = console
    m.ok("vm create g memory=16M cmdline='app=crash how=off after=1'")
    m.ok("vm start g")
    m.expect(r"g: created \(shut down by the guest\)", 60)
    m.ok("vm create r memory=16M cmdline='app=crash how=reboot after=1'")
    m.ok("vm start r")
    for _ in range(3):
        m.expect(r"r: running", 60)
        m.expect(r"r: created \(rebooted by the guest\)", 60)
    m.ok("vm stop r force")
    m.wait_state("r", "created")
    with m.guest_console("idle"):  # it did not notice
        m.send("stats\r")
        m.expect(r"pages: total=8192", 30)
    m.check()


def test_admission_refuses_with_numbers(console):
    m = console
    m.ok("vm create big memory=512M reservation=400M")
    out = m.refused("vm start big")
    assert "not admitted" in out and "400M" in out and "unreserved" in out, out
    m.ok("vm create wide memory=8G")
    out = m.refused("vm start wide")
    assert "not admitted" in out and "8192M of swap" in out, out
    m.ok("vm create disk memory=16M disk=15G")
    assert "guest-data partition full" in m.refused("vm start disk")


def test_settings_of_a_running_vm(machine):
    m = machine(config=vm_section("a", 64, "app=idle mem=70%", disk="64M"), mem=256).boot()
    m.wait_ready("a")
    before = m.host()
    m.ok("vm set a reservation 50%")
    after, shown = m.host(), m.mem("a")
    assert shown["reservation"] == 8192 and shown["swap-reserved"] == 8192
    # Whole MiB are shown, and what a small reservation has on top of it goes.
    assert 31 * MIB <= before["unreserved"] - after["unreserved"] <= 33 * MIB
    assert before["swap-reserved"] - after["swap-reserved"] == 32 * MIB
    # The balloon may not go into the reservation.
    m.ok("balloon a 32M")
    m.refused("balloon a 33M")
    m.wait_for(lambda: m.mem("a")["ballooned"] == 8192, 60)
    m.refused("vm set a limit 31M")
    m.ok("vm set a reservation 0")
    assert m.mem("a")["swap-reserved"] == 16384 and m.host()["swap-reserved"] == 64 * MIB
    # A limit below what it holds is reached, by the balloon or by swap.
    m.ok("balloon a auto")
    m.ok("vm set a limit 24M")
    m.wait_for(lambda: m.mem("a")["consumed"] <= 6144, 120)
    m.ok("vm set a shares high")
    assert m.mem("a")["shares"] == 64 * 20
    m.full_check("a")
    assert m.mem("a")["consumed"] <= 6144 + 64
    m.check()


def test_guest_console_attach_and_detach(machine):
    m = machine(config=CONFIG, mem=256).boot()
    m.send("vm console idle\r")  # before the guest's kernel is up
    m.expect(r"Ctrl-\]", 30)
    m.send("help\r")
    m.expect(r"stats: figures", 30)
    m.send("vm list\r")  # goes to the guest, not to us
    m.expect(r"unknown command 'vm list'", 30)
    m.send(DETACH)
    m.expect(PROMPT, 30)
    m.ok("vm list")
    m.send("vm console idle\r")
    m.expect(r"Ctrl-\]", 30)
    m.send("off\r")
    m.expect(r"idle: created \(shut down by the guest\)", 30)
    m.send("nobody reads this " * 70)  # more than is kept for the guest
    m.run_for(2)
    m.send(DETACH)
    m.expect(r"left the console of idle", 30)
    m.expect(PROMPT, 30)
    m.ok("vm list")


def test_manual_balloon(console):
    m = console
    m.ok("balloon idle 8M")
    m.wait_for(lambda: m.mem("idle")["ballooned"] == 2048, 60)
    seen = m.mem("idle")
    assert seen["balloon-mode"] == "manual" and seen["sum"] == "ok"
    m.ok("balloon idle 0")
    m.wait_for(lambda: m.mem("idle")["ballooned"] == 0, 60)
    m.ok("balloon idle auto")
    assert m.full_check("idle")["idle"] > 1000
    m.check()


def test_history_and_editing(console):
    m = console
    m.ok("set share-rate 1234")
    m.send("\x1b[A\r")  # the last line again
    m.expect(r"share-rate=1234", 30)
    m.expect(PROMPT, 30)
    m.send("hxst\x1b[D\x1b[D\x7fo\r")  # h x s t, two to the left, x away, o
    m.expect(r"backend=", 30)
    m.expect(PROMPT, 30)
    m.send("nonsense\x15vm sh\t idl\t\r")  # Ctrl-U; Tab completes
    out, _ = m.expect(r"name=idle", 30)
    m.expect(PROMPT, 30)
    m.send("vm destroy idle\x03")  # Ctrl-C
    m.expect(PROMPT, 30)
    assert m.state("idle") == "running"
    m.send("help " + "x" * 300 + "\r")
    m.expect(r"error: expected a line of at most 255 characters", 30)
    m.expect(PROMPT, 30)
    m.ok("vm list")


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=[pytest.mark.bochs, pytest.mark.takes(30)])])
def test_guest_abi_conformance(machine, emulator):
    # `bare` asks for neither 2 MiB balloon units nor calls about vCPUs.
    config = vm_section("abi", 48, "app=abi", disk="16M") + vm_section("bare", 12, "app=abi without=34", disk="8M")
    m = machine(emulator=emulator, config=config, mem=192, parts=(("swap", 64), ("data", 32))).boot()
    for name in ("abi", "bare"):
        m.send(f"vm console {name}\r")
        text, match = m.expect(r"abi: (\d+) passed, (\d+) failed", 180)
        assert int(match.group(1)) > 50 and match.group(2) == "0", text
        m.send("\x1d")
        m.expect(PROMPT, 30)


def test_commands_of_the_file(machine):
    """They run at their times, in order, one after another; what waits for keys is refused; a line that is being typed stays."""
    config = CONFIG + "[commands]\n0 = vm list\n0.5 = vm type idle stats\n1 = vm console idle\n1 = top\n1.5 = nonsense\n20 = mem idle\n"
    m = machine(config=config, mem=256).start()
    for line in (r"aerostat> vm list\r*\n", r" 1 idle ", r"aerostat> vm type idle stats", r"\[console of idle: Ctrl-\] leaves\]",
                 r"\[left the console of idle\]", r"aerostat> top", r"error: expected a command that wants no keys",
                 r"aerostat> nonsense", r"error: 'nonsense': unknown command", PROMPT):
        m.expect(line)
    m.send("host wo")
    m.expect(r"aerostat> mem idle")
    m.expect(r"balloon-target=0")
    m.expect(r"aerostat> host wo")  # as it stood
    m.send("rk\r")
    m.expect(r"rk\r*\n")
    assert "console" in m.expect(PROMPT)[0]

"""The operator's console."""
import pytest

from aerostat import vm_section

CONFIG = vm_section("idle", 32, "app=idle mem=20%", disk=None)


@pytest.fixture
def console(machine):
    return machine(config=CONFIG, mem=256).boot()


def test_life_cycle_and_mistakes(console):
    m = console
    for line in ("nonsense", "vm", "vm start", "vm start nobody", "vm create x memory=banana", "vm create x memory=64M frob=1",
                 "balloon idle 1Z", "balloon nobody 1M", "set log-level loud", "mem nobody", "vm resume idle"):
        out = m.command(line).strip().splitlines()
        assert len(out) == 1 and out[0].startswith("error: "), (line, out)
    m.wait_state("idle", "running")
    m.ok("vm pause idle")
    assert m.show("idle")["state"] == "paused"
    m.ok("vm resume idle")
    assert m.show("idle")["state"] == "running"
    m.ok("vm stop idle")
    m.wait_state("idle", "created", 60)
    m.ok("vm start idle")
    m.wait_state("idle", "running")
    m.ok("vm stop idle force")
    m.wait_state("idle", "created", 60)
    m.ok("vm destroy idle")
    assert "error:" in m.command("vm show idle")


def test_admission_refuses_with_numbers(console):
    m = console
    m.ok("vm create big memory=512M reservation=400M")
    out = m.command("vm start big")
    assert "not admitted" in out and "400M" in out and "unreserved" in out, out
    m.ok("vm create wide memory=8G")
    out = m.command("vm start wide")
    assert "not admitted" in out and "swap" in out, out


def test_guest_console_attach_and_detach(console):
    m = console
    m.wait_state("idle", "running")
    m.send("vm console idle\r")
    m.expect(r"Ctrl-\]", 30)
    m.send("help\r")
    m.expect(r"stats", 30)
    m.send("\x1d")
    m.expect(r"aerostat> ", 30)


def test_manual_balloon(console):
    m = console
    m.wait_state("idle", "running")
    m.ok("balloon idle 8M")
    m.wait_for(lambda: m.mem("idle")["ballooned"] >= 2048, 60)
    m.ok("balloon idle 0")
    m.wait_for(lambda: m.mem("idle")["ballooned"] == 0, 60)
    m.check()


def test_history_and_editing(console):
    m = console
    m.ok("host")
    m.drain()
    m.send("\x1b[A")          # the last line again
    m.send("\r")
    m.expect(r"aerostat> ", 30)
    m.send("hxst\x1b[D\x1b[D\x7fo\r")  # h x s t -> left left, delete x, o
    out, _ = m.expect(r"aerostat> ", 30)
    assert "error" not in out, out


def test_guest_abi_conformance(machine):
    m = machine(config=vm_section("abi", 48, "app=abi", disk="16M"), mem=256).boot()
    m.send("vm console abi\r")
    text, found = m.expect(r"abi: (\d+) passed, (\d+) failed", 120)
    assert ", 0 failed" in found, text

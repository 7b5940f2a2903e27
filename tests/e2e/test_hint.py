"""Guests that tell which of their pages their disk has, and which they overwrite: the host drops those, and every byte is right."""
import re

import pytest

from aerostat import MIB, vm_section

# Without a balloon, so that the host has to choose; "past": blocks change under pages that are copies of them.
JOB = "app=stream file=35% mem=40% past=50 report=1 without=3"


def all_right(m, *names):
    """Each checks every page of its file and of its output."""
    for name in names:
        with m.guest_console(name):
            m.send("check\r")
            m.expect(r"check: \d+ pages of the file, 0 bad", 300)
            m.expect(r"check: \d+ pages, 0 bad", 300)
        assert m.show(name)["errors"] == 0
    m.check()


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=[pytest.mark.bochs, pytest.mark.takes(60)])])
def test_clean_copies_are_dropped_and_come_back(machine, emulator):
    config = vm_section("limited", 48, JOB, disk="64M", limit="28M") + vm_section("other", 48, JOB, disk="64M", limit="28M", vcpus=2)
    m = machine(emulator=emulator, config=config, mem=192, parts=(("swap", 160), ("data", 160))).boot()

    def seen_all(name):
        """clean pages were dropped and came back, and pages were overwritten without being read"""
        vm = m.mem(name)
        assert vm["ballooned"] == 0 and vm["sum"] == "ok", vm
        return vm["clean-out"] > 3000 and vm["clean-in"] > 3000 and vm["not-read"] > 1000 and vm["clean"] > 0

    for name in ("limited", "other"):
        m.wait_for(lambda: seen_all(name), 240, every=2)  # pylint: disable=cell-var-from-loop
    m.check()
    for name in ("limited", "other"):
        shown = {}

        def told():
            """blocks were written past the cache, of some of which the guest had told that a page is their copy"""
            with m.guest_console(name):  # pylint: disable=cell-var-from-loop
                line = m.expect(r"stream: pages=[^\r\n]*calls=\d+", 60)[1].group(0)
            shown.update(re.findall(r"(\w+)=(\d+)", line))  # pylint: disable=cell-var-from-loop
            return int(shown["changed"]) > 10 and int(shown["rewritten"]) > 50  # pylint: disable=cell-var-from-loop

        m.wait_for(told, 240)
        print(shown, m.mem(name))
        assert shown["bad"] == shown["failed"] == "0", shown
    m.ok("vm pause limited")

    def in_ledger():
        """the ledger's totals are the counters of the paused VM"""
        vm = m.mem("limited")
        return f"clean-out={vm['clean-out']} clean-back={vm['clean-in']}" in " ".join(m.ok("ledger limited").split())

    m.wait_for(in_ledger, 30)
    m.check()
    m.ok("vm resume limited")
    all_right(m, "limited", "other")
    for name in ("limited", "other"):
        m.ok(f"vm stop {name} force")
        m.wait_state(name, "created")
    host = m.host()
    assert host["swap-used"] == 0 and host["checksum-errors"] == host["read-errors"] == 0, host
    m.check()


@pytest.mark.takes(30)
def test_balloon_beside_copies(machine):
    """A guest with a balloon and a cache that is told of: it shrinks, grows again, and its pages are large ones once more."""
    config = vm_section("db", 96, "app=db size=32M cache=60%", disk="64M")
    m = machine(config=config, mem=256).boot()
    m.wait_for(lambda: m.mem("db")["clean-marked"] + m.mem("db")["large"] > 4000, 120)
    m.ok("balloon db 48M")
    m.wait_for(lambda: m.mem("db")["ballooned"] * 4096 >= 47 * MIB, 120)
    m.wait_checked("db")
    m.check()
    m.ok("balloon db auto")
    m.wait_for(lambda: m.mem("db")["ballooned"] == 0, 120)
    m.wait_checked("db")
    m.full_check("db")
    m.check()

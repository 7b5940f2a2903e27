"""The example guest, written from docs/GUEST-ABI.md alone, beside one of the kernel's: it verifies its pages whatever the host
does with them."""
import pytest

from aerostat import MIB, PAGE, vm_section

CONFIG = (vm_section("example", 24, "none", disk=None, image="example.elf") +
          vm_section("other", 24, "app=verify mem=60%", disk="8M"))


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=pytest.mark.bochs)])
def test_example_guest(machine, emulator):
    m = machine(emulator=emulator, config=CONFIG, mem=192, parts=(("swap", 64), ("data", 16))).boot()
    m.wait_checked("example", "other")
    for size in (8, 3):
        m.ok(f"balloon example {size}M")
        m.wait_for(lambda: m.mem("example")["ballooned"] == size * MIB // PAGE, 120)  # pylint: disable=cell-var-from-loop
        m.wait_checked("example")
    m.ok("vm set example limit 12M")
    m.wait_for(lambda: m.mem("example")["swapped"] > 256, 120)
    m.wait_checked("example", "other")
    with m.guest_console("example"):
        m.expect(r"example: here\s", 120)
    m.check()
    m.ok("balloon example auto")
    m.stop("example")
    m.wait_checked("other")

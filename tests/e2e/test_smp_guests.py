"""Guests of several vCPUs: they write the same shared, ballooned and swapped pages at the same time."""
import pytest
from aerostat import bochs_smp, show_figures, vm_section

SECONDS = 30
LONG = 600
WRITERS = "app=verify mem=85% zero=15% same=30% write=40%"


def writers_under_pressure(m, seconds):
    """Two guests of two vCPUs, all of whose pages belong to both vCPUs; a third guest for the pressure. Runs at least
    so long and until pages have been shared, parted by writes, ballooned and swapped back; then every page is read."""
    names = ["s1", "s2"]
    m.boot()
    for name in names:
        m.wait_state(name, "running")
    seen = set()

    def all_seen():
        """the SMP guests' pages shared, written while shared, ballooned and swapped in"""
        for name in names:
            figures = m.mem(name)
            for key in ("shared-in", "cow-breaks", "ballooned", "swap-in"):
                if figures[key] > 0:
                    seen.add(key)
        return len(seen) == 4

    waited = 0
    while waited < seconds:
        m.run_for(5)
        waited += 5
        all_seen()
        if waited % 30 == 0:
            m.check()
    m.wait_for(all_seen, 300, every=3)
    for name in names:
        m.wait_checked(name)
        shown = m.show(name)
        assert shown["vcpu0-ran-ms"] > 0 and shown["vcpu1-ran-ms"] > 0 and shown["vcpus"] == 2
    show_figures(m, f"{m.emulator}, {m.cpus} CPUs, SMP guests, after {waited} s")
    m.check()
    m.ok("vm stop d1 force")
    print(m.full_check(*names))
    m.check()
    host = m.host()
    assert host["checksum-errors"] == host["read-errors"] == host["write-errors"] == 0


def config(size, disk):
    # Their balloons cannot give their part: swap takes the rest.
    return "".join(vm_section(n, size, WRITERS, disk=disk, vcpus=2, balloon_max="15%") for n in ("s1", "s2")) + \
        vm_section("d1", size, "app=desktop mem=80%", disk=disk)


def on_svm(machine, seconds):
    writers_under_pressure(machine(config=config(160, "128M"), mem=320, cpus=2, parts=(("swap", 1024), ("data", 512))),
                           seconds)


def on_vmx(machine, seconds, cpus):
    writers_under_pressure(machine(emulator="bochs", cpus=cpus, config=config(64, "48M"), mem=160,
                                   parts=(("swap", 256), ("data", 192))), seconds)


@pytest.mark.soak
@pytest.mark.takes(SECONDS + 60)
def test_vcpus_write_the_same_pages(machine):
    on_svm(machine, SECONDS)


@pytest.mark.bochs
@pytest.mark.takes(SECONDS + 90)
def test_vcpus_write_the_same_pages_on_vmx(machine):
    on_vmx(machine, SECONDS, 1)


@pytest.mark.soak
@pytest.mark.takes(LONG + 60)
def test_vcpus_write_the_same_pages_for_long(machine):
    on_svm(machine, LONG)


@pytest.mark.soak
@pytest.mark.bochs
@pytest.mark.takes(LONG + 120)
def test_vcpus_write_the_same_pages_on_vmx_for_long(machine):
    on_vmx(machine, LONG, 2 if bochs_smp() else 1)


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=pytest.mark.bochs)])
def test_calls_about_vcpus(machine, emulator):
    m = machine(emulator=emulator, config=vm_section("abi", 48, "app=abi", disk="16M", vcpus=3), mem=192,
                cpus=2 if emulator == "qemu" else 1, parts=(("swap", 64), ("data", 64))).boot()
    m.send("vm console abi\r")
    text, match = m.expect(r"abi: (\d+) passed, (\d+) failed", 180)
    assert match.group(2) == "0" and int(match.group(1)) > 90, text
    m.send("\x1d")
    m.expect(r"left the console of abi")
    m.check()

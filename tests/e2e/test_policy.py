"""Whose memory: the working set as the host sees it."""
import pytest

from aerostat import vm_section

HOST = "[host]\nwss-period = 2\nwss-samples = 200\n\n"


def seen_apart(m):
    """the idle guest's working set is small, the busy one's is not, each after periods of its own"""
    idle, busy = m.mem("idle"), m.mem("busy")
    return (idle["active-periods"] >= 2 and busy["active-periods"] >= 2 and idle["active"] < 0.3 * idle["pages"] and
            busy["active"] > 0.4 * busy["pages"] and busy["active"] > 2 * idle["active"])


def new_periods(m, method):
    """both are watched by this method, and a period has passed"""
    return all(m.mem(vm)["active-by"] == method for vm in ("idle", "busy"))


@pytest.mark.takes(75)
@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=pytest.mark.bochs)])
def test_working_set(machine, emulator):
    """By accessed bits, and without them: the pages that are watched are taken out of the tables."""
    config = HOST + vm_section("idle", 32, "app=idle mem=70%") + vm_section("busy", 32, "app=verify mem=80%")
    m = machine(emulator=emulator, config=config, mem=144 if emulator == "bochs" else 256,
                parts=(("swap", 128), ("data", 192))).boot()
    m.wait_checked("busy")
    m.wait_for(lambda: seen_apart(m), 180, every=1)
    assert new_periods(m, "accessed")
    seen = m.mem("busy")
    assert 0 < seen["active-written"] <= seen["active"], seen
    assert "backed=yes missing=0" in m.ok("mem worst")
    m.ok("set wss-unmap 1")
    m.wait_for(lambda: new_periods(m, "unmap"), 120, every=1)
    before = m.mem("busy")["active-periods"]
    m.wait_for(lambda: m.mem("busy")["active-periods"] >= before + 2 and seen_apart(m), 180, every=1)
    m.wait_checked("busy")
    if emulator == "qemu":
        m.full_check("busy", "idle")
    m.check()

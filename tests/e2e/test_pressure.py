"""The main job: more guest memory than the machine has, everybody alive and every byte right.

pytest -s shows the figures that each scenario ends with.
"""
import os

import pytest

from aerostat import MIB, show_figures, vm_section

SECONDS = int(os.environ.get("AEROSTAT_PRESSURE_SECONDS", "120"))
MIXED = {
    "v1": "app=verify mem=85% zero=10% same=20% soft=40%",
    "v2": "app=verify mem=85% zero=10% same=20%",
    "v3": "app=verify mem=85% zero=10% same=20%",
    "d1": "app=desktop mem=80%",
    "d2": "app=desktop mem=80%",
    "b1": "app=db size=48M cache=50%",
}


def is_squeezed(host):
    """Shared, ballooned, compressed and swapped at one time, and pages have come back from both."""
    return all(host[key] > 0 for key in ("shared", "balloon", "zip", "zip-out", "swap-used", "swap-out", "swap-in"))


def run_squeezed(m, names, seconds):
    """Runs at least so long and until all tiers have worked at once. Then the others end, so that the verifiers'
    balloons deflate, and each of them looks at every byte it owns."""
    seen = []

    def squeezed_once():
        """shared, ballooned, compressed and swapped at once, pages back from both"""
        host = m.host()
        if is_squeezed(host):
            seen.append(host)
        return seen

    waited = 0
    while waited < seconds:
        m.run_for(5)
        waited += 5
        squeezed_once()
        if waited % 30 == 0:
            m.check()
    m.wait_for(squeezed_once, 300, every=2)
    shown = m.wait_checked(*names)
    assert all(one["errors"] == 0 and one["checked"] > 0 for one in shown.values())
    show_figures(m, f"{m.emulator}, {m.mem_mib} MiB, {len(names)} guests, after {waited} s")
    m.check()
    squeezed_host = m.host()
    for name in names:
        if not name.startswith("v"):
            m.ok(f"vm stop {name} force")
    pages = m.full_check(*[name for name in names if name.startswith("v")])
    m.check()
    host = m.host()
    assert host["balloon"] < squeezed_host["balloon"]
    assert host["checksum-errors"] == host["read-errors"] == host["write-errors"] == host["zip-errors"] == 0
    assert "no memory could be taken back" not in m.ok("log 200")
    print(f"every page verified once more: {pages}; swap-in={host['swap-in']} of swap-out={host['swap-out']}, "
          f"zip-out={host['zip-out']} of zip-in={host['zip-in']}")


@pytest.mark.takes(SECONDS + 60)
def test_six_guests_on_half_a_gigabyte(machine):
    config = "".join(vm_section(n, 192, c, disk="160M", share_group="all") for n, c in MIXED.items())
    m = machine(config=config, mem=512).boot()
    for name in MIXED:
        m.wait_state(name, "running")
    assert float(m.host()["overcommit"]) >= 2.25
    run_squeezed(m, list(MIXED), SECONDS)


@pytest.mark.bochs
@pytest.mark.takes(170)
def test_three_guests_on_vmx(machine):
    names = {"v1": "app=verify mem=90% zero=10% same=20% soft=30%", "v2": "app=verify mem=90% zero=0% same=0%",
             "d1": "app=desktop mem=85%"}
    config = "".join(vm_section(n, 96, c, share_group="all") for n, c in names.items())
    m = machine(emulator="bochs", config=config, mem=144, parts=(("swap", 320), ("data", 256))).boot()
    run_squeezed(m, list(names), min(SECONDS // 2, 60))


def neighbours(count, memory, **keys):
    return "".join(vm_section(f"v{i}", memory, "app=verify mem=85%", disk="96M", **keys) for i in range(count))


@pytest.mark.takes(50)
def test_full_reservation_is_never_touched(machine):
    # The neighbours' balloons cannot give all that is missing: the rest goes to swap, however quick they are.
    config = vm_section("mine", 96, "app=verify mem=85%", reservation="96M") + neighbours(3, 128, balloon_max="35%")
    m = machine(config=config, mem=320).boot()

    def neighbours_lost():
        """each neighbour has lost pages to its balloon, and some to swap"""
        mine = m.mem("mine")
        for key in ("ballooned", "balloon-target", "swapped", "swapping-out", "swap-out", "swap-in"):
            assert mine[key] == 0, (key, mine)
        others = [m.mem(f"v{i}") for i in range(3)]
        return all(v["ballooned"] for v in others) and sum(v["swap-out"] for v in others) > 1000

    m.wait_for(neighbours_lost, 180)
    for _ in range(15):
        m.run_for(1)
        neighbours_lost()
    m.wait_checked("mine", "v0", "v1", "v2")
    m.full_check("mine")  # nothing it owns is elsewhere
    neighbours_lost()
    m.check()


@pytest.mark.takes(50)
def test_memory_returns_when_guests_stop(machine):
    m = machine(config=neighbours(4, 128, autostart="no", balloon_max="25%"), mem=320).boot()  # and swap has to give the rest
    free = m.frames()
    for i in range(4):
        m.ok(f"vm start v{i}")
    m.wait_for(lambda: m.host()["balloon"] > 0 and m.host()["swap-out"] > 1000, 180)
    m.wait_for(lambda: m.mem("v0")["ballooned"] > 1000, 180)
    for i in range(1, 4):
        m.ok(f"vm stop v{i} force")
    for i in range(1, 4):
        m.wait_state(f"v{i}", "created")
    # The survivor gets its memory back: the balloon deflates, and it still holds every byte.
    m.wait_for(lambda: m.mem("v0")["ballooned"] == 0, 180)
    m.wait_checked("v0")
    m.full_check("v0")
    m.check()
    m.stop("v0")
    m.wait_for(lambda: m.frames() == free, 30)
    host = m.host()
    assert host["swap-used"] == host["swap-reserved"] == host["guests"] == host["balloon"] == 0, host
    m.check()


@pytest.mark.takes(40)
def test_paused_guest_is_squeezed_and_comes_back(machine):
    """A paused guest cannot inflate: swap takes its memory for a new neighbour, and gives it back."""
    m = machine(config=neighbours(3, 128, autostart="no"), mem=256).boot()
    m.ok("vm start v0")
    m.wait_checked("v0")
    m.ok("vm pause v0")
    checked = m.show("v0")["checked"]
    m.ok("vm start v1")
    m.ok("vm start v2")
    m.wait_for(lambda: m.mem("v0")["swapped"] > 2000, 120)
    m.wait_checked("v1", "v2")
    seen = m.show("v0")
    assert seen["state"] == "paused" and seen["checked"] == checked and seen["ballooned"] == 0, seen
    m.ok("vm resume v0")
    m.wait_checked("v0", "v1", "v2")
    m.ok("vm stop v2 force")
    m.full_check("v0", "v1")
    assert m.mem("v0")["swap-in"] > 0
    m.check()


def resident(vm):
    """Pages in RAM. Zero pages take none and come and go with the scanner."""
    return vm["consumed"] + vm["zero"]


@pytest.mark.takes(50)
def test_reservation_is_kept_from_the_moment_it_is_set(machine):
    """A squeezed guest whose reservation is raised gets its pages back while the neighbours give."""
    m = machine(config=neighbours(3, 128), mem=256).boot()
    m.wait_checked("v0", "v1", "v2")  # each has made all its pages
    m.wait_for(lambda: min(m.mem(f"v{i}")["ballooned"] for i in range(3)) > 4000, 180)
    m.ok("vm set v0 reservation 96M")
    m.ok("vm set v1 reservation 50%")
    assert "not admitted" in m.refused("vm set v2 reservation 100%")
    m.ok("vm set v1 reservation 0")
    m.wait_for(lambda: m.mem("v0")["balloon-target"] <= 8192 and m.mem("v0")["ballooned"] <= 8192, 120)
    # It re-reads all it owns, so it comes to hold what it is promised, and keeps it.
    pages = m.full_check("v0")
    assert pages["v0"] > 27000, pages
    m.wait_for(lambda: resident(m.mem("v0")) >= 24000, 120)
    before = m.mem("v0")["swap-out"]
    m.wait_checked("v0", "v1", "v2")
    m.run_for(5)
    after = m.mem("v0")
    assert resident(after) >= 24000 and after["swap-out"] - before < 3000, after
    m.check()


@pytest.mark.takes(40)
def test_shares_decide_who_gives(machine):
    """Two equal guests, four times the shares for one: it holds clearly more."""
    m = machine(config=neighbours(1, 128, shares="high").replace("v0", "rich") + neighbours(1, 128, shares="low"),
                mem=192).boot()
    m.wait_checked("rich", "v0")

    def divided():
        """the rich one holds half as much again as the other, and nothing has to be taken with force"""
        # Between soft and high memory is well used and nothing has to happen: it may rest there for as long as it likes.
        return (m.mem("rich")["consumed"] > 1.5 * m.mem("v0")["consumed"] and m.mem("v0")["ballooned"] > 8000 and
                m.mem("rich")["ballooned"] < 4000 and m.host()["state"] in ("high", "clear"))

    m.wait_settled(divided, 180)
    m.full_check("rich", "v0")
    m.check()


@pytest.mark.takes(20)
def test_limit_far_below_what_is_held(machine):
    """A running guest's new limit: its balloon goes first, for which it has to run; it is never frozen, and not blamed."""
    m = machine(config=vm_section("v", 128, "app=verify mem=85% zero=0% same=0%", disk="160M"), mem=448,
                parts=(("swap", 256), ("data", 200))).boot()
    m.wait_checked("v")
    m.ok("vm set v limit 48M")
    m.wait_for(lambda: m.mem("v")["consumed"] <= 48 * 256, 60)
    m.wait_checked("v")
    seen = m.mem("v")
    assert seen["ballooned"] > seen["swapped"], seen
    assert "balloon-stalled" not in m.ok("events 100")
    m.full_check("v")
    m.check()

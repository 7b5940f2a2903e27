"""Dynamic Memory: a guest whose need rises and falls has what it needs, by memory that is added and by its balloon."""
import pytest

from aerostat import MIB, PAGE, vm_section


def has(m, vm="tide"):
    """What the VM has, in MiB, and the whole picture; it stays between its bounds, and the sums are right."""
    seen = m.mem(vm)
    assert seen["sum"] == "ok" and seen["minimum"] <= seen["has"] <= seen["pages"] <= seen["maximum"], seen
    assert seen["wanted"] <= seen["maximum"] and seen["has"] == seen["pages"] - seen["ballooned"], seen
    return seen["has"] * PAGE / MIB, seen


def risen(m, high):
    """the guest has committed its high water and has it, with its buffer"""
    mib, seen = has(m)
    return seen["committed"] * PAGE >= high * MIB and mib >= high and seen["demand-status"] == "ok" and seen


def fallen(m, below):
    """the guest needs little and has given back a good part"""
    mib, seen = has(m)
    return seen["committed"] * PAGE < 40 * MIB and mib <= below and seen


def unharmed(m):
    """The neighbour has its reservation, all of it in RAM."""
    calm = m.mem("calm")
    assert calm["swap-out"] == 0 and calm["balloon-out"] == 0 and calm["balloon-target"] == 0, calm
    assert "pressure" not in calm and calm["pages"] == calm["reservation"]


@pytest.mark.takes(100)
@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=pytest.mark.bochs)])
def test_tide(machine, emulator):
    """Starts with 64 MiB, grows beyond on line, gives back, has it again; the operator fixes its size; a neighbour with a reservation does
    not notice."""
    high = 130 if emulator == "qemu" else 80
    config = (vm_section("tide", 64, f"app=tide high={high}M low=16M hold=16 rate=100", disk="160M", minimum="32M",
                         maximum="192M", vcpus=2) +
              vm_section("calm", 32, "app=verify mem=70% rate=100", reservation="32M"))
    m = machine(emulator=emulator, config=config, mem=384, parts=(("swap", 256), ("data", 256))).boot()
    m.wait_checked("calm", "tide")
    up = m.wait_for(lambda: risen(m, high), 180)
    assert up["pages"] * PAGE >= high * MIB and up["grown"] == up["pages"] - 64 * MIB // PAGE, up
    assert 60 <= up["pressure"] <= 90, up
    down = m.wait_for(lambda: fallen(m, high * 3 / 4), 180)
    assert down["pages"] >= up["pages"] and down["ballooned"] > 0 and down["pressure"] < up["pressure"], (up, down)
    again = m.wait_for(lambda: risen(m, high), 180)
    assert again["balloon-back"] > 0, again
    unharmed(m)
    row = [line.split() for line in m.ok("mem demand").splitlines() if line.startswith("tide ")][0]
    assert row[1:3] == ["32M", "192M"] and row[-3].endswith("%") and row[-1] == "auto", row
    # The operator's size: less by the balloon, more by memory that is added.
    m.ok("vm set tide memory 80M")
    m.wait_for(lambda: abs(has(m)[0] - 80) <= 1, 60)
    m.ok("vm set tide memory 176M")
    m.wait_for(lambda: has(m)[0] == 176, 60)
    assert has(m)[1]["pages"] >= 176 * MIB // PAGE
    assert "memory must be 32M to 192M" in m.refused("vm set tide memory 200M")
    m.ok("vm set tide memory auto")
    assert "has no Dynamic Memory" in m.refused("vm set calm memory 40M")
    checked = m.full_check("tide", "calm")
    assert checked["tide"] >= 16 * MIB // PAGE
    unharmed(m)
    assert "backed=yes missing=0" in m.ok("mem worst")
    m.check()


def by_weight(m):
    """the heavy one has clearly more of what both want, and less pressure"""
    (gold, seen), (lead, other) = has(m, "gold"), has(m, "lead")
    return (seen["committed"] * PAGE > 140 * MIB and other["committed"] * PAGE > 140 * MIB and gold > lead + 24 and
            other["pressure"] > seen["pressure"] and other["demand-status"] == "warning")


@pytest.mark.soak
@pytest.mark.takes(120)
def test_shares(machine):
    """Two guests want more than there is: each gets what its shares are worth, pages the rest to its disk, and sees no wrong byte."""
    config = "".join(vm_section(name, 48, "app=tide high=150M low=150M hold=3600 rate=200", disk="192M", minimum="32M",
                                maximum="192M", shares=shares) for name, shares in (("gold", 3000), ("lead", 1000)))
    m = machine(config=config, mem=288, parts=(("swap", 512), ("data", 512))).boot()
    m.wait_checked("gold", "lead")
    m.wait_for(lambda: by_weight(m), 300, every=1)
    print(m.ok("mem demand"), m.ok("mem"))
    m.wait_for(lambda: "pressure        lead" in m.ok("alerts"), 60)
    m.full_check("gold", "lead")
    assert "backed=yes missing=0" in m.ok("mem worst")
    m.check()

"""What an operator is told: alerts and events, raised and cleared by a machine that really runs short."""
import json
import re

import pytest

from aerostat import MIB, pairs, vm_section


def alerts(m):
    """The alerts raised now: {(name, object)}."""
    rows = m.ok("alerts").strip().splitlines()[1:]
    return {tuple(row.split()[1:3]) for row in rows}


def events(m):
    """{number: the rest of its row}; numbers go up by one."""
    rows = [row.split(None, 1) for row in m.ok("events 256").strip().splitlines()[1:]]
    seen = {int(number): text for number, text in rows}
    assert sorted(seen) == list(range(min(seen), max(seen) + 1)), seen
    return seen


# The balloons of two cannot give their part: the rest is in swap for good.
PRESSED = "".join(vm_section(f"v{i}", 96, "app=verify mem=85% zero=10% same=10%", disk="32M", balloon_max="15%" if i else "65%")
                  for i in range(3))


def raise_and_clear(m):
    """Three guests on a machine for two: every alert that memory can raise is raised, and cleared once they are gone."""
    for key, value in {"alert-clear": 2, "alert-balloon": 5, "alert-balloon-time": 2, "alert-refault": 1,
                       "alert-swap-full": 1, "alert-disk-latency": 0}.items():
        m.ok(f"set {key} {value}")
    wanted = {("swapping", "host"), ("swap-full", "host"), ("disk-cascade", "host"), ("balloon", "v0"), ("refault", "v1")}
    raised = set()

    def all_raised():
        """every alert of memory has been raised"""
        raised.update(alerts(m))
        raised.update((name, object) for _, _, object, name in
                      (re.match(r"(\S+) (\S+) +(\S+) +(\S+) raised", text).groups()
                       for text in events(m).values() if re.search(r"\S+ raised: ", text)))
        return wanted <= raised

    m.wait_for(all_raised, 240, every=1)
    m.ok("vm pause v0")  # cannot answer its balloon's target from now on
    m.ok("balloon v0 60M")
    m.wait_for(lambda: ("balloon-stalled", "v0") in alerts(m), 60, every=1)
    m.ok("vm resume v0")
    m.ok("balloon v0 auto")
    m.ok("vm stop v1 force")
    m.ok("vm stop v2 force")
    m.wait_for(lambda: not alerts(m), 240, every=1)
    told = m.ok("alerts all")
    for name, _ in wanted | {("balloon-stalled", "v0")}:
        assert re.search(rf"{name} +\S+ +no +- +\d+\.\ds +[1-9]", told), (name, told)
    cleared = [text for text in events(m).values() if "cleared: after" in text]
    assert cleared
    m.check()


@pytest.mark.takes(40)
def test_alerts_are_raised_and_cleared(machine):
    raise_and_clear(machine(config=PRESSED, mem=224, parts=(("swap", 320), ("data", 128))).boot())


@pytest.mark.takes(30)
def test_a_guest_that_thrashes_is_not_healed(machine):
    """As long as a guest pages for its balloon every page that it reads back counts; without the balloon none does."""
    m = machine(config=vm_section("a", 48, "app=verify mem=80% zero=10% same=10%", disk="64M"), mem=256).boot()
    m.ok("set alert-clear 5")
    m.wait_checked("a")
    m.wait_for(lambda: m.show("a")["operations"] > 1000, 60, every=1)
    m.ok("balloon a 24M")
    m.wait_for(lambda: ("refault", "a") in alerts(m), 60, every=1)
    before, seen = m.show("a"), []

    def paged():
        """in five looks and more the alert stands, and a thousand pages have been read back"""
        assert ("refault", "a") in alerts(m)
        after = m.show("a")
        seen.append([after[key] - before[key] for key in ("refaults", "guest-paged-in")])
        return len(seen) >= 5 and seen[-1][1] > 1000

    m.wait_for(paged, 60, every=2)
    refaults, paged_in = seen[-1]
    assert 0.8 * paged_in < refaults < 1.2 * paged_in, seen
    m.ok("balloon a 0")
    m.wait_for(lambda: ("refault", "a") not in alerts(m), 60, every=1)
    m.check()


def totals(m, vm):
    """The ledger's totals of a VM, and its counters, once both stand still."""
    counters = {"share-out": ("shared-in", "zero-in"), "share-back": ("cow-breaks",), "balloon-out": ("balloon-out",),
                "balloon-back": ("balloon-back", "balloon-broken"), "zip-out": ("zip-in",), "zip-back": ("zip-out",),
                "swap-out": ("swap-out",), "swap-back": ("swap-in",)}
    seen = []

    def equal():
        """the ledger's totals are the counters"""
        told, shown = pairs(m.ok(f"ledger {vm}").split("seq")[0]), m.mem(vm)
        seen.append(({key: told[key] for key in counters}, {key: sum(shown[of] for of in all) for key, all in counters.items()}))
        return seen[-1][0] == seen[-1][1]

    m.wait_for(equal, 60, every=1)
    return seen[-1][0]


TIERS = (vm_section("soft", 48, "app=verify mem=70% zero=10% same=20% soft=70% without=3", disk=None, zip_max="4%") +
         vm_section("tide", 32, "app=tide high=48M low=48M hold=3600 rate=200", disk="96M", minimum="16M", maximum="64M"))


@pytest.mark.takes(40)
def test_alerts_of_compression_and_dynamic_memory(machine):
    """A guest without a balloon above its limit fills its part of compressed memory; one with Dynamic Memory has less than it has
    committed. Both are told, and cleared when they have what they need; the ledger has counted what moved."""
    m = machine(config=TIERS, mem=256, parts=(("swap", 256), ("data", 128))).boot()
    m.ok("set alert-clear 2")
    m.ok("set alert-zip-full 50")  # what is beyond seven eighths goes on to swap
    m.wait_checked("soft", "tide")
    m.wait_for(lambda: m.mem("tide")["committed"] * 4096 >= 48 * MIB and m.mem("tide")["demand-status"] == "ok", 180, every=1)
    m.ok("vm set soft limit 16M")
    m.ok("vm set tide memory 32M")
    wanted = {("zip-full", "soft"), ("pressure", "tide")}
    m.wait_for(lambda: wanted <= alerts(m), 240, every=1)
    m.ok("vm set soft limit 0")
    m.ok("vm set tide memory auto")
    m.full_check("soft")  # whatever is compressed comes back
    m.wait_for(lambda: not wanted & alerts(m), 240, every=1)
    told = m.ok("alerts all")
    for name, _ in wanted:
        assert re.search(rf"{name} +(soft|tide) +no +\S+ +\d+\.\ds +[1-9]", told), (name, told)
    m.ok("set share-rate 0")
    for vm in ("soft", "tide"):
        m.ok(f"vm pause {vm}")
    moved = totals(m, "soft")
    assert moved["zip-out"] and moved["zip-back"] and moved["swap-out"] and moved["share-out"], moved
    moved = totals(m, "tide")
    assert moved["balloon-out"] and moved["balloon-back"], moved
    m.check()


def test_settings_and_mistakes(machine):
    m = machine(config=vm_section("a", 32, "app=idle mem=20%", disk=None), mem=256).boot()
    m.ok("set alert-balloon 20")
    assert "alert-balloon=20 percent" in m.ok("get alert-balloon")
    for line in ("set alert-balloon 0", "set alert-balloon 96", "get nothing", "events 0", "events since", "alerts some"):
        m.refused(line)
    m.wait_for(lambda: "-> running" in m.ok("events"), 30)
    m.ok("vm pause a")
    m.wait_for(lambda: "running -> paused" in m.ok("events"), 10)
    assert "set alert-balloon 20" in m.ok("events")


def test_own_memory_stays_small(machine):
    """Everything the hypervisor keeps for its operator is bounded."""
    m = machine(mem=1024, parts=()).boot()
    m.run_for(5)
    host = m.host()
    print(f"hypervisor={host['hypervisor']} of {host['total']}")
    assert host["hypervisor"] < 8 * MIB


def test_history(machine):
    """What is exported agrees with what the commands show of a guest at rest."""
    m = machine(config=vm_section("a", 32, "app=idle mem=20%", disk=None), mem=256).boot()
    m.ok("balloon a 4M")
    m.wait_for(lambda: m.mem("a")["ballooned"] == 1024, 60)
    m.ok("set share-rate 0")  # nothing moves from now on
    m.ok("vm pause a")

    def agree():
        """the last of some seconds has what is shown now"""
        told = json.loads(m.ok("history a json"))
        last, shown = dict(zip(told["fields"], told["rows"][-1])), m.mem("a")
        assert told["object"] == "a" and told["seconds"] == 1
        return len(told["rows"]) > 3 and all(last[field] == shown[key] for field, key in
                                             (("consumed", "consumed"), ("balloon", "ballooned"), ("target", "target")))

    m.wait_for(agree, 60)
    rows = m.ok("history host csv").split()
    assert rows[0].startswith("second,free,") and len(rows) > 3
    assert len({len(row.split(",")) for row in rows}) == 1
    chart = m.ok("history a balloon")
    assert "balloon of a: now 4M" in chart and "#|" not in chart and chart.count("|") == 10
    m.refused("history a nothing")
    m.refused("history nobody balloon")

"""What an operator is told: alerts and events, raised and cleared by a machine that really runs short."""
import json
import re

import pytest

from aerostat import LOG_LINE, MIB, vm_section


def alerts(m):
    """The alerts raised now: {(name, object)}."""
    rows = LOG_LINE.sub("", m.ok("alerts")).strip().splitlines()[1:]
    return {tuple(row.split()[1:3]) for row in rows}


def events(m):
    """{number: the rest of its row}; numbers go up by one."""
    rows = [row.split(None, 1) for row in LOG_LINE.sub("", m.ok("events 256")).strip().splitlines()[1:]]
    seen = {int(number): text for number, text in rows}
    assert sorted(seen) == list(range(min(seen), max(seen) + 1)), seen
    return seen


PRESSED = "".join(vm_section(f"v{i}", 96, "app=verify mem=85% zero=10% same=10%", disk="32M") for i in range(3))


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
        told = json.loads(LOG_LINE.sub("", m.ok("history a json")))
        last, shown = dict(zip(told["fields"], told["rows"][-1])), m.mem("a")
        assert told["object"] == "a" and told["seconds"] == 1
        return len(told["rows"]) > 3 and all(last[field] == shown[key] for field, key in
                                             (("consumed", "consumed"), ("balloon", "ballooned"), ("target", "target")))

    m.wait_for(agree, 60)
    rows = LOG_LINE.sub("", m.ok("history host csv")).split()
    assert rows[0].startswith("second,free,") and len(rows) > 3
    assert len({len(row.split(",")) for row in rows}) == 1
    chart = m.ok("history a balloon")
    assert "balloon of a: now 4M" in chart and "#|" not in chart and chart.count("|") == 10
    m.refused("history a nothing")
    m.refused("history nobody balloon")

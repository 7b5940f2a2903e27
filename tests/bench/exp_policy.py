"""Whose memory: the estimate of active memory (c), the idle tax (d), five guests beside each other (e), half of them idle (g)."""
import re

from memlab import pages, pairs, prove, proved, run, throughput, vm_section

# ---- c: active memory ----

STEPS, STEP = (60, 20, 50, 10, 80), 30  # percent of the region, seconds each
ACTIVE_MEM, PERIOD = 64, 5


def active(work):
    sets = ",".join(map(str, STEPS))
    vm = vm_section("set", ACTIVE_MEM, f"app=verify mem=90% zero=0 same=0 write=20% rate=3000 report=0 sets={sets} step={STEP}",
                    disk=None, reservation="100%")
    looks = range(1, len(STEPS) * STEP)
    seen = run(work, [vm], ACTIVE_MEM + 64, [(at, "vm show set") for at in looks] + [(looks[-1] + 1, "vm console set")],
               wss_period=PERIOD)
    # (second of the guest's clock, pages it works on from then on)
    steps = [(int(ms) / 1000, int(n)) for n, ms in re.findall(r"verify: works on (\d+) pages at (\d+) ms", seen.console("set"))]
    assert len(steps) == len(STEPS), steps
    rows = []
    for at, text in zip(looks, seen.all("vm show set")):
        shown = pairs(text)
        truth = [n for begin, n in steps if begin <= at] or [0]
        rows.append({"second": at, "truth": truth[-1], "estimate": shown["active"], "fast": shown["active-fast"],
                     "slow": shown["active-slow"], "now": shown["active-now"]})
    settled = [r for r in rows if (r["second"] - steps[0][0]) % STEP >= STEP * 3 // 4]
    error = sum(abs(r["estimate"] - r["truth"]) for r in settled) / len(settled) / pages(ACTIVE_MEM) * 100
    print(f"  {len(rows)} looks, mean error once settled {error:.1f} % of the VM")
    return {"rows": rows, "figures": {"active_error_percent": (error, "% of the VM", "-")}}


# ---- d: idle tax ----

PAIR = 192           # MiB each
TAX_ROOM = 300       # for both, hypervisor and free memory included
TAX_WARM, TAX_SECONDS = 30, 8


def taxed(work, tax):
    vms = [vm_section("idle", PAIR, "app=idle mem=85%", disk=f"{PAIR}M"),
           vm_section("busy", PAIR, f"app=db size={PAIR}M cache=95% report=1 run={TAX_WARM + TAX_SECONDS + 1}", disk=f"{PAIR + 128}M")]
    end = TAX_WARM + TAX_SECONDS + 12
    seen = run(work, vms, TAX_ROOM, [(0, "vm console busy"), (end, "history idle csv"), (end, "history busy csv"), (end, "mem check")],
               swap=2 * PAIR, data=2 * PAIR + 192, min_free="10M", wss_period=2, idle_tax=tax, balloon_rate=1000000)
    proved(seen)
    line = {name: seen.history(name) for name in ("idle", "busy")}
    begin = next(second for second, n in zip(line["busy"]["second"], line["busy"]["operations"]) if n) + TAX_WARM
    return {"tax": tax, "ops": throughput(seen.console("busy"), "db", "ops", TAX_WARM, TAX_SECONDS), "line": line,
            "measured": (begin, begin + TAX_SECONDS)}


def idle_tax(work):
    rows = [taxed(work, tax) for tax in (0, 75)]
    free, high = [row["ops"] for row in rows]
    gain = (high / free - 1) * 100
    print(f"  tax 0: {free:,.0f}/s, tax 75 %: {high:,.0f}/s, gain {gain:.0f} %")
    return {"rows": rows,
            "figures": {"idle_tax_gain_percent": (gain, "%", "above 30 (OSDI'02)")}}


# ---- e: five guests ----

FIVE_SECONDS, PEAK_SECONDS = 60, 30
FIVE = (("store", 96, "app=verify mem=80% zero=5% same=5% rate=1500 report=0"),
        ("db", 96, f"app=db size=96M cache=90% report=1 run={FIVE_SECONDS} rate=4000"),
        ("desk", 96, "app=desktop mem=85%"),
        ("web", 64, "app=idle mem=85% checks=100"),
        ("batch", 64, "app=verify mem=70% zero=20% same=0 write=50% rate=500 report=0"))
FIVE_ROOM = 270  # of 416 MiB: 1.6 times what is left beside the hypervisor's own


def five(work):
    vms = [vm_section(name, mib, cmdline, disk=f"{mib + 96}M") for name, mib, cmdline in FIVE]
    names = [name for name, _, _ in FIVE]
    end = FIVE_SECONDS + 3
    looks = ["history host csv"] + [f"history {name} csv" for name in names] + ["events 60", "mem"] + [f"vm show {name}" for name in names]
    seen = run(work, vms, FIVE_ROOM, [(end, line) for line in looks] + prove(end, *names), swap=420, data=1000, min_free="10M",
               wss_period=10)
    proved(seen, *names)
    for name in names:
        shown = seen.look(f"vm show {name}")
        assert shown["state"] == "running" and shown.get("errors", 0) == 0, shown
    line = {name: seen.history(name) for name in ["host"] + names}
    host, seconds = seen.look("mem"), next(iter(line["host"].values()))
    after = sum(n for second, n in zip(seconds, line["host"]["swap-out"]) if second > PEAK_SECONDS)
    print(f"  overcommit {host['overcommit']}, swapped out {host['swap-out']} in all, {after} after the first {PEAK_SECONDS} s")
    return {"rows": line, "events": seen.last("events 60"), "peak": PEAK_SECONDS,
            "figures": {"five_overcommit": (float(host["overcommit"]), "times", "-"),
                        "five_swapped_after_peak": (after, "pages", "-")}}


# ---- g: half of them idle ----

FOUR = 96  # MiB each
HALF_WARM, HALF_SECONDS = 26, 6  # until the idle ones are known to be


def half(work, room, warm):
    busy = f"app=verify mem=60% zero=0 same=0 report=1 run={warm + HALF_SECONDS + 1}"
    names = ["idle1", "idle2", "busy1", "busy2"]
    vms = [vm_section(name, FOUR, "app=idle mem=85%" if name.startswith("idle") else busy, disk=f"{FOUR + 32}M") for name in names]
    end = warm + HALF_SECONDS + 10
    seen = run(work, vms, room, [(0, "vm console busy1"), (end, "vm console busy2"), (end, "mem")] + prove(end + 1, *names),
               swap=4 * FOUR, data=4 * FOUR + 160, min_free="8M", wss_period=2, balloon_rate=1000000)
    proved(seen, *names)
    rates = [throughput(seen.console(name), "verify", "checked", warm, HALF_SECONDS) for name in ("busy1", "busy2")]
    return sum(rates), seen.look("mem")


def half_idle(work):
    alone, _ = half(work, 4 * FOUR + 96, 6)
    short, host = half(work, 2 * FOUR + 8, HALF_WARM)
    loss = (1 - short / alone) * 100
    print(f"  uncommitted {alone:,.0f}/s, {host['overcommit']} : 1 {short:,.0f}/s, loss {loss:.2f} %")
    return {"rows": [{"uncommitted": alone, "overcommitted": short, "overcommit": host["overcommit"]}],
            "figures": {"busy_loss_percent": (loss, "%", "-")}}

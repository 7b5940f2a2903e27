"""Whose memory: the estimate of active memory (c), the idle tax (d), five guests beside each other (e), half of them idle (g)."""
from memlab import history, machine, pages, pairs, throughput, until_done, vm_section

# ---- c: active memory ----

STEPS, STEP = (60, 20, 50, 10, 80), 30  # percent of the region, seconds each
ACTIVE_MEM, PERIOD = 64, 5


def active(work):
    sets = ",".join(map(str, STEPS))
    vm = vm_section("set", ACTIVE_MEM, f"app=verify mem=90% zero=0 same=0 write=20% rate=6000 report=0 sets={sets} step={STEP}",
                    disk=None, reservation="100%")
    rows, begin = [], None
    with machine(work, [vm], ACTIVE_MEM + 64, wss_period=PERIOD) as m:
        region = None
        while not rows or rows[-1]["second"] < len(STEPS) * STEP:
            shown = m.show("set")
            if shown.get("app-state") != "running":
                continue
            m.run_for(0.1)
            up = seconds(shown["uptime"])
            if begin is None:
                begin = up
                region = shown["private"]
            if rows and up - begin == rows[-1]["second"]:
                continue
            at = min((up - begin) // STEP, len(STEPS) - 1)
            rows.append({"second": up - begin, "truth": region * STEPS[at] // 100, "estimate": shown["active"],
                         "fast": shown["active-fast"], "slow": shown["active-slow"], "now": shown["active-now"]})
    settled = [r for r in rows if r["second"] % STEP >= STEP * 3 // 4]
    error = sum(abs(r["estimate"] - r["truth"]) for r in settled) / len(settled) / pages(ACTIVE_MEM) * 100
    print(f"  {len(rows)} looks, mean error once settled {error:.1f} % of the VM")
    return {"rows": rows, "figures": {"active_error_percent": (error, "% of the VM", "-")}}


def seconds(text):
    """"1h2m3s" as the console prints it."""
    total, number = 0, ""
    for c in str(text):
        if c.isdigit():
            number += c
        else:
            total += int(number or 0) * {"d": 86400, "h": 3600, "m": 60, "s": 1}.get(c, 0)
            number = ""
    return total + int(number or 0)


# ---- d: idle tax ----

PAIR = 192           # MiB each
TAX_ROOM = 300       # for both, hypervisor and free memory included
TAX_WARM, TAX_SECONDS = 30, 8


def taxed(work, tax):
    vms = [vm_section("idle", PAIR, "app=idle mem=85%", disk=f"{PAIR}M"),
           vm_section("busy", PAIR, f"app=db size={PAIR}M cache=95% report=1 run={TAX_WARM + TAX_SECONDS + 1}", disk=f"{PAIR + 128}M")]
    with machine(work, vms, TAX_ROOM, swap=2 * PAIR, data=2 * PAIR + 192, min_free="10M", wss_period=2, idle_tax=tax,
                 balloon_rate=1000000) as m:
        text = until_done(m, "busy", "db", 1200)
        line = {name: history(m, name) for name in ("idle", "busy")}
        m.check()
        return throughput(text, "db", "ops", TAX_WARM, TAX_SECONDS), line


def idle_tax(work):
    free, line0 = taxed(work, 0)
    high, line75 = taxed(work, 75)
    gain = (high / free - 1) * 100
    print(f"  tax 0: {free:,.0f}/s, tax 75 %: {high:,.0f}/s, gain {gain:.0f} %")
    return {"rows": [{"tax": 0, "ops": free, "line": line0}, {"tax": 75, "ops": high, "line": line75}],
            "figures": {"idle_tax_gain_percent": (gain, "%", "above 30 (OSDI'02)")}}


# ---- e: five guests ----

FIVE = (("store", 96, "app=verify mem=80% zero=5% same=5% rate=3000 report=0"),
        ("db", 96, "app=db size=96M cache=90% report=1 run=60 rate=8000"),
        ("desk", 96, "app=desktop mem=85%"),
        ("web", 64, "app=idle mem=85% checks=100"),
        ("batch", 64, "app=verify mem=70% zero=20% same=0 write=50% rate=1000 report=0"))
FIVE_ROOM = 270  # of 416 MiB: 1.6 times what is left beside the hypervisor's own


def five(work):
    vms = [vm_section(name, mib, cmdline, disk=f"{mib + 96}M") for name, mib, cmdline in FIVE]
    with machine(work, vms, FIVE_ROOM, swap=420, data=1000, min_free="10M", wss_period=10) as m:
        until_done(m, "db", "db", 1500)
        line = {name: history(m, name) for name in ["host"] + [name for name, _, _ in FIVE]}
        events = m.ok("events 60")
        host = pairs(m.ok("mem"))
        m.check()
        for name, _, _ in FIVE:
            assert m.show(name)["state"] == "running" and m.show(name).get("errors", 0) == 0, m.show(name)
    out = line["host"]["swap-out"]
    peak = max(range(len(out)), key=lambda i: out[i]) if any(out) else 0
    after = [n for i, n in enumerate(out) if line["host"][next(iter(line["host"]))][i] > 30]
    print(f"  overcommit {host['overcommit']}, swapped out {host['swap-out']} in all, {sum(after)} after the first 30 s")
    return {"rows": line, "events": events, "peak": peak,
            "figures": {"five_overcommit": (float(host["overcommit"]), "times", "-"),
                        "five_swapped_after_peak": (sum(after), "pages", "-")}}


# ---- g: half of them idle ----

FOUR = 96  # MiB each
HALF_WARM, HALF_SECONDS = 26, 6  # until the idle ones are known to be


def half(work, room, warm):
    busy = f"app=verify mem=60% zero=0 same=0 report=1 run={warm + HALF_SECONDS + 1}"
    vms = [vm_section(f"idle{i}", FOUR, "app=idle mem=85%", disk=f"{FOUR + 32}M") for i in (1, 2)]
    vms += [vm_section(f"busy{i}", FOUR, busy, disk=f"{FOUR + 32}M") for i in (1, 2)]
    with machine(work, vms, room, swap=4 * FOUR, data=4 * FOUR + 160, min_free="8M", wss_period=2, balloon_rate=1000000) as m:
        texts = [until_done(m, name, "verify", 1500) for name in ("busy1", "busy2")]
        host = pairs(m.ok("mem"))
        m.full_check("idle1", "idle2", "busy1", "busy2")
        m.check()
        rates = [throughput(text, "verify", "checked", warm, HALF_SECONDS) for text in texts]
        return sum(rates), host


def half_idle(work):
    alone, _ = half(work, 4 * FOUR + 96, 6)
    short, host = half(work, 2 * FOUR + 8, HALF_WARM)
    loss = (1 - short / alone) * 100
    print(f"  uncommitted {alone:,.0f}/s, {host['overcommit']} : 1 {short:,.0f}/s, loss {loss:.2f} %")
    return {"rows": [{"uncommitted": alone, "overcommitted": short, "overcommit": host["overcommit"]}],
            "figures": {"busy_loss_percent": (loss, "%", "-")}}

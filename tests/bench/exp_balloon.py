"""Balloon: what it costs a guest to be made small by it (a), and what a page's way there and back takes (trips)."""
from memlab import guest_stats, machine, pages, throughput, until_done, vm_section

FULL = 256  # MiB
SIZES = (128, 160, 192, 224)
WARM, SECONDS = 9, 6
TRIP = 96   # MiB


def database(work, size, ballooned):
    """Operations a second of a database whose file does not fit, in a VM of this size or made so small."""
    memory = FULL if ballooned else size
    db = vm_section("db", memory, f"app=db size={FULL}M cache=95% report=1 run={WARM + SECONDS + 1}", disk=f"{FULL + 64}M",
                    reservation=f"{size}M")
    with machine(work, [db], FULL + 64, swap=FULL - size + 16, data=FULL + 64, min_free="8M", balloon_rate=1000000) as m:
        if ballooned:
            m.ok(f"balloon db {FULL - size}M")
        text = until_done(m, "db", "db", 900)
        if ballooned:
            assert m.mem("db")["ballooned"] == pages(FULL - size), m.mem("db")
        return throughput(text, "db", "ops", WARM, SECONDS)


def cost(work):
    rows = []
    for size in SIZES:
        native, ballooned = database(work, size, False), database(work, size, True)
        rows.append({"size": size, "native": native, "ballooned": ballooned, "overhead": (1 - ballooned / native) * 100})
        print(f"  {size} MiB: native {native:,.0f}/s, ballooned {ballooned:,.0f}/s, overhead {rows[-1]['overhead']:.2f} %")
    worst = max(row["overhead"] for row in rows)
    return {"rows": rows, "figures": {"balloon_overhead_percent_max": (worst, "%", "1.4-4.4 (OSDI'02)")}}


def one_trip(work, units):
    """A balloon of used memory goes up and down once; {"up_4k": instructions a page, ...}."""
    vm = vm_section("trip", FULL, f"app=idle mem=5% prefault=1 {units}", disk=None, reservation="50%")
    with machine(work, [vm], FULL + 192, swap=FULL, min_free="16M", balloon_rate=1000000) as m:
        m.wait_for(lambda: m.show("trip").get("app-state") == "running" and m.mem("trip")["private"] > pages(FULL) * 9 // 10, 120)
        large = m.mem("trip")["large"]
        for mib in (TRIP, 0):
            m.ok(f"balloon trip {mib}M")
            m.wait_for(lambda: m.mem("trip")["ballooned"] == pages(mib), 120)  # pylint: disable=cell-var-from-loop
        costs = {name: ticks / n for name, (ticks, n) in guest_stats(m, "trip").items() if n}
        return dict(costs, large=large)


def trips(work):
    small, large = one_trip(work, "without=2"), one_trip(work, "")
    print(f"  4 KiB: {small}\n  2 MiB: {large}")
    return {"rows": [small, large],
            "figures": {"balloon_4k_inflate": (small["up_4k"], "instructions a page", "9,293 (virtio-balloon on KVM, both ways)"),
                        "balloon_4k_deflate": (small["down_4k"], "instructions a page", "9,293 (virtio-balloon on KVM, both ways)"),
                        "balloon_2m_per_4k": (max(large["up_2m"], large["down_2m"]), "instructions a 4 KiB page", "-")}}

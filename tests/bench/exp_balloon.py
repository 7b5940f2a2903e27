"""Balloon: what it costs a guest to be made small by it (a), and what a page's way there and back takes (trips)."""
from memlab import guest_stats, pages, reports, run, throughput, vm_section

FULL = 256  # MiB
SIZES = (128, 160, 192, 224)
SECONDS = 6
AFTER = 8           # s: the file is written before; nobody counts the rest after
TRIP = 96   # MiB


def warm(size):
    """Seconds until the cache is full, and what that has left behind is over: the first pages have gone that were written."""
    return size * 15 // 224


def database(work, size, ballooned):
    """Operations a second of a database whose file does not fit, in a VM of this size or made so small."""
    begin = warm(size)
    memory, commands = size, [(0, "vm console db"), (begin + SECONDS + AFTER, "mem db")]
    if ballooned:
        memory, commands = FULL, [(0, f"balloon db {FULL - size}M")] + commands
    db = vm_section("db", memory, f"app=db size={FULL}M cache=100% report=1 run={begin + SECONDS + 1}", disk=f"{FULL + 64}M",
                    reservation=f"{size}M")
    seen = run(work, [db], FULL + 64, commands, swap=FULL - size + 16, data=FULL + 64, min_free="8M", balloon_rate=1000000)
    held = seen.look("mem db")["ballooned"]
    assert held == (pages(FULL - size) if ballooned else 0), held
    text = seen.console("db")
    cached = [int(row[0]) for row in reports(text, "db", "cached")][begin:begin + SECONDS]
    return throughput(text, "db", "ops", begin, SECONDS), cached


def cost(work):
    """Both VMs ask for the same pages in the same order; neither cache may still grow while they are compared."""
    rows = []
    for size in SIZES:
        native, had = database(work, size, False)
        ballooned, has = database(work, size, True)
        assert max(had) - min(had) < pages(1) and max(has) - min(has) < pages(1), (had, has)
        rows.append({"size": size, "native": native, "ballooned": ballooned, "overhead": (1 - ballooned / native) * 100,
                     "native_cached": had[-1], "ballooned_cached": has[-1]})
        print(f"  {size} MiB: native {native:,.0f}/s, ballooned {ballooned:,.0f}/s, overhead {rows[-1]['overhead']:.2f} %, "
              f"cached {had[-1]} and {has[-1]} pages", flush=True)
    worst = max(row["overhead"] for row in rows)
    return {"rows": rows, "figures": {"balloon_overhead_percent_max": (worst, "%", "1.4-4.4 (OSDI'02)")}}


def one_trip(work, units):
    """A balloon of used memory goes up and down once; {"up_4k": instructions a page, ...}."""
    vm = vm_section("trip", FULL, f"app=idle mem=5% prefault=1 {units}", disk=None, reservation="50%")
    seen = run(work, [vm], FULL + 192,
               [(3, "mem trip"), (3, f"balloon trip {TRIP}M"), (7, "mem trip"), (7, "balloon trip 0M"), (11, "mem trip"),
                (11, "vm type trip stats"), (12, "vm console trip"), (12.2, "mem check")],
               swap=FULL, min_free="16M", balloon_rate=1000000)
    before, up, down = [dict(pair.split("=") for pair in text.split() if "=" in pair) for text in seen.all("mem trip")]
    assert int(before["private"]) > pages(FULL) * 9 // 10, before
    assert (int(up["ballooned"]), int(down["ballooned"])) == (pages(TRIP), 0), (up, down)
    assert "sum check: ok" in seen.last("mem check"), seen.last("mem check")
    costs = {name: ticks / n for name, (ticks, n) in guest_stats(seen.last("vm console trip")).items() if n}
    return dict(costs, large=int(before["large"]))


def trips(work):
    small, large = one_trip(work, "without=2"), one_trip(work, "")
    print(f"  4 KiB: {small}\n  2 MiB: {large}")
    return {"rows": [small, large],
            "figures": {"balloon_4k_inflate": (small["up_4k"], "instructions a page", "9,293 (virtio-balloon on KVM, both ways)"),
                        "balloon_4k_deflate": (small["down_4k"], "instructions a page", "9,293 (virtio-balloon on KVM, both ways)"),
                        "balloon_2m_per_4k": (max(large["up_2m"], large["down_2m"]), "instructions a 4 KiB page", "-")}}

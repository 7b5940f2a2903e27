"""Balloon: what it costs a guest to be made small by it (a), and what a page's way there and back takes (trips)."""
from memlab import guest_stats, pages, run, throughput, vm_section

FULL = 256  # MiB
SIZES = (128, 160, 192, 224)
WARM, SECONDS = 9, 6
END = WARM + SECONDS + 8  # the file is written before; nobody counts the rest after
TRIP = 96   # MiB


def database(work, size, ballooned):
    """Operations a second of a database whose file does not fit, in a VM of this size or made so small."""
    memory, commands = size, [(0, "vm console db"), (END, "mem db")]
    if ballooned:
        memory, commands = FULL, [(0, f"balloon db {FULL - size}M")] + commands
    db = vm_section("db", memory, f"app=db size={FULL}M cache=100% report=1 run={WARM + SECONDS + 1}", disk=f"{FULL + 64}M",
                    reservation=f"{size}M")
    seen = run(work, [db], FULL + 64, commands, swap=FULL - size + 16, data=FULL + 64, min_free="8M", balloon_rate=1000000)
    held = seen.look("mem db")["ballooned"]
    assert held == (pages(FULL - size) if ballooned else 0), held
    return throughput(seen.console("db"), "db", "ops", WARM, SECONDS)


def cost(work):
    rows = []
    for size in SIZES:
        native, ballooned = database(work, size, False), database(work, size, True)
        rows.append({"size": size, "native": native, "ballooned": ballooned, "overhead": (1 - ballooned / native) * 100})
        print(f"  {size} MiB: native {native:,.0f}/s, ballooned {ballooned:,.0f}/s, overhead {rows[-1]['overhead']:.2f} %", flush=True)
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

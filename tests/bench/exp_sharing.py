"""Sharing (b): up to ten guests alike, three mixes; and what a page costs the scanner (scan)."""
from memlab import pages, pairs, run, vm_section

SIZE, MOST = 40, 10
RATE = 1000000  # pages a second that may be looked at; while memory is not short it is less by itself
BOOT = 1        # s until a guest has touched its memory
DESK = "app=desktop mem=90% writes=1 checks=8"
MIXES = {"ten alike": [DESK] * 10,
         "five alike, five others": [DESK] * 5 + ["app=verify mem=80% rate=50 report=0", "app=idle mem=80%", "app=idle mem=60% zero=30%",
                                                  "app=verify mem=70% zero=20% same=10% rate=50 report=0", "app=idle mem=50%"],
         "all different": ["app=idle mem=80%", "app=idle mem=60% zero=5%", "app=verify mem=80% zero=5% same=0 rate=50 report=0",
                           "app=verify mem=60% zero=10% same=0 rate=50 report=0", "app=idle mem=70%"]}


def section(name, cmdline):
    return vm_section(name, SIZE, cmdline, disk=None, autostart="no", reservation="100%", share_group="bench")


def machine(work, vms, commands):
    """More free than min-free, less than four times that: no pressure, and no plenty in which large pages are left alone."""
    return run(work, vms, 700, commands, min_free="170M", share_rate=RATE)


def looks(names):
    return [f"mem {name}" for name in names] + ["mem"]


def passes(vms):
    """Seconds in which the scanner looks at every page of so many VMs some times."""
    return 2 + 20 * max(4, vms) * pages(SIZE) / (RATE / 8)


def sums(names, said):
    """Shares of the memory of these VMs, in percent. said: outputs of looks(names)."""
    seen = [pairs(text) for text in said]
    whole = len(names) * pages(SIZE)
    shared, zero = sum(v["shared"] for v in seen[:-1]), sum(v["zero"] for v in seen[:-1])
    return {"vms": len(names), "shared": (shared + zero) * 100 / whole, "zero": zero * 100 / whole,
            "reclaimed": (shared + zero - seen[-1]["shared-frames"]) * 100 / whole}


def alike(work):
    """One more guest each time."""
    names, commands, at = [f"desk{i}" for i in range(1, MOST + 1)], [], 0
    for n, name in enumerate(names, 1):
        commands.append((at, f"vm start {name}"))
        at += BOOT + passes(n)
        commands += [(at, line) for line in looks(names[:n])]
    seen = machine(work, [section(name, DESK) for name in names], commands + [(at, "mem check")])
    assert "sum check: ok" in seen.last("mem check")
    said = [text for command, text in seen.said if command.startswith("mem")]
    rows = []
    for n in range(1, MOST + 1):
        rows.append(sums(names[:n], said[:n + 1]))
        said = said[n + 1:]
        print(f"  {n:2} alike: shared {rows[-1]['shared']:.1f} %, zero {rows[-1]['zero']:.1f} %, reclaimed {rows[-1]['reclaimed']:.1f} %", flush=True)
    return rows


def mixed(work, title):
    lines = MIXES[title]
    names, end = [f"mix{i}" for i in range(len(lines))], BOOT + 2 * passes(len(lines))
    seen = machine(work, [section(name, line) for name, line in zip(names, lines)],
                   [(0, f"vm start {name}") for name in names] + [(end, line) for line in looks(names) + ["mem check"]])
    assert "sum check: ok" in seen.last("mem check")
    row = dict(sums(names, [seen.last(line) for line in looks(names)]), mix=title)
    print(f"  {title}: shared {row['shared']:.1f} %, reclaimed {row['reclaimed']:.1f} %", flush=True)
    return row


def sharing(work):
    rows = alike(work)
    mixes = [dict(rows[-1], mix="ten alike")] + [mixed(work, title) for title in MIXES if title != "ten alike"]
    return {"rows": rows, "mixes": mixes,
            "figures": {"share_percent_10vms": (rows[-1]["shared"], "% of memory", "67 (OSDI'02)")}}


def costs(work):
    """Instructions for a page that is like no other, and for one that comes to share a frame, by the scanner's own counts."""
    vms = [section(name, f"app=idle mem=90% zero=0 same={same}") for name, same in (("unique", 0), ("twin1", 100), ("twin2", 100))]
    middle = BOOT + 4  # while memory is not short the scan takes its time
    end = middle + BOOT + 14
    seen = run(work, vms, SIZE + 260, [(0, "vm start unique"), (middle, "mem unique"), (middle, "mem"), (middle, "vm stop unique force"),
                                (middle + 0.1, "vm start twin1"), (middle + 0.1, "vm start twin2"), (end, "mem")],
               min_free="70M", share_rate=RATE)
    first, second = [pairs(text) for text in seen.all("mem")]
    assert first["unique"] > seen.look("mem unique")["private"] * 9 // 10, first
    joined = second["joined"] - first["joined"]
    assert joined > pages(SIZE) * 7 // 10, second
    unique, shared = first["unique-ns"] / first["unique"], (second["joined-ns"] - first["joined-ns"]) / joined
    print(f"  unique page {unique:,.0f}, shared page {shared:,.0f} instructions")
    return {"figures": {"scan_unique": (unique, "instructions a page", "13,750 (Linux KSM)"),
                        "share_page": (shared, "instructions a page", "21,000-55,000 (Linux KSM)")}}

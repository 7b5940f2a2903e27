"""Sharing (b): up to ten guests alike, three mixes; and what a page costs the scanner (scan)."""
from memlab import machine, pages, settle, vm_section

SIZE, MOST = 40, 10
DESK = "app=desktop mem=90% writes=1 checks=8"
MIXES = {"ten alike": [DESK] * 10,
         "five alike, five others": [DESK] * 5 + ["app=verify mem=80% rate=50 report=0", "app=idle mem=80%", "app=idle mem=60% zero=30%",
                                                  "app=verify mem=70% zero=20% same=10% rate=50 report=0", "app=idle mem=50%"],
         "all different": ["app=idle mem=80%", "app=idle mem=60% zero=5%", "app=verify mem=80% zero=5% same=0 rate=50 report=0",
                           "app=verify mem=60% zero=10% same=0 rate=50 report=0", "app=idle mem=70%"]}


def look(m, names):
    """Shares of the memory of these VMs, in percent."""
    seen = [m.mem(name) for name in names]
    whole = len(names) * pages(SIZE)
    shared, zero = sum(v["shared"] for v in seen), sum(v["zero"] for v in seen)
    frames = m.host()["shared-frames"]
    return {"vms": len(names), "shared": (shared + zero) * 100 / whole, "zero": zero * 100 / whole,
            "reclaimed": (shared + zero - frames) * 100 / whole}


def start(m, names):
    for name in names:
        m.ok(f"vm start {name}")
    for name in names:
        m.wait_state(name, "running")
        m.wait_for(lambda: m.show(name).get("app-state") == "running", 120)  # pylint: disable=cell-var-from-loop


def stop(m, names):
    for name in names:
        m.ok(f"vm stop {name} force")
    for name in names:
        m.wait_state(name, "created")


def scanned_all(m, names):
    """Every page of these VMs has been looked at twice since now."""
    goal = m.host()["scanned"] + 2 * sum(m.mem(name)["private"] for name in names)

    m.wait_for(lambda: m.host()["scanned"] >= goal, 300, every=0.2)
    settle(m, lambda: round(look(m, names)["shared"]), rounds=6)


def alike(m):
    names = [f"desk{i}" for i in range(1, MOST + 1)]
    rows = []
    for n in range(1, MOST + 1):
        start(m, names[n - 1:n])
        scanned_all(m, names[:n])
        rows.append(look(m, names[:n]))
        print(f"  {n:2} alike: shared {rows[-1]['shared']:.1f} %, zero {rows[-1]['zero']:.1f} %, reclaimed {rows[-1]['reclaimed']:.1f} %")
    stop(m, names)
    return rows


def mixed(m, title):
    names = [f"{mix_name(title)}{i}" for i in range(len(MIXES[title]))]
    start(m, names)
    scanned_all(m, names)
    row = dict(look(m, names), mix=title)
    print(f"  {title}: shared {row['shared']:.1f} %, reclaimed {row['reclaimed']:.1f} %")
    stop(m, names)
    return row


def mix_name(title):
    return f"m{list(MIXES).index(title)}x"


def costs(work):
    """Instructions for a page that is like no other, and for one that comes to share a frame, by the scanner's own counts."""
    vms = [section(name, f"app=idle mem=90% zero=0 same={same}") for name, same in (("unique", 0), ("twin1", 100), ("twin2", 100))]
    with machine(work, vms, 300, min_free="70M", share_rate=1000000) as m:
        start(m, ["unique"])
        m.wait_for(lambda: m.host()["unique"] > 2 * m.mem("unique")["private"], 300, every=0.3)
        host = m.host()
        unique = host["unique-ns"] / host["unique"]
        stop(m, ["unique"])
        start(m, ["twin1", "twin2"])
        m.wait_for(lambda: m.host()["joined"] > pages(SIZE) * 7 // 10, 300, every=0.3)
        host = m.host()
        shared = host["joined-ns"] / host["joined"]
    print(f"  unique page {unique:,.0f}, shared page {shared:,.0f} instructions")
    return {"figures": {"scan_unique": (unique, "instructions a page", "13,750 (Linux KSM)"),
                        "share_page": (shared, "instructions a page", "21,000-55,000 (Linux KSM)")}}


def section(name, cmdline, mib=SIZE):
    return vm_section(name, mib, cmdline, disk=None, autostart="no", reservation="100%", share_group="bench")


def sharing(work):
    vms = [section(f"desk{i}", DESK) for i in range(1, MOST + 1)]
    for title, lines in MIXES.items():
        vms += [section(f"{mix_name(title)}{i}", line) for i, line in enumerate(lines)]
    # More free than min-free, less than four times that: no pressure, and no plenty in which large pages are left alone.
    with machine(work, vms, 700, min_free="170M", share_rate=1000000) as m:
        rows = alike(m)
        mixes = [mixed(m, title) for title in MIXES if title != "ten alike"]
        m.check()
    mixes.insert(0, dict(rows[-1], mix="ten alike"))
    return {"rows": rows, "mixes": mixes,
            "figures": {"share_percent_10vms": (rows[-1]["shared"], "% of memory", "67 (OSDI'02)")}}

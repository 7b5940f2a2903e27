"""Guests without a balloon driver (f), and what a page costs that is compressed or goes to swap (zip)."""
import re

from memlab import prove, proved, run, throughput, vm_section

NO_BALLOON = "without=3"       # features: 4 KiB and 2 MiB balloon
NO_HINTS = "without=131"       # nor hints
SIZE, LIMIT = 64, 44      # MiB
FILE, OUTPUT, JOB_LIMIT = 24, 24, 32  # MiB: what the job reads through its cache, what it writes anew, what it may hold
WARM, SECONDS = 5, 5


def squeezed(work, content, zip_max):
    """A verifier that works on more than its limit; its pages a second, and the host's counts."""
    vm = vm_section("alone", SIZE, f"app=verify mem=85% zero=0 same=0 {content} report=1 run={WARM + SECONDS + 1} {NO_BALLOON}",
                    disk=None, limit=f"{LIMIT}M", zip_max=zip_max)
    end = WARM + SECONDS + 30  # it swaps from its first touch on
    seen = run(work, [vm], SIZE + 64, [(0, "vm console alone"), (end, "mem"), (end, "mem alone"), (end, "mem check")],
               swap=SIZE + 16, min_free="8M")
    assert seen.look("mem alone")["ballooned"] == 0 and "sum check: ok" in seen.last("mem check")
    return throughput(seen.console("alone"), "verify", "checked", WARM, SECONDS), seen.look("mem")


def job(work, without, zip_max):
    """A guest that reads a file of its cache and overwrites its output, again and again, in less memory than it believes to have; its
    pages a second, and what happened to it."""
    options = f"app=stream file={FILE}M mem={OUTPUT}M soft=100 report=1 run={2 * WARM + SECONDS + 1} {without}"
    vm = vm_section("job", SIZE, options, disk=f"{2 * FILE}M", limit=f"{JOB_LIMIT}M", zip_max=zip_max)
    end = 2 * WARM + SECONDS + 30
    seen = run(work, [vm], SIZE + 64, [(0, "vm console job"), (end, "mem job")] + prove(end, "job"), swap=SIZE + 16, data=2 * FILE + 1,
               min_free="8M")
    proved(seen, "job")
    assert re.search(r"check: \d+ pages of the file, 0 bad", seen.text)
    assert seen.look("mem job")["ballooned"] == 0
    return throughput(seen.console("job"), "stream", "pages", 2 * WARM, SECONDS), seen.look("mem job")


def uncooperative_hints(work):
    """The clean cache and the full overwrites that hints are for: swap alone, compression, hints, both."""
    rows = {}
    for name, without, zip_max in (("plain", NO_HINTS, 0), ("compression", NO_HINTS, "30%"), ("hints", NO_BALLOON, 0),
                                   ("both", NO_BALLOON, "30%")):
        rows[name], seen = job(work, without, zip_max)
        print(f"  job, {name}: {rows[name]:,.0f} pages/s; swap-out={seen['swap-out']} swap-in={seen['swap-in']} "
              f"zip-out={seen['zip-out']} not-read={seen['not-read']} clean-out={seen['clean-out']} clean-in={seen['clean-in']} "
              f"ahead={seen['clean-ahead']}", flush=True)
    return rows


def uncooperative(work):
    plain, _ = squeezed(work, "soft=100", 0)
    zipped, host = squeezed(work, "soft=100", "30%")
    print(f"  swap alone {plain:,.0f}/s, with compression {zipped:,.0f}/s ({host['zip-in']} pages compressed)")
    rows = uncooperative_hints(work)
    return {"rows": [{"plain": plain, "compression": zipped}, rows],
            "figures": {"compression_gain": (zipped / plain, "times", "-"),
                        "uncooperative_gain": (rows["hints"] / rows["plain"], "times plain swap", "up to 10 (VSwapper)")}}


def cost(work):
    """Half of the content compresses, half goes to swap."""
    _, host = squeezed(work, "soft=50", "10%")
    lz4 = host["lz4-in-ns"] + host["lz4-out-ns"]
    overhead = (host["zip-in-ns"] + host["zip-out-ns"] - lz4) * 100 / lz4
    out, back = host["swap-went-ns"] / host["swap-went"], host["swap-came-ns"] / host["swap-came"]
    print(f"  {host['zip-in']} compressed, {host['swap-went']} to swap: {overhead:.1f} % beyond LZ4, out {out:,.0f}, in {back:,.0f} instructions")
    return {"rows": [{key: host[key] for key in host if key.startswith(("zip", "lz4", "swap"))}],
            "figures": {"zip_overhead_percent": (overhead, "% of LZ4's instructions", "-"),
                        "swap_out": (out, "instructions a page", "6,900-8,300 (Linux)"),
                        "swap_in": (back, "instructions a page", "11,800-12,900 (Linux)")}}

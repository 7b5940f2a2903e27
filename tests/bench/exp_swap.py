"""Guests without a balloon driver (f), and what a page costs that is compressed or goes to swap (zip)."""
from memlab import run, throughput, vm_section

NO_BALLOON = "without=3"
SIZE, LIMIT = 64, 44      # MiB
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


def uncooperative(work):
    plain, _ = squeezed(work, "soft=100", 0)
    zipped, host = squeezed(work, "soft=100", "30%")
    print(f"  swap alone {plain:,.0f}/s, with compression {zipped:,.0f}/s ({host['zip-in']} pages compressed)")
    return {"rows": [{"plain": plain, "compression": zipped}],
            "figures": {"compression_gain": (zipped / plain, "times", "-")}}


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

"""The experiments' results as PNG files. Grey is the literature's figure, a red line the goal."""
import os

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import StrMethodFormatter  # noqa: E402

MIB_PAGES = 256
TIME, MEMORY, RATE = "time (s)", "memory (MiB)", "operations a second"
MIXES_OSDI = ((42.9, 32.9), (29.2, 18.7), (10.0, 7.2))  # shared, reclaimed: table 2


def paper(axis, value, text):
    axis.axhline(value, color="grey", linestyle="--", linewidth=1, label=text)


def goal(axis, value, text):
    axis.axhline(value, color="red", linestyle="--", linewidth=1, label=text)


def bars(axis, names, values, form="{:,.0f}", label=None, shift=0.0, **style):
    """A bar for each name with its value above (or below) it."""
    style = {"width": 0.5, "color": [f"C{i}" for i in range(len(names))], **style}
    drawn = axis.bar([i + shift for i in range(len(names))], values, label=label, **style)
    axis.bar_label(drawn, [form.format(value) for value in values], fontsize="small", padding=2)
    axis.set_xticks(range(len(names)), names)
    axis.margins(y=0.15)


def legend(axis, columns=0):
    """columns: below the picture, in so many columns; what is drawn has no corner that is always free."""
    if not axis.get_legend_handles_labels()[0]:
        return
    if columns:
        axis.legend(fontsize="small", ncol=columns, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    else:
        axis.legend(fontsize="small")


def balloon(found, axes):
    rows = found["rows"]
    sizes = [r["size"] for r in rows]
    axes[0].plot(sizes, [r["native"] for r in rows], "o-", markersize=9, label="VM of that size")
    axes[0].plot(sizes, [r["ballooned"] for r in rows], "x--", markersize=9, label="VM of 256 MiB, ballooned to it")
    axes[0].set(xlabel="size (MiB)", ylabel=RATE, title="Balloon cost: a database of 256 MiB in less memory", ylim=(0, None), xticks=sizes)
    axes[1].axhspan(1.4, 4.4, color="lightgrey", label="OSDI'02: 1.4 to 4.4 %")
    goal(axes[1], 1.4, "at most 1.4 %")
    bars(axes[1], [str(size) for size in sizes], [r["overhead"] for r in rows], "{:.2f} %", "the balloon's overhead", color="C0")
    axes[1].axhline(0, color="black", linewidth=0.8)
    axes[1].set(xlabel="size (MiB)", ylabel="throughput lost (%)", title="Overhead against a VM of that size")
    legend(axes[0])
    axes[1].legend(fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.9))  # in the band, which has room


def sharing(found, axes):
    rows, mixes = found["rows"], found["mixes"]
    for key, text in (("shared", "shared, zero pages included"), ("reclaimed", "saved"), ("zero", "zero pages")):
        axes[0].plot([r["vms"] for r in rows], [r[key] for r in rows], "o-", label=text)
    paper(axes[0], 67, "OSDI'02: 67 % shared with 10")
    axes[0].set(xlabel="guests alike", ylabel="share of their memory (%)", title="Sharing between guests that are alike", ylim=(0, 100),
                xticks=[r["vms"] for r in rows])
    names = [f"{m['mix']}\n({m['vms']} guests)" for m in mixes] + [f"OSDI'02\nmix {name}" for name in "ABC"]
    shared = [m["shared"] for m in mixes] + [mix[0] for mix in MIXES_OSDI]
    saved = [m["reclaimed"] for m in mixes] + [mix[1] for mix in MIXES_OSDI]
    ours, theirs = len(mixes), len(MIXES_OSDI)
    bars(axes[1], names, shared, "{:.1f}", "shared", -0.19, width=0.36, color=["C0"] * ours + ["dimgrey"] * theirs)
    bars(axes[1], names, saved, "{:.1f}", "saved (the paper's: grey)", 0.19, width=0.36, color=["C1"] * ours + ["silver"] * theirs)
    axes[1].set(ylabel="share of their memory (%)", title="Mixes of guests, beside three real ones of the paper", ylim=(0, 100))
    legend(axes[0])
    legend(axes[1])


def active(found, axes):
    rows, at = found["rows"], [r["second"] for r in found["rows"]]
    axes[0].step(at, [r["truth"] / MIB_PAGES for r in rows], where="post", color="black", linewidth=2, label="what the guest works on")
    axes[0].plot(at, [r["estimate"] / MIB_PAGES for r in rows], color="C1", linewidth=2, label="estimate: the greatest of the three, and of the last period")
    for key, style, colour, text in (("slow", "--", "C2", "slow mean"), ("fast", "-.", "C3", "fast mean"), ("now", ":", "C4", "present period, so far")):
        axes[0].plot(at, [r[key] / MIB_PAGES for r in rows], style, color=colour, linewidth=1, label=text)
    axes[0].set(xlabel=TIME, ylabel=MEMORY, title="Active memory: the estimate (100 samples in 5 s of VM time) beside the truth", ylim=(0, None))
    legend(axes[0], 3)


def lines(axes, history, fields, title):
    """history: {VM: {field: [...]}}; fields: (field, what it is called, style). One colour a VM, one style a field."""
    for number, (name, values) in enumerate(history.items()):
        at = next(iter(values.values()))
        for field, called, style in fields:
            axes.plot(at, [n / MIB_PAGES for n in values[field]], style, color=f"C{number}", label=f"{name}{called}")
    axes.set(xlabel=TIME, ylabel=MEMORY, title=title, ylim=(0, None))


def idle_tax(found, axes):
    rows = found["rows"]
    top = max(max(values[field]) for row in rows for values in row["line"].values() for field in ("consumed", "target")) / MIB_PAGES
    for axis, row in zip(axes, rows):
        lines(axis, row["line"], (("consumed", ": what it holds", "-"), ("target", ": its target", ":")),
              f"Idle tax {row['tax']} %: an idle VM beside a database")
        axis.axvspan(*row["measured"], color="gold", alpha=0.25, label="throughput measured")
        axis.set_ylim(0, top * 1.05)
        legend(axis)
    bars(axes[2], [f"tax {row['tax']} %" for row in rows], [row["ops"] for row in rows])
    goal(axes[2], rows[0]["ops"] * 1.3, "+30 % (OSDI'02: above)")
    axes[2].set(ylabel=RATE, title="The database's throughput")
    legend(axes[2])


def five(found, axes):
    history = {name: values for name, values in found["rows"].items() if name != "host"}
    for axis, field, title in zip(axes, ("consumed", "balloon", "swapped"),
                                  ("Five guests of 416 MiB at 1.6 : 1: what each holds", "Their balloons", "What each has in swap")):
        lines(axis, history, ((field, "", "-"),), title)
        legend(axis, len(history))
    host = found["rows"]["host"]
    at = next(iter(host.values()))
    axes[3].plot(at, host["swap-out"], label="to swap")
    axes[3].plot(at, host["swap-in"], label="from swap")
    axes[3].axvline(found["peak"], color="grey", linestyle="--", linewidth=1, label="counted as after the start")
    axes[3].set(xlabel=TIME, ylabel="pages a second", title="Swap traffic of the host", ylim=(0, None))
    legend(axes[3], 3)


def alone(found, axes):
    for axis, row, title in zip(axes, found["rows"], ("memory at random", "a file through its cache, and output written anew")):
        names = [f"{name}\n({value / row['plain']:.2f} times)" for name, value in row.items()]
        bars(axis, names, list(row.values()))
        axis.set(ylabel="pages a second", title=f"A guest without a balloon above its limit: {title}")
    row = found["rows"][1]
    goal(axes[1], 3 * row["plain"], "3 times plain swap")
    paper(axes[1], 10 * row["plain"], "VSwapper: up to 10 times plain swap")
    axes[1].legend(fontsize="small", loc="center left")


def half_idle(found, axes):
    row = found["rows"][0]
    loss = (1 - row["overcommitted"] / row["uncommitted"]) * 100
    bars(axes[0], ["enough memory", f"{row['overcommit']} : 1 ({loss:.2f} % less)"], [row["uncommitted"], row["overcommitted"]])
    goal(axes[0], row["uncommitted"] * 0.95, "5 % less")
    axes[0].set(ylabel="pages checked a second", title="Two busy guests beside two idle ones")
    axes[0].legend(fontsize="small", loc="lower center")


# name: what draws it, rows, columns
DRAW = {"a": (balloon, 2, 1), "b": (sharing, 2, 1), "c": (active, 1, 1), "d": (idle_tax, 3, 1), "e": (five, 2, 2), "f": (alone, 2, 1),
        "g": (half_idle, 1, 1)}


def draw(found, folder):
    """A file for each experiment that has a picture; their names."""
    names = []
    for name, (picture, rows, columns) in DRAW.items():
        if name not in found:
            continue
        figure, axes = pyplot.subplots(rows, columns, figsize=(9 if columns == 1 else 14, 4.4 * rows), squeeze=False)
        for axis in axes.flat:
            axis.set_axisbelow(True)
            axis.grid(alpha=0.3)
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        picture(found[name], list(axes.flat))
        figure.tight_layout()
        names.append(f"memory-{name}.png")
        figure.savefig(os.path.join(folder, names[-1]), dpi=100, metadata={"Software": None})
        pyplot.close(figure)
    return names

"""The experiments' results as PNG files. A dashed grey line is the literature's figure."""
import os

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

MIB_PAGES = 256
TIME, MEMORY, RATE = "time (s)", "memory (MiB)", "operations a second"


def paper(axis, value, text):
    axis.axhline(value, color="grey", linestyle="--", linewidth=1, label=text)


def bars(axis, names, values, form="{:,.0f}"):
    axis.bar(names, values, width=0.5, color=[f"C{i}" for i in range(len(names))])
    for i, value in enumerate(values):
        axis.text(i, value, form.format(value), ha="center", va="bottom", fontsize="small")
    axis.margins(y=0.15)


def balloon(found, axes):
    rows = found["rows"]
    sizes = [r["size"] for r in rows]
    axes[0].plot(sizes, [r["native"] for r in rows], "o-", label="VM of that size")
    axes[0].plot(sizes, [r["ballooned"] for r in rows], "x--", label="VM of 256 MiB, ballooned to it")
    axes[0].set(xlabel="size (MiB)", ylabel=RATE, title="Balloon cost: a database whose file does not fit", ylim=(0, None), xticks=sizes)
    axes[1].bar([str(size) for size in sizes], [r["overhead"] for r in rows], width=0.5, label="overhead of the balloon")
    axes[1].axhline(0, color="black", linewidth=0.8)
    paper(axes[1], 1.4, "OSDI'02: 1.4 to 4.4 %")
    paper(axes[1], 4.4, None)
    axes[1].set(xlabel="size (MiB)", ylabel="throughput lost (%)", title="Overhead against a VM of that size")


def sharing(found, axes):
    rows, mixes = found["rows"], found["mixes"]
    for key, text in (("shared", "shared, zero pages included"), ("reclaimed", "saved"), ("zero", "zero pages")):
        axes[0].plot([r["vms"] for r in rows], [r[key] for r in rows], "o-", label=text)
    paper(axes[0], 67, "OSDI'02: 67 % shared with 10")
    axes[0].set(xlabel="guests alike", ylabel="share of their memory (%)", title="Sharing between guests that are alike", ylim=(0, 100),
                xticks=[r["vms"] for r in rows])
    for shift, key in ((-0.2, "shared"), (0.2, "reclaimed")):
        axes[1].bar([i + shift for i in range(len(mixes))], [m[key] for m in mixes], width=0.35,
                    label="saved" if key == "reclaimed" else key)
    for value, text in ((42.9, "OSDI'02, three real mixes: 42.9, 29.2, 10.0 % shared"), (29.2, None), (10.0, None)):
        paper(axes[1], value, text)
    axes[1].set(ylabel="share of their memory (%)", title="Mixes of guests", ylim=(0, 100), xticks=range(len(mixes)),
                xticklabels=[f"{m['mix']} ({m['vms']} guests)" for m in mixes])


def active(found, axes):
    rows, at = found["rows"], [r["second"] for r in found["rows"]]
    axes[0].step(at, [r["truth"] / MIB_PAGES for r in rows], where="post", label="what the guest works on")
    axes[0].plot(at, [r["estimate"] / MIB_PAGES for r in rows], label="estimate: the greatest of the three below")
    for key, style, text in (("slow", "--", "slow mean"), ("fast", "-.", "fast mean"), ("now", ":", "present period")):
        axes[0].plot(at, [r[key] / MIB_PAGES for r in rows], style, linewidth=1, label=text)
    axes[0].set(xlabel=TIME, ylabel=MEMORY, title="Active memory: the estimate beside the truth, 100 samples in 5 s of VM time",
                ylim=(0, None))


def lines(axes, history, fields, title):
    """history: {VM: {field: [...]}}; one colour a VM, one style a field."""
    for number, (name, values) in enumerate(history.items()):
        at = next(iter(values.values()))
        for field, style in fields:
            axes.plot(at, [n / MIB_PAGES for n in values[field]], style, color=f"C{number}", label=f"{name}, {field}")
    axes.set(xlabel=TIME, ylabel=MEMORY, title=title, ylim=(0, None))


def idle_tax(found, axes):
    rows = found["rows"]
    for axis, row in zip(axes, rows):
        lines(axis, row["line"], (("consumed", "-"), ("target", ":")), f"Idle tax {row['tax']} %: an idle VM beside a database")
    bars(axes[2], [f"tax {row['tax']} %" for row in rows], [row["ops"] for row in rows])
    paper(axes[2], rows[0]["ops"] * 1.3, "OSDI'02: above +30 %")
    axes[2].set(ylabel=RATE, title="The database's throughput")


def five(found, axes):
    history = {name: values for name, values in found["rows"].items() if name != "host"}
    for axis, field, title in zip(axes, ("consumed", "balloon", "swapped"),
                                  ("Five guests of 416 MiB at 1.6 : 1: what each holds", "Their balloons", "Swapped out")):
        lines(axis, history, ((field, "-"),), title)
    host = found["rows"]["host"]
    at = next(iter(host.values()))
    axes[3].plot(at, host["swap-out"], label="to swap")
    axes[3].plot(at, host["swap-in"], label="from swap")
    axes[3].set(xlabel=TIME, ylabel="pages a second", title="Swap traffic of the host", ylim=(0, None))


def alone(found, axes):
    for axis, row, title in zip(axes, found["rows"], ("all of its memory at random", "a file through its cache, and output written anew")):
        bars(axis, list(row), list(row.values()))
        axis.axhline(3 * row["plain"], color="red", linestyle="--", linewidth=1, label="3 times plain swap")
        paper(axis, 10 * row["plain"], "VSwapper: up to 10 times plain swap")
        axis.set(ylabel="pages a second", title=f"A guest without a balloon, above its limit: {title}")


def half_idle(found, axes):
    row = found["rows"][0]
    bars(axes[0], ["enough memory", f"{row['overcommit']} : 1"], [row["uncommitted"], row["overcommitted"]])
    axes[0].axhline(row["uncommitted"] * 0.95, color="red", linestyle="--", linewidth=1, label="5 % less")
    axes[0].set(ylabel="pages checked a second", title="Two busy guests beside two idle ones")


DRAW = {"a": (balloon, 2), "b": (sharing, 2), "c": (active, 1), "d": (idle_tax, 3), "e": (five, 4), "f": (alone, None), "g": (half_idle, 1)}


def draw(found, folder):
    """A file for each experiment that has a picture; their names."""
    names = []
    for name, (picture, count) in DRAW.items():
        if name not in found:
            continue
        count = count or len(found[name]["rows"])
        figure, axes = pyplot.subplots(count, 1, figsize=(9, 4.2 * count), squeeze=False)
        picture(found[name], [row[0] for row in axes])
        for row in axes:
            if row[0].get_legend_handles_labels()[0]:
                row[0].legend(fontsize="small")
            row[0].grid(alpha=0.3)
        figure.tight_layout()
        names.append(f"memory-{name}.png")
        figure.savefig(os.path.join(folder, names[-1]), dpi=100, metadata={"Software": None})
        pyplot.close(figure)
    return names

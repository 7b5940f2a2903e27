"""The experiments' results as PNG files."""
import os

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

MIB_PAGES = 256


def balloon(found, axes):
    rows = found["rows"]
    axes.plot([r["size"] for r in rows], [r["native"] for r in rows], "o-", label="VM of that size")
    axes.plot([r["size"] for r in rows], [r["ballooned"] for r in rows], "x--", label="256 MiB, ballooned to it")
    axes.set(xlabel="MiB", ylabel="operations a second", title="Balloon cost", ylim=(0, None))


def sharing(found, axes):
    rows = found["rows"]
    for key in ("shared", "reclaimed", "zero"):
        axes.plot([r["vms"] for r in rows], [r[key] for r in rows], "o-", label=key)
    axes.set(xlabel="guests alike", ylabel="% of their memory", title="Sharing", ylim=(0, 100))


def active(found, axes):
    rows, at = found["rows"], [r["second"] for r in found["rows"]]
    axes.step(at, [r["truth"] / MIB_PAGES for r in rows], where="post", label="used by the guest")
    axes.plot(at, [r["estimate"] / MIB_PAGES for r in rows], label="estimate")
    axes.plot(at, [r["now"] / MIB_PAGES for r in rows], ":", label="present period")
    axes.set(xlabel="s", ylabel="MiB", title="Active memory", ylim=(0, None))


def lines(axes, history, fields, title):
    """history: {VM: {field: [...]}}; one colour a VM, one style a field."""
    for number, (name, values) in enumerate(history.items()):
        at = next(iter(values.values()))
        for field, style in fields:
            axes.plot(at, [n / MIB_PAGES for n in values[field]], style, color=f"C{number}", label=f"{name}, {field}")
    axes.set(xlabel="s", ylabel="MiB", title=title, ylim=(0, None))


def idle_tax(found, axes):
    for axis, row in zip(axes, found["rows"]):
        lines(axis, row["line"], (("consumed", "-"), ("target", ":")), f"Idle tax {row['tax']} %: {row['ops']:,.0f}/s")


def five(found, axes):
    history = {name: values for name, values in found["rows"].items() if name != "host"}
    for axis, field in zip(axes, ("consumed", "balloon", "swapped")):
        lines(axis, history, ((field, "-"),), field)


DRAW = {"a": (balloon, 1), "b": (sharing, 1), "c": (active, 1), "d": (idle_tax, 2), "e": (five, 3)}


def draw(found, folder):
    """A file for each experiment that has a picture; their names."""
    names = []
    for name, (picture, count) in DRAW.items():
        if name not in found:
            continue
        figure, axes = pyplot.subplots(count, 1, figsize=(8, 4.5 * count), squeeze=False)
        picture(found[name], axes[0][0] if count == 1 else [row[0] for row in axes])
        for row in axes:
            row[0].legend(fontsize="small")
            row[0].grid(alpha=0.3)
        figure.tight_layout()
        names.append(f"memory-{name}.png")
        figure.savefig(os.path.join(folder, names[-1]), dpi=100)
        pyplot.close(figure)
    return names

"""What takes the screen, and output for machines: top, watch, more, --plain, --json, why and its kin."""
import json
import re

import pytest

from aerostat import PROMPT, clean, echo, value_of, vm_section

FIELDS = {"MEMSZ": "pages", "CNSM": "consumed", "SZTGT": "target", "MCTLSZ": "ballooned", "MCTLTG": "balloon-target",
          "SWCUR": "swapped", "SHRD": "shared"}


def same_size(shown, pages):
    """A size as the screen shows it: cut off behind its last digit."""
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(shown[-1], 1)
    step = unit if "." not in shown and len(shown) > 3 else unit / 10
    return -1 <= pages * 4096 - value_of(shown) <= step + 1


@pytest.fixture
def squeezed(machine):
    """Three guests where two have room, all balloons and swap in use, as the balloons of two cannot give their part."""
    m = machine(config="".join(vm_section(f"v{i}", 96, "app=verify mem=85% zero=10% same=10%", disk="32M", balloon_max="15%" if i else "65%")
                               for i in range(3)), mem=224, parts=(("swap", 320), ("data", 128))).boot()
    m.wait_for(lambda: m.host()["balloon"] > 0 and m.host()["swap-used"] > 0, 180, every=1)
    return m


def stand_still(m):
    m.ok("set share-rate 0")
    for i in range(3):
        m.ok(f"vm pause v{i}")
    seen = []

    def still():
        """two looks find the same"""
        seen.append([m.mem(f"v{i}") for i in range(3)])
        return len(seen) > 1 and seen[-1] == seen[-2]

    m.wait_for(still, 60, every=3)
    return {f"v{i}": seen[-1][i] for i in range(3)}


def check_screen(text, columns, rows, mem):
    lines = text.splitlines()
    assert lines.pop() == "ok"
    assert len(lines) <= rows and all(len(line) < columns for line in lines), text
    header = next(line for line in lines if line.startswith(" NAME")).split()
    table = {line.split()[0]: dict(zip(header, line.split())) for line in lines if re.match(r"[ >]v\d ", line)}
    assert set(table) == set(mem), text
    for name, row in table.items():
        for title, key in FIELDS.items():
            assert title not in row or same_size(row[title], mem[name][key]), (name, title, row, mem[name])


@pytest.mark.takes(40)
def test_top_and_explanations(squeezed):
    m = squeezed
    text = m.ok("why v0")
    assert "Rule: there is less than all VMs" in text and "by shares" in text, text
    assert "would grow by" in m.ok("whatif balloon v0 61M") or "give back" in m.ok("whatif balloon v0 61M")
    assert "running" in m.refused("whatif start v0")
    text = m.ok("whatif reservation v0 80%")
    assert "could have a reservation of" in text and "instead of" in text, text
    assert "swap full" in m.ok("forecast")
    mem = stand_still(m)
    m.wait_sampled()
    for size, columns, rows in (("", 80, 24), ("132x43", 132, 43)):
        screen = m.ok(f"top --plain {size}")
        print(screen)
        check_screen(screen, columns, rows, mem)
        effect = m.ok(f"top --plain effect {size}")
        assert all(len(line) < columns for line in effect.splitlines())
    for name, shown in mem.items():  # the ledger's totals are the counters
        total = dict(re.findall(r"(\S+)=(\d+)", m.ok(f"ledger {name}")))
        assert int(total["swap-out"]) == shown["swap-out"] and int(total["swap-back"]) == shown["swap-in"], (name, total)
        assert int(total["balloon-out"]) == shown["balloon-out"]
        assert int(total["share-out"]) == shown["shared-in"] + shown["zero-in"], (name, total)
        assert int(total["zip-out"]) == shown["zip-in"] and int(total["zip-back"]) == shown["zip-out"], (name, total)
    m.check()


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=[pytest.mark.bochs, pytest.mark.takes(30)])])
def test_console_for_people_and_scripts(machine, emulator):
    m = machine(emulator=emulator, config=vm_section("a", 32, "app=idle mem=20%", disk=None), mem=192,
                parts=(("swap", 64), ("data", 32))).boot()
    m.wait_state("a", "running")
    for line in ("vm list", "mem", "mem a", "vm show a", "balloon", "events", "alerts all", "set", "host", "disk", "top",
                 "help", "ledger a", "why a", "forecast"):
        document = json.loads(m.command(f"{line} --json"))
        assert document["ok"] is True and document["output"], (line, document)
    document = json.loads(m.command("vm start a --json"))
    assert document["ok"] is False and "running" in document["error"]
    assert json.loads(m.command("vm list --json"))["output"][0]["name"] == "a"

    m.send("watch 1 balloon\r")
    m.expect(r"every 1s: balloon", 30)
    m.expect(r"every 1s: balloon", 30)
    m.send("x")
    m.expect(PROMPT, 30)
    assert m.ok("repeat 3 get min-free").count("min-free=") == 3
    m.send("more metrics\r")
    m.expect(r"--more--", 30)
    m.send(" ")
    m.expect(r"--more--", 30)
    m.send("q")
    m.expect(PROMPT, 30)

    m.send("top\r")
    m.expect(r"\x1b\[6n", 30)
    m.send("\x1b[30;100R")
    m.expect(r"page memory", 30)
    m.send("2")
    m.expect(r"page effect", 30)
    m.expect(r">a ", 30)
    m.send("q")
    m.expect(PROMPT, 30)

    m.send("terminal plain\r")
    m.expect(echo("terminal plain"))
    m.send("vm list\r")
    text, _ = m.expect(r"\nok\r", 30)
    m.send("nonsense\r")
    text += m.expect(r"error: 'nonsense': unknown command", 30)[0]
    assert "aerostat>" not in clean(text) and "vm list" not in clean(text)
    m.send("terminal vt100\r")
    m.expect(PROMPT, 30)
    m.check()

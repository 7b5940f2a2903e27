"""The media that `make image` and `make iso` write, on every kind of device and firmware; the picture on the screen; the
place of the serial console."""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time

import pytest

from aerostat import BUILD, MIB, PATIENCE, PROMPT, TOP, pairs, vm_section

FONT = "/usr/share/consolefonts/spleen-8x16.psfu.gz"
sys.path.insert(0, os.path.join(TOP, "tools"))
import mkfont  # noqa: E402

IDLE = vm_section("idle", 32, "app=idle mem=20%", disk=None, reservation="100%")


def comes_up(m, mem, cpus=1):
    """The machine has its memory, and runs a guest from what was booted."""
    host, memory = pairs(m.ok("host")), m.host()
    assert host.get("cpus", cpus) == cpus
    assert (mem * 0.94 - 16) * MIB < memory["total"] <= mem * MIB  # shown with one decimal
    m.ok("vm create probe memory=16M reservation=100% cmdline=\"app=idle mem=20%\"")
    m.ok("vm start probe")
    m.wait_for(lambda: m.show("probe").get("app") == "idle", 120)
    m.check()


@pytest.mark.parametrize("boot,mem,cpus", [("ahci", 2048, 2), ("usb", 256, 1)])
def test_disk_image(machine, boot, mem, cpus):
    comes_up(machine(boot=boot, mem=mem, cpus=cpus, parts=()).boot(), mem, cpus)


@pytest.mark.soak
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("mem", [256, 2048, 6144])
@pytest.mark.parametrize("boot", ["nvme", "ahci", "usb"])
def test_disk_image_everywhere(machine, boot, mem, cpus):
    comes_up(machine(boot=boot, mem=mem, cpus=cpus).boot(), mem, cpus)


def choose(m, key, title):
    """Types an entry's key at the menu of the ISO and waits for the prompt."""
    m.start()
    m.expect(re.escape(title), 120)
    m.send(key)
    m.boot_text = m.expect(r"Aerostat loader \(multiboot2\)", 60)[0] + m.expect(PROMPT, 120)[0]
    return m


ENTRIES = {"n": "Aerostat, verbose", "s": "Aerostat, safe", "l": "Aerostat, verbose"}


def boots_iso(m, mem, key, cpus=1):
    choose(m, key, ENTRIES[key])
    memory = m.host()
    words = {"s": "options: cpus=1 swap=off panic=halt", "l": "options: log=debug panic=halt", "n": "options: panic=halt"}
    assert words[key] in m.boot_text, m.boot_text
    assert "aerostat.ini: 5 VMs, 0 errors" in m.boot_text
    assert memory["swap"] == ("off" if key == "s" else "on")
    if key == "s":
        assert memory["swap-why"] == "boot option"
    assert ("log-level=debug" in m.ok("set")) == (key == "l")
    assert pairs(m.ok("host")).get("cpus", cpus) == (1 if key == "s" else cpus)
    assert (mem * 0.94 - 16) * MIB < memory["total"] <= mem * MIB
    m.wait_for(lambda: m.show("web").get("app") == "idle" or key == "s", 120)


def test_iso_by_uefi_as_cd(machine):
    boots_iso(machine(iso=True, boot="cd", mem=512, cpus=2), 512, "l", 2)


def test_iso_by_uefi_as_stick(machine):
    boots_iso(machine(iso=True, boot="usb", mem=512), 512, "s")


def test_iso_by_bios_on_qemu(machine):
    boots_iso(machine(iso=True, boot="cd", bios=True, mem=512), 512, "n")


@pytest.mark.bochs
@pytest.mark.takes(25)
def test_iso_by_bios_on_bochs(machine):
    m = choose(machine(emulator="bochs", iso=True, bios=True, mem=192, parts=()), "s", ENTRIES["s"])
    assert "VMX" in m.boot_text and "options: cpus=1 swap=off" in m.boot_text
    assert m.host()["total"] > 180 * MIB


@pytest.mark.soak
@pytest.mark.parametrize("bios", [False, True])
@pytest.mark.parametrize("boot", ["cd", "usb", "ahci", "nvme"])
@pytest.mark.parametrize("mem,cpus", [(256, 1), (2048, 2), (6144, 2)])
def test_iso_everywhere(machine, boot, bios, mem, cpus):
    boots_iso(machine(iso=True, boot=boot, bios=bios, mem=mem, cpus=cpus), mem, "n", cpus)


# ---- the screen ----


def glyphs():
    import gzip
    with gzip.open(FONT) as file:
        return {glyph: chr(code) for code, glyph in mkfont.glyphs_of(file.read()).items() if 0x20 <= code < 0x7f}


def read_screen(path):
    """The text on a picture (PPM), read back with the font it was drawn with; what is no character is a '~'."""
    with open(path, "rb") as file:
        data = file.read()
    head = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", data)
    width, height = int(head.group(1)), int(head.group(2))
    known, lines = glyphs(), []
    for top in range(0, height - 15, 16):
        line = ""
        for left in range(0, width - 7, 8):
            cell = bytes(sum((data[head.end() + ((top + y) * width + left + x) * 3] > 100) << (7 - x) for x in range(8))
                         for y in range(16))
            line += known.get(cell, "~")
        lines.append(line.rstrip())
    return lines


def screendump(m, monitor):
    path = os.path.join(m.work, "screen.ppm")
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(monitor)
        line.settimeout(PATIENCE)
        line.sendall(f"screendump {path}\n".encode())
        seen = b""
        while seen.count(b"(qemu)") < 2:
            seen += line.recv(4096)
    return read_screen(path)


def test_console_is_on_the_screen_too(machine, tmp_path):
    monitor = str(tmp_path / "monitor")
    m = machine(mem=256, parts=(), config=IDLE, extra=["-monitor", f"unix:{monitor},server=on,wait=off"]).boot()
    m.wait_state("idle", "running")
    shown = m.ok("help").strip().splitlines()
    m.send("vm sh")  # the prompt's line as it is being typed

    seen = {}

    def drawn():
        """the picture has help's last lines, and what was typed last; it may be taken while one is being drawn"""
        lines = seen["lines"] = [line for line in screendump(m, monitor) if line]
        return (lines and lines[-1].startswith("aerostat> vm sh") and {line.rstrip() for line in shown[-5:]} <= set(lines)
                and not any("~" in line for line in lines[:-1]))  # the cursor stands behind the last line

    try:
        m.wait_for(drawn, 60)
    finally:
        print("the picture:", *seen.get("lines", []), sep="\n")


def test_screen_of_a_machine_without_serial_port(machine, tmp_path):
    """Nothing on any line: the log is on the screen, by BIOS and multiboot2, too."""
    monitor = str(tmp_path / "monitor")
    m = machine(iso=os.path.join(BUILD, "aerostat.iso"), boot="cd", bios=True, mem=512, parts=(),
                extra=["-monitor", f"unix:{monitor},server=on,wait=off"])
    m.serial = "none"
    m.start()
    end = time.monotonic() + 2 * PATIENCE
    while True:
        time.sleep(1)
        try:
            lines = screendump(m, monitor)
        except OSError as error:  # not there yet
            lines = [str(error)]
        if any(line.startswith("aerostat>") for line in lines):
            break
        assert time.monotonic() < end, lines
    assert any("boot: Aerostat 0." in line for line in lines), lines


def broken_iso(folder, keep):
    """An ISO that loads at once, and only these modules."""
    top = folder / "iso"
    (top / "boot/grub").mkdir(parents=True)
    shutil.copy(os.path.join(BUILD, "loader.elf"), top / "boot")
    with open(top / "boot/grub/grub.cfg", "w", encoding="utf-8") as out:
        out.write("insmod all_video\nmultiboot2 /boot/loader.elf\n" + "".join(f"module2 {name}\n" for name in keep) + "boot\n")
    path = str(folder / "broken.iso")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "--fonts=", "--locales=", "--themes=", "-o", path, str(top)],
                   capture_output=True, check=True)
    return path


def test_loader_says_what_is_missing(machine, tmp_path):
    """On the line and on the screen: GRUB is gone by then."""
    monitor = str(tmp_path / "monitor")
    m = machine(iso=broken_iso(tmp_path, ["/boot/loader.elf loader.elf"]), boot="cd", bios=True, mem=256, parts=(),
                extra=["-monitor", f"unix:{monitor},server=on,wait=off"]).start()
    wanted = "Aerostat: error: there is no module aerostat.elf"
    m.expect(wanted, 120)
    m.expect("not started", 30)
    m.wait_for(lambda: wanted in screendump(m, monitor), 30)


# ---- the serial console's place ----

COM2 = ["-device", "isa-serial,chardev=console,index=1"]


def on_com2(m):
    m.serial = "null"
    m.boot()
    assert "console at port 0x2f8" in m.boot_text
    assert "acpi: " in m.boot_text  # what was said before the port was known is repeated
    assert "expected" not in m.boot_text
    assert "vm create" in m.ok("help")


def spcr(path, port, line):
    """QEMU adds the header of a table and its checksum itself."""
    body = struct.pack("<B3x4BQ2BI6B2H3BIBI", 0, 1, 8, 0, 1, port, 1, line, 0, 7, 0, 1, 0, 3, 0, 0xffff, 0xffff, 0, 0, 0,
                       0, 0, 0)
    with open(path, "wb") as out:
        out.write(body)
    return ["-acpitable", f"sig=SPCR,rev=2,data={path}"]


def test_serial_port_from_the_firmware_table(machine, tmp_path):
    on_com2(machine(mem=256, parts=(), extra=COM2 + spcr(tmp_path / "spcr", 0x2f8, 3)))


def test_serial_port_from_an_option(machine, tmp_path):
    on_com2(machine(mem=256, parts=(), config="[loader]\noptions = serial=com2\n",
                    extra=COM2 + spcr(tmp_path / "spcr", 0x3e8, 4)))


def test_serial_option_that_is_wrong(machine):
    m = machine(mem=256, parts=(), config="[loader]\noptions = serial=com9 log=loud swap=no swpa=off BOOT_IMAGE=/x ; cpus=x\n").boot()
    for option in ("serial", "log", "swap"):
        assert re.search(rf"option {option}: expected", m.boot_text), m.boot_text
    assert re.findall("option '([^']*)': expected cpus, log,", m.boot_text) == ["swpa"], m.boot_text
    assert "option cpus" not in m.boot_text, m.boot_text


@pytest.mark.soak
def test_serial_option_where_no_port_is(machine):
    m = machine(mem=256, parts=(), config="[loader]\noptions = serial=com4\n").boot()
    assert re.search(r"the console stays where it is: port 0x2e8: E_NODEV", m.boot_text), m.boot_text


# ---- what the targets make ----


def test_image_has_what_it_should():
    """The ISO's menu names files that are on it."""
    listing = subprocess.run(["xorriso", "-indev", os.path.join(BUILD, "aerostat.iso"), "-find", "/", "-type", "f"],
                             capture_output=True, text=True, check=True).stdout
    with open(os.path.join(TOP, "boot/multiboot2/grub.cfg"), encoding="utf-8") as file:
        named = re.findall(r"(?:multiboot2|module2) (/\S+)", file.read())
    assert named and all(f"'{name}'" in listing for name in named), (named, listing)
    for name in ("/aerostat/aerostat.ini", "/aerostat/guest.elf", "/boot/grub/grub.cfg"):
        assert f"'{name}'" in listing, listing

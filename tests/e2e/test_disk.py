"""Disks: nothing is written that is not ours; a device's error ends at most the VM whose page is lost."""
import hashlib
import os
import re

import pytest

import mkimage
from aerostat import MIB, PAGE, show_figures, vm_section

SWAP_AT = MIB  # where mkimage puts the first partition


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def squeezed(count=3, memory=96):
    """Verifiers that do not fit, and hardly have a balloon: swap has to take what is missing."""
    return "".join(vm_section(f"v{i}", memory, "app=verify mem=85%", disk=None, balloon_max="1%") for i in range(count))


SAFE = vm_section("safe", 48, "app=verify mem=70%", disk=None, reservation="48M")


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=[pytest.mark.bochs, pytest.mark.takes(30)])])
def test_foreign_disks_are_never_written(machine, tmp_path, emulator):
    disk = str(tmp_path / "foreign.img")
    mkimage.make(disk, 0, [], [("linux", 64 * MIB)])
    with open(disk, "r+b") as f:
        f.seek(2 * MIB)
        f.write(os.urandom(MIB))
    config = vm_section("v0", 48, "app=verify mem=70%", disk=None, reservation="48M") + \
        vm_section("v1", 64, "app=verify mem=70%", disk=None) + \
        vm_section("v2", 16, "app=db", disk="8M", reservation="16M")
    m = machine(emulator=emulator, config=config, mem=192, parts=(), data_disk=disk)
    before = {path: digest(path) for path in m.disks}
    m.boot()
    host = m.host()
    assert host["swap"] == "off" and host["swap-why"] == "no swap partition", host
    assert "no swap partition (GPT type a3e05747-5a9f-4a17-9b1f-53776170a3e0) on any disk" in m.boot_text
    m.wait_checked("v0")
    for name, why in (("v1", "swap off: no swap partition"), ("v2", "no guest-data partition")):
        assert m.state(name) == "created"
        assert why in m.refused(f"vm start {name}")
    m.ok("vm pause v0")
    m.ok("vm stop v0 force")
    m.send("shutdown\r")
    m.wait_exit()
    assert {path: digest(path) for path in m.disks} == before


def failing(tmp_path, kind, first, count, step=8):
    """A data disk on which reads or writes (kind) of sectors [first, first+count) of the swap partition fail, or of a page at each step
    of them."""
    image = str(tmp_path / "data.img")
    mkimage.make(image, 0, [], [("swap", 512 * MIB), ("data", 256 * MIB)])
    rules = tmp_path / "rules.conf"
    at = SWAP_AT // 512 + first
    rules.write_text("".join(f'[inject-error]\nevent = "none"\niotype = "{kind}"\nerrno = "5"\nonce = "off"\n'
                             f'sector = "{sector}"\n\n' for sector in range(at, at + count, step)))
    return f"file=blkdebug:{rules}:{image},format=raw"


def crashed(m, names=("v0", "v1", "v2")):
    return [name for name in names if m.state(name) == "crashed"]


def others_run_on(m, lost):
    """All but the lost ones go on, and two verify every page they own when the last of them has made room."""
    left = [name for name in ("safe", "v0", "v1", "v2") if name not in lost]
    m.wait_checked(*left)
    if not lost:
        m.ok(f"vm stop {left.pop()} force")
    m.full_check(*left)
    m.check()


@pytest.mark.takes(40)
def test_read_errors_end_only_who_lost_a_page(machine, tmp_path):
    # The first page of swap. More of them would be lost by other VMs later on, one by one.
    m = machine(config=squeezed() + SAFE, mem=256, data_disk=failing(tmp_path, "read", 0, 8), device_errors=True)
    m.boot()
    lost = m.wait_for(lambda: crashed(m), 240)
    for name in lost:
        why = m.show(name)["why"]
        assert "is lost: swap read error" in why, why
    assert len(lost) == 1
    others_run_on(m, lost)
    host = m.host()
    assert host["read-errors"] >= 2 and host["swap"] == "on", host
    m.wait_for(lambda: re.search(r"device +host +no +- +\d+\.\ds +[1-9]", m.ok("alerts all")), 60)  # raised, and cleared
    # The bad place is not used again: those that were ended start anew, and nobody loses another page.
    for name in lost:
        m.ok(f"vm start {name}")
        m.wait_state(name, "running")
    assert m.host()["bad-slots"] >= len(lost)
    show_figures(m, "read errors")


@pytest.mark.takes(40)
def test_write_errors_lose_nothing(machine, tmp_path):
    # Each bad page among many good ones: however small the writes are, there are good ones between, and swap stays on.
    places = failing(tmp_path, "write", 1024, 16 * 512, step=512)
    m = machine(config=squeezed() + SAFE, mem=256, data_disk=places, device_errors=True)
    m.boot()
    m.wait_for(lambda: m.host()["write-errors"] > 0 and m.host()["swap-out"] > 2000, 240)
    others_run_on(m, [])
    host = m.host()
    assert host["swap"] == "on" and host["bad-slots"] > 0 and host["read-errors"] == host["checksum-errors"] == 0, host
    show_figures(m, "write errors at some places")


@pytest.mark.takes(40)
def test_swap_that_takes_no_writes_stops_and_nothing_is_lost(machine, tmp_path):
    # From 16 MiB on every write fails: some pages are out already.
    m = machine(config=squeezed(), mem=256, data_disk=failing(tmp_path, "write", 8 * 2048, 2048 * 24), device_errors=True)
    m.boot()
    m.wait_for(lambda: m.host()["swap"] == "failed", 240)
    host = m.host()
    assert host["swap-why"] == "too many write errors in a row" and host["swap-used"] > 0, host
    out = m.refused("vm start v0") if m.state("v0") == "created" else m.ok("vm create x memory=16M") + m.refused("vm start x")
    assert "swap" in out, out
    for _ in range(10):
        m.run_for(1)
        for i in range(3):
            seen = m.show(f"v{i}")
            assert seen["state"] == "running" and seen["errors"] == 0, seen
    m.ok("vm stop v2 force")
    m.wait_state("v2", "created")
    m.wait_checked("v0", "v1")
    m.full_check("v0", "v1")
    m.check()


@pytest.mark.takes(40)
def test_corrupted_swap_is_noticed(machine):
    """Bytes of the swap partition change behind Aerostat's back: who needs one of those pages ends; nobody reads it."""
    m = machine(config=squeezed() + SAFE, mem=256, device_errors=True).boot()
    m.wait_for(lambda: m.host()["swap-used"] > 8 * MIB, 240)
    with open(m.data_path, "r+b") as disk:
        for page in range(64 * MIB // PAGE):
            disk.seek(SWAP_AT + page * PAGE + 1234)
            byte = disk.read(1)
            disk.seek(-1, os.SEEK_CUR)
            disk.write(bytes([byte[0] ^ 0x10]))
    lost = m.wait_for(lambda: crashed(m), 120)
    for name in lost:
        assert "swap checksum mismatch" in m.show(name)["why"]
    m.wait_checked("safe")
    for name in ("v0", "v1", "v2", "safe"):
        seen = m.show(name)
        assert seen["state"] in ("crashed", "stopping") or seen["errors"] == 0, seen
    assert m.host()["checksum-errors"] > 0
    m.check()


@pytest.mark.takes(60)
def test_slow_drive_slows_guests_and_loses_nothing(machine, tmp_path):
    image = str(tmp_path / "data.img")
    mkimage.make(image, 0, [], [("swap", 512 * MIB), ("data", 256 * MIB)])
    m = machine(config=squeezed() + SAFE, mem=256, data_disk=f"file={image},format=raw,throttling.iops-total=100").boot()
    m.wait_for(lambda: m.host()["swap-out"] > 200 and m.host()["swap-in"] > 50, 240)
    m.wait_checked("v0", "v1", "v2", "safe")
    out = m.ok("disk")
    assert "timeouts=0" in out and "resets=0" in out, out
    show_figures(m, "100 operations a second")
    m.check()


@pytest.mark.parametrize("emulator", ["qemu", pytest.param("bochs", marks=[pytest.mark.bochs, pytest.mark.takes(90)])])
def test_drivers_under_load(machine, emulator):
    """Thousands of clustered transfers, 96 in flight, each page compared."""
    m = machine(emulator=emulator, mem=192, config="[loader]\noptions = selftest=blk\n", parts=(("swap", 128),)).start()
    text, match = m.expect(r"selftest: blk: PASS: (\d+) requests, (\d+) pages verified, 0 bad, 0 failed[^\r\n]*", 300)
    assert int(match.group(1)) > 500 and int(match.group(2)) > 500, text
    m.expect(r"aerostat> ", 60)


def test_drivers_count_errors_and_go_on(machine, tmp_path):
    m = machine(mem=192, config="[loader]\noptions = selftest=blk\n", data_disk=failing(tmp_path, "read", 4096, 512),
                device_errors=True).start()
    _, match = m.expect(r"selftest: blk: PASS: \d+ requests, \d+ pages verified, 0 bad, (\d+) failed", 300)
    assert int(match.group(1)) > 0
    m.expect(r"aerostat> ", 60)

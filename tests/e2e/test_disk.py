"""Disks: nothing is written that is not ours; device errors end at most the VM whose page is lost."""
import hashlib
import os

from aerostat import MIB, vm_section
import mkimage

RESERVED = "app=verify mem=70%"


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def hurt(count=3, memory=96):
    return "".join(vm_section(f"v{i}", memory, "app=verify mem=85%", disk="48M") for i in range(count))


def test_foreign_disk_is_never_written(machine, tmp_path):
    disk = str(tmp_path / "foreign.img")
    mkimage.make(disk, 0, [], [("linux", 64 * MIB)])
    with open(disk, "r+b") as f:
        f.seek(2 * MIB)
        f.write(os.urandom(MIB))
    before = digest(disk)
    config = vm_section("v0", 64, RESERVED, disk=None, reservation="64M") + vm_section("v1", 64, RESERVED, disk=None)
    m = machine(config=config, mem=256, parts=(), data_disk=disk).boot()
    boot_before = None
    out = m.ok("mem")
    assert "swap=off" in out and "no swap partition" in out, out
    m.wait_for(lambda: m.show("v0")["checked"] > 0, 120)
    v1 = m.show("v1")
    assert v1["state"] == "created", v1  # not admitted: nothing backs it
    assert "swap" in m.command("vm start v1")
    m.close()
    assert digest(disk) == before
    assert boot_before is None


def blkdebug(tmp_path, image, event, first, count):
    """A data disk whose sectors [first, first+count) fail; the rules are per sector."""
    path = tmp_path / f"{event}.conf"
    rules = "".join(f'[inject-error]\nevent = "{event}"\nerrno = "5"\nonce = "off"\nsector = "{s}"\n\n'
                    for s in range(first, first + count, 8))
    path.write_text(rules)
    return f"file=blkdebug:{path}:{image},format=raw,rerror=report,werror=report"


def test_read_errors_end_only_who_lost_a_page(machine, tmp_path):
    image = str(tmp_path / "data.img")
    mkimage.make(image, 0, [], [("swap", 512 * MIB), ("data", 256 * MIB)])
    drive = blkdebug(tmp_path, image, "read_aio", 2048 + 64, 2048)
    config = hurt() + vm_section("safe", 48, "app=verify mem=70%", disk=None, reservation="48M")
    m = machine(config=config, mem=256, parts=(), data_disk=drive).boot()

    def somebody_lost():
        return [n for n in ("v0", "v1", "v2") if m.show(n)["state"] == "crashed"]

    for name in m.wait_for(somebody_lost, 240, every=3):
        assert "swap" in m.show(name)["why"] and "lost" in m.show(name)["why"]
    before = m.show("safe")["checked"]
    m.wait_for(lambda: m.show("safe")["checked"] > before, 120)
    for name in ("v0", "v1", "v2", "safe"):
        seen = m.show(name)
        assert seen["state"] == "crashed" or seen["errors"] == 0, seen
    assert m.host()["read-errors"] > 0
    m.check()


def test_write_errors_lose_nothing(machine, tmp_path):
    image = str(tmp_path / "data.img")
    mkimage.make(image, 0, [], [("swap", 512 * MIB), ("data", 256 * MIB)])
    drive = blkdebug(tmp_path, image, "write_aio", 2048 + 64, 2048)
    m = machine(config=hurt(), mem=256, parts=(), data_disk=drive).boot()
    m.wait_for(lambda: m.host()["write-errors"] > 0, 240, every=2)
    m.run_for(20)
    for i in range(3):
        before = m.show(f"v{i}")
        assert before["state"] == "running" and before["errors"] == 0, before
    m.wait_for(lambda: all(m.show(f"v{i}")["checked"] > 0 for i in range(3)), 240, every=3)
    assert all(m.show(f"v{i}")["errors"] == 0 for i in range(3))
    m.check()


def test_slow_drive_slows_guests_and_loses_nothing(machine, tmp_path):
    image = str(tmp_path / "data.img")
    mkimage.make(image, 0, [], [("swap", 512 * MIB), ("data", 256 * MIB)])
    drive = f"file={image},format=raw,throttling.iops-total=100"
    m = machine(config=hurt(), mem=256, parts=(), data_disk=drive).boot()
    m.wait_for(lambda: m.host()["swap-out"] > 0, 240, every=2)
    m.run_for(30)
    for i in range(3):
        seen = m.show(f"v{i}")
        assert seen["state"] == "running" and seen["errors"] == 0, seen
    m.check()

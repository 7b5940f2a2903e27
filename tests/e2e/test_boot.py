"""From power-on to the prompt, and what is said when a file is missing or broken."""
import os

import pytest

from aerostat import BUILD, Machine


@pytest.mark.parametrize("cpus,mem", [(1, 256), (2, 512), (1, 6144)])
def test_prompt_on_qemu(machine, cpus, mem):
    m = machine(mem=mem, cpus=cpus).boot()
    assert "help" in m.ok("help")
    assert "SVM" in m.ok("host").upper()
    total = m.host()["total"]
    assert total.endswith("G") == (mem > 1024), total


@pytest.mark.bochs
def test_prompt_on_bochs_without_acpi(machine):
    m = machine(emulator="bochs", mem=192).boot()
    assert "VMX" in m.ok("host").upper()


@pytest.mark.parametrize("name", ["aerostat/aerostat.elf"])
def test_missing_file_is_named(machine, name):
    m = machine(omit=[name]).start()
    m.expect(r"aerostat\.elf", 120)


def test_broken_file_is_named(machine, tmp_path):
    broken = str(tmp_path / "broken.elf")
    with open(os.path.join(BUILD, "aerostat.elf"), "rb") as f:
        data = f.read()
    with open(broken, "wb") as f:
        f.write(data[: len(data) // 2])
    m = machine(replace={"aerostat/aerostat.elf": broken}).start()
    m.expect(r"aerostat\.elf.*(truncated|broken|beyond)", 120)


def panics(machine, emulator, what, pattern):
    m = machine(emulator=emulator, mem=192, config=f"[loader]\noptions = selftest={what}\n", parts=()).start()
    m.console.expect("PANIC", timeout=240)
    m.console.expect(pattern, timeout=60)
    m.console.expect(r"frames:", timeout=60)


@pytest.mark.parametrize("what,pattern", [("pf", r"(?i)page fault"), ("ud", r"(?i)invalid opcode"), ("stack", r"(?i)double fault"), ("df", r"(?i)double fault")])
def test_panic_screen_on_qemu(machine, what, pattern):
    panics(machine, "qemu", what, pattern)


@pytest.mark.bochs
def test_panic_screen_on_bochs(machine):
    panics(machine, "bochs", "stack", r"(?i)double fault")


def selftest(machine, emulator):
    m = machine(emulator=emulator, mem=192, config="[loader]\noptions = selftest=hv\n", parts=()).start()
    text, found = m.expect(r"hv selftest: (\d+) passed, (\d+) failed", 300)
    assert ", 0 failed" in found, text[-3000:]


def test_every_exit_kind_on_svm(machine):
    selftest(machine, "qemu")


@pytest.mark.bochs
def test_every_exit_kind_on_vmx(machine):
    selftest(machine, "bochs")

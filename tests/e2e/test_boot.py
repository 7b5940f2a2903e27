"""From power-on to the prompt and back, and what is said when a file is missing or broken."""
import os
import re

import pexpect
import pytest

from aerostat import BUILD, GUEST, IMAGE, MIB, PANIC, PATIENCE, PROMPT, pairs, vm_section


@pytest.mark.parametrize("cpus,mem", [(1, 256), (2, 512), (1, 6144)])
def test_prompt_on_qemu(machine, cpus, mem):
    m = machine(mem=mem, cpus=cpus).boot()
    assert "vm create" in m.ok("help")
    host = pairs(m.ok("host"))
    assert host["backend"] == "SVM" and host["tsc-khz"] > 100000
    memory = m.host()
    # All but what the firmware keeps; with 6 GiB most of it lies above the hole below 4 GiB.
    assert (mem * 0.97 - 16) * MIB < memory["total"] <= mem * MIB
    assert memory["hypervisor"] < memory["total"] / 25
    assert memory["swap"] == "on" and memory["swap-total"] == 2048 * MIB
    m.check()


def mitigates(m, mode):
    """The mode is in force, and a guest under it sees what it should. What it says of the mitigations."""
    m.boot()
    host = pairs(m.ok("host"))
    assert host["mitigations"] == mode and f"mitigations ({mode}): {host['in-force']}" in m.boot_text
    m.wait_checked("v")
    m.check()
    return host["in-force"].split(), host["exposed"].split()


def with_mitigations(mode):
    return f"[loader]\noptions = mitigations={mode}\n\n" + vm_section("v", 32, "app=verify mem=50%", disk=None)


@pytest.mark.parametrize("mode", ["full", "off"])
def test_mitigations_on_qemu(machine, mode):
    """The emulator has none of the registers: what software does alone; VERW is done by any processor."""
    in_force, exposed = mitigates(machine(mem=256, config=with_mitigations(mode)), mode)
    if mode == "off":
        assert (in_force, exposed) == (["none"], ["unknown"])
    else:
        assert {"retpoline", "rsb", "verw"} <= set(in_force) and "ibpb" in exposed


@pytest.mark.bochs
@pytest.mark.takes(30)
def test_mitigations_on_bochs(machine):
    m = machine(emulator="bochs", mem=192, config=with_mitigations("full"), parts=(("swap", 128),))
    in_force, _ = mitigates(m, "full")
    assert {"rsb", "verw"} <= set(in_force)


def reboots(m):
    """reboot comes back to the prompt; shutdown ends the emulator."""
    m.boot()
    m.send("reboot\r")
    m.expect(r"restart by the operator", 60)
    m.expect(r"Aerostat loader", 120)
    m.expect(PROMPT, 240)
    m.wait_ready("idle")  # sleeps, and has nothing else to do than to answer
    m.send("shutdown\r")
    m.expect(r"stopping 1 VMs", 30)
    m.expect(r"idle: created \(shut down by the guest\)", 60)
    m.expect(r"power-off by the operator", 60)
    m.wait_exit()


IDLE = vm_section("idle", 32, "app=idle mem=20%", disk=None)


def test_reboot_and_shutdown_on_qemu(machine):
    reboots(machine(mem=256, config=IDLE, extra=["-action", "reboot=reset"]))


@pytest.mark.bochs
@pytest.mark.takes(60)
def test_no_acpi_reboot_and_shutdown_on_bochs(machine):
    m = machine(emulator="bochs", mem=192, config=IDLE, parts=(("swap", 128),))
    reboots(m)
    assert "VMX" in m.boot_text and "nested paging EPT" in m.boot_text
    assert re.search(r"acpi: .*(no|without|none)", m.boot_text), m.boot_text


def test_shutdown_does_not_wait_for_ever(machine):
    """A guest that does not answer is forced."""
    m = machine(mem=256, config=vm_section("deaf", 32, "app=crash how=spin after=0", disk=None)).boot()
    with m.guest_console("deaf"):
        m.expect(r"crash: now: spin")
    m.send("shutdown\r")
    m.expect(r"deaf: created \(stopped by the operator, forced\)", 60)
    m.wait_exit()


def refuses(m, *patterns):
    """The loader says what is wrong, on one line, and goes back to the firmware."""
    m.start()
    said = m.expect(r"Aerostat: (error: [^\r\n]*)[\r\n]", 120)[1].group(1)
    for pattern in patterns:
        assert re.search(pattern, said), said
    m.expect(r"back to the firmware after a key", 30)
    m.send(" ")
    m.expect(r"BdsDxe: |Shell>|UEFI Interactive", 120)


@pytest.mark.parametrize("name", ["aerostat.elf", "aerostat.ini"])
def test_missing_file_is_named(machine, name):
    refuses(machine(omit=[f"aerostat/{name}"]), re.escape(name), "cannot be opened|not found")


@pytest.mark.parametrize("name,source,part,why", [("aerostat.elf", IMAGE, 0.5, "truncated: "), ("guest.elf", GUEST, 0.1, "truncated: "),
                                                  ("aerostat.elf", IMAGE, 0, "empty file")])
def test_broken_file_is_named(machine, tmp_path, name, source, part, why):
    left = str(tmp_path / "broken.elf")
    with open(source, "rb") as whole, open(left, "wb") as some:
        some.write(whole.read(int(os.path.getsize(source) * part)))
    refuses(machine(replace={f"aerostat/{name}": left}), re.escape(name), why)


def test_missing_guest_image_is_named(machine):
    m = machine(omit=["aerostat/guest.elf"], config=IDLE).boot()
    assert "no guest image 'guest.elf'" in m.refused("vm start idle")


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n"])
def test_empty_configuration_boots_without_vms(machine, text):
    m = machine(mem=256, config=text).boot()
    assert "aerostat.ini: 0 VMs, 0 errors" in m.boot_text
    assert len(m.ok("vm list").strip().splitlines()) == 1


def test_mistakes_in_the_configuration_cost_only_themselves(machine):
    config = ("[host]\nshare-rate = fast\n[vm a]\nmemory = 12x\n\n" + IDLE + "[vm idle]\nmemory = 64M\n[vm b]\nshares = 1\n"
              "frob\n[what]\n" + "x" * 500 + "\n")
    m = machine(mem=256, config=config).boot()
    text = m.boot_text
    for line, what in ((2, "share-rate"), (4, "memory"), (4, "12x")):
        assert re.search(rf"warning: aerostat\.ini:{line}: [^\n]*{what}", text), text
    assert len(re.findall(r"warning: aerostat\.ini:\d+: ", text)) >= 6, text
    m.wait_state("idle", "running")
    assert m.show("idle")["memory"] == 32 * MIB


@pytest.mark.parametrize("cpu,missing", [("max,svm=off", "SVM"), ("max,npt=off", "[Nn]ested paging")])
def test_missing_virtualisation_is_named(machine, cpu, missing):
    m = machine(mem=256, extra=["-cpu", cpu], device_errors=True).start()
    m.expect(rf"cannot run guests: [^\r\n]*{missing}", 120)
    m.expect(r"halted", 30)


FAULTS = [("pf", "page fault", "fault_page"), ("text", "write of a protected page", "fault_text"),
          ("alias", "write of a protected page", "fault_text_alias"), ("exec", "execution of a protected page", "start"),
          ("ud", "invalid opcode", "fault_invalid_opcode"), ("df", "double fault", "fault_double"),
          ("stack", "STACK OVERFLOW", "recurse"), ("check", "this_cpu", "fault_check"),
          ("lock", "lock order: outer .* while inner", "lock_acquire")]


def panics(m, what, where):
    """The screen has the reason, registers, a backtrace with names, and the state of memory. Returns its text."""
    m.start()
    m.console.expect(PANIC, timeout=240)
    m.console.expect(r"halted \(boot option|rebooting in", timeout=PATIENCE)
    text = m.console.before
    assert re.search(what, text, re.I), text
    assert re.search(r"rsp [0-9a-f]{16}", text) and re.search(r"cr3 [0-9a-f]{16}", text), text
    assert re.search(rf"backtrace:.*\b{where}(\.\S+)?\+0x.*cpu_continue_on_stack\+0x", text, re.S), text
    assert re.search(r"frames: free \d+", text) and "reclaim: " in text, text


def broken(name, **options):
    return dict(mem=192, config=f"[loader]\noptions = selftest={name}\n", parts=(), **options)


@pytest.mark.parametrize("name,what,where", FAULTS)
def test_panic_screen_on_qemu(machine, name, what, where):
    panics(machine(**broken(name)), what, where)


def test_panic_can_restart_the_machine(machine):
    m = machine(mem=192, config="[loader]\noptions = selftest=ud panic=reboot\n", parts=())
    panics(m, "invalid opcode", "fault_invalid_opcode")
    m.console.expect(pexpect.EOF, timeout=PATIENCE)  # a reset ends the emulator


@pytest.mark.bochs
@pytest.mark.takes(25)
def test_panic_screen_on_bochs(machine):
    panics(machine(**broken("stack", emulator="bochs")), "STACK OVERFLOW", "recurse")


def passes(m, pattern, zero):
    m.start()
    text, match = m.expect(pattern, 400)
    assert int(match.group(1)) > 0 and all(match.group(g) == "0" for g in zero), (match.group(0), text[-3000:])


def test_every_exit_kind_on_svm(machine):
    passes(machine(mem=192, config="[loader]\noptions = selftest=hv\n", parts=()),
           r"hv selftest: (\d+) passed, (\d+) failed", [2])


@pytest.mark.bochs
@pytest.mark.takes(30)
def test_every_exit_kind_on_vmx(machine):
    passes(machine(emulator="bochs", mem=192, config="[loader]\noptions = selftest=hv\n", parts=()),
           r"hv selftest: (\d+) passed, (\d+) failed", [2])

"""An NVMe disk in a hot-plug slot of its own, for what happens to disks while a machine runs: it is pulled out, from a
moment on every transfer fails, or it does not answer for a while. QEMU does it, over two sockets: QMP for what its monitor can do,
qtest for writes to the slot's registers, which are those of a PCI Express root port.
"""
import json
import os
import socket

import mkimage

PORT = 0x10  # the root port's device number on bus 0
WINDOWS, INTEL = (0xe0000000, 0xb0000000), 0x8086
CAPABILITIES, EXPRESS, SLOT_CONTROL = 0x34, 0x10, 0x18
POWER_OFF, INDICATOR_OFF = 1 << 10, 3 << 8


class Line:
    """A socket of QEMU, of which each line that is sent has one line of answer."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw", encoding="utf-8")

    def read(self):
        return self.file.readline().strip()

    def ask(self, text):
        self.file.write(text + "\n")
        self.file.flush()
        return self.read()

    def close(self):
        self.file.close()
        self.socket.close()


class Bay:
    """parts: as mkimage has them. options: what QEMU is to be given for it (extra of Machine)."""

    def __init__(self, folder, parts):
        os.makedirs(folder, exist_ok=True)
        self.image = os.path.join(folder, "bay.img")
        self.paths = {kind: os.path.join(folder, kind) for kind in ("qmp", "qtest")}
        mkimage.make(self.image, 0, [], parts)
        self.lines = {}
        self.options = [
            "-drive", f"file={self.image},format=raw,if=none,id=bay",
            "-device", f"pcie-root-port,id=slot0,chassis=1,slot=1,bus=pcie.0,addr={PORT:#x}",
            "-device", "nvme,drive=bay,serial=bay,bus=slot0",
            "-qmp", f"unix:{self.paths['qmp']},server=on,wait=off",
            "-qtest", f"unix:{self.paths['qtest']},server=on,wait=off", "-qtest-log", os.devnull]

    def _line(self, kind):
        if kind not in self.lines:
            line = self.lines[kind] = Line(self.paths[kind])
            if kind == "qmp":
                assert "QMP" in json.loads(line.read())
                self._qmp("qmp_capabilities")
        return self.lines[kind]

    def _qmp(self, command, **arguments):
        line = self._line("qmp")
        answer = json.loads(line.ask(json.dumps({"execute": command, "arguments": arguments})))
        while "event" in answer:
            answer = json.loads(line.read())
        assert "return" in answer, (command, answer)
        return answer["return"]

    def _memory(self, access, address, *value):
        """One access to memory as the processor sees it, such as readl; what was read."""
        line = " ".join([access, f"{address:#x}"] + [f"{one:#x}" for one in value])
        answer = self._line("qtest").ask(line).split()
        assert answer and answer[0] == "OK", (line, answer)
        return int(answer[1], 16) if len(answer) > 1 else None

    def _port_registers(self):
        """Where the root port's configuration is: firmwares differ in the place they choose."""
        for base in WINDOWS:
            if self._memory("readl", base) & 0xffff == INTEL:
                return base + (PORT << 15)
        raise AssertionError("no window for PCI configuration was found")

    def pull(self):
        """The disk leaves its slot without a word: from now on nothing answers there."""
        port = self._port_registers()
        at = self._memory("readb", port + CAPABILITIES)
        while self._memory("readb", port + at) != EXPRESS:
            at = self._memory("readb", port + at + 1)
            assert at, "the root port has no PCI Express capability"
        control = self._memory("readw", port + at + SLOT_CONTROL)
        self._memory("writew", port + at + SLOT_CONTROL, control | POWER_OFF | INDICATOR_OFF)
        assert self._memory("readw", port + at + SLOT_CONTROL) & POWER_OFF, "the slot has kept its power"

    def fail(self):
        """Every transfer fails from now on; the controller goes on answering."""
        self._qmp("human-monitor-command", **{"command-line": "drive_del bay"})

    def hold(self, on):
        """Transfers take for ever, or as long as they did."""
        self._qmp("block_set_io_throttle", device="bay", bps=1 if on else 0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0, iops_wr=0)

    def close(self):
        for line in self.lines.values():
            line.close()
        if os.path.exists(self.image):
            os.remove(self.image)

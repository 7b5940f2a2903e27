#!/usr/bin/env python3
"""Runs Aerostat in QEMU or Bochs, for people (make run) and for tests alike.

  emu.py qemu  --disk build/boot.img --disk build/data.img [--mem 512] [--cpus 1] [--accel auto|kvm|tcg] [--gdb]
  emu.py bochs --disk build/bochs.img [--mem 512]

The guest's serial line is this program's standard input and output; the exit is Ctrl-A X on both. As a module: Qemu and
Bochs make the command line (and the files it needs) in a work folder of their own.
"""
import argparse
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import tty

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
BOCHS_OVMF = "/usr/share/ovmf/OVMF.fd"
BOCHS_BIOS = "/usr/share/seabios/bios.bin"
BOCHS_VGA = "/usr/share/seabios/vgabios-stdvga.bin"
ESCAPE = 0x01  # Ctrl-A


def pick_accel():
    """("kvm" or "tcg", why). KVM is of use only if it passes virtualisation on: an Intel or AMD processor that shows it."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        flags = {word for line in info if line.startswith("flags") for word in line.split()}
    if not flags & {"vmx", "svm"}:
        return "tcg", "the processor shows neither vmx nor svm"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        return "tcg", f"/dev/kvm does not open: {error.strerror}"
    return "kvm", "the processor shows vmx or svm and /dev/kvm opens"


class Qemu:
    """QEMU with OVMF, NVMe disks. disks: paths, or strings of -drive options containing a comma ("file=x.img,format=raw,...").
    boot: what the first disk is: nvme, ahci, usb (a stick) or cd. bios: its own firmware instead of OVMF."""

    BOOT = {
        "nvme": ["-device", "nvme,drive=disk0,serial=aero0,bootindex=0"],
        "ahci": ["-device", "ide-hd,bus=ide.0,drive=disk0,bootindex=0"],
        "usb": ["-device", "qemu-xhci,id=xhci", "-device", "usb-storage,bus=xhci.0,drive=disk0,removable=on,bootindex=0"],
        "cd": ["-device", "ide-cd,bus=ide.0,drive=disk0,bootindex=0"],
    }

    def __init__(self, disks, mem=512, cpus=1, accel="auto", work=".", gdb=False, serial="mon:stdio", extra=(),
                 cpu="max", icount=False, boot="nvme", bios=False):
        self.boot, self.bios = boot, bios
        self.why = "asked for"
        if accel == "auto":
            accel, self.why = pick_accel()
        self.accel = accel
        self.disks, self.mem, self.cpus = disks, mem, cpus
        self.work, self.gdb, self.serial, self.extra = work, gdb, serial, list(extra)
        self.cpu, self.icount = cpu, icount  # icount: time is instructions executed, one a nanosecond; TCG, one CPU

    def command(self):
        os.makedirs(self.work, exist_ok=True)
        variables = os.path.join(self.work, "ovmf-vars.fd")
        shutil.copyfile(OVMF_VARS, variables)
        cmd = ["qemu-system-x86_64", "-machine", "q35", "-smp", str(self.cpus), "-m", str(self.mem)]
        if self.accel == "kvm":
            cmd += ["-accel", "kvm", "-cpu", "host"]
        else:
            cmd += ["-accel", "tcg,thread=single" if self.icount else "tcg,thread=multi", "-cpu", self.cpu]
        if self.icount:
            cmd += ["-icount", "shift=0,sleep=off"]
        if not self.bios:
            cmd += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}",
                    "-drive", f"if=pflash,format=raw,file={variables}"]
        for number, disk in enumerate(self.disks):
            options = disk if "," in disk else f"file={disk},format=raw"
            cmd += ["-drive", f"{options},if=none,id=disk{number}"]
            cmd += ["-device", f"nvme,drive=disk{number},serial=aero{number},bootindex={number}"] if number else \
                self.BOOT[self.boot]
        cmd += ["-serial", self.serial, "-display", "none", "-vga", "std", "-net", "none", "-no-reboot"]
        if self.serial != "mon:stdio":
            cmd += ["-monitor", "none"]
        if self.gdb:
            cmd += ["-s", "-S"]
        return cmd + self.extra


class Bochs:
    """Bochs with OVMF (bios: SeaBIOS) and ATA disks, *.iso as a CD; its serial port connects to us, see line().

    Several processors want Bochs 3.1 (binary): without its fw_cfg device the firmware makes no ACPI tables."""

    def __init__(self, disks, mem=512, work=".", model="corei7_skylake_x", ips=50000000, binary="bochs",
                 log_action="ignore", bios=False, cpus=1):
        self.disks, self.mem, self.work, self.model, self.bios = disks, mem, work, model, bios
        self.ips, self.binary, self.log_action, self.cpus = ips, binary, log_action, cpus
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1)  # ours from the start: nobody else can take the port

    def write_rc(self):
        os.makedirs(self.work, exist_ok=True)
        lines = [
            f"cpu: model={self.model}, count={self.cpus}, ips={self.ips}, reset_on_triple_fault=0, ignore_bad_msrs=1",
            f"memory: guest={self.mem}, host={self.mem}",
            f"romimage: file={BOCHS_BIOS}" if self.bios else f"romimage: file={BOCHS_OVMF}, address=0xffe00000",
            f"vgaromimage: file={BOCHS_VGA}",
            "pci: enabled=1, chipset=i440fx",
            f"boot: {'cdrom' if self.disks[0].endswith('.iso') else 'disk'}",
            "clock: sync=none, time0=utc",
            'display_library: rfb, options="timeout=0"',
            "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy",
            "speaker: enabled=0",
            f"com1: enabled=1, mode=socket-client, dev=127.0.0.1:{self.listener.getsockname()[1]}",
            f"log: {os.path.join(self.work, 'bochs.log')}",
            "panic: action=report",
            f"error: action={self.log_action}",
            "info: action=ignore",
            "debug: action=ignore",
            "magic_break: enabled=0",
        ]
        if self.cpus > 1:
            lines.append("fw_cfg: enabled=1")
        channels = (("ata0", "0x1f0", "0x3f0", 14), ("ata1", "0x170", "0x370", 15))
        for name, io1, io2, irq in channels:
            lines.append(f"{name}: enabled=1, ioaddr1={io1}, ioaddr2={io2}, irq={irq}")
        for number, disk in enumerate(self.disks):
            lock = disk + ".lock"  # left behind by a killed run
            if os.path.exists(lock):
                os.remove(lock)
            where = f"ata{number // 2}-{'slave' if number % 2 else 'master'}"
            kind = "cdrom" if disk.endswith(".iso") else "disk"
            lines.append(f'{where}: type={kind}, path="{disk}", ' + ("status=inserted" if kind == "cdrom" else "mode=flat"))
        path = os.path.join(self.work, "bochsrc")
        with open(path, "w", encoding="utf-8") as rc:
            rc.write("\n".join(lines) + "\n")
        with open(os.path.join(self.work, "bochs.go"), "w", encoding="utf-8") as go:
            go.write("c\n")  # Debian's Bochs has the debugger built in and stops at once
        return path

    def command(self):
        return [self.binary, "-q", "-f", self.write_rc(), "-rc", os.path.join(self.work, "bochs.go")]

    def line(self, process, seconds=300):
        """The serial line of this Bochs, which has just been started as process. None: it has ended, or does not connect."""
        end = time.monotonic() + seconds
        with self.listener:
            while process.poll() is None and time.monotonic() < end:
                if select.select([self.listener], [], [], 0.1)[0]:
                    return self.listener.accept()[0]
        return None


def free_port():
    """A port nobody has just now; below those that the system gives away by itself."""
    while True:
        port = random.randrange(10000, 32768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def bridge(line, process):
    """Terminal <-> serial line until either ends or Ctrl-A X is typed."""
    stdin, escaped, inputs = sys.stdin.fileno(), False, [line, sys.stdin]
    while process.poll() is None:
        ready, _, _ = select.select(inputs, [], [], 0.5)
        if line in ready:
            data = line.recv(4096)
            if not data:
                return
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if sys.stdin in ready:
            typed = os.read(stdin, 256)
            if not typed:
                inputs.remove(sys.stdin)
            for byte in typed:
                if escaped and byte in b"xX":
                    return
                if byte == ESCAPE and not escaped:
                    escaped = True
                    continue
                escaped = False
                line.sendall(bytes([byte]))


def run_bochs(args):
    bochs = Bochs(args.disk, mem=args.mem, work=args.work, model=args.model, binary=args.bochs, log_action=args.log_action,
                  bios=args.bios, cpus=args.cpus)
    print(f"Bochs ({args.model}, {args.mem} MiB): emulated VT-x, slow; the firmware takes 5-15 s. "
          "Leave with Ctrl-A X.", flush=True)
    command = bochs.command()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that Bochs is ended, too
    with open(os.path.join(args.work, "bochs.out"), "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)
    line = bochs.line(process)
    if not line:
        process.kill()
        sys.exit(f"Bochs did not start: see {args.work}/bochs.out and {args.work}/bochs.log")
    saved = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        if saved:
            tty.setraw(sys.stdin)
        bridge(line, process)
    finally:
        if saved:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
        process.kill()
        process.wait()
    print()


def run_qemu(args):
    qemu = Qemu(args.disk, mem=args.mem, cpus=args.cpus, accel=args.accel, work=args.work, gdb=args.gdb,
                serial=args.serial, extra=args.extra, boot=args.boot, bios=args.bios)
    print(f"QEMU with {qemu.accel.upper()}: {qemu.why}. Leave with Ctrl-A X.", flush=True)
    command = qemu.command()
    os.execvp(command[0], command)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name in ("qemu", "bochs"):
        sub = kinds.add_parser(name)
        sub.add_argument("--disk", action="append", default=[])
        sub.add_argument("--mem", type=int, default=512, help="MiB")
        sub.add_argument("--work", default="build/emu", help="folder for the emulator's own files")
        sub.add_argument("--bios", action="store_true", help="BIOS instead of UEFI")
        sub.add_argument("--cpus", type=int, default=1)
        if name == "qemu":
            sub.add_argument("--boot", choices=tuple(Qemu.BOOT), default="nvme", help="what the first disk is")
            sub.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
            sub.add_argument("--gdb", action="store_true", help="stop at start, wait for gdb at :1234")
            sub.add_argument("--serial", default="mon:stdio")
            sub.add_argument("extra", nargs="*", help="further QEMU options, after --")
        else:
            sub.add_argument("--model", default="corei7_skylake_x")
            sub.add_argument("--bochs", default="bochs", help="the program")
            sub.add_argument("--log-action", choices=("ignore", "report"), default="ignore",
                             help="report: explains failed VM entries in bochs.log; large")
    args = parser.parse_args()
    args.work = os.path.abspath(args.work)
    run_qemu(args) if args.kind == "qemu" else run_bochs(args)


if __name__ == "__main__":
    main()

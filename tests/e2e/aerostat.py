"""A machine that runs Aerostat in an emulator, driven over its serial console as an operator would.

Every wait watches for the lines that no test may cause: a panic, a failed check, a verifier that saw a wrong byte. One of
them fails the test at once with what was on the console. Time-outs are hang detectors, not targets.
"""
import os
import re
import subprocess
import sys
import time

import pexpect
import pexpect.fdpexpect

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools"))
import emu  # noqa: E402
import mkimage  # noqa: E402

BUILD = os.environ.get("AEROSTAT_BUILD", os.path.join(TOP, "build"))
BOCHS_SMP = os.environ.get("AEROSTAT_BOCHS", "bochs31")  # Bochs 3.1, for more than one processor
PROMPT = r"aerostat> "
BAD = r"PANIC|[Pp]anic:|check failed|lock order:|sum check: [^o\r\n]|: wrong byte|bad=[1-9]"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MIB = 1 << 20
UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}


def clean(text):
    return ANSI.sub("", text).replace("\r", "")


def size(text):
    """Bytes of "1.5G", "192M", "-"."""
    match = re.fullmatch(r"([0-9.]+)([KMGT]?)", text)
    return int(float(match.group(1)) * UNITS[match.group(2)]) if match else 0


def pairs(text):
    """All key=value words of a command's output; numbers become int, quoted values lose their quotes."""
    found = {}
    for key, value in re.findall(r'([a-z][a-z0-9-]*)=("[^"]*"|\S*)', text):
        value = value.strip('"')
        found[key] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return found


class Machine:
    """emulator: "qemu" (SVM, NVMe) or "bochs" (VMX, ATA). parts: what is on the data disk besides nothing."""

    def __init__(self, work, emulator="qemu", config="", mem=512, parts=(("swap", 2048), ("data", 1024)), cpus=1,
                 data_disk=None, extra=(), omit=(), replace=None, model="corei7_skylake_x"):
        self.work, self.emulator = str(work), emulator
        os.makedirs(self.work, exist_ok=True)
        self.mem_mib, self.cpus, self.extra, self.model = mem, cpus, list(extra), model
        self.log_path = os.path.join(self.work, "console.txt")
        self.process = self.line = self.console = None
        self.boot_disk = os.path.join(self.work, "boot.img")
        self.data_path = os.path.join(self.work, "data.img")
        self._make_boot(config, set(omit), replace or {})
        if parts:
            mkimage.make(self.data_path, 0, [], [(kind, mib * MIB) for kind, mib in parts])
        self.disks = [self.boot_disk] + ([data_disk or self.data_path] if parts or data_disk else [])

    def _make_boot(self, config, omit, replace):
        ini = os.path.join(self.work, "aerostat.ini")
        with open(ini, "w", encoding="utf-8") as out:
            out.write("# written by a test\n" + config)
        files = {"EFI/BOOT/BOOTX64.EFI": os.path.join(BUILD, "BOOTX64.EFI"), "aerostat/aerostat.ini": ini,
                 "aerostat/aerostat.elf": os.path.join(BUILD, "aerostat.elf"),
                 "aerostat/guest.elf": os.path.join(BUILD, "guest.elf")}
        files.update(replace)
        mkimage.make(self.boot_disk, 64 * MIB, [(src, dst) for dst, src in files.items() if dst not in omit], [])

    # ---- life ----

    def start(self):
        log = open(self.log_path, "w", encoding="utf-8", errors="replace")
        if self.emulator == "qemu":
            qemu = emu.Qemu(self.disks, mem=self.mem_mib, cpus=self.cpus, accel="tcg", work=self.work, serial="stdio",
                            extra=self.extra)
            command = qemu.command()
            self.console = pexpect.spawn(command[0], command[1:], encoding="utf-8", codec_errors="replace", timeout=60,
                                         echo=False)
        else:
            bochs = emu.Bochs(self.disks, mem=self.mem_mib, work=self.work, model=self.model, cpus=self.cpus,
                              binary=BOCHS_SMP if self.cpus > 1 else "bochs")
            with open(os.path.join(self.work, "bochs.out"), "wb") as out:
                self.process = subprocess.Popen(bochs.command(), stdin=subprocess.PIPE, stdout=out, stderr=out)
            self.line = emu.connect(bochs.port, self.process)
            assert self.line, "Bochs did not start, see bochs.out in " + self.work
            self.console = pexpect.fdpexpect.fdspawn(self.line.fileno(), encoding="utf-8", codec_errors="replace",
                                                     timeout=60)
        self.console.delaybeforesend = None
        self.console.logfile_read = log
        return self

    def boot(self, timeout=240):
        """To the first prompt."""
        self.start()
        self.expect(PROMPT, timeout)
        return self

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.line.close()
        elif self.console:
            self.console.close(force=True)
        self.console = self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- talking ----

    def expect(self, pattern, timeout=60):
        """Waits for pattern; a bad line, the end of the emulator or the time-out fails the test. Returns the match's text."""
        try:
            index = self.console.expect([BAD, pattern], timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            tail = clean(self.console.before or "")[-3000:]
            raise AssertionError(f"{type(error).__name__} waiting for {pattern!r}; console:\n{tail}") from None
        if index == 0:
            shown = clean(self.console.before)[-2000:] + self.console.after
            self.drain(2)
            raise AssertionError(f"bad line on the console:\n{shown}{clean(self.drained)}")
        return clean(self.console.before), self.console.after

    def drain(self, seconds=0.05):
        """Takes what has come meanwhile, watching it for bad lines."""
        self.drained = ""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.drained += self.console.read_nonblocking(65536, timeout=0.02)
            except pexpect.TIMEOUT:
                break
            except pexpect.EOF:
                break
        return self.drained

    def send(self, text):
        self.console.send(text)

    def command(self, line, timeout=60):
        """Runs one console command; its output without echo and prompt."""
        late = self.drain()
        assert not re.search(BAD, clean(late)), clean(late)
        self.send(line + "\r")
        self.expect(re.escape(line) + r"(?:\x1b\[[0-9;]*[A-Za-z])*\r*\n", timeout)
        return self.expect(PROMPT, timeout)[0]

    def ok(self, line, timeout=60):
        out = self.command(line, timeout)
        assert "error:" not in out, f"{line}: {out}"
        return out

    def mem(self, vm):
        return pairs(self.ok(f"mem {vm}"))

    def host(self):
        return pairs(self.ok("mem"))

    def frames(self):
        """Free frames of the host, exactly."""
        return pairs(self.ok("host"))["frames-free"]

    def show(self, vm):
        return pairs(self.ok(f"vm show {vm}"))

    def check(self, timeout=120):
        """The sum check proves every state of every VM."""
        assert "sum check: ok" in self.ok("mem check", timeout)

    def wait_for(self, what, timeout, every=1.0):
        """Polls what() until it is true; returns its value."""
        end = time.monotonic() + timeout
        while True:
            value = what()
            if value:
                return value
            assert time.monotonic() < end, f"still not so after {timeout} s: {what.__doc__ or what}"
            time.sleep(every)

    def wait_state(self, vm, state, timeout=60):
        last = {}

        def there():
            last.update(self.show(vm))
            return last["state"] == state

        self.wait_for(there, timeout)
        return last

    def run_for(self, seconds):
        """Lets the machine run, watching the console all the while."""
        end = time.monotonic() + seconds
        seen = ""
        while time.monotonic() < end:
            try:
                seen += self.console.read_nonblocking(65536, timeout=min(1.0, max(0.05, end - time.monotonic())))
            except pexpect.TIMEOUT:
                pass
            assert not re.search(BAD, clean(seen)), clean(seen)[-3000:]
        return clean(seen)


def vm_section(name, memory, cmdline, disk="64M", **keys):
    """A [vm NAME] section."""
    lines = [f"[vm {name}]", f"memory = {memory}M", f"cmdline = {cmdline}"]
    if disk:
        lines.append(f"disk = {disk}")
    lines += [f"{key.replace('_', '-')} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n\n"

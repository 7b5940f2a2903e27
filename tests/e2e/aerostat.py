"""A machine that runs Aerostat in an emulator, driven over its serial console as an operator would.

Every wait watches for the lines that no test may cause: a panic, a line of the log at level error, a verifier that saw a
wrong byte. One of them fails the test at once with what was on the console. Time-outs are hang detectors, not targets:
none is shorter than PATIENCE, whatever a test says, since the machine that runs it may have other things to do.
"""
import contextlib
import functools
import inspect
import os
import re
import shutil
import signal
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
IMAGE = os.path.join(BUILD, "volume", "aerostat.elf")  # as it goes on the boot volume
GUEST = os.path.join(BUILD, "guest.elf")
EXAMPLE = os.path.join(BUILD, "example.elf")
ISO = os.path.join(BUILD, "test.iso")  # as `make iso` makes it, with a patient menu
PROMPT = r"aerostat> "
PANIC = r"PANIC"
# A guest cannot cause an error line: the log keeps that level for Aerostat's own and the devices' faults.
LOG_ERROR = r"\] cpu\d+ \w+: error: "
WRONG = r"sum check: (?!o)[^\r\n]|bad=[1-9]|BAD|, [1-9]\d* bad\b"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LOG_LINE = re.compile(r"^\[\d+\.\d{3}\] cpu\d+ .*\n?", re.M)
PAGE = 4096
MIB = 1 << 20
UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}
DETACH = "\x1d"  # Ctrl-]
PATIENCE = 300  # s


@functools.lru_cache(None)
def bochs_smp():
    """A Bochs for more than one processor: 3.1 or newer, from AEROSTAT_BOCHS or the path. Or None."""
    for name in (os.environ.get("AEROSTAT_BOCHS", "bochs31"), "bochs"):
        if shutil.which(name):
            models = subprocess.run([name, "--help", "cpu"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                    errors="replace", timeout=PATIENCE, check=False)
            if "arrow_lake" in models.stdout + models.stderr:  # a model that 3.1 brought
                return name
    return None


def clean(text):
    return ANSI.sub("", text).replace("\r", "")


def value_of(text):
    """"12" and "1.5M" as int (bytes), anything else as it is."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    if not match or "." in text and not match.group(2):
        return text
    return int(float(match.group(1)) * UNITS[match.group(2)])


class Figures(dict):
    """key=value words. A figure of the guest's own is waited for as long as the guest has told none; another that is not there fails the
    test with all there are."""

    told = None  # waits until the guest tells, and returns everything

    def __missing__(self, key):
        if self.told and self.pop("guest", "") == "silent":
            self.update(self.told())  # pylint: disable=not-callable
        assert key in self, f"no {key} in {dict(self)}"
        return self[key]


def pairs(text):
    """All key=value words of a command's output. Numbers and sizes become int, quoted values keep their text."""
    found = Figures()
    for key, value in re.findall(r'([a-z][a-z0-9-]*)=("[^"]*"|\S*)', LOG_LINE.sub("", text)):
        assert key not in found, f"key {key} twice in:\n{text}"
        found[key] = value[1:-1] if value.startswith('"') else value_of(value)
    return found


def vm_section(name, memory, cmdline, disk="64M", **keys):
    """A [vm NAME] section."""
    lines = [f"[vm {name}]", f"memory = {memory}M", f"cmdline = {cmdline}"]
    if disk:
        lines.append(f"disk = {disk}")
    lines += [f"{key.replace('_', '-')} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n\n"


def show_figures(m, title):
    """What an operator sees, for pytest -s."""
    print(f"\n==== {title}\n{m.ok('mem')}\n{m.ok('vm list')}", flush=True)


@functools.lru_cache(maxsize=256)
def echo(line):
    """A pattern for the echo of a line that was typed. Between any two of its characters log lines may come, and the prompt with what was
    typed so far, or, when two processors log at once, without."""
    pattern = ""
    for i in range(len(line) + 1):
        pattern += rf"(?:\r|\n|\x1b\[[0-9;]*[A-Za-z]|\[\d+\.\d{{3}}\] [^\n]*\n|{PROMPT}{re.escape(line[:i])})*?" if i else ""
        pattern += re.escape(line[i:i + 1])
    return pattern + r"\r*\n"


class Machine:
    """emulator: "qemu" (SVM, NVMe) or "bochs" (VMX, ATA). config: text of aerostat.ini. parts: what is on the data disk;
    data_disk: that disk itself, a path or options of -drive. omit, replace: files of the boot volume.
    device_errors: the log may hold lines at level error. qemu: more arguments of emu.Qemu. boot, bios: see there; iso: boots the
    image of `make iso`, which has a configuration of its own, or the one at this path."""

    def __init__(self, work, emulator="qemu", config="", mem=512, parts=(("swap", 2048), ("data", 1024)), cpus=1,
                 data_disk=None, extra=(), omit=(), replace=None, device_errors=False, model="corei7_skylake_x",
                 qemu=None, boot="nvme", bios=False, iso=False):
        self.work, self.emulator = str(work), emulator
        os.makedirs(self.work, exist_ok=True)
        self.mem_mib, self.cpus, self.extra, self.model, self.qemu = mem, cpus, list(extra), model, qemu or {}
        self.boot_kind, self.bios = boot, bios
        self.serial = "chardev:console"  # of COM1
        self.bad = re.compile("|".join([PANIC, WRONG] + ([] if device_errors else [LOG_ERROR])))
        self.process = self.line = self.console = None
        self.boot_disk = os.path.join(self.work, "boot.img")
        self.data_path = os.path.join(self.work, "data.img")
        if not iso:
            self._make_boot(config, set(omit), replace or {})
        if parts and not data_disk:
            mkimage.make(self.data_path, 0, [], [(kind, mib * MIB) for kind, mib in parts])
        first = self.boot_disk
        if iso:
            image = ISO if iso is True else iso
            first = image if emulator == "bochs" else f"file={image},format=raw,{'readonly' if boot == 'cd' else 'snapshot'}=on"
        self.disks = [first] + ([data_disk or self.data_path] if parts or data_disk else [])

    def _make_boot(self, config, omit, replace):
        ini = os.path.join(self.work, "aerostat.ini")
        with open(ini, "w", encoding="utf-8") as out:
            out.write(config)
        files = {"EFI/BOOT/BOOTX64.EFI": os.path.join(BUILD, "BOOTX64.EFI"), "aerostat/aerostat.ini": ini,
                 "aerostat/aerostat.elf": IMAGE, "aerostat/guest.elf": GUEST, "aerostat/example.elf": EXAMPLE}
        files.update(replace)
        mkimage.make(self.boot_disk, 64 * MIB, [(src, dst) for dst, src in files.items() if dst not in omit], [])

    # ---- life ----

    def start(self):
        log = open(os.path.join(self.work, "console.txt"), "w", encoding="utf-8", errors="replace")
        if self.emulator == "qemu":
            qemu = emu.Qemu(self.disks, mem=self.mem_mib, cpus=self.cpus, accel="tcg", work=self.work,
                            serial=self.serial, extra=["-chardev", "stdio,id=console,signal=off"] + self.extra,
                            boot=self.boot_kind, bios=self.bios, **self.qemu)
            command = qemu.command()
            self.console = pexpect.spawn(command[0], command[1:], encoding="utf-8", codec_errors="replace", timeout=60,
                                         echo=False)
        else:
            bochs = emu.Bochs(self.disks, mem=self.mem_mib, work=self.work, model=self.model, bios=self.bios,
                              cpus=self.cpus, binary=bochs_smp() if self.cpus > 1 else "bochs")
            with open(os.path.join(self.work, "bochs.out"), "wb") as out:
                self.process = subprocess.Popen(bochs.command(), stdin=subprocess.PIPE, stdout=out, stderr=out)
            self.line = bochs.line(self.process)
            assert self.line, "Bochs did not start, see bochs.out in " + self.work
            self.console = pexpect.fdpexpect.fdspawn(self.line.fileno(), encoding="utf-8", codec_errors="replace",
                                                     timeout=60)
        self.console.delaybeforesend = None
        self.console.logfile_read = log
        return self

    def boot(self, timeout=240):
        """To the first prompt."""
        self.start()
        self.boot_text = self.expect(PROMPT, timeout)[0]
        return self

    def wait_exit(self):
        """The emulator ends by itself."""
        if self.process:
            self.process.wait(PATIENCE)
        else:
            self.expect(pexpect.EOF)

    def close(self):
        """Ends the emulator; its disks go, what was on the console stays."""
        if self.process:
            self.process.kill()
            self.process.wait()
            if self.line:
                self.line.close()
        elif self.console:
            if self.console.isalive():  # close() alone would give it a moment only
                os.kill(self.console.pid, signal.SIGKILL)
                self.console.wait()
            self.console.close()
        self.console = self.process = None
        for image in (self.boot_disk, self.data_path):
            if os.path.exists(image):
                os.remove(image)

    # ---- talking ----

    def expect(self, pattern, timeout=PATIENCE):
        """Waits for pattern; a bad line, the end of the emulator or the time-out fails the test.
        Returns (text before, text or re.Match that matched)."""
        try:
            index = self.console.expect([self.bad, pattern], timeout=max(timeout, PATIENCE))
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            self._fail_silent(f"{type(error).__name__} waiting for {pattern!r}")
        if index == 0:
            self._fail_bad()
        return clean(self.console.before or ""), self.console.match

    def _fail_silent(self, what):
        tail = clean(self.console.before or "")[-3000:]
        raise AssertionError(f"{what}{self._ended()}; console:\n{tail}") from None

    def _ended(self):
        """How the emulator ended, if it did: a guest's reset is exit status 0, a crash or a kill from outside a signal."""
        if self.process:
            return "" if self.process.poll() is None else f" (the emulator ended: {self.process.returncode})"
        with contextlib.suppress(pexpect.ExceptionPexpect):
            if not self.console.isalive():
                return f" (the emulator ended: exit status {self.console.exitstatus}, signal {self.console.signalstatus})"
        return ""

    def _fail_bad(self):
        shown = clean(self.console.before)[-2000:] + self.console.after
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            self.console.expect(r"\x00never", timeout=2)
        raise AssertionError(f"bad line on the console:\n{shown}{clean(self.console.before or '')}")

    def run_for(self, seconds):
        """Lets the machine run, watching the console all the while. What comes stays there for the next expect()."""
        index = self.console.expect([self.bad, pexpect.TIMEOUT, pexpect.EOF], timeout=seconds)
        if index == 0:
            self._fail_bad()
        elif index == 2:
            self._fail_silent("end of the console")

    def send(self, text):
        self.console.send(text)

    def command(self, line, timeout=PATIENCE):
        """Runs one console command; its output without echo and prompt, and without log lines that came meanwhile."""
        self.send(line + "\r")
        self.expect(echo(line), timeout)
        out = self.expect(PROMPT, timeout)[0]
        return out if line.startswith("log ") else LOG_LINE.sub("", out)

    def ok(self, line, timeout=PATIENCE):
        out = self.command(line, timeout)
        assert not re.search("^error: ", out, re.M), f"{line}: {out}"
        return out

    def refused(self, line):
        """The command answers with exactly one line of error, which is returned."""
        out = self.command(line).strip().splitlines()
        assert len(out) == 1 and out[0].startswith("error: "), (line, out)
        return out[0]

    @contextlib.contextmanager
    def guest_console(self, vm):
        """Attached to the VM's console for the time of a with block."""
        self.send(f"vm console {vm}\r")
        self.expect(rf"\[console of {vm}: Ctrl-\] leaves\]")
        yield
        self.send(DETACH)
        self.expect(rf"\[left the console of {vm}\]")
        self.expect(PROMPT)

    # ---- looking ----

    def mem(self, vm):
        return pairs(self.ok(f"mem {vm}"))

    def host(self):
        return pairs(self.ok("mem"))

    def uptime_ms(self):
        """The machine's own time."""
        return pairs(self.ok("host"))["uptime-ms"]

    def frames(self):
        """Free frames of the host, exactly."""
        return pairs(self.ok("host"))["frames-free"]

    def settled_frames(self):
        """Free frames of the host once guests have touched what they touch."""
        seen = []

        def settled():
            """two looks at the free frames find the same"""
            seen.append(self.frames())
            return len(seen) > 1 and seen[-1] == seen[-2]

        self.wait_for(settled, 60, every=1)
        return seen[-1]

    def show(self, vm):
        shown = pairs(self.ok(f"vm show {vm}"))
        shown.told = lambda: self.told(vm)
        return shown

    def told(self, vm):
        """The same once the guest has told its own figures."""
        def speaks():
            """the guest tells its figures"""
            shown = self.show(vm)
            assert shown["state"] not in ("created", "crashed"), shown
            return shown.get("guest") != "silent" and shown

        return self.wait_for(speaks, PATIENCE)

    def state(self, vm):
        return self.show(vm)["state"]

    def check(self, timeout=120):
        """The sum check proves every state of every VM."""
        assert "sum check: ok" in self.ok("mem check", timeout)

    # ---- waiting ----

    def wait_for(self, what, timeout, every=0.5):
        """Polls what() until it is true; returns its value."""
        timeout = max(timeout, PATIENCE)
        end = time.monotonic() + timeout
        while True:
            value = what()
            if value:
                return value
            assert time.monotonic() < end, f"still not so after {timeout} s: {what.__doc__ or inspect.getsource(what).strip()}"
            self.run_for(every)

    def wait_settled(self, what, timeout, looks=5, every=1):
        """Polls what() until it has been true so many times in a row: what is meant to last, not to be so for a moment."""
        row = []

        def lasts():
            row.append(what())
            return len(row) >= looks and all(row[-looks:])

        lasts.__doc__ = f"{what.__doc__ or what}, {looks} times in a row"
        self.wait_for(lasts, timeout, every)
        return row[-1]

    def wait_state(self, vm, state, timeout=PATIENCE):
        self.wait_for(lambda: self.state(vm) == state, timeout)

    def stop(self, vm):
        """The guest ends when it is asked to. One that this slow a machine has not let run in its 5 s is started and asked once
        more, three times at most."""
        for _ in range(3):
            self.wait_up(vm)
            self.ok(f"vm stop {vm}")
            self.wait_state(vm, "created")
            if self.show(vm)["why"] == "shut down by the guest":
                return
            self.ok(f"vm start {vm}")
        raise AssertionError(f"{vm} does not end when it is asked to")

    def wait_up(self, vm):
        """Its kernel answers: from now on it can be asked to shut down."""
        self.told(vm)

    def wait_ready(self, vm):
        """Its workload has made all its pages."""
        self.wait_for(lambda: self.show(vm).get("app-state") == "running", 60, every=0.25)

    def wait_sampled(self, samples=2):
        """So many samples have been taken from now on: what commands say of the last one is true of what has been at rest since."""
        def last():
            return int(self.ok("history host csv").split()[-1].split(",")[0])

        begun = last()  # its second; the first sample after it may have begun before now
        self.wait_for(lambda: last() > begun + samples, 60)

    def wait_checked(self, *vms, timeout=180):
        """Each of these guests re-reads pages from now on and sees what it should; returns what they show."""
        before = {vm: self.show(vm).get("checked", 0) for vm in vms}
        seen = {}

        def moved(vm):
            seen[vm] = self.show(vm)
            assert seen[vm]["state"] in ("starting", "running") and seen[vm].get("errors", 0) == 0, (vm, seen[vm])
            return seen[vm].get("checked", 0) > before[vm]

        for vm in vms:
            self.wait_for(lambda: moved(vm), timeout)  # pylint: disable=cell-var-from-loop
        return seen

    def full_check(self, *vms, timeout=300):
        """Asks guests to verify every page they own, all at the same time; pages verified per VM, none of them wrong."""
        pages = {}
        for vm in vms:
            self.send(f"vm console {vm}\r")
            self.expect(rf"\[console of {vm}: Ctrl-\] leaves\]")
            self.send("check\r")
            self.expect(r"kernel tables: good", 120)
            self.send(DETACH)
            # What a small guest has finished already is not shown again.
            self._note_check(pages, vm, self.expect(rf"\[left the console of {vm}\]")[0])
            self.expect(PROMPT)
        for vm in vms:
            if vm not in pages:
                with self.guest_console(vm):
                    self._note_check(pages, vm, self.expect(r"check: \d+ pages, \d+ bad", timeout)[1].group(0))
        return pages

    @staticmethod
    def _note_check(pages, vm, text):
        match = re.search(r"check: (\d+) pages, (\d+) bad", text)
        if match:
            pages[vm] = int(match.group(1))
            assert pages[vm] > 0 and match.group(2) == "0", (vm, match.group(0))

#!/usr/bin/python3
"""Everything `make test` runs, in order of cost; stops at the first part that fails. The last line counts tests.

The parts: the shape of the tree, unit tests under sanitizers, a short run of every fuzzer, end-to-end tests in QEMU and Bochs;
two at a time. Each part prints its own report; the count is the sum of theirs.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = "/usr/bin/python3"  # Debian's: that is where its pytest and pexpect are
FUZZ_SECONDS = os.environ.get("FUZZ_SECONDS", "5")


def run(command, **env):
    """The exit code and the output, shown as it comes."""
    process = subprocess.Popen(command, cwd=TOP, env=dict(os.environ, **env), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
    output = []
    for line in process.stdout:
        output.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
    return process.wait(), "".join(output)


def run_all(commands):
    """The exit code and the output of each, shown when it is complete, in their order."""
    def whole(command):
        done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        return done.returncode, done.stdout

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(whole, commands):
            sys.stdout.write(result[1])
            sys.stdout.flush()
            yield result


def count(pattern, text):
    return sum(int(n) for n in re.findall(pattern, text))


def tree():
    code, _ = run([PYTHON, "tools/check_tree.py"])
    return (1, 0) if code == 0 else (0, 1)


def unit():
    programs = sys.argv[1].split()
    passed = failed = 0
    for code, text in run_all([program] for program in programs):
        passed += count(r"\[  PASSED  \] (\d+) test", text)
        bad = count(r"\[  FAILED  \] (\d+) test", text)
        failed += bad if bad or code == 0 else 1
    code, text = run([PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit"])
    return passed + count(r"(\d+) passed", text), failed + (code != 0)


def fuzz():
    commands = []
    for program in sys.argv[2].split():
        corpus = os.path.join(os.path.dirname(program), "corpus-" + os.path.basename(program))
        os.makedirs(corpus, exist_ok=True)
        commands.append([program, f"-max_total_time={FUZZ_SECONDS}", "-verbosity=0", "-print_final_stats=0", corpus])
    print(f"fuzz: {len(commands)} programs, {FUZZ_SECONDS} s each", flush=True)
    codes = [code for code, _ in run_all(commands)]
    return codes.count(0), len(codes) - codes.count(0)


def end_to_end():
    code, text = run([PYTHON, "-m", "pytest", "-n", "2", "tests/e2e"])
    failed = count(r"(\d+) failed", text) + count(r"(\d+) error", text)
    return count(r"(\d+) passed", text), failed or (code != 0)


def main():
    passed = failed = 0
    for part in (tree, unit, fuzz, end_to_end):
        begun = time.monotonic()
        good, bad = part()
        passed, failed = passed + good, failed + int(bad)
        print(f"== {part.__name__}: {good} passed, {int(bad)} failed, {time.monotonic() - begun:.0f} s", flush=True)
        if bad:
            break
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

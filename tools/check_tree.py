#!/usr/bin/python3
"""Holds the shape of the tree: which part may include which, that every header compiles alone, and .clang-format.

The table below is the only statement of the allowed edges; docs/ARCHITECTURE.md explains them.
Run from the top of the tree; exits 1 with one line per offence.
"""
import os
import re
import subprocess
import sys

# part -> parts (or single headers) it may include, besides itself
ALLOWED = {
    "lib": [],
    "mm": ["lib"],
    "arch/x86": ["lib", "mm/pt.h", "mm/frame.h", "mm/platform.h", "boot/boot_info.h", "boot/memmap.h", "boot/options.h",
                 "mm/reclaim.h", "drivers/uart.h", "drivers/acpi.h"],
    "arch/x86/svm": ["lib", "arch/x86", "mm/pt.h", "mm/frame.h", "mm/platform.h"],
    "arch/x86/vmx": ["lib", "arch/x86", "mm/pt.h", "mm/frame.h", "mm/platform.h"],
    "drivers": ["lib", "arch/x86", "mm"],
    "vmm": ["lib", "arch/x86", "mm", "drivers", "guest/abi", "boot/boot_info.h", "boot/options.h"],
    "boot": ["lib", "arch/x86", "mm", "drivers", "vmm"],
    "boot/multiboot2": ["lib", "boot", "arch/x86/asm.h", "drivers/screen.h"],
    "boot/efi": ["lib", "boot", "arch/x86/asm.h", "arch/x86/cpu.h"],
    "guest/abi": [],
    "guest/kernel": ["guest/abi", "lib"],
    "guest/apps": ["guest/abi", "guest/kernel", "lib"],
    "guest/example": ["guest/abi"],
}
# Only the page-table formats and the walker's users look into mm/pt.h.
PT_USERS = re.compile(r"^(mm/(pt|gspace\w*)\.[ch]|arch/x86/(hv\.h|hv\w*\.c|paging\.[ch]|svm/\w+\.[ch]|vmx/\w+\.[ch]))$")
PARTS = sorted(ALLOWED, key=len, reverse=True)
INCLUDE = re.compile(r'^\s*[#%]include\s+"([^"]+)"', re.M)


def part_of(path):
    for part in PARTS:
        if path.startswith(part + "/"):
            return part
    return None


def sources(*more):
    for part in ("lib", "mm", "arch", "drivers", "vmm", "boot", "guest", *more):
        for folder, _, names in os.walk(part):
            for name in names:
                if name.endswith((".c", ".h", ".asm")):
                    yield os.path.join(folder, name)


def check_edges(path):
    part = part_of(path)
    with open(path, encoding="utf-8") as f:
        for target in INCLUDE.findall(f.read()):
            if not os.path.exists(target):
                local = os.path.join(os.path.dirname(path), target)
                if not os.path.exists(local):
                    yield f"{path}: includes {target}, which does not exist from the top of the tree"
                    continue
                target = os.path.normpath(local)
            there = part_of(target)
            allowed = ALLOWED.get(part, [])
            if there != part and target not in allowed and there not in allowed:
                yield f"{path}: {part} may not include {target}"
            if target == "mm/pt.h" and not PT_USERS.match(path):
                yield f"{path}: mm/pt.h is for the page-table formats and the address spaces only"


def check_header(path):
    flags = ["-std=gnu11", "-I.", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fsyntax-only", "-x", "c", "-"]
    if path.startswith("boot/efi/"):
        return []  # needs GNU-EFI's own flags; compiled with the loader
    done = subprocess.run(["gcc", *flags], input=f'#include "{path}"\n', text=True, capture_output=True)
    return [f"{path}: does not compile alone: {line}" for line in done.stderr.splitlines() if "error" in line][:1]


def check_format():
    paths = [path for path in sources("tests") if not path.endswith(".asm")]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *sorted(paths)], text=True, capture_output=True)
    return [f"{line}: clang-format would change it" for line in
            re.findall(r"^(\S+?:\d+):\d+: error: ", done.stderr, re.M)]


def main():
    faults, files = check_format(), 0
    for path in sorted(sources()):
        files += 1
        faults += check_edges(path)
        if path.endswith(".h"):
            faults += check_header(path)
    print("\n".join(faults) if faults else f"tree: {files} files, all edges allowed, every header stands alone, all formatted")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

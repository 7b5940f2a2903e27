#!/usr/bin/env python3
"""Turns `nm` output into the C source of the hypervisor's symbol table.

usage: nm -n IMAGE | ksyms.py BASE > ksyms.c      (an empty input gives an empty table)

Only text symbols are kept: the table lies behind the text, so linking it in moves none of them.
"""
import sys


def main():
    base = int(sys.argv[1], 0)
    entries, blob, size, last = [], [], 0, None
    for line in sys.stdin:
        parts = line.split()
        if len(parts) != 3 or parts[1] not in "tTwW":
            continue
        addr, name = int(parts[0], 16), parts[2]
        if addr < base or addr == last or "." == name[0] or name.startswith("image_"):
            continue
        last = addr
        entries.append((addr - base, size))
        blob.append(name)
        size += len(name) + 1
    print("/* Generated from the first link of the image. */")
    print('#include "arch/x86/backtrace.h"\n')
    print('#define KSYMS __attribute__((section(".ksyms")))')
    print("KSYMS const u32 ksym_count = %d;" % len(entries))
    print("KSYMS const struct ksym ksyms[] = {")
    for offset, name in entries or [(0, 0)]:
        print("\t{ 0x%x, %d }," % (offset, name))
    print("};")
    print("KSYMS const char ksym_names[] =")
    for name in blob:
        print('\t"%s\\0"' % name)
    print('\t"";')


main()

#!/usr/bin/env python3
"""Turns a console font (PSF version 1, gzipped or not, with its table of Unicode characters) into C for drivers/screen.c.

usage: mkfont.py FONT > font.c      Only 8x16 is accepted; the ASCII characters are taken, others are a box.
"""
import gzip
import struct
import sys

MAGIC = b"\x36\x04"
MODE_512, MODE_NAMES = 1, 2
SEQUENCE, END = 0xfffe, 0xffff
HEIGHT, GLYPHS = 16, 128
BOX = bytes([0, 0, 0x7e] + [0x42] * 9 + [0x7e, 0, 0, 0])


def glyphs_of(data):
    """{character: 16 bytes}."""
    mode, height = data[2], data[3]
    if data[:2] != MAGIC or height != HEIGHT or not mode & MODE_NAMES:
        sys.exit("mkfont.py: not a PSF1 font of 8x16 with a table of characters")
    count = 512 if mode & MODE_512 else 256
    names = struct.iter_unpack("<H", data[4 + count * HEIGHT:])
    found = {}
    for number in range(count):
        simple = True  # sequences of combining characters are left out
        for (name,) in names:
            if name == END:
                break
            simple = simple and name != SEQUENCE
            if simple:
                found[name] = data[4 + number * HEIGHT:4 + (number + 1) * HEIGHT]
    return found


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    found = glyphs_of(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    missing = [chr(c) for c in range(0x20, 0x7f) if c not in found]
    if missing:
        sys.exit(f"mkfont.py: the font has no {''.join(missing)}")
    print("/* Made from a console font by tools/mkfont.py. */")
    print('#include "drivers/screen.h"\n')
    print("const u8 font_8x16[FONT_GLYPHS][FONT_HEIGHT] = {")
    for code in range(GLYPHS):
        glyph = found[code] if 0x20 <= code < 0x7f else BOX
        print("\t{" + ", ".join(f"0x{line:02x}" for line in glyph) + "},")
    print("};")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes a GPT disk image: an EFI system partition with files, and Aerostat's own partitions.

  mkimage.py disk.img --file build/BOOTX64.EFI=EFI/BOOT/BOOTX64.EFI --file guest.elf=aerostat/guest.elf
  mkimage.py data.img --esp 0 --part swap:1G --part data:512M --part linux:16M

--part TYPE:SIZE, TYPE one of swap, data (Aerostat's types), linux, or a type GUID. The image is sparse: only what is
written takes room. Everything is done with sgdisk and mtools on the file; no root, no loop device.
"""
import argparse
import os
import re
import subprocess
import sys

TYPES = {
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "swap": "a3e05747-5a9f-4a17-9b1f-53776170a3e0",  # GPT_TYPE_AEROSTAT_SWAP in mm/blk.h
    "data": "a3e05747-5a9f-4a17-9b1f-64617461a3e0",  # GPT_TYPE_AEROSTAT_GUEST_DATA
    "linux": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
}
NAMES = {"esp": "EFI system", "swap": "aerostat swap", "data": "aerostat data"}
MIB = 1 << 20
SECTOR = 512
UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": 1 << 30}


def size(text):
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size such as 64M, got {text!r}")
    return int(match.group(1)) * UNITS[match.group(2)]


def run(*args):
    env = dict(os.environ, MTOOLS_SKIP_CHECK="1", PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(args)}: {done.stdout}{done.stderr}")


def layout(parts):
    """[(type, first byte, bytes)], each aligned to 1 MiB; and the size of the whole disk."""
    at, out = MIB, []
    for kind, wanted in parts:
        length = max(-(-wanted // MIB), 1) * MIB
        out.append((kind, at, length))
        at += length
    return out, at + MIB


def write_table(path, parts):
    args = ["sgdisk", "--clear"]
    for number, (kind, first, length) in enumerate(parts, 1):
        last = (first + length) // SECTOR - 1
        args += [f"--new={number}:{first // SECTOR}:{last}", f"--typecode={number}:{TYPES.get(kind, kind)}",
                 f"--change-name={number}:{NAMES.get(kind, 'other')}"]
    run(*args, path)


def fill_esp(path, offset, length, files):
    drive = f"{path}@@{offset}"
    run("mformat", "-i", drive, "-F", "-v", "AEROSTAT", "-T", str(length // SECTOR), "::")
    made = set()
    for source, target in files:
        folders = target.strip("/").split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth])
            if folder.lower() not in made:
                run("mmd", "-i", drive, f"::/{folder}")
                made.add(folder.lower())
        run("mcopy", "-o", "-i", drive, source, f"::/{target.strip('/')}")


def make(path, esp_bytes, files, parts, disk_bytes=0):
    """Writes the image; parts: [(type, bytes)]."""
    every = ([("esp", esp_bytes)] if esp_bytes else []) + list(parts)
    places, total = layout(every)
    if os.path.exists(path):
        os.remove(path)
    with open(path, "wb") as image:
        image.truncate(max(total, disk_bytes))
    write_table(path, places)
    if esp_bytes:
        fill_esp(path, places[0][1], places[0][2], files)


def pair(text, separator, what):
    if separator not in text:
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
    return tuple(text.split(separator, 1))


def partition(text):
    kind, length = pair(text, ":", "TYPE:SIZE")
    if kind not in TYPES and not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", kind):
        raise argparse.ArgumentTypeError(f"expected {', '.join(TYPES)} or a type GUID, got {kind!r}")
    return kind, size(length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--esp", type=size, default=size("64M"), metavar="SIZE", help="0: none; default 64M")
    parser.add_argument("--file", action="append", default=[], metavar="SRC=DST",
                        type=lambda t: pair(t, "=", "SOURCE=TARGET"))
    parser.add_argument("--part", action="append", default=[], metavar="TYPE:SIZE", type=partition)
    parser.add_argument("--size", type=size, default=0, help="of the whole disk, if larger than what is on it")
    args = parser.parse_args()
    make(args.image, args.esp, args.file, args.part, args.size)


if __name__ == "__main__":
    main()

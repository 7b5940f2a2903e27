#!/bin/sh
# Installs the Debian packages that a purpose needs and that are missing:  tools/deps.sh build|iso|run|bochs|charts|debug|test|plot ...
# Says what it installs. As root directly, otherwise through sudo. Quiet when nothing is missing.
set -eu

build="gcc libc6-dev binutils nasm gnu-efi libinih-dev liblz4-dev libxxhash-dev fonts-spleen python3 mtools gdisk"
run="qemu-system-x86 ovmf"
bochs="bochs bochs-term seabios ovmf"
test="clang clang-format libclang-rt-dev libcmocka-dev python3-pytest python3-pytest-xdist python3-pexpect prometheus
	chromium-headless-shell libjs-dygraphs"
charts="python3 libjs-dygraphs"
debug="gdb"
plot="python3-matplotlib"
iso="grub-common grub-efi-amd64-bin grub-pc-bin xorriso mtools"

wanted=
for purpose in "$@"; do
	case $purpose in
	build) wanted="$wanted $build" ;;
	run) wanted="$wanted $run" ;;
	bochs) wanted="$wanted $bochs" ;;
	test) wanted="$wanted $test" ;;
	charts) wanted="$wanted $charts" ;;
	debug) wanted="$wanted $debug" ;;
	plot) wanted="$wanted $plot" ;;
	iso) wanted="$wanted $iso" ;;
	*)
		echo "deps.sh: unknown purpose '$purpose'" >&2
		exit 2
		;;
	esac
done

missing=
for package in $wanted; do
	case " $missing " in
	*" $package "*) continue ;;
	esac
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "deps.sh: missing packages, and neither root nor sudo to install them:$missing" >&2
	exit 1
fi
echo "deps.sh: installing$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get -q update
# shellcheck disable=SC2086
$as_root apt-get -q -y --no-install-recommends install $missing

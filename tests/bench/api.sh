#!/bin/bash
# Figures of a private layerd beside what the same work costs without it, as a table. Root; some minutes.
#
#     tests/bench/api.sh [BUILD [PART...]]      BUILD: default build; PART: import peak export vfs life busy scale snapshots forks commit
#
# Everything lies in a mount namespace of its own, below a tmpfs at /mnt: a journaled ext4 on a loop device whose image
# is on that tmpfs (the disk is not the question), and one whose image is an unlinked file in /var/tmp, where the writes
# of others are. All of it vanishes with the run, however it ends; only the Debian root is kept, as BUILD/demo/.
# What is measured and how is told in docs/BENCHMARKS.md.

set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath -- "${1:-build}")
shift || true
if [[ $(id -u) != 0 ]]; then
    echo "the benchmarks mount file systems: run them as root (sudo make bench)" >&2
    exit 2
fi
if [[ -z ${LAYERD_BENCH_INSIDE-} ]]; then
    exec env LAYERD_BENCH_INSIDE=1 unshare --mount --propagation private -- tests/bench/api.sh "$build" "$@"
fi

unset LAYERD_HOST
export LC_ALL=C.UTF-8 HOME=/mnt/home TMPDIR=/mnt/tmp XDG_RUNTIME_DIR=/mnt/tmp
umask 022
# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
debian=$build/demo/debian-$release.tar

debian_root() {
    local source
    [[ ! -s $debian ]] || return 0
    mkdir -p "${debian%/*}"
    for source in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list; do [[ ! -s $source ]] || break; done
    echo "a Debian root by mmdebstrap, kept for the next time" >&2
    mmdebstrap -q --format=tar --variant=minbase "$release" "$debian.new" "$source"
    mv "$debian.new" "$debian"
}

# make_disk IMAGE SIZE PLACE: a journaled ext4; the image loses its name at once.
make_disk() {
    truncate -s "$2" "$1"
    mkdir "$3"
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$1"
    mount -o loop,noatime,nodiscard "$1" "$3"
    rm "$1"
}

# /mnt is left before it is unmounted, so that no mount of ours outlives us.
# shellcheck disable=SC2317
cleanup() {
    local status=$?
    cd /
    rm -f "${slow-}"
    umount -R /mnt 2>/dev/null || umount -R -l /mnt || status=1
    exit "$status"
}

slow=$(TMPDIR=/var/tmp mktemp /var/tmp/layerd-bench.XXXXXX)
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
mount -t tmpfs -o mode=755,size=90% layerd-bench /mnt
mkdir /mnt/tmp /mnt/home
debian_root
make_disk /mnt/disk.img 12G /mnt/disk
make_disk "$slow" 6G /mnt/slow
mkdir /mnt/disk/images
python3 tests/bench/images.py "$debian" /mnt/disk/images
python3 tests/bench/api.py "$build" /mnt "$@"

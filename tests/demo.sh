#!/bin/bash
# What `make demo` shows: layerd at work on two real images, with each of its drivers. Root.
#
#     tests/demo.sh [BUILD]
#
# Everything happens on a scratch disk (a loop device on an unlinked file) in a mount namespace of its own, so that all of
# it vanishes with the demo, however that ends. Only the Debian root is kept, in BUILD/demo/, for the next time.

set -euo pipefail
build=$(realpath -- "${1:-build}")
if [[ $(id -u) != 0 ]]; then
    echo "the demo mounts file systems: run it as root (sudo make demo)" >&2
    exit 2
fi
if [[ -z ${LAYERD_DEMO_INSIDE-} ]]; then
    exec env LAYERD_DEMO_INSIDE=1 unshare --mount --propagation private -- "$(realpath -- "$0")" "$build"
fi

unset LAYERD_HOST
export LC_ALL=C.UTF-8 PATH=$build:$PATH COLUMNS=${COLUMNS:-80}
umask 022
# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
daemon=''

stop_daemon() {
    [[ -n $daemon ]] || return 0
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" || echo "layerd ended with status $?"
    daemon=''
}
scratch=''
# shellcheck disable=SC2317
cleanup() {
    local status=$?
    cd /
    stop_daemon
    if ((status != 0)) && [[ -s /mnt/log ]]; then
        echo "the daemon's log:"
        tail -n 20 /mnt/log
    fi
    ! mountpoint -q /mnt/disk || umount -R /mnt || status=1
    [[ -z $scratch ]] || rm -rf --one-file-system "$scratch"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# The run root is a tmpfs at /mnt, the disk is at /mnt/disk. Where there are no loop devices, a folder must do.
make_disk() {
    local image
    mount -t tmpfs -o mode=755 layerd-demo /mnt
    mkdir /mnt/disk
    image=$(mktemp /var/tmp/layerd-demo.XXXXXX)
    truncate -s 8G "$image"
    if mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 "$image" && mount -o loop "$image" /mnt/disk; then
        rm "$image"
    else
        rm "$image"
        scratch=$(mktemp -d /var/tmp/layerd-demo.XXXXXX)
        mount --bind "$scratch" /mnt/disk
    fi
    mkdir /mnt/disk/data /mnt/disk/work
    ln -s disk/data /mnt/data
}

# ---- how it is shown ----

bold='' dim='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} ]]; then
    bold=$'\033[1m' dim=$'\033[2m' plain=$'\033[0m'
fi
chapter() { printf '\n%s== %s %s%s\n' "$bold" "$1" "$(printf '%*s' $((76 - ${#1})) '' | tr ' ' =)" "$plain"; }
say() { printf '\n%s\n' "$*" | fold -s -w 78; }

# show COMMAND: prints it as it would be typed, and runs it in this shell; with times for whatever is worth one.
show() {
    local begin elapsed
    printf '%s$ %s%s\n' "$bold" "$1" "$plain"
    begin=${EPOCHREALTIME/./}
    eval "$1"
    elapsed=$((${EPOCHREALTIME/./} - begin))
    if [[ $1 =~ (layerctl|umoci|skopeo|mmdebstrap|curl) ]]; then
        printf '%s  (%d.%d ms)%s\n' "$dim" $((elapsed / 1000)) $((elapsed / 100 % 10)) "$plain"
    fi
}
must_be() { [[ $2 == "$3" ]] || { echo "DEMO FAILED: $1: '$2' is not '$3'" && exit 1; }; }

# ---- the parts ----

make_images() {
    local cached=$build/demo/debian-$release.tar source
    chapter "Two real images"
    say "A Debian root by mmdebstrap, packed as an OCI image by umoci and skopeo."
    if [[ ! -s $cached ]]; then
        mkdir -p "${cached%/*}"
        for source in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list; do [[ ! -s $source ]] || break; done
        TMPDIR=$PWD show "mmdebstrap -q --variant=minbase $release debian-root.tar \\
    $source"
        mv debian-root.tar "$cached"
    else
        printf '%s$ mmdebstrap -q --variant=minbase %s debian-root.tar%s\n' "$bold" "$release" "$plain"
        printf '%s  (kept in build/demo from the last time)%s\n' "$dim" "$plain"
    fi
    ln -s "$cached" debian-root.tar
    show "umoci init --layout layout && umoci new --image layout:debian"
    show "umoci raw add-layer --image layout:debian debian-root.tar"
    show "skopeo --insecure-policy copy -q \\
    oci:layout:debian oci-archive:debian.tar:debian:12"
    say "A second image on the same base: one layer adds a shop, another deletes /etc/apt."
    mkdir -p one/srv/shop one/srv/data one/etc two/etc
    head -c 3000000 /dev/urandom >one/srv/shop/catalogue
    echo "welcome to the shop" >one/etc/motd
    touch two/etc/.wh.apt
    tar -C one -cf one.tar . && tar -C two -cf two.tar etc/.wh.apt
    show "umoci raw add-layer --image layout:debian --tag shop one.tar"
    show "umoci raw add-layer --image layout:shop two.tar"
    show "skopeo --insecure-policy copy -q \\
    oci:layout:shop oci-archive:shop.tar:shop:1"
    rm -rf layout one two one.tar two.tar
}

start_daemon() { # DRIVER
    chapter "A private daemon, driver $1"
    export LAYERD_HOST=unix:///mnt/run/layerd.sock
    layerd --data-root /mnt/disk/data --run-root /mnt/run --group root -s "$1" --log-level warn 2>>/mnt/log &
    daemon=$!
    printf '%s$ layerd --data-root /mnt/disk/data --run-root /mnt/run -s %s &%s\n' "$bold" "$1" "$plain"
    for _ in {1..200}; do
        layerctl version >/dev/null 2>&1 && return
        kill -0 $daemon || break
        sleep 0.05
    done
    echo "the daemon does not start"
    exit 1
}

import_images() {
    chapter "Import"
    show "layerctl load debian.tar"
    say "The second image brings only its own two layers. This time over HTTP, with the progress that programs see, one JSON object per line; the last one has the result:"
    show "curl -s --unix-socket /mnt/run/layerd.sock -X POST -T shop.tar \\
    -H 'Accept: application/x-ndjson' http://localhost/v1/images/import >lines"
    show "head -n 1 lines"
    show "grep -o '\"phase\":\"[a-z]*\"' lines | uniq | paste -sd' '"
    show "tail -n 1 lines | grep -o '\"layers\":.*\"bytes_added\":[0-9]*'"
    must_be "layers of the second image" "$(tail -n 1 lines | grep -o '"layers":{[^}]*}')" '"layers":{"added":2,"reused":1}'
    show "layerctl images"
    show "layerctl layers"
}

# The names, attributes to the nanosecond, xattrs and contents of a whole tree, as one digest.
digest() {
    tar -C "$1" --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=posix \
        --pax-option=delete=atime,delete=ctime -c . | sha256sum | cut -c1-40
}

two_containers() {
    local before
    chapter "Two containers share one image"
    show "layerctl create --name one -v data:/srv/data shop:1"
    show "layerctl create --name two -v data:/srv/data shop:1"
    show "one=\$(layerctl mount one)"
    show "two=\$(layerctl mount two)"
    show "echo \$one"
    show "layerctl ps"
    say "What is read comes from the layers of the image, topmost first:"
    show "cat \$one/etc/motd \$one/etc/debian_version"
    show "test -e \$one/etc/apt || echo 'the image has deleted /etc/apt'"

    chapter "One of them changes; nobody else notices"
    say "digest() is one sha256 over the names, owners, modes, times, xattrs and contents of a whole tree."
    # shellcheck disable=SC2154
    before=$(digest "$two") layers=$(digest /mnt/data/layers)
    printf 'two     %s\nlayers  %s\n' "$before" "$layers"
    show "echo 'one was here' >>\$one/etc/motd"
    show "chmod 700 \$one/home"
    show "rm -r \$one/usr/share/doc"
    show "mkdir \$one/opt/new && date >\$one/opt/new/file"
    show "layerctl diff one"
    say "Container two has no changes, and its tree is what it was, to the byte. So are the layers below all containers:"
    show "layerctl diff two"
    show "digest \$two"
    show "digest /mnt/data/layers"
    must_be "container two" "$(digest "$two")" "$before"
    must_be "the image's layers" "$(digest /mnt/data/layers)" "$layers"
}

volume_and_end() {
    chapter "The volume stays, the writable layer goes"
    show "echo 'shared by both' >\$one/srv/data/note && cat \$two/srv/data/note"
    show "layerctl df"
    say "The writable layer of container one:"
    show "layerctl api GET '/v1/containers/one?size=1' | grep -o '\"size\":{[^}]*}'"
    show "ls /mnt/data/w"
    show "layerctl umount one two"
    show "layerctl rm one two"
    show "ls /mnt/data/w"
    say "Nothing is left of the two but their volume; a third container has it:"
    show "layerctl volumes"
    show "three=\$(layerctl create -m --name three -v data:/srv/data shop:1)"
    show "cat \$three/srv/data/note \$three/etc/motd"
    # shellcheck disable=SC2154
    must_be "the volume's note" "$(<"$three/srv/data/note")" "shared by both"
    must_be "the image's motd" "$(<"$three/etc/motd")" "welcome to the shop"
    show "layerctl rm -f three"
}

make_disk
cd /mnt/disk/work
began=$SECONDS
make_images
start_daemon overlay
show "layerctl info"
import_images
two_containers
volume_and_end
stop_daemon

start_daemon vfs
say "The same data root, images and volume. This driver copies the image for each container and needs no overlay; the layers are kept once all the same."
two_containers
volume_and_end
stop_daemon

chapter "The end"
printf 'All of it took %d seconds, and is removed now.\n' $((SECONDS - began))

#!/bin/bash
# Limits as the file system enforces them: project quotas of ext4 and xfs, and quota groups of btrfs, on Debian's own
# kernel in an emulated machine, since the kernel that the other tests run on may have none, or newer ones. Root.
#
#     tests/vm/limits.sh [BUILD]
#
# The second half of this file runs in the guest.

set -uo pipefail

passed=0 failed=0
ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    printf 'not ok: %s\n' "$1"
}
# is WHAT ACTUAL EXPECTED; check WHAT COMMAND...: that it succeeds; refused WHAT COMMAND...: that it fails.
is() { if [[ $2 == "$3" ]]; then ok; else fail "$1: '$2' should be '$3'"; fi; }
check() { if "${@:2}" >/root/log 2>&1; then ok; else fail "$1: $(head -c 600 /root/log)"; fi; }
refused() { if "${@:2}" >/root/log 2>&1; then fail "$1: it should fail"; else ok; fi; }
has() { if grep -qF -- "$2" /root/log; then ok; else fail "$1: no '$2' in: $(head -c 600 /root/log)"; fi; }

on_host() {
    local build=$1 tree status
    tree=$(mktemp -d "${TMPDIR:-/tmp}/vm-test.XXXXXX")
    mkdir -p "$tree/root"
    cp "$0" "$build/layerd" "$build/layerctl" "$tree/root/"
    mapfile -t libraries < <(ldd "$build/layerd" "$build/layerctl" | awk '$3 ~ /^\// {print $3 "\n/usr" $3}' |
        sort -u | xargs dpkg -S 2>/dev/null | cut -d: -f1 | sort -u)
    tests/boot-kernel "$build/boot" "$tree" 'VM_GUEST=1 bash /root/limits.sh' btrfs-progs e2fsprogs xfsprogs quota "${libraries[@]}"
    status=$?
    rm -rf "$tree"
    return $status
}

# ---- in the guest ----

export LAYERD_HOST=unix:///srv/run/layerd.sock PATH=/root:$PATH LC_ALL=C.UTF-8

start() {
    layerd --config /root/conf --data-root "$at/data" --run-root /srv/run -H "$LAYERD_HOST" -G root --log-level warn 2>>/root/daemon.log &
    daemon=$!
    for _ in {1..600}; do
        layerctl version >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "the daemon does not start:"
    tail -n 20 /root/daemon.log
    exit 1
}
kill_daemon() {
    kill -KILL "$daemon"
    wait "$daemon" 2>/dev/null
}

# write FILE KIB: as a container's root does, without CAP_SYS_RESOURCE.
write() {
    setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource dd if=/dev/zero of="$1" bs=4k count=$(($2 / 4)) conv=fsync
}
field() { layerctl "$1" inspect "$2" | sed -n "s/^ *\"$3\": *\"\\{0,1\\}\\([^,\"]*\\).*/\\1/p" | head -n 1; }
there() { layerctl mount "$1"; }

make_images() {
    mkdir -p image/etc image/seed
    echo guest >image/etc/hostname
    tar -C image -cf small.tar .
    head -c 6M /dev/urandom >image/large
    head -c 1M /dev/urandom >image/seed/one
    tar -C image -cf large.tar .
}

test_container() { # DRIVER
    local how=(--driver "$1") a b n
    check "$1: create" layerctl create -n a "${how[@]}" --size-limit 4M large
    check "$1: create a neighbour" layerctl create -n b "${how[@]}" --size-limit 4M large
    is "$1: the record" "$(field container a size_limit)" 4194304
    a=$(there a) b=$(there b)
    check "$1: below the limit" write "$a/one" 3072
    refused "$1: above the limit" write "$a/two" 2048
    grep -qE 'quota exceeded|No space left' /root/log || fail "$1: above the limit: $(</root/log)"
    check "$1: a neighbour is not affected" write "$b/one" 3072
    check "$1: raised while it is mounted" layerctl update a --size-limit 8M
    check "$1: raised" write "$a/two" 4096
    refused "$1: the raised limit" write "$a/three" 2048
    check "$1: what is deleted can be written again" rm "$a/one" "$a/three"
    check "$1: what is deleted can be written again" write "$a/one" 2048
    check "$1: lowered" layerctl update a --size-limit 1M
    refused "$1: below what is there" write "$a/three" 64
    check "$1: lifted" layerctl update a --size-limit none
    is "$1: lifted" "$(field container a size_limit)" null
    check "$1: lifted" write "$a/three" 12288
    check "$1: a limit set later" layerctl update b --inode-limit 60
    check "$1: files" mkdir "$b/many"
    # shellcheck disable=SC2016
    refused "$1: too many files" setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource bash -c '
        for i in {1..60}; do : >"$0/$i" || exit 1; done' "$b/many"
    n=$(find "$b/many" -type f | wc -l)
    if ((n > 40 && n < 60)); then ok; else fail "$1: $n files"; fi
    check "$1: not limited" layerctl create -n free "${how[@]}" large
    check "$1: not limited" write "$(there free)/one" 10240
    check "$1: remove" layerctl rm -f a b free
}

test_states() {
    local c
    check "create" layerctl create -n c --size-limit 4M small
    c=$(there c)
    is "df in it" "$(df -B1 --output=size "$c" | tail -n 1 | tr -d ' ')" 4194304
    check "state 1" write "$c/one" 3072
    layerctl umount c >/dev/null
    check "freeze" layerctl snapshot create c s1
    c=$(there c)
    check "after a freeze the limit is whole" write "$c/two" 3072
    refused "after a freeze there is one" write "$c/three" 2048
    check "a full one is captured" layerctl snapshot create c s2
    layerctl umount c >/dev/null
    check "rollback" layerctl snapshot rollback c s1
    c=$(there c)
    is "rolled back" "$(ls "$c")" "$(printf '%s\n' etc one seed)"
    check "after a rollback the limit is whole" write "$c/two" 3072
    refused "after a rollback there is one" write "$c/three" 2048
    layerctl umount c >/dev/null
    check "clone" layerctl clone c d
    is "a clone has the limit" "$(field container d size_limit)" 4194304
    c=$(there d)
    check "in the clone" write "$c/three" 3072
    refused "in the clone" write "$c/four" 2048
    check "remove" layerctl rm -f c d
}

test_volumes() {
    local c
    check "create" layerctl volume create data --size-limit 4M
    check "the same again" layerctl volume create data --size-limit 4M --ensure
    refused "another limit" layerctl volume create data --size-limit 5M --ensure
    check "create" layerctl volume create seeded --size-limit 4M
    check "container" layerctl create -n v -v data:/data -v seeded:/seed large
    c=$(there v)
    check "below" write "$c/data/one" 3072
    refused "above" write "$c/data/two" 2048
    check "the container is not limited" write "$c/one" 8192
    check "raised" layerctl volume update data --size-limit 8M
    check "raised" write "$c/data/two" 4096
    refused "raised" write "$c/data/three" 2048
    rm "$c/data/three"
    is "seeded" "$(stat -c %s "$c/seed/one")" 1048576
    check "the seed counts" write "$c/seed/two" 2560
    refused "the seed counts" write "$c/seed/three" 1024
    check "clone" layerctl volume clone data data2 --live
    is "a clone has the limit" "$(field volume data2 size_limit)" 8388608
    check "container" layerctl create -n w -v data2:/data small
    refused "the clone is counted" write "$(there w)/data/three" 2048
    check "unmount" layerctl umount v
    check "a snapshot" layerctl volume snapshot data s
    check "rollback" layerctl volume rollback data s
    c=$(there v)
    refused "what is rolled back to is counted" write "$c/data/three" 2048
    rm -f "$c/data/three" "$c/data/two"
    check "below the limit after a rollback" write "$c/data/three" 2048
    check "create" layerctl volume create filled --size-limit 4M
    refused "an import above the limit" layerctl volume import filled large.tar
    has "an import above the limit" "volume 'filled': write"
    check "an import below the limit" layerctl volume import filled small.tar
    check "container" layerctl create -n x -v filled:/data small
    refused "after an import" write "$(there x)/data/three" 5120
    check "remove" layerctl rm -f v w x
    check "remove" layerctl volume rm --purge data data2 seeded filled
}

# told NAME: the thresholds that were told of it, oldest first.
told() { layerctl events -f type='*.limit' -f object="$1" --format json | sed -n 's/.*"resource":"\([a-z]*\)","percent":\([0-9]*\).*/\1 \2/p' | paste -sd,; }
until_told() { # WHAT NAME EXPECTED
    local now
    for _ in {1..100}; do
        now=$(told "$2")
        [[ $now != "$3" ]] || break
        sleep 0.1
    done
    is "$1" "$now" "$3"
}

# Allocated, not written: a write to xfs takes more than it needs for a while.
test_events() {
    local e
    check "create" layerctl volume create ev --size-limit 4M
    check "create" layerctl create -n e --size-limit 4M --inode-limit 100 -v ev:/data small
    e=$(there e)
    check "a little" fallocate -l 2048K "$e/one"
    check "eighty percent" fallocate -l 1400K "$e/two"
    until_told "eighty percent" e "bytes 80"
    check "95 percent of the volume" fallocate -l 4000K "$e/data/one"
    until_told "95 percent of the volume" ev "bytes 95"
    check "95 percent" fallocate -l 504K "$e/three"
    until_told "95 percent" e "bytes 80,bytes 95"
    check "raised" layerctl update e --size-limit 5M
    until_told "raised: another limit, of which it is 77 percent" e "bytes 80,bytes 95"
    check "95 percent of that" fallocate -l 1020K "$e/four"
    until_told "95 percent of that" e "bytes 80,bytes 95,bytes 95"
    rm "$e/one" "$e/two"
    sleep 1
    check "again" fallocate -l 2048K "$e/one"
    # shellcheck disable=SC2016
    check "files" bash -c 'for i in {1..80}; do : >"$0/f$i" || exit 1; done' "$e"
    check "unmount" layerctl umount e
    until_told "files" e "bytes 80,bytes 95,bytes 95,inodes 80"
    check "used and limit" layerctl events -f type=container.limit -f object=e --format json
    has "used and limit" '"limit":100'
    check "remove" layerctl rm e
    check "remove" layerctl volume rm --purge ev
}

# The numbers of `df` that the quotas give, in one line; $1: --verify, which walks.
counted() {
    # shellcheck disable=SC2086
    layerctl df $1 --format json | tr -d ' \n' | grep -oE '"(writable_layers|volumes)":\{[^}]*\}' | paste -sd,
}

# What the quotas count is what a walk finds, once all is on the disk.
test_usage() {
    local u size
    check "create" layerctl volume create use
    check "create" layerctl create -n u -v use:/data large
    check "create" layerctl create -n uv --driver vfs large
    u=$(there u)
    # shellcheck disable=SC2016
    check "files" bash -c 'cp -a /usr/share/zoneinfo "$0/z" 2>/dev/null || cp -a /etc "$0/z"; mkdir "$0/d"; ln "$0/etc/hostname" "$0/d/link"
        rm -r "$0/seed"; truncate -s 1G "$0/sparse"; setfattr -n user.x -v y "$0/d" 2>/dev/null; cp -a "$0/z" "$0/data/"' "$u"
    sync -f "$at"
    is "df is what a walk finds" "$(counted '')" "$(counted --verify)"
    size=$(layerctl container inspect -s u | tr -d ' \n' | grep -oE '"size":\{"bytes":[0-9]*' | grep -oE '[0-9]*$')
    is "size is what du counts" "$size" "$(du -s --block-size=1 "$at"/data/w/*/upper/.. | cut -f1)"
    check "remove" layerctl rm -f u uv
    check "remove" layerctl volume rm --purge use
}

project() { lsattr -pd "$1" | awk '{print $1}'; }
projects() { repquota -Pn "$at" | grep -c '^#[1-9][0-9]\{9\}'; }

# What a kill between the kernel and the record leaves, either way.
test_kills() {
    local k id
    check "create" layerctl create -n k --size-limit 4M small
    check "create" layerctl create -n free small
    k=$(there k)
    there free >/dev/null
    for w in "$at"/data/w/*; do
        id=$(project "$w")
        setquota -P "$id" 0 1024 0 0 "$at"
    done
    kill_daemon
    start
    check "the record's limit" write "$k/one" 3072
    refused "the record's limit" write "$k/two" 2048
    check "none where the record has none" write "$(there free)/one" 8192
    layerctl update k --size-limit 8M
    kill_daemon
    start
    check "answered, so it is kept" write "$k/two" 4096
    refused "the raised limit" write "$k/three" 2048
    layerctl umount k >/dev/null
    check "freeze" layerctl snapshot create k s
    kill_daemon
    start
    k=$(there k)
    check "after freeze and kill" write "$k/four" 7168
    refused "after freeze and kill" write "$k/five" 2048
    refused "a name that is taken" layerctl create -n k --size-limit 4M small
    check "remove" layerctl rm -f k free
    layerctl trash rm --all >/dev/null 2>&1
    for _ in {1..300}; do
        [[ $(projects) == 0 ]] && break
        sleep 0.1
    done
    is "nothing is counted or limited any more" "$(projects)" 0
}

# The rest is tests/api/test_limits.c: this is an older kernel.
test_subvolumes() {
    local c
    check "create" layerctl create -n c --size-limit 4M small
    check "create a neighbour" layerctl create -n free small
    c=$(there c)
    check "below the limit" write "$c/one" 3072
    refused "above the limit" write "$c/two" 2048
    check "a neighbour is not affected" write "$(there free)/one" 8192
    check "raised" layerctl update c --size-limit 8M
    check "raised" write "$c/two" 4096
    kill_daemon
    start
    refused "the raised limit after a kill" write "$c/three" 2048
    check "umount" layerctl umount c
    check "snapshot" layerctl snapshot create c s
    check "rollback" layerctl snapshot rollback c s
    c=$(there c)
    check "after a rollback the limit is whole" write "$c/three" 7168
    refused "after a rollback there is one" write "$c/four" 2048
    check "volume" layerctl volume create data --size-limit 4M
    check "container" layerctl create -n v -v data:/seed large
    refused "the seed counts" write "$(there v)/seed/two" 3584
    check "remove" layerctl rm -f c free v
    check "remove" layerctl volume rm --purge data
    layerctl trash rm --all >/dev/null 2>&1
    check "nothing is left" btrfs subvolume sync "$at"
}

# Once mounted without quotas: nothing is limited in silence.
test_without() {
    check "create" layerctl create -n old --size-limit 4M small
    check "create" layerctl create -n kept --size-limit 4M small
    check "create" layerctl volume create old --size-limit 4M
    kill_daemon
    umount -q /srv/run/stage
    umount "$at" && mount -o loop "$1" "$at"
    start
    layerctl info --format json >/root/log
    has "info warns" "3 containers and volumes are not held to their limits"
    refused "a limit" layerctl create --size-limit 4M small
    has "a limit" "could not be enforced"
    has "the remedy" "prjquota"
    check "made without" layerctl create -n unquoted small
    check "change" write "$(there old)/one" 64
    layerctl umount old >/dev/null
    check "a snapshot of what is not held to its limit" layerctl snapshot create old s
    refused "a clone of it" layerctl clone old other
    has "a clone of it" "could not be enforced"
    refused "a clone of the volume" layerctl volume clone old other
    refused "the same limit again" layerctl update old --size-limit 4M
    kill_daemon
    umount -q /srv/run/stage
    umount "$at" && mount -o loop,prjquota "$1" "$at"
    start
    layerctl update unquoted --size-limit 4M >/root/log 2>&1
    has "what was made without quotas" "not counted"
    check "its clone" layerctl clone unquoted quoted
    check "its clone" layerctl update quoted --size-limit 4M
    refused "its clone" write "$(there quoted)/one" 5120
    layerctl update old --size-limit 4M >/root/log 2>&1
    has "what was frozen without quotas" "not counted"
    refused "limited again" write "$(there kept)/one" 5120
    layerctl rm -f old kept quoted unquoted >/dev/null
}

# Somebody limits the whole store.
test_own_project() {
    kill_daemon
    umount -q /srv/run/stage
    find "$at/data" -type d -exec chattr +P -p 42 {} +
    start
    check "create" layerctl create -n inside small
    refused "a limit" layerctl create --size-limit 4M small
    has "why" "project of its own"
    check "change" sh -c "echo x >'$(there inside)/x'"
    layerctl umount inside >/dev/null
    check "freeze" layerctl snapshot create inside s
    check "clone" layerctl clone inside twin
    check "remove" layerctl rm -f inside twin
    is "nothing is left" "$(find "$at/data/w" -mindepth 1 -maxdepth 1 | wc -l)" 0
    kill_daemon
    umount -q /srv/run/stage
    find "$at/data" -type d -exec chattr -P -p 0 {} +
    start
}

in_guest() {
    cd /root || exit 2
    modprobe -a loop overlay quota_v2 btrfs
    mkdir -p /srv/run
    printf '[storage]\nwatch_limits = 300ms\n' >conf
    make_images
    for fs in btrfs ext4 xfs; do
        at=/srv/$fs options=loop,prjquota
        mkdir -p "$at"
        truncate -s 512M "$fs.img"
        case $fs in
        btrfs) mkfs.btrfs -q btrfs.img && options=loop,commit=1 ;;
        ext4) mkfs.ext4 -q -O quota,project -E quotatype=prjquota,lazy_itable_init=1 ext4.img ;;
        xfs) mkfs.xfs -q xfs.img ;;
        esac
        mount -o "$options" "$fs.img" "$at" || exit 2
        [[ $fs != btrfs ]] || btrfs quota enable "$at" || exit 2
        start
        is "$fs: info" "$(layerctl info --format json | tr -d ' \n' | grep -o '"quota":{"usable":[a-z]*')" '"quota":{"usable":true'
        layerctl load -q --type rootfs -t small small.tar >/dev/null
        layerctl load -q --type rootfs -t large large.tar >/dev/null
        if [[ $fs == btrfs ]]; then
            test_subvolumes
        else
            test_container overlay
            test_container vfs
            test_states
            test_volumes
            test_events
            test_usage
            test_kills
            test_own_project
            [[ $fs != xfs ]] || test_without xfs.img
        fi
        kill_daemon
        grep -E 'error|critical' /root/daemon.log | grep -v 'is not held to its limits' && fail "$fs: the daemon's log"
        umount -q /srv/run/stage
        check "$fs: nothing holds it" umount "$at"
        echo "$fs: $passed passed, $failed failed after $SECONDS s"
    done
    printf '%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
}

if [[ -n ${VM_GUEST-} ]]; then
    in_guest
else
    cd "$(dirname "$0")/../.." || exit 2
    on_host "${1:-build}"
fi

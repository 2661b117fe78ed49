#!/bin/bash
# layerd as systemd runs it: installed by `make install` into a small Debian root, booted in systemd-nspawn. Root.
#
#     tests/e2e/systemd.sh [BUILD]
#
# The second half of this file runs in the guest.

set -uo pipefail

passed=0 failed=0
ok() { passed=$((passed + 1)); }
# is WHAT ACTUAL EXPECTED; check WHAT COMMAND...: that it succeeds.
is() {
    if [[ $2 == "$3" ]]; then ok; else
        failed=$((failed + 1))
        printf 'not ok: %s\n    is: %s\n    should be: %s\n' "$1" "$2" "$3"
    fi
}
check() {
    local what=$1
    shift
    is "$what" "$("$@" 2>&1 >/dev/null && echo yes)" yes
}

on_host() {
    local build=$1 tree status
    if [[ $(basename "$build") != build ]]; then
        echo "systemd: 0 passed, 0 failed, 1 skipped" # the guest has no sanitizers' libraries
        return 0
    fi
    tree=$(mktemp -d "${TMPDIR:-/tmp}/systemd-test.XXXXXX")
    chmod 755 "$tree"
    make install DESTDIR="$tree" >/dev/null || return 1
    mkdir -p "$tree/etc/systemd/system/sockets.target.wants" "$tree/root"
    ln -s /usr/lib/systemd/system/layerd.socket "$tree/etc/systemd/system/sockets.target.wants/layerd.socket"
    cp "$0" "$tree/root/systemd.sh"
    # The packages of the libraries that the two programs need.
    mapfile -t libraries < <(ldd "$build/layerd" "$build/layerctl" | awk '$3 ~ /^\// {print $3 "\n/usr" $3}' |
        sort -u | xargs dpkg -S 2>/dev/null | cut -d: -f1 | sort -u)
    tests/boot-systemd "$build/boot" "$tree" 'SYSTEMD_TEST_GUEST=1 bash /root/systemd.sh' \
        procps libcap2-bin "${libraries[@]}"
    status=$?
    rm -rf "$tree"
    return $status
}

# ---- in the guest ----

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
show() { systemctl show -P "$1" layerd.service; }
namespace() { readlink "/proc/$1/ns/mnt"; }
was_restarted() { [[ $(show NRestarts) != 0 ]]; }
until_true() { # COMMAND...: for at most a minute
    for _ in {1..1200}; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}

make_image() {
    mkdir -p image/etc image/bin image/dev
    echo guest >image/etc/hostname
    cp /bin/true image/bin/setuid
    chmod 6755 image/bin/setuid
    cp /bin/true image/bin/capable
    setcap cap_net_raw+ep image/bin/capable
    mknod -m 660 image/dev/disk b 8 0
    mknod -m 666 image/dev/null c 1 3
    chown -R 1000:1000 image/etc
    tar -C image --xattrs --xattrs-include='*' -cf image.tar .
}

test_units() {
    is "systemd-analyze verify" "$(systemd-analyze verify --man=no layerd.socket layerd.service 2>&1)" ""
    local score
    score=$(systemd-analyze security --no-pager layerd.service | sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
    echo "exposure level: $score"
    check "the exposure level is at most 4" awk "BEGIN { exit !(\"$score\" != \"\" && $score <= 4.0) }"
    is "the socket's owner" "$(stat -c '%a %U:%G' /run/layerd/layerd.sock)" "660 root:layerd"
    is "the run root" "$(stat -c '%a %U:%G' /run/layerd /run/layerd/mnt)" $'711 root:root\n710 root:layerd'
    is "the service waits for its socket" "$(systemctl is-active layerd.service)" inactive
}

test_activation() {
    local begin
    begin=$(now_ms)
    check "the first request starts the service" layerctl version
    echo "first request: $(($(now_ms) - begin)) ms"
    is "active" "$(systemctl is-active layerd.service)" active
    is "its mount namespace is the host's" "$(namespace "$(show MainPID)")" "$(namespace 1)"
    is "watchdog" "$(show WatchdogUSec)" 30s
    is "the data root" "$(stat -c '%a %U' /var/lib/layerd)" "700 root"
    useradd --no-create-home member -G layerd
    useradd --no-create-home stranger
    check "a member of the group" runuser -u member -- layerctl ps
    is "a stranger" "$(runuser -u stranger -- layerctl ps 2>&1 | grep -c 'Permission denied')" 1
    check "reload" systemctl reload layerd.service
}

test_mounts() {
    local begin holder pid
    check "load" layerctl load --type rootfs -t guest:1 image.tar
    check "create" layerctl create --name c -v data:/srv/data guest:1
    mnt=$(layerctl mount c)
    is "set-id bits" "$(stat -c %a "$mnt/bin/setuid")" 6755
    is "file capabilities" "$(getcap "$mnt/bin/capable")" "$mnt/bin/capable cap_net_raw=ep"
    is "devices" "$(stat -c '%F %t:%T' "$mnt/dev/disk" "$mnt/dev/null")" $'block special file 8:0\ncharacter special file 1:3'
    is "PID 1 sees the mount" "$(grep -c " $mnt " /proc/1/mountinfo)" 1
    # Copy-up of what belongs to others, of devices and of set-id files runs with what the daemon had.
    check "copy-up of a foreign file" sh -c "echo x >>$mnt/etc/hostname && chmod 600 $mnt/etc/hostname"
    check "copy-up of a device" chmod 600 "$mnt/dev/disk"
    check "copy-up of a set-id file" chown 1000:1000 "$mnt/bin/capable"
    echo kept >"$mnt/srv/data/kept"

    runuser -u member -- sh -c "cd / && exec sleep 1000" 7<"$mnt/etc" &
    holder=$!
    until_true pgrep -u member sleep
    is "busy names its holder" "$(layerctl umount c 2>&1 | grep -c "process.*sleep")" 1
    pkill -u member sleep
    wait $holder 2>/dev/null

    pid=$(show MainPID)
    begin=$(now_ms)
    check "restart" systemctl restart layerd.service
    check "the restarted one answers" layerctl version
    echo "restart: $(($(now_ms) - begin)) ms"
    is "another process" "$([[ $(show MainPID) != "$pid" ]] && echo yes)" yes
    is "mounted over the restart" "$(cat "$mnt/srv/data/kept")" kept
    is "and known" "$(layerctl ps -q -f state=mounted | wc -l)" 1
}

# The devices are this kernel's: what the unit may do with them is what is asked.
test_backing() {
    local n kind kinds=(tmpfs) at
    [[ -e /dev/loop-control ]] || mknod /dev/loop-control c 10 237
    for n in {0..63}; do [[ -e /dev/loop$n ]] || mknod "/dev/loop$n" b 7 "$n"; done
    check "restart for the devices" systemctl restart layerd.service
    if losetup -f >/dev/null 2>&1; then
        kinds+=(ext4)
    else
        echo "no loop devices here: without ext4"
    fi
    for kind in "${kinds[@]}"; do
        check "create in a $kind" layerctl create --name own --ephemeral --size-limit 4M --backing "$kind" guest:1
        at=$(layerctl mount own)
        is "its size" "$(head -c 8M /dev/zero 2>&1 >"$at/big" | grep -c 'No space left')" 1
        check "restart" systemctl restart layerd.service
        is "a $kind over the restart" "$(layerctl ps -q -f name=own -f state=mounted | wc -l)" 1
        check "unmount" layerctl umount own
        check "remove" layerctl rm own
        is "what is left of it" "$(grep -c ' /run/layerd/backing/' /proc/self/mountinfo)" 0
    done
}

test_crashes() {
    local pid begin
    pid=$(show MainPID)
    begin=$(now_ms)
    kill -KILL "$pid"
    check "a request after SIGKILL" layerctl version
    echo "answered $(($(now_ms) - begin)) ms after SIGKILL"
    is "still mounted" "$(cat "$mnt/srv/data/kept")" kept
    is "still known" "$(layerctl ps -q -f state=mounted | wc -l)" 1

    for _ in {1..8}; do
        kill -KILL "$(show MainPID)"
        layerctl version >/dev/null || break
    done
    is "eight crashes later the socket is up" "$(systemctl is-active layerd.socket)" active

    # A hang: stopped, it cannot feed the watchdog.
    mkdir -p /run/systemd/system/layerd.service.d
    printf '[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n' >/run/systemd/system/layerd.service.d/quick.conf
    systemctl daemon-reload
    systemctl restart layerd.service
    sleep 9 # more than two periods, in which a healthy daemon must not be killed
    is "a healthy daemon stays" "$(show NRestarts)" 0
    kill -STOP "$(show MainPID)"
    check "the watchdog ends a hang" until_true was_restarted
    check "and the next one answers" layerctl version
    is "mounted still" "$(cat "$mnt/srv/data/kept")" kept
}

test_end() {
    check "unmount" layerctl umount c
    is "PID 1 sees that too" "$(grep -c " $mnt " /proc/1/mountinfo)" 0
    check "stop" systemctl stop layerd.socket
    is "stopped cleanly" "$(show Result) $(systemctl is-active layerd.service)" "success inactive"
    journalctl --sync
    is "it logs to the journal" "$(journalctl -q -u layerd.service -o cat | grep -c '^stopped$')" "$(journalctl -q -u layerd.service -o cat | grep -c '^stopping$')"
}

in_guest() {
    cd "$(mktemp -d)" || exit 1
    make_image
    test_units
    test_activation
    test_mounts
    test_backing
    test_crashes
    test_end
    if ((failed > 0)); then
        journalctl -q --no-pager -u layerd.service | tail -n 40
    fi
    echo "systemd: $passed passed, $failed failed"
    ((failed == 0))
}

if [[ -n ${SYSTEMD_TEST_GUEST-} ]]; then
    in_guest
else
    build=$(realpath -- "${1:-build}")
    cd "$(dirname "$0")/../.." || exit 2
    on_host "$build"
fi

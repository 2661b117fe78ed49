#!/bin/bash
# Containers handed over to real OCI runtimes: crun and runc run what layerd has mounted and bundled, as whom and with
# what the image says. Root.
#
#     tests/e2e/runtimes.sh [BUILD]     BUILD: the folder with layerd and layerctl (default: build)
#
# All happens in a mount namespace of its own on a tmpfs, so that nothing stays when it ends, however it ends. A runtime
# that can't run a bundle of its own making on this machine is left out, and that is said; one of them has to work.

set -uo pipefail

if [[ -z ${LAYERD_E2E_INSIDE-} ]]; then
    build=$(realpath -- "${1:-build}") || exit 2
    exec env LAYERD_E2E_INSIDE=1 unshare --mount --propagation private -- "$0" "$build"
fi

build=$1
PATH=$build:$PATH
export LC_ALL=C.UTF-8 TERM=dumb LAYERD_HOST=unix:///mnt/run/layerd.sock
mount -t tmpfs -o mode=755 layerd-e2e /mnt || exit 2
cd /mnt || exit 2

passed=0 failed=0 out=''
ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    printf 'not ok: %s\n' "$1"
}
run() { # run STATUS COMMAND...: keeps in $out what it printed
    local want=$1 status
    shift
    out=$("$@" 2>.err </dev/null)
    status=$?
    if [[ $status == "$want" ]]; then ok; else
        fail "'$*' should exit with $want, not $status"
        head -c 2000 .err
    fi
}
is() { if [[ $2 == "$3" ]]; then ok; else fail "$1: '$2' should be '$3'"; fi; }
# shellcheck disable=SC2053
has() { if [[ $2 == *$3* ]]; then ok; else fail "$1 should have '$3': $2"; fi; }

daemon=''
stop_daemon() {
    [[ -n $daemon ]] || return 0
    kill "$daemon" 2>/dev/null
    wait "$daemon"
    daemon=''
}
trap stop_daemon EXIT
mkdir -p data run
layerd --data-root /mnt/data --run-root /mnt/run -G root --log-level warn 2>>daemon.log &
daemon=$!
for _ in {1..400}; do
    layerctl version >/dev/null 2>&1 && break
    sleep 0.05
done

# ---- an image with one program, two users and a configuration ----
mkdir -p root/{bin,etc,srv,proc,dev,sys,tmp}
cp "$(command -v busybox)" root/bin/busybox
for name in sh id cat env pwd hostname touch sleep kill mount stty tty true; do ln -s busybox root/bin/$name; done
printf 'root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv:/bin/sh\n' >root/etc/passwd
printf 'root:x:0:\nwww:x:34:\nmore:x:77:www\n' >root/etc/group
echo 'NAME=e2e' >root/etc/os-release
chown 33:34 root/srv
tar --numeric-owner --sort=name -C root -cf layer.tar .
umoci init --layout oci >/dev/null && umoci new --image oci:1 >/dev/null
umoci raw add-layer --image oci:1 layer.tar >/dev/null 2>&1
umoci config --image oci:1 --config.user www --config.env A=image --config.env B=image --config.workingdir /srv \
    --config.cmd /bin/sh --config.cmd -c --config.cmd 'id; cat /etc/os-release; env; pwd; hostname' >/dev/null
tar -C oci -cf image.tar .
run 0 layerctl load --ref e2e:1 image.tar

# ---- the runtimes ----
# This machine's control groups may be none that a runtime can use; they are not what is tested.
crun() {
    unshare --mount -- sh -c 'umount -R /sys/fs/cgroup 2>/dev/null
        mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; exec crun --root /mnt/crun --cgroup-manager=disabled "$@"' crun "$@"
}
runc() { command runc --root /mnt/runc "$@"; }
works() {
    rm -rf trial && mkdir trial && (cd trial && runc spec) &&
        jq '.process.terminal = false | .process.args = ["/bin/true"] | .root.path = "/mnt/root"' trial/config.json \
            >trial/new && mv trial/new trial/config.json && "$1" run --bundle trial "trial-$1" </dev/null >.err 2>&1
}
usable=()
for runtime in crun runc; do
    if works "$runtime"; then usable+=("$runtime"); else echo "$runtime can't be used here: $(head -c 300 .err)"; fi
done
if ((${#usable[@]})); then ok; else fail "one of the runtimes has to work"; fi

for runtime in "${usable[@]}"; do
    run 0 layerctl create --name web -v data:/data e2e:1
    run 0 layerctl bundle web
    bundle=$out
    run 0 "$runtime" run --bundle "$bundle" "web-$runtime"
    has "$runtime: the user" "$out" 'uid=33(www) gid=34(www) groups=*77(more)'
    has "$runtime: the file" "$out" 'NAME=e2e'
    has "$runtime: the environment" "$out" 'A=image'
    has "$runtime: HOME" "$out" 'HOME=/srv'
    has "$runtime: PATH" "$out" 'PATH=/usr/local/sbin'
    has "$runtime: the working directory" "$out" $'\n/srv\n'
    has "$runtime: the host's name" "$out" $'\nweb'
    run 0 layerctl umount web
    is "$runtime: the bundle" "$(test -e "$bundle" || echo gone)" gone
    run 0 layerctl rm web
done

stop_daemon
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))

#!/bin/bash
# What the end-to-end tests share. A test sources it, enters its own world, and ends with `finish`:
#
#     . "$(dirname "$0")/lib.bash"
#     enter "$@"

set -uo pipefail

# enter [BUILD]: the script runs again in a mount namespace of its own, on a tmpfs, so that nothing stays when it ends,
# however it ends. Sets `build`; its programs come first in PATH.
enter() {
    if [[ -z ${LAYERD_E2E_INSIDE-} ]]; then
        build=$(realpath -- "${1:-build}") || exit 2
        exec env LAYERD_E2E_INSIDE=1 unshare --mount --propagation private -- "$0" "$build"
    fi
    build=$1
    PATH=$build:$build/tools:$PATH
    export LC_ALL=C.UTF-8 TERM=dumb LAYERD_HOST=unix:///mnt/run/layerd.sock
    mount -t tmpfs -o mode=755 layerd-e2e /mnt || exit 2
    cd /mnt || exit 2
    export TMPDIR=/mnt/tmp HOME=/mnt XDG_RUNTIME_DIR=/mnt
    mkdir tmp
}

passed=0 failed=0
ok() { passed=$((passed + 1)); }
fail() {
    failed=$((failed + 1))
    printf 'not ok: %s\n' "$1"
}
# check WHAT COMMAND...: that it succeeds.
check() {
    local what=$1
    shift
    if "$@" >.log 2>&1; then ok; else fail "$what"; head -c 2000 .log; fi
}
# is WHAT ACTUAL EXPECTED
is() { if [[ $2 == "$3" ]]; then ok; else fail "$1: '$2' should be '$3'"; fi; }

daemon=''
# start_daemon DATA [OPTION...]
start_daemon() {
    local data=$1
    mkdir -p "$data" run
    layerd --data-root "/mnt/$data" --run-root /mnt/run -H unix:///mnt/run/layerd.sock -G root --log-level warn \
        "${@:2}" 2>>daemon.log &
    daemon=$!
    for _ in {1..600}; do
        layerctl version >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "the daemon does not start:"
    cat daemon.log
    exit 1
}
stop_daemon() {
    [[ -n $daemon ]] || return 0
    kill "$daemon" 2>/dev/null
    wait "$daemon"
    daemon=''
}
trap stop_daemon EXIT

finish() {
    stop_daemon
    printf '%d passed, %d failed\n' "$passed" "$failed"
    ((failed == 0))
}

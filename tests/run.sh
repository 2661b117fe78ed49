#!/bin/bash
# Runs every test program of a build folder, then looks whether they left anything behind. Root.
#
#     tests/run.sh [BUILD [PATTERN]]      BUILD: default build; PATTERN: a part of the names of programs
#
# One line per program; whole outputs are in BUILD/log/. Ends with the line "N passed, N failed, N skipped", and with
# status 0 when nothing failed, something ran, and nothing was left: no mount, loop device, process or file.
#
# /tmp, /var/tmp and /dev/shm are empty and private to the run, and mounts stay in a namespace of its own, so what is
# found at the end was left by a test and vanishes all the same.

set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
root=$PWD out=${1:-build} pattern=${2:-}
limit=1800 # seconds for one program

if [[ $(id -u) != 0 ]]; then
    echo "the tests mount file systems: run them as root (sudo make check)" >&2
    exit 2
fi
if [[ -z ${LAYERD_TEST_RUN-} ]]; then
    exec env LAYERD_TEST_RUN="$$-$RANDOM" unshare --mount --propagation private -- "$root/tests/run.sh" "$@"
fi

scratch=(/tmp /var/tmp /dev/shm)
enter_clean_room() {
    local dir
    exec 9<.
    for dir in "${scratch[@]}"; do
        mount -t tmpfs -o mode=1777 layerd-tests "$dir" || exit 2
        # This very tree may lie there. Made canonical, the link would be the name that is empty now.
        if [[ $root/ == "$dir"/* ]]; then
            mkdir -p "$root" && mount --no-canonicalize --bind /proc/self/fd/9 "$root" || exit 2
        fi
    done
    exec 9<&-
    cd "$root" || exit 2
    umask 022
    unset TMPDIR LAYERD_HOST
    export LC_ALL=C.UTF-8
}

mounts() { cut -d' ' -f4- /proc/self/mountinfo | sort; }
# Those that detach themselves do so with their last mount or descriptor, which are looked for by themselves.
loops() { losetup --noheadings --list --output NAME,AUTOCLEAR,BACK-FILE | grep -v '^[^ ]* *1 ' | sort; }
files() { find "${scratch[@]}" /run -xdev -maxdepth 2 -path "$root" -prune -o -print 2>/dev/null | sort; }
# Whatever a test started carries the run's mark in its environment. What descends from this shell is the runner's own;
# what a test left has lost its parent.
processes() {
    local file pid
    while read -r file; do
        pid=${file//[^0-9]/}
        descends_from_us "$pid" || { printf '%s: ' "$pid" && tr '\0' ' ' <"/proc/$pid/cmdline" && echo; } 2>/dev/null
    done < <(grep -lz "^LAYERD_TEST_RUN=$LAYERD_TEST_RUN\$" /proc/[0-9]*/environ 2>/dev/null)
}
descends_from_us() {
    local pid=$1
    while [[ -n $pid && $pid -gt 1 ]]; do
        [[ $pid != "$$" ]] || return 0
        pid=$(sed -n 's/^PPid:\t//p' "/proc/$pid/status" 2>/dev/null)
    done
    return $((${pid:-0} != 0 ? 1 : 0)) # gone meanwhile: nothing is left
}

passed=0 failed=0 skipped=0

# result NAME PASSED FAILED SKIPPED SECONDS
result() {
    local verdict=ok counts="$2 passed"
    (($3 == 0)) || verdict=FAILED counts+=", $3 failed"
    (($4 == 0)) || counts+=", $4 skipped"
    printf '%-6s  %-28s %8s  %s\n' "$verdict" "$1" "$5" "$counts"
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    if (($3 > 0)); then
        echo "        $out/log/$1.log ends with:"
        tail -n 40 "$out/log/$1.log" | sed 's/^/        | /'
    fi
}

# run NAME COMMAND...: counts what Criterion's last line or a script's "N passed, N failed" says; a program that ends
# badly without saying so is one failure.
run() {
    local name=$1 log=$out/log/$1.log begin=$EPOCHREALTIME status tested good bad=0 skip=0 seconds
    shift
    [[ $name == *"$pattern"* ]] || return 0
    mkdir -p "${log%/*}"
    timeout --kill-after=10 $limit "$@" >"$log" 2>&1 </dev/null
    status=$?
    seconds=$(awk "BEGIN { printf \"%.1f s\", $EPOCHREALTIME - $begin }")
    if read -r tested good < <(sed -n 's/\x1b\[[0-9;]*m//g; s/.*Tested: \([0-9]*\) | Passing: \([0-9]*\) .*/\1 \2/p' "$log" | tail -n 1); then
        bad=$((tested - good))
        skip=$(grep -c '^\[SKIP\]' "$log")
    elif ! read -r good bad skip < <(sed -n 's/^\([a-z-]*: \)\{0,1\}\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\2 \3 \5/p' "$log" | tail -n 1); then
        good=$((status == 0))
    fi
    ((status != 0 && bad == 0)) && bad=1
    ((status == 124)) && echo "stopped after $limit s" >>"$log"
    result "$name" "${good:-0}" "${bad:-0}" "${skip:-0}" "$seconds"
}

# What was left, waited for a little: a killed process may still be on its way out.
leftovers() {
    local what before now name=leftovers log=$out/log/leftovers.log begin=$EPOCHREALTIME bad=0
    : >"$log"
    for what in processes mounts loops files; do
        before=${start[$what]}
        for _ in {1..50}; do
            now=$($what)
            [[ -n $(comm -13 <(echo "$before") <(echo "$now")) ]] || continue 2
            sleep 0.2
        done
        bad=1
        { echo "$what left behind:"; comm -13 <(echo "$before") <(echo "$now"); } >>"$log"
    done
    result "$name" $((1 - bad)) $bad 0 "$(awk "BEGIN { printf \"%.1f s\", $EPOCHREALTIME - $begin }")"
}

end_processes() {
    local pid
    processes | cut -d: -f1 | while read -r pid; do kill -KILL "$pid" 2>/dev/null; done
}

enter_clean_room
mkdir -p "$out/log"
declare -A start
for what in processes mounts loops files; do
    start[$what]=$($what)
done
trap end_processes EXIT
trap 'exit 130' INT TERM HUP

for program in "$out"/unit/test_*; do
    [[ $program == *.d ]] || run "unit/${program##*/test_}" "$program"
done
export LD_API_COVERAGE=$root/$out/log/api.coverage
: >"$LD_API_COVERAGE"
for program in "$out"/api-tests/test_*; do
    [[ $program == *.d ]] || run "api/${program##*/test_}" "$program"
done
if [[ -z $pattern ]]; then
    run api/coverage python3 tests/api-coverage.py openapi.yaml "$LD_API_COVERAGE"
fi
for script in tests/e2e/*.sh; do
    run "e2e/$(basename "$script" .sh)" "$script" "$out"
done
if ((passed + failed == 0)); then
    echo "nothing ran"
    failed=1
fi
leftovers

echo
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))

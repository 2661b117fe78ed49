#!/bin/bash
# Containers handed over to real OCI runtimes: crun and runc run what layerd has mounted and bundled, as whom and with
# what the image says; and `layerctl run`, which does all of it in one line. Root.
#
#     tests/e2e/runtimes.sh [BUILD]     BUILD: the folder with layerd and layerctl (default: build)
#
# A runtime that can't run a bundle of its own making on this machine is left out, and that is said; one has to work.

# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"
enter "$@"

out=''
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
# shellcheck disable=SC2053
has() { if [[ $2 == *$3* ]]; then ok; else fail "$1 should have '$3': $2"; fi; }
none_left() {
    is "$1: containers" "$(layerctl ps -q)" ""
    is "$1: mounts" "$(ls run/mnt)" ""
    is "$1: bundles" "$(ls run/bundles)" ""
}

start_daemon data

# ---- an image with one program, two users and a configuration ----
mkdir -p root/{bin,etc,srv,proc,dev,sys,tmp}
cp "$(command -v busybox)" root/bin/busybox
for name in sh id cat echo env pwd hostname touch sleep kill tty true; do ln -s busybox root/bin/$name; done
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
# This machine's control groups may be none that crun can use; they are not what is tested.
mkdir bin
cat >bin/crun <<'SH'
#!/bin/sh
if [ -z "$INSIDE" ]; then INSIDE=1 exec unshare --mount -- "$0" "$@"; fi
umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
exec /usr/bin/crun --root /mnt/crun --cgroup-manager=disabled "$@"
SH
cat >bin/runc <<SH
#!/bin/sh
exec $(command -v runc) --root /mnt/runc "\$@"
SH
chmod 755 bin/*
works() {
    rm -rf trial && mkdir trial && (cd trial && runc spec) &&
        jq '.process.terminal = false | .process.args = ["/bin/true"] | .root.path = "/mnt/root"' trial/config.json \
            >trial/new && mv trial/new trial/config.json && "bin/$1" run --bundle trial "trial-$1" </dev/null >.err 2>&1
}
usable=()
for runtime in crun runc; do
    if works "$runtime"; then usable+=("$runtime"); else echo "$runtime can't be used here: $(head -c 300 .err)"; fi
done
if ((${#usable[@]})); then ok; else fail "one of the runtimes has to work"; fi

for runtime in "${usable[@]}"; do
    export LAYERD_RUNTIME=/mnt/bin/$runtime
    run 0 layerctl create --name web -v data:/data e2e:1
    run 0 layerctl bundle web
    bundle=$out
    run 0 "bin/$runtime" run --bundle "$bundle" "web-$runtime"
    has "$runtime: the user" "$out" 'uid=33(www) gid=34(www) groups=*77(more)'
    has "$runtime: the file" "$out" 'NAME=e2e'
    has "$runtime: the environment" "$out" 'A=image'
    has "$runtime: HOME" "$out" 'HOME=/srv'
    has "$runtime: PATH" "$out" 'PATH=/usr/local/sbin'
    has "$runtime: the working directory" "$out" $'\n/srv\n'
    has "$runtime: the host's name" "$out" $'\nweb'
    run 0 layerctl umount web
    run 0 layerctl rm web
    none_left "$runtime"

    # ---- layerctl run ----
    run 0 layerctl run e2e:1
    has "$runtime, run: the user" "$out" 'uid=33(www)'
    run 7 layerctl run e2e:1 sh -c 'exit 7'
    run 0 layerctl run -e A=mine -e NEW=1 -u 5:6 -w /tmp -n one -v data:/data:ro --tmpfs /t e2e:1 \
        sh -c 'id -u; id -g; env; pwd; hostname; touch /data/x || echo refused; touch /t/x && echo made'
    has "$runtime, run: the user" "$out" $'5\n6\n'
    has "$runtime, run: the environment" "$out" 'A=mine'
    has "$runtime, run: the environment" "$out" 'B=image'
    has "$runtime, run: the environment" "$out" 'NEW=1'
    has "$runtime, run: the rest" "$out" $'/tmp\none\nrefused\nmade'
    is "$runtime, run: standard input" "$(echo hello | layerctl run -i e2e:1 cat)" hello
    is "$runtime, run: no standard input" "$(echo hello | layerctl run e2e:1 cat)" ""
    has "$runtime, run: a terminal" "$(script -qec 'layerctl run -it e2e:1 tty' /dev/null </dev/null)" /dev/pts/0
    run 0 layerctl run --entrypoint echo e2e:1 -- -n
    run 125 layerctl run -t e2e:1
    run 125 layerctl run none:1
    run 125 layerctl run -u nobody e2e:1
    run 125 layerctl run --runtime /mnt/none e2e:1
    run 2 layerctl run
    none_left "$runtime, run"

    # A signal ends the command, and nothing stays.
    layerctl run -v data:/data -u root e2e:1 sh -c 'trap "exit 9" TERM; touch /data/ready; while :; do sleep 0.1; done' &
    runner=$!
    for _ in {1..600}; do
        compgen -G 'data/volumes/*/ready' >/dev/null && break
        sleep 0.05
    done
    kill -TERM $runner
    wait $runner
    is "$runtime, run: after a signal" $? 9
    none_left "$runtime, after a signal"
    rm -f data/volumes/*/ready
done

finish

#!/bin/bash
# layerctl against a real layerd: every command, its output, its exit status. Root.
#
#     tests/e2e/client.sh [BUILD]       BUILD: the folder with layerd and layerctl (default: build)

# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"
enter "$@"
unset NO_COLOR LAYERD_HOST

status='' out='' err='' # of the last command

fail() {
    failed=$((failed + 1))
    printf 'not ok: %s\n' "$1"
    printf '    status: %s\n    stdout: %s\n    stderr: %s\n' "$status" "${out//$'\n'/$'\n            '}" \
        "${err//$'\n'/$'\n            '}"
}

# run STATUS COMMAND...: runs it, keeps what it printed, expects that exit status.
run() {
    local want=$1
    shift
    "$@" >.out 2>.err </dev/null
    status=$?
    out=$(<.out)
    err=$(<.err)
    if [[ $status == "$want" ]]; then ok; else fail "'$*' should exit with $want"; fi
}

# has WHAT TEXT PATTERN (a glob, anywhere in the text); lacks the same.
# shellcheck disable=SC2053
has() { if [[ $2 == *$3* ]]; then ok; else fail "$1 should have '$3'"; fi; }
lacks() { if [[ $2 != *"$3"* ]]; then ok; else fail "$1 should not have '$3'"; fi; }

# blob FILE DIR: puts it into an OCI layout, prints "sha256:HEX SIZE".
blob() {
    local hex
    hex=$(sha256sum <"$1" | cut -d' ' -f1)
    cp "$1" "$2/blobs/sha256/$hex"
    echo "sha256:$hex $(stat -c %s "$1")"
}

# oci FILE REF LAYER.tar...: an image of these layers, as a tar of an OCI layout.
oci() {
    local file=$1 ref=$2 dir=oci.tmp digest size layers='' ids=''
    shift 2
    rm -rf $dir
    mkdir -p $dir/blobs/sha256
    for layer in "$@"; do
        read -r digest size < <(blob "$layer" $dir)
        layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"$digest\",\"size\":$size}"
        ids+="${ids:+,}\"$digest\""
    done
    cat >config.tmp <<-JSON
	{"architecture":"$(dpkg --print-architecture)","os":"linux","created":"2026-01-02T03:04:05Z",
	"config":{"Cmd":["sh"],"Volumes":{"/declared":{}}},"rootfs":{"type":"layers","diff_ids":[$ids]},
	"history":[{"created":"2026-01-02T03:04:05Z","created_by":"a step"},{"created_by":"CMD sh","empty_layer":true}$(
        for ((i = 1; i < $#; i++)); do printf ',{"created_by":"another step"}'; done)]}
	JSON
    read -r digest size < <(blob config.tmp $dir)
    printf '{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[%s]}' \
        "$digest" "$size" "$layers" >manifest.tmp
    read -r digest size < <(blob manifest.tmp $dir)
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
        "$digest" "$size" "$ref" >$dir/index.json
    echo '{"imageLayoutVersion":"1.0.0"}' >$dir/oci-layout
    tar -C $dir -cf "$file" .
    rm -rf $dir config.tmp manifest.tmp
}

make_images() {
    mkdir -p root/{etc,usr/bin,srv/data,declared} two/etc
    echo base >root/etc/hostname
    echo seed >root/srv/data/seed
    ln -s hostname root/etc/link
    ln -s ../srv root/etc/dirlink
    printf '#!/bin/sh\n' >root/usr/bin/tool
    chmod 4755 root/usr/bin/tool
    head -c 3000000 /dev/urandom >root/usr/bin/big
    echo two >two/etc/two
    tar -C root -cf one.layer .
    tar -C two -cf two.layer etc
    oci one.tar base:1 one.layer
    oci two.tar base:2 one.layer two.layer
}

test_without_daemon() {
    run 5 layerctl -H unix:///mnt/none.sock ps
    has stderr "$err" "cannot reach layerd at unix:///mnt/none.sock: No such file or directory"
    has stderr "$err" "hint: is the daemon running?"
    run 5 env LAYERD_HOST=unix:///mnt/none.sock layerctl ps
    run 2 layerctl -H tcp://localhost:1 ps
    run 0 layerctl --version
    run 0 layerctl --help
    run 0 layerctl help container create
    has help "$out" "--mount-now"
    run 0 layerctl image --help
    run 2 layerctl
    run 2 layerctl container
    run 2 layerctl crate
    has stderr "$err" "did you mean 'layerctl create'?"
    run 2 layerctl ps --filtre x
    run 2 layerctl ps extra
    run 2 layerctl mount
    run 2 layerctl ps --format xml
}

test_images() {
    run 0 layerctl load one.tar
    has load "$out" "base:1"
    has load "$out" "1 layer added"
    is "progress in a pipe" "$err" ""
    out=$(layerctl load -q <two.tar) status=$?
    is "load from standard input" "$status" 0
    has "load -q" "$out" "sha256:"
    run 0 layerctl load -i two.tar
    has load "$out" "0 layers added (0 B), 2 reused"
    run 1 layerctl load /mnt/one.layer.missing
    run 1 layerctl load root/etc/hostname
    run 2 layerctl load root
    has stderr "$err" "is a directory"
    run 1 layerctl load --type docker one.tar
    run 0 layerctl load --type rootfs -t plain:1 one.layer
    run 0 layerctl images
    is "rows of images" "$(wc -l <<<"$out")" 4
    has images "$out" "REFERENCE"
    run 0 layerctl images -q
    is "ids of images" "$(grep -cx 'sha256:[0-9a-f]\{64\}' <<<"$out")" 3
    run 0 layerctl images -f 'name=base:*'
    is "rows of filtered images" "$(wc -l <<<"$out")" 3
    run 2 layerctl images -f colour=red
    run 0 layerctl images --format json
    has json "$out" '{"items":['
    run 0 layerctl image inspect base:1
    has inspect "$out" '"id":*"sha256:'
    run 0 layerctl history base:2
    has history "$out" "a step"
    run 0 layerctl save -o saved.tar base:2
    is "names in the archive" "$(tar xOf saved.tar manifest.json | jq -c '.[].RepoTags')" '["base:2"]'
    layerctl image export base:2 | cmp - saved.tar
    is "the same bytes to standard output" "${PIPESTATUS[*]}" "0 0"
    run 0 layerctl load saved.tar
    has load "$out" "0 layers added (0 B), 2 reused"
    run 0 layerctl image save -o both.tar base:1 base:2
    is "two images" "$(tar xOf both.tar index.json | jq '.manifests | length')" 2
    is "layers that they share are there once" "$(tar tf both.tar | sort | uniq -d)" ""
    run 0 layerctl save --type docker -o docker.tar base:2
    lacks "a Docker archive" "$(tar tf docker.tar)" index.json
    run 0 layerctl save --type rootfs -o rootfs.tar base:2
    has "the root" "$(tar tf rootfs.tar)" "usr/bin/tool"
    run 3 layerctl save -o none.tar base:1 nothing:here
    is "no file is left" "$(compgen -G 'none.tar*')" ""
    run 2 layerctl save --type zip base:1
    run 2 layerctl save --type rootfs base:1 base:2
    run 2 layerctl save
    out=$(script -qec 'layerctl save base:1' /dev/null 2>&1) status=$?
    is "an archive to a terminal" "$status" 2
    is "completion of images" "$(layerctl __complete save base: | sort | tr '\n' ' ')" "base:1 base:2 "
    run 0 layerctl load --detach one.tar
    is "what --detach prints" "$(grep -cx '[0-9a-f]\{64\}' <<<"$out")" 1
    run 0 layerctl job wait "$out"
    is "job wait" "$out" "done"
    run 0 layerctl tag base:1 other:1 team/web:2
    run 0 layerctl image inspect team/web:2
    run 0 layerctl rmi --dry-run other:1
    has "rmi --dry-run" "$out" "would remove reference other:1"
    has "rmi --dry-run" "$out" "nothing was done"
    run 0 layerctl rmi other:1
    has rmi "$out" "other:1: untagged"
    run 0 layerctl untag team/web:2
    run 0 layerctl rmi plain:1
    has rmi "$out" "plain:1: removed"
    run 3 layerctl rmi plain:1
    run 3 layerctl image inspect nothing:here
    run 0 layerctl layers
    run 0 layerctl layer inspect "$(layerctl layers -q | head -n 1)"
    run 0 layerctl layer files "$(layerctl layers -q | head -n 1)"
    has "layer files" "$out" "A /etc"
    run 0 layerctl image files -q base:1
    has "image files" "$out" "/usr/bin/tool"
    run 0 layerctl image diff base:1 base:1
    is "image diff of the same" "$out" ""
    run 3 layerctl image diff base:1 nothing:here
    run 0 layerctl jobs
    has jobs "$out" "import"
    run 0 layerctl jobs -f state=done -f kind=image.import
    lacks "jobs that are done" "$out" failed
    run 0 layerctl job show "$(layerctl jobs -q | tail -n 1)"
    run 0 layerctl job inspect "$(layerctl jobs -q | tail -n 1)"
    # One that fails where nobody looks tells it to who waits.
    run 0 layerctl load --async root/etc/hostname
    run 1 layerctl job wait "$out"
    has stderr "$err" failed
    run 4 layerctl job cancel "$(layerctl jobs -q | tail -n 1)"
    has stderr "$err" "has ended already"
    run 3 layerctl job cancel 0123456789
}

# What is asked for twice under a key is there once, and --dry-run does nothing.
test_once_and_dry_run() {
    local id volume
    run 0 layerctl create --idempotency-key k1 -l once=1 base:1
    id=$out
    run 0 layerctl create --idempotency-key k1 -l once=1 base:1
    is "the container of a key" "$out" "$id"
    run 0 layerctl create --idempotency-key k1 -m -l once=1 base:1
    has "its mountpoint" "$out" "$id"
    run 4 layerctl create --idempotency-key k1 -l once=2 base:1
    has stderr "$err" "used for another request"
    run 2 layerctl create --idempotency-key 'two words' base:1
    run 2 layerctl create --idempotency-key '' base:1
    run 2 layerctl create --ensure --name x --idempotency-key k1 base:1
    is "containers of one key" "$(layerctl ps -q -f label=once | wc -l)" 1
    run 0 layerctl volume create --idempotency-key k2
    volume=$out
    run 0 layerctl volume create --idempotency-key k2
    is "the volume of a key" "$out" "$volume"
    run 0 layerctl tag --idempotency-key k3 base:1 keyed:1
    run 0 layerctl tag --idempotency-key k3 base:1 keyed:1
    run 2 layerctl tag --idempotency-key k3 base:1 keyed:1 keyed:2
    run 0 layerctl load -q --idempotency-key k4 one.tar
    id=$out
    run 0 layerctl load -q --idempotency-key k4 one.tar
    is "the image of a key" "$out" "$id"
    run 4 layerctl load -q --idempotency-key k4 two.tar

    run 0 layerctl volume rm --dry-run "$volume"
    has "volume rm --dry-run" "$out" "would remove volume"
    run 4 layerctl rm --dry-run "$(layerctl ps -q --no-trunc -f label=once)"
    run 0 layerctl rm --dry-run --force "$(layerctl ps -q --no-trunc -f label=once)"
    has "rm --dry-run" "$out" "would remove container"
    has "rm --dry-run" "$out" "1 object, "
    is "containers after a dry run" "$(layerctl ps -q -f label=once -f state=mounted | wc -l)" 1
    run 0 layerctl rm -fv "$(layerctl ps -q --no-trunc -f label=once)"
    run 0 layerctl rmi keyed:1
    run 0 layerctl volume rm --purge "$volume"
}

test_containers() {
    local id mnt
    run 0 layerctl create --ensure --name web -l team=storage -v data:/srv/data --tmpfs /tmp base:2
    id=$out
    is "the id's length" ${#id} 64
    run 4 layerctl create --name web base:2
    has stderr "$err" "web"
    run 3 layerctl create --name x nothing:here
    run 2 layerctl create --name UPPER base:2
    run 2 layerctl create --name x --mount type=nfs,target=/x base:2
    run 0 layerctl create --ensure --name web -l team=storage -v data:/srv/data --tmpfs /tmp base:2
    is "the same container" "$out" "$id"
    run 4 layerctl create --ensure --name web base:1
    run 0 layerctl ps
    has ps "$out" "web*base:2*created"
    run 0 layerctl ps -q
    is "ps -q" "$out" "$id"
    run 0 layerctl ps -f state=mounted -q
    is "none mounted" "$out" ""
    run 0 layerctl mount web
    mnt=$out
    is "what is mounted" "$(cat "$mnt/etc/hostname" "$mnt/etc/two" "$mnt/srv/data/seed")" $'base\ntwo\nseed'
    run 0 layerctl mount web
    is "the same mountpoint" "$out" "$mnt"
    echo changed >"$mnt/etc/hostname"
    echo new >"$mnt/etc/new"
    rm "$mnt/usr/bin/tool"
    printf x >"$mnt/etc/"$'evil\033[31m'
    run 0 layerctl diff web
    has diff "$out" "C /etc/hostname"
    has diff "$out" "A /etc/new"
    has diff "$out" "D /usr/bin/tool"
    has diff "$out" 'A /etc/evil\\x1b\[31m'
    lacks diff "$out" $'\033'
    rm "$mnt/etc/"$'evil\033[31m'
    run 0 layerctl diff --tar -o diff.tar web
    has "the layer's names" "$(tar tf diff.tar)" "usr/bin/.wh.tool"
    run 0 layerctl export -o export.tar web
    is "the exported file" "$(tar xOf export.tar ./etc/hostname 2>/dev/null || tar xOf export.tar etc/hostname)" changed
    out=$(script -qec 'layerctl export web' /dev/null 2>&1) status=$?
    is "export to a terminal" "$status" 2
    run 4 layerctl rm web
    has stderr "$err" "hint:"
    (cd "$mnt" && exec sleep 1000) &
    local holder=$!
    for _ in {1..600}; do # until it is sleep: the shell before it is there already
        [[ $(readlink "/proc/$holder/cwd") == "$mnt" && $(<"/proc/$holder/comm") == sleep ]] && break
        sleep 0.05
    done
    run 0 layerctl explain web:/etc/hostname
    has "what a write does" "$out" 'in place'
    has "where it is from" "$out" 'the writable layer'
    run 0 layerctl explain --format json web:/usr/bin/tool
    has "who deleted it" "$out" '"how":"deleted"'
    run 2 layerctl explain /etc
    run 3 layerctl explain none:/etc
    run 0 layerctl holders web
    has "the holder's use" "$out" 'cwd'
    run 0 layerctl container holders web --format json
    has "the holders" "$out" '"uses":["cwd"'
    run 3 layerctl holders none
    run 4 layerctl umount web
    has stderr "$err" "process $holder (sleep): cwd"
    kill $holder
    wait $holder 2>/dev/null
    run 0 layerctl umount web
    run 0 layerctl umount web
    mkdir -p /mnt/at/sub && chmod 755 /mnt/at /mnt/at/sub
    run 0 layerctl mount web /mnt/at
    is "where it is mounted" "$out" /mnt/at
    is "what is mounted at the target" "$(cat /mnt/at/etc/hostname /mnt/at/srv/data/seed)" $'changed\nseed'
    run 4 layerctl mount web /mnt/none
    run 2 layerctl mount web shop /mnt/at
    run 0 layerctl umount web
    is "the target" "$(ls /mnt/at)" sub
    ln -s at /mnt/link
    run 1 layerctl mount web /mnt/link
    has stderr "$err" "is a symlink"
    run 3 layerctl mount web /mnt/none
    run 0 layerctl image mount base:1 /mnt/at
    is "where the image is mounted" "$out" /mnt/at
    is "what is mounted of the image" "$(cat /mnt/at/etc/hostname)" base
    run 0 layerctl image mount base:1
    has "its own mountpoint" "$out" /run/mnt/image-
    run 4 layerctl rmi base:1
    has stderr "$err" "is mounted"
    run 0 layerctl image umount base:1
    run 3 layerctl image mount none:1
    run 0 layerctl rename web shop
    run 0 layerctl label shop team- owner=ada
    run 0 layerctl inspect shop
    has inspect "$out" '"owner":*"ada"'
    lacks inspect "$out" '"team"'
    run 0 layerctl update --size-limit none --inode-limit none shop
    run 1 layerctl update --size-limit 1M shop
    has stderr "$err" "could not be enforced here"
    has stderr "$err" "prjquota"
    run 1 layerctl create --inode-limit 100 base:1
    run 0 layerctl create --name small --ephemeral --size-limit 1M --backing tmpfs base:1
    run 0 layerctl inspect small
    has inspect "$out" '"backing":*"tmpfs"'
    run 0 layerctl update --size-limit 2M small
    run 4 layerctl update --size-limit none small
    run 0 layerctl rm -v small
    run 2 layerctl create --size-limit 1M --backing tmpfs base:1
    run 0 layerctl info
    has info "$out" "backings*tmpfs"
    run 0 layerctl __complete -- create --backing ''
    has completion "$out" tmpfs
    run 2 layerctl update shop
    run 2 layerctl update --size-limit much shop
    run 0 layerctl container inspect -s shop
    has inspect "$out" '"bytes"'
    run 0 layerctl inspect --format json "${id:0:12}"
    has inspect "$out" '"name":"shop"'
    run 3 layerctl inspect nothing
    run 3 layerctl mount nothing shop
    is "the other one is mounted" "$out" "$mnt"
    run 4 layerctl volume rm data
    has stderr "$err" "shop"
    run 0 layerctl create base:1
    run 0 layerctl rm -v --purge "$out"
    run 0 layerctl create -m --name part --mount type=volume,source=data,target=/srv/data base:1
    run 0 layerctl rm -fv part
    run 0 layerctl create -m --name brief --rm base:1
    is "a mountpoint" "$(cat "$out/etc/hostname")" base
    run 0 layerctl umount brief
    run 3 layerctl container inspect brief
    run 3 layerctl create -m --name broken -v /mnt/not-there:/x base:1
    run 3 layerctl container inspect broken
    run 0 layerctl rm -f -v shop
    is "rm" "$out" shop
    is "the volume stays" "$(layerctl volume ls -q -f anonymous=0)" data
    is "anonymous ones go" "$(layerctl volume ls -q -f anonymous=1)" ""
}

test_snapshots() {
    local mnt id
    run 0 layerctl create -m --name snap base:1
    mnt=$out
    echo one >"$mnt/etc/state"
    exec 7>>"$mnt/etc/state"
    run 4 layerctl snapshot snap early
    has stderr "$err" "open for writing"
    run 0 layerctl snapshot --live snap fuzzy
    exec 7>&-
    run 0 layerctl snapshot create snap mounted
    run 0 layerctl snapshot rm snap fuzzy mounted
    run 0 layerctl umount snap
    run 0 layerctl snapshot snap early
    is "snapshot" "$out" early
    run 4 layerctl snapshot create snap early
    run 0 layerctl snapshot create -l why=test snap
    is "without a name it has an id" ${#out} 64
    run 0 layerctl snapshot rm snap "${out:0:12}"
    mnt=$(layerctl mount snap)
    echo two >"$mnt/etc/state"
    layerctl umount snap >/dev/null
    run 0 layerctl snapshots snap
    has snapshots "$out" "early*exact"
    is "names alone" "$(layerctl snapshot ls -q snap)" early
    run 0 layerctl explain snap:/etc/state
    has "explain" "$out" "snapshot early"
    run 0 layerctl snapshot inspect snap early
    has inspect "$out" '"consistency":*"exact"'
    run 0 layerctl clone -s early -l a=b snap twin
    is "clone" "$out" twin
    is "the clone has the old state" "$(layerctl cat twin:/etc/state)" one
    is "the container its own" "$(layerctl cat snap:/etc/state)" two
    run 0 layerctl rollback snap early
    is "rollback" "$(layerctl cat snap:/etc/state)" one
    run 3 layerctl rollback snap never
    run 3 layerctl snapshot nothing
    run 2 layerctl snapshot rollback snap
    run 0 layerctl container fork twin
    run 0 layerctl rm -v "$out" twin
    run 0 layerctl snapshot --idempotency-key k5 snap keyed
    run 0 layerctl snapshot --idempotency-key k5 snap keyed
    is "the snapshot of a key" "$(layerctl snapshots -q snap)" $'early\nkeyed'
    run 4 layerctl snapshot --idempotency-key k5 snap other
    run 0 layerctl clone --idempotency-key k6 snap
    id=$out
    run 0 layerctl clone --idempotency-key k6 snap
    is "the clone of a key" "$out" "$id"
    run 0 layerctl rm -v "$id"
    run 0 layerctl snapshot rm --dry-run snap early keyed
    has "snapshot rm --dry-run" "$out" "would remove snapshot keyed"
    run 3 layerctl snapshot rm snap nothing early
    is "snapshot rm goes on" "$out" early
    run 0 layerctl snapshot rm snap keyed
    run 3 layerctl snapshot rm snap early
    run 0 layerctl rm -v snap
}

test_commit() {
    run 0 layerctl create -m --name work base:1
    mnt=$out
    echo new >"$mnt/etc/new"
    exec 7>>"$mnt/etc/new"
    run 4 layerctl commit work work:1
    has stderr "$err" "open for writing"
    exec 7>&-
    run 0 layerctl commit -m why -a me -c 'CMD ["run"]' -c 'ENV A=1' work work:1
    has "the id" "$out" "sha256:????????????????????????????????????????????????????????????????"
    run 0 layerctl image inspect work:1
    has inspect "$out" '"author":*"me"'
    has inspect "$out" '"run"'
    run 0 layerctl history work:1
    has history "$out" "layerd commit"
    run 0 layerctl create --name probe work:1
    is "the image has it" "$(layerctl cat probe:/etc/new)" new
    run 2 layerctl commit -c 'RUN x' work
    has stderr "$err" "change 'RUN x'"
    run 2 layerctl commit
    run 3 layerctl commit nothing
    run 0 layerctl container commit --squash work flat:1
    is "one layer" "$(layerctl image inspect --format json flat:1 | jq .layer_count)" 1
    first=
    for name in early late; do
        run 0 layerctl create --name $name base:1
        echo same >same
        run 0 layerctl cp same "$name:/etc/same"
        run 0 env SOURCE_DATE_EPOCH=1700000000 layerctl commit $name
        is "the same image at any time" "${first:-$out}" "$out"
        first=$out
    done
    run 2 env SOURCE_DATE_EPOCH=soon layerctl commit early
    has stderr "$err" "SOURCE_DATE_EPOCH='soon'"
    run 0 layerctl rm -v early late
    run 0 layerctl commit --idempotency-key k work
    first=$out
    run 0 layerctl commit --idempotency-key k work
    is "once" "$out" "$first"
    run 0 layerctl commit --detach work later:1
    run 0 layerctl job wait "$out"
    run 0 layerctl rmi later:1
    run 0 layerctl umount work
    run 0 layerctl rm -v work probe
    run 0 layerctl rmi work:1 flat:1 "$first"
}

test_volumes() {
    run 0 layerctl volume create --ensure -l a=b cache
    is "volume create" "$out" cache
    run 4 layerctl volume create cache
    run 0 layerctl volume create --ensure -l a=b cache
    run 0 layerctl volume update --size-limit none cache
    run 1 layerctl volume update --size-limit 1G cache
    run 1 layerctl volume create --size-limit 1G
    run 2 layerctl volume update cache
    run 0 layerctl volume inspect -s cache
    has inspect "$out" '"a":*"b"'
    run 0 layerctl volumes
    has volumes "$out" "cache"
    run 0 layerctl volume create
    is "an anonymous volume's id" ${#out} 64
    run 0 layerctl volume rm --purge "${out:0:12}"
    run 3 layerctl volume rm nothing cache data
    is "the others are removed" "$out" $'cache\ndata'
    run 0 layerctl volume ls -q
    is "no volume is left" "$out" ""
}

test_trash() {
    run 0 layerctl trash rm -a
    run 0 layerctl volume create kept
    run 0 layerctl volume rm kept
    run 0 layerctl trash ls -s -f name=kept
    has "trash ls" "$out" "kept*volume*T*:*Z *B"
    run 0 layerctl trash rm --dry-run kept
    has "trash rm --dry-run" "$out" "would remove volume kept"
    run 0 layerctl volume create kept
    run 4 layerctl trash restore kept
    run 0 layerctl trash restore -n again kept
    is "trash restore -n" "$out" again
    run 0 layerctl volume rm --purge kept
    run 0 layerctl volume rm again
    run 0 layerctl trash restore again
    is "trash restore" "$out" again
    run 0 layerctl volume rm again
    run 0 layerctl volume create kept
    run 0 layerctl volume rm kept
    run 3 layerctl trash restore nothing
    run 2 layerctl trash rm
    run 2 layerctl trash rm -a kept
    run 2 layerctl trash rm ''
    run 3 layerctl trash rm nothing kept
    is "trash rm goes on" "$out" kept
    run 0 layerctl trash rm --all --dry-run
    has "what all is" "$out" "nothing was done"
}

# With a daemon that keeps them.
test_trash_images() {
    local id
    printf '[trash]\nkeep_images = 1h\n' >keep.conf
    chmod 644 keep.conf
    stop_daemon
    start_daemon data --config /mnt/keep.conf
    oci gone.tar gone:1 two.layer
    run 0 layerctl load -q gone.tar
    run 0 layerctl tag gone:1 team/gone:2
    run 0 layerctl untag gone:1
    run 0 layerctl rmi --dry-run team/gone:2
    has "rmi to the trash" "$out" "would remove image team/gone:2"
    run 0 layerctl rmi team/gone:2
    run 3 layerctl image inspect team/gone:2
    run 0 layerctl trash ls -s
    has "trash ls" "$out" "team/gone:2*image*T*:*Z *B"
    run 0 layerctl trash restore team/gone:2
    is "trash restore" "$out" team/gone:2
    run 0 layerctl rmi team/gone:2
    run 0 layerctl tag base:1 team/gone:2
    run 4 layerctl trash restore -n base:1 team/gone:2
    id=$(layerctl trash ls -q -f name=team/*)
    run 0 layerctl trash restore "$id"
    is "no name is left" "$out" "$id"
    has "what another has" "$err" "team/gone:2: another image has this name by now"
    run 0 layerctl rmi "$id"
    run 0 layerctl trash restore -n gone:3 "$id"
    is "trash restore -n" "$out" gone:3
    run 0 layerctl rmi --purge gone:3
    run 3 layerctl trash restore "$id"
    run 0 layerctl load -q gone.tar
    run 0 layerctl untag team/gone:2
    run 0 layerctl image prune -af --purge --dry-run
    has "image prune --purge" "$out" "would remove image gone:1"
    run 0 layerctl rmi gone:1
    run 0 layerctl trash rm gone:1
    is "trash rm" "$out" gone:1
    stop_daemon
    start_daemon data
}

test_volume_snapshots() {
    run 0 layerctl volume create snapped
    run 0 layerctl volume snapshot -l a=b snapped first
    is "volume snapshot" "$out" first
    run 4 layerctl volume snapshot snapped first
    run 0 layerctl volume snapshots snapped
    has "volume snapshots" "$out" "first*exact"
    run 0 layerctl cp one.tar @snapped:/file
    run 0 layerctl volume rollback snapped first
    is "volume rollback" "$out" snapped
    run 3 layerctl volume cat snapped:/file
    run 0 layerctl volume snapshot --live snapped
    run 0 layerctl volume clone -s first snapped again
    is "volume clone -s" "$out" again
    run 0 layerctl volume rm-snapshot --dry-run snapped first
    has "volume rm-snapshot --dry-run" "$out" "would remove snapshot first"
    run 3 layerctl volume rm-snapshot snapped first nothing
    is "volume rm-snapshot" "$out" first
    run 0 layerctl volume rm --purge snapped again
}

test_prune() {
    run 0 layerctl trash rm -a
    run 0 layerctl create -m --name busy base:1
    run 0 layerctl create --name idle -l drop=1 base:1
    run 0 layerctl volume create
    run 0 layerctl volume create named
    run 0 layerctl container prune --dry-run
    has "container prune --dry-run" "$out" "would remove container idle"
    lacks "container prune --dry-run" "$out" "busy"
    run 2 layerctl container prune
    has "container prune asks" "$err" "not mounted*[y/N]*--force"
    out=$(echo y | layerctl container prune --filter label=drop 2>/dev/null) status=$?
    has "container prune" "$out" "removed container idle"
    out=$(echo n | layerctl volume prune -a 2>.err) status=$? err=$(<.err)
    is "a no is a no" "$status" 1
    run 0 layerctl volume prune -f
    has "volume prune" "$out" "removed volume *in all"
    run 0 layerctl volume prune -af --purge --format json
    has "volume prune -a" "$out" '"name":"named"'
    run 0 layerctl image prune --dry-run
    has "image prune" "$out" "nothing was done"
    run 0 layerctl image prune -f
    has "image prune" "$out" "in all"
    run 0 layerctl create --name idle base:1
    run 0 layerctl volume create
    run 0 layerctl system prune -f
    has "system prune" "$out" "removed container idle"
    lacks "system prune" "$out" "volume"
    run 0 layerctl system prune -f --volumes --format json
    has "system prune --format json" "$out" '"containers":*"volumes":*"kind":"volume"*"images":'
    run 0 layerctl umount busy
    run 0 layerctl rm busy
}

test_cp() {
    mkdir -p local/tree/sub out/here
    echo one >local/tree/file
    echo two >local/tree/sub/file
    ln -s file local/tree/link
    chmod 2750 local/tree/sub
    touch -d '2001-02-03 04:05:06.789012345 UTC' local/tree/file
    run 0 layerctl create --name c base:1

    run 0 layerctl cp local/tree/file c:/etc/
    run 0 layerctl cat c:/etc/file
    is "cat" "$out" one
    run 0 layerctl cp local/tree/file c:/etc/renamed
    run 0 layerctl cp local/tree c:/srv
    run 0 layerctl cp local/tree c:/srv/copy
    run 0 layerctl cp local/tree/. c:/srv/data
    run 0 layerctl cp local/tree/file c:/etc/dirlink
    tar -C local -c tree | layerctl cp - c:/usr
    is "cp -" "$?" 0
    run 0 layerctl files c:/srv
    has files "$out" "copy"
    has files "$out" "tree"
    run 3 layerctl cp local/tree/file c:/nowhere/
    run 4 layerctl cp local/tree c:/etc/hostname
    run 3 layerctl cp local/tree/file nothing:/etc
    run 1 layerctl cp local/missing c:/etc
    run 2 layerctl cp local/tree out

    run 0 layerctl cp c:/srv/copy out/new
    is "a tree and back" "$(diff -r --no-dereference local/tree out/new && stat -c %a out/new/sub)" 2750
    is "its time" "$(stat -c %y out/new/file)" "$(stat -c %y local/tree/file)"
    is "its owner inside" "$(layerctl files c:/srv/copy | awk 'NF == 7 && $7 == "file" {print $2, $3}')" "0 0"
    run 0 layerctl cp c:/srv/copy out/here
    run 0 layerctl cp c:/srv/copy/. out/here
    is "into a directory" "$(ls out/here)" $'copy\nfile\nlink\nsub'
    run 0 layerctl cp c:/usr/bin/tool out/tool
    is "set-id bits" "$(stat -c %a out/tool)" 4755
    run 0 layerctl cp c:/etc/renamed out/here
    run 0 layerctl cp c:/etc/link out/link
    is "a symlink is copied itself" "$(readlink out/link)" hostname
    run 0 layerctl cp -L c:/etc/dirlink out/followed
    is "or followed" "$(ls out/followed/copy)" $'file\nlink\nsub'
    run 0 layerctl cp c:/usr/bin/big out/big
    is "a large file" "$(sha256sum <out/big)" "$(sha256sum <root/usr/bin/big)"
    layerctl cp c:/srv/copy - | tar x -C out
    is "to standard output" "$(cat out/copy/sub/file)" two
    run 0 layerctl cp c:/ out/whole
    is "a whole root" "$(cat out/whole/etc/hostname)" base
    run 3 layerctl cp c:/nowhere out
    run 4 layerctl cp c:/srv/copy out/big
    run 3 layerctl cp c:/etc/renamed out/nowhere/
    is "nothing half made" "$(find out -name '*.part-*')" ""

    run 4 layerctl container rm-file c:/srv/copy
    run 0 layerctl container rm-file -r c:/srv/copy c:/etc/link
    run 3 layerctl cat c:/srv/copy/file
    run 0 layerctl cat c:/etc/hostname
    run 0 layerctl rm c
}

# In a volume as in a container; local/ and out/ are those of test_cp.
test_volume_files() {
    run 0 layerctl volume create files
    run 0 layerctl cp local/tree @files:/copy
    run 0 layerctl volume cp local/tree/. files:/
    run 0 layerctl volume files files:/
    has files "$out" "copy"
    has files "$out" "link -> file"
    run 0 layerctl files @files:/copy
    has files "$out" "sub"
    run 0 layerctl volume cat files:/file @files:/copy/sub/file
    is "cat" "$out" $'one\ntwo'
    run 0 layerctl cat @files:/file
    run 0 layerctl create --name c -v files:/srv/data base:1
    run 0 layerctl cat c:/srv/data/file
    is "what the container sees" "$out" one
    run 0 layerctl cp @files:/copy out/of-volume
    is "a tree and back" "$(diff -r --no-dereference local/tree out/of-volume && stat -c %a out/of-volume/sub)" 2750
    tar -C local -c tree | layerctl volume cp - files:/
    is "volume cp -" "$?" 0
    layerctl volume cp files:/copy - | tar t >names.out
    is "volume cp to standard output" "${PIPESTATUS[*]} $(head -n 1 names.out)" "0 0 copy/"
    run 0 layerctl volume rm-file -r files:/copy @files:/link
    run 4 layerctl volume rm-file files:/tree
    run 3 layerctl volume cat files:/copy/file
    has stderr "$err" "in the volume"
    run 3 layerctl volume cp local/tree/file nothing:/
    run 3 layerctl volume cp local/tree/file files:/nowhere/
    has stderr "$err" "volume 'files' has no directory"
    run 2 layerctl volume files files
    has stderr "$err" "VOLUME:PATH"
    run 2 layerctl explain @files:/file
    run 0 layerctl volume export -o volume.tar files
    has "the volume's names" "$(tar tf volume.tar)" "tree/sub/file"
    run 0 layerctl volume create imported
    run 0 layerctl volume import imported volume.tar
    has import "$out" "entries, "
    layerctl volume export imported | cmp - volume.tar
    is "the same again" "${PIPESTATUS[*]}" "0 0"
    gzip <volume.tar | layerctl volume import -q imported
    is "volume import from standard input" "$?" 0
    run 0 layerctl volume import --detach imported volume.tar
    run 0 layerctl job wait "$out"
    is "job wait" "$out" "done"
    run 0 layerctl volume import --format json --idempotency-key k9 imported volume.tar
    has "import as JSON" "$out" '"staged":false'
    run 1 layerctl volume import imported root/etc/hostname
    run 2 layerctl volume import imported local
    run 3 layerctl volume import nothing volume.tar
    run 3 layerctl volume export nothing
    out=$(script -qec 'layerctl volume export files' /dev/null 2>&1) status=$?
    is "export to a terminal" "$status" 2
    run 0 layerctl volume clone -l a=b imported twin
    is "volume clone" "$out" twin
    is "the same content" "$(layerctl volume cat twin:/tree/file)" one
    run 4 layerctl volume clone imported twin
    run 3 layerctl volume clone nothing
    run 0 layerctl create -m --name user -v imported:/srv/data base:1
    run 4 layerctl volume clone imported
    has stderr "$err" "user"
    run 0 layerctl volume clone --live imported
    is "an anonymous clone's id" ${#out} 64
    run 0 layerctl volume rm --purge "$out" twin
    run 0 layerctl rm -f user
    run 0 layerctl volume rm --purge imported
    run 2 layerctl volume cp local out
    is "completion of volumes" "$(layerctl __complete volume cat fil)" "files:/"
    run 0 layerctl rm c
    run 0 layerctl volume rm --purge files
}

test_system() {
    run 0 layerctl info
    has info "$out" "overlay"
    has info "$out" "/mnt/data"
    run 0 layerctl df
    has df "$out" "total"
    run 0 layerctl check
    has "check" "$out" "checked "
    run 0 layerctl df --verify
    has "df --verify" "$out" "found on the disk"
    run 0 layerctl df -i
    has df "$out" "base:1"
    run 0 layerctl df --format json
    run 0 layerctl metrics
    has metrics "$out" 'layerd_http_requests_total{method="GET",route="/v1/df",status="2xx"} '
    is "metrics end as they must" "${out##*$'\n'}" "# EOF"
    run 0 layerctl version
    has version "$out" "layerd    0."
    run 0 layerctl events -f type=container.create
    has events "$out" "container.create*web"
    has "who did it" "$out" "by uid 0, pid "
    run 0 layerctl events --after latest
    is "nothing is newer" "$out" ""
    timeout 120 layerctl events -F --after latest --limit 1 >follow.out &
    local follower=$! late=()
    while kill -0 $follower 2>/dev/null; do # it hears of the first one after it has begun to follow
        late+=("late-${#late[@]}")
        layerctl volume create "${late[-1]}" >/dev/null
        sleep 0.1
    done
    wait $follower
    is "follow" "$?" 0
    has "the followed event" "$(<follow.out)" "volume.create*late-"
    layerctl volume rm "${late[@]}" >/dev/null
    run 0 layerctl api GET /v1
    has api "$out" '"name":"layerd"'
    run 3 layerctl api GET /v1/containers/nothing
    has api "$out" '"code":"not_found"'
    run 0 layerctl api POST /v1/volumes -d '{"name":"raw"}'
    run 0 layerctl api DELETE /v1/volumes/raw
    run 2 layerctl api get /v1
    run 0 layerctl __complete -- create --driver ''
    has completion "$out" "overlay"
    run 0 layerctl __complete -- rmi base
    is completion "$out" $'base:1\nbase:2'
    layerctl images >/dev/full 2>.err
    status=$? err=$(<.err)
    is "a full disk is a failure" "$status" 1
    out=$(TERM=xterm script -qec 'layerctl images' /dev/null) status=$?
    has "colours on a terminal" "$out" $'\033[1m'
    out=$(TERM=xterm NO_COLOR=1 script -qec 'layerctl images' /dev/null) status=$?
    lacks "no colours with NO_COLOR" "$out" $'\033['
    out=$(TERM=xterm script -qec 'layerctl load one.tar' /dev/null) status=$?
    has "progress on a terminal" "$out" "one.tar send"
}

make_images
test_without_daemon
export LAYERD_HOST=unix:///mnt/run/layerd.sock
start_daemon data
for part in test_images test_once_and_dry_run test_containers test_snapshots test_commit test_volumes test_trash \
    test_trash_images test_volume_snapshots test_prune test_cp test_volume_files test_system; do
    $part
    if ! kill -0 "$daemon" 2>/dev/null; then
        wait "$daemon"
        status=$? out='' err=$(<daemon.log)
        fail "layerd ended during $part"
        break
    fi
done
stop_daemon

if [[ -s daemon.log ]]; then
    echo "the daemon's log:"
    tail -n 20 daemon.log
fi
echo "client: $passed passed, $failed failed"
[[ $failed == 0 ]]

#!/bin/bash
# Real images made by real tools against a real layerd: what is mounted, exported and copied is what the
# tools' own unpackers make of the same image. Root.
#
#     tests/e2e/images.sh [BUILD]       BUILD: the folder with layerd, layerctl, tools/treedump (default: build)
#
# The Debian root is cached as BUILD/cache/debian.tar (mmdebstrap, 30 s).

# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"

if [[ -z ${LAYERD_E2E_INSIDE-} ]]; then
    cache=${1:-build}/cache
    mkdir -p "$cache"
    if [[ ! -s $cache/debian.tar ]]; then
        for try in 1 2 3; do # a mirror may be out of reach for a moment
            mmdebstrap --quiet --format=tar --variant=minbase bookworm "$cache/debian.tar.new" >&2 && break
            ((try < 3)) || exit 2
            sleep 10
        done
        mv "$cache/debian.tar.new" "$cache/debian.tar"
    fi
fi
enter "$@"

# same WHAT DIR DIR: two trees with all attributes, the root included.
same() {
    if ! treedump "$2" >a.dump || ! treedump "$3" >b.dump; then
        fail "$1: treedump"
        return
    fi
    if cmp -s a.dump b.dump; then ok; else
        fail "$1: the trees differ"
        diff a.dump b.dump | head -20
    fi
}

# oracle TAR...: the tree of layers by GNU tar, whiteouts by hand; for images whose layers never meet themselves.
oracle() {
    rm -rf oracle && mkdir oracle
    local tar entry
    for tar in "$@"; do
        while read -r entry; do
            rm -rf "oracle/$(dirname "$entry")/$(basename "$entry" | sed 's/^\.wh\.//')"
        done < <(tar tf "$tar" | grep -E '(^|/)\.wh\.[^/]*$' | grep -v '\.wh\.\.wh\.')
        tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$tar" -C oracle --exclude='.wh.*' || return 1
    done
}

mount_of() { layerctl inspect "$1" --format json | jq -r .mountpoint; }

start_daemon data

# ---- a Debian root, as it comes ----
base=$build/cache/debian.tar
mkdir plain && tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$base" -C plain
check "load a root file system" layerctl load --type rootfs -t debian:root "$base"
check "create" layerctl create -m --name root debian:root
same "a Debian root, mounted" plain "$(mount_of root)"
check "create vfs" layerctl create -m --driver vfs --name rootv debian:root
same "a Debian root by vfs" plain "$(mount_of rootv)"
mkdir out && layerctl export root | tar --xattrs --xattrs-include='*' --numeric-owner -xpf - -C out
same "a Debian root, exported" plain out
rm -rf out

# ---- an OCI layout by umoci, every compression and container of it by skopeo ----
umoci init --layout oci >/dev/null && umoci new --image oci:base >/dev/null
check "umoci: the base" umoci raw add-layer --image oci:base "$base"
mkdir -p top/etc top/usr/share/doc top/opt/app && echo two >top/etc/motd && echo x >top/opt/app/x && ln top/opt/app/x top/opt/app/y
setfattr -n user.note -v hello top/opt/app/x
chmod 4711 top/opt/app/y
touch top/etc/.wh.issue top/usr/share/doc/.wh..wh..opq && touch -d '2020-02-02 02:02:02.123456789' top/opt/app
tar --xattrs --xattrs-include='*' --format=pax --numeric-owner --owner=0 --group=0 -C top -cf top.tar etc usr opt
umoci tag --image oci:base two >/dev/null
check "umoci: a second layer" umoci raw add-layer --image oci:two top.tar
for form in oci-archive:two.oci docker-archive:two.docker; do
    check "skopeo: $form" skopeo --insecure-policy copy oci:oci:two "$form:layerd.test/two:1"
done
skopeo --insecure-policy copy --dest-compress-format zstd oci:oci:two oci-archive:two.zstd:layerd.test/two:1 >/dev/null 2>&1
gzip -1 -k two.docker

check "load the base" layerctl load -t debian:12 --type oci <(skopeo --insecure-policy copy oci:oci:base oci-archive:base.oci:debian:12 >/dev/null 2>&1; cat base.oci)
before=$(layerctl df --format json | jq .layers.bytes)
for archive in two.oci two.docker two.docker.gz two.zstd; do
    [[ -s $archive ]] || continue
    out=$(layerctl load --format json "$archive") || fail "load $archive"
    added=$(jq .layers.added <<<"$out") reused=$(jq .layers.reused <<<"$out")
    if [[ $archive == two.oci ]]; then want=1/1; else want=0/2; fi
    if [[ $added/$reused == "$want" ]]; then ok; else fail "$archive: $added added, $reused reused, should be $want"; fi
done
grown=$(($(layerctl df --format json | jq .layers.bytes) - before))
if ((grown < 200000)); then ok; else fail "the second image added $grown bytes"; fi

# umoci unpacks what it made; it sets the bundle's root directory itself.
check "umoci unpacks" umoci unpack --image oci:two bundle
check "create of two" layerctl create -m --name two layerd.test/two:1
two=$(mount_of two)
treedump bundle/rootfs | tail -n +2 >a.dump
treedump "$two" | tail -n +2 >b.dump
if cmp -s a.dump b.dump; then ok; else fail "two: not as umoci has it"; diff a.dump b.dump | head -20; fi

# ---- twenty layers ----
umoci tag --image oci:base many >/dev/null
layers=("$base")
for i in {1..19}; do
    rm -rf l && mkdir -p "l/srv/$i/deep" l/etc l/usr/share
    echo "$i" >"l/srv/$i/deep/file" && echo "$i" >l/etc/counter && head -c $((i * 1000)) /dev/zero >"l/usr/share/z$i"
    ((i % 5)) || touch "l/srv/.wh.$((i - 1))"
    ((i % 7)) || touch l/usr/share/.wh.z1
    tar --format=pax --numeric-owner --owner=0 --group=0 -C l -cf "l$i.tar" srv etc usr
    umoci raw add-layer --image oci:many "l$i.tar" >/dev/null || fail "umoci: layer $i"
    layers+=("l$i.tar")
done
skopeo --insecure-policy copy oci:oci:many oci-archive:many.oci:layerd.test/many:1 >/dev/null 2>&1
check "load twenty layers" layerctl load many.oci
check "create of many" layerctl create -m --name many layerd.test/many:1
check "create of many by vfs" layerctl create -m --driver vfs --name manyv layerd.test/many:1
check "the oracle" oracle "${layers[@]}"
treedump oracle | sed 's/ mtime=[^ ]*//' | tail -n +2 >a.dump
rm -rf bundle && umoci unpack --image oci:many bundle >/dev/null 2>&1
same "twenty layers: overlay and vfs" "$(mount_of many)" "$(mount_of manyv)"
treedump bundle/rootfs | tail -n +2 >a.dump
treedump "$(mount_of many)" | tail -n +2 >b.dump
if cmp -s a.dump b.dump; then ok; else fail "twenty layers: not as umoci has it"; diff a.dump b.dump | head -20; fi

# ---- buildah, from scratch ----
if command -v buildah >/dev/null; then
    export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
    args=(--root /mnt/bstore --runroot /mnt/brun)
    ctr=$(buildah "${args[@]}" from scratch 2>.log)
    if [[ -n $ctr ]]; then
        buildah "${args[@]}" add "$ctr" top.tar / >/dev/null 2>&1
        buildah "${args[@]}" config --cmd '["/bin/sh"]' --env A=b --label l=v --volume /data "$ctr" >/dev/null 2>&1
        buildah "${args[@]}" commit --quiet "$ctr" docker-archive:/mnt/b.docker:layerd.test/built:1 >/dev/null 2>.log
        check "load what buildah made" layerctl load b.docker
        if [[ $(layerctl inspect layerd.test/built:1 --format json 2>/dev/null | jq -r '.config.env[]?') == *A=b* ]]; then ok; else fail "the config of buildah's image"; fi
    else
        echo "skipped: buildah does not run here: $(head -1 .log)"
    fi
fi

# ---- isolation: whatever happens in one container, the image and the others stay as they were ----
treedump "$two" >before.dump
(cd data/layers && for l in [0-9]*; do [[ -d $l ]] && treedump "$l"; done) | sha256sum >layers.before
check "another container of it" layerctl create -m --name other layerd.test/two:1
other=$(mount_of other)
rm -rf "${other:?}/usr/share" "$other/etc/passwd" && mkdir "$other/usr/share" && echo new >"$other/usr/share/x"
find "$other/etc" -type f -exec sh -c 'echo more >>"$1"' _ {} \;
chown -R 1:1 "$other/opt" && mv "$other/opt" "$other/moved"
treedump "$two" >after.dump
if cmp -s before.dump after.dump; then ok; else fail "one container saw the changes of another"; fi
(cd data/layers && for l in [0-9]*; do [[ -d $l ]] && treedump "$l"; done) | sha256sum >layers.after
if cmp -s layers.before layers.after; then ok; else fail "the layers changed"; fi

for c in root rootv two many manyv other; do
    check "unmount $c" layerctl umount "$c"
    check "remove $c" layerctl rm "$c"
done
for _ in {1..600}; do [[ -z $(find data/w data/trash -mindepth 1 -maxdepth 1) ]] && break; sleep 0.1; done
if [[ -z $(ls data/w) ]]; then ok; else fail "writable layers stay: $(ls data/w)"; fi
finish

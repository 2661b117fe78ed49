#!/bin/bash
# Images out again, judged by other people's tools: what layerd saves is taken by skopeo and umoci as what came in, and
# by buildah, podman, containerd and Docker where these are installed. Root.
#
#     tests/e2e/export.sh [BUILD]       BUILD: the folder with layerd, layerctl, tools/treedump (default: build)

# shellcheck source=tests/e2e/lib.bash
. "$(dirname "$0")/lib.bash"
enter "$@"

skopeo() { command skopeo --insecure-policy "$@"; }
config_of() { skopeo inspect --raw --config "$1" 2>>.log | sha256sum | cut -c-64; }
manifest_of() { skopeo inspect --raw "$1" 2>>.log | sha256sum | cut -c-64; }
id_of() { layerctl image inspect "$1" | jq -r .id | cut -c8-; }
diff_ids() { layerctl image inspect "$1" | jq -c '[.layers[].diff_id]'; }

# ---- an image of two layers by umoci, with what is awkward ----
mkdir -p one/etc one/usr/share one/deep/{1..20} two/etc
echo one >one/etc/name && ln one/etc/name one/etc/other && ln -s ../etc/name one/usr/link
head -c 3000000 /dev/urandom >one/usr/share/noise
truncate -s 20M one/usr/share/sparse && printf x | dd of=one/usr/share/sparse bs=1 seek=10M conv=notrunc 2>/dev/null
setfattr -n user.note -v hello one/etc/name && chmod 4755 one/usr/share/noise
mkfifo one/deep/fifo && mknod one/deep/null c 1 3
echo two >two/etc/name && touch two/etc/.wh.other && mkdir -p two/deep && touch two/deep/.wh..wh..opq
for layer in one two; do
    tar --xattrs --xattrs-include='*' --format=pax --numeric-owner --sort=name -C $layer -cf $layer.tar .
done
umoci init --layout oci >/dev/null && umoci new --image oci:1 >/dev/null
check "umoci makes the first layer" umoci raw add-layer --image oci:1 one.tar
check "umoci makes the second layer" umoci raw add-layer --image oci:1 two.tar
check "skopeo makes the archive" skopeo copy oci:oci:1 oci-archive:in.oci:layerd.test/two:1
want_config=$(config_of oci:oci:1) want_manifest=$(manifest_of oci:oci:1)

start_daemon data
check "load" layerctl load in.oci
is "the image id is the config's digest" "$(id_of layerd.test/two:1)" "$want_config"
want_diff_ids=$(diff_ids layerd.test/two:1)
check "save" layerctl save -o out.oci layerd.test/two:1
check "save again" layerctl save -o again.oci layerd.test/two:1
check "the same bytes" cmp out.oci again.oci
check "save as Docker's" layerctl save --type docker -o out.docker layerd.test/two:1

# ---- skopeo ----
is "skopeo: the config as OCI archive" "$(config_of oci-archive:out.oci)" "$want_config"
is "skopeo: the config as Docker archive" "$(config_of docker-archive:out.oci)" "$want_config"
is "skopeo: the config of the Docker form" "$(config_of docker-archive:out.docker)" "$want_config"
is "skopeo: by tag" "$(config_of oci-archive:out.oci:1)" "$want_config"
is "skopeo: by name" "$(config_of docker-archive:out.oci:layerd.test/two:1)" "$want_config"
for from in oci-archive:out.oci docker-archive:out.oci docker-archive:out.docker; do
    check "skopeo: $from to a directory" skopeo copy "$from" dir:d
    rm -rf d
    check "skopeo: $from to Docker's archive" skopeo copy "$from" docker-archive:back.docker:layerd.test/back:1
    check "load what skopeo made of $from" layerctl load back.docker
    is "$from: the layers after skopeo" "$(diff_ids layerd.test/back:1)" "$want_diff_ids"
    layerctl rmi layerd.test/back:1 >/dev/null
    rm -f back.docker
done

# ---- umoci ----
mkdir layout && tar -xf out.oci -C layout
is "umoci: the tag" "$(umoci ls --layout layout)" 1
check "umoci unpacks" umoci unpack --image layout:1 bundle
check "create" layerctl create -m --name two layerd.test/two:1
treedump bundle/rootfs | tail -n +2 >a.dump
treedump "$(layerctl inspect two --format json | jq -r .mountpoint)" | tail -n +2 >b.dump
check "umoci: the same tree" diff a.dump b.dump
check "umount" layerctl umount two

# ---- several images, and the root ----
check "tag" layerctl tag layerd.test/two:1 layerd.test/other:1
umoci new --image oci:none >/dev/null && skopeo copy oci:oci:none oci-archive:none.oci:layerd.test/none:1 >/dev/null 2>&1
check "load an image without layers" layerctl load none.oci
check "save three" layerctl save -o three.oci layerd.test/two:1 layerd.test/none:1 layerd.test/other:1
is "skopeo: one of three by name" "$(config_of oci-archive:three.oci:layerd.test/other:1)" "$want_config"
is "skopeo: an image without layers" "$(config_of oci-archive:three.oci:layerd.test/none:1)" "$(id_of layerd.test/none:1)"
is "skopeo: of Docker's list" "$(config_of docker-archive:three.oci:layerd.test/other:1)" "$want_config"
check "save the root" layerctl save --type rootfs -o root.tar layerd.test/two:1
mkdir root && tar --xattrs --xattrs-include='*' --numeric-owner -xpf root.tar -C root
treedump root | tail -n +2 >a.dump
check "the root is the tree" diff a.dump b.dump

# ---- a commit: to others and back ----
check "mount" layerctl mount two
mnt=$(layerctl inspect two --format json | jq -r .mountpoint)
change() {
    cd "$mnt" && rm etc/name && rm -r usr/share && mkdir usr/share && echo new >usr/share/new && ln usr/share/new etc/again &&
        ln -s new usr/share/link && chown 70000:3000000 etc/again && chmod 2711 usr/share/new &&
        setfattr -n user.note -v other usr/share/new && truncate -s 5M deep/sparse && mkdir $'deep/\377\nodd' &&
        mknod deep/dev b 7 8 && mkfifo deep/fifo && rm usr/link && mkdir usr/link && touch -d '2001-02-03 04:05:06.789' usr/share
}
if (change); then ok; else fail "change the container"; fi
treedump "$mnt" | tail -n +2 >b.dump
check "umount" layerctl umount two
check "commit" layerctl commit -m why -a me -c 'ENTRYPOINT ["/e"]' -c 'LABEL a="b c"' two layerd.test/commit:1
check "commit, squashed" layerctl commit --squash two layerd.test/flat:1
commit_ids=$(diff_ids layerd.test/commit:1)
for image in commit flat; do
    check "save $image" layerctl save -o $image.oci layerd.test/$image:1
    check "skopeo takes $image" skopeo copy oci-archive:$image.oci oci:layout-$image:1
    is "$image: the config's digest" "$(config_of oci:layout-$image:1)" "$(id_of layerd.test/$image:1)"
    check "umoci unpacks $image" umoci unpack --image layout-$image:1 bundle-$image
    treedump bundle-$image/rootfs | tail -n +2 >a.dump
    check "umoci: $image is the same tree" diff a.dump b.dump
    check "skopeo makes Docker's archive of $image" skopeo copy oci:layout-$image:1 docker-archive:$image.docker:layerd.test/$image:2
done
is "skopeo: its config" "$(skopeo inspect --config oci:layout-commit:1 | jq -c '[.author, .config.Entrypoint, .config.Labels.a, .history[-1].comment]')" '["me",["/e"],"b c","why"]'

# ---- blobs that are kept: the same manifest ----
check "load with blobs" layerctl load --blobs keep in.oci
check "save with blobs" layerctl save -o kept.oci layerd.test/two:1
is "the manifest's digest" "$(manifest_of oci-archive:kept.oci)" "$want_manifest"
is "the config under it" "$(config_of docker-archive:kept.oci)" "$want_config"
check "save without them" layerctl save --blobs drop -o plain.oci layerd.test/two:1
check "as before" cmp plain.oci out.oci
check "skopeo takes kept blobs" skopeo copy oci-archive:kept.oci dir:d
rm -rf d

# ---- another daemon, which only copies ----
stop_daemon
start_daemon other --storage-driver vfs
check "load elsewhere" layerctl load out.oci
is "the same image" "$(id_of layerd.test/two:1) $(diff_ids layerd.test/two:1)" "$want_config $want_diff_ids"
check "save elsewhere" layerctl save --blobs drop -o elsewhere.oci layerd.test/two:1
check "the same bytes elsewhere" cmp elsewhere.oci out.oci

for image in commit flat; do
    for from in oci docker; do
        tag=1 && [[ $from == oci ]] || tag=2
        check "load $image.$from elsewhere" layerctl load $image.$from
        check "create of $image" layerctl create -m --name $image-$from layerd.test/$image:$tag
        treedump "$(layerctl inspect $image-$from --format json | jq -r .mountpoint)" | tail -n +2 >a.dump
        check "$image.$from: the same tree elsewhere" diff a.dump b.dump
    done
done
is "the layers of the commit" "$(diff_ids layerd.test/commit:2)" "$commit_ids"
check "a commit there" layerctl umount commit-oci
check "a commit there" layerctl commit commit-oci layerd.test/again:1
check "a commit there" layerctl commit --squash commit-oci layerd.test/flat:3
is "the same squashed layer by another driver" "$(diff_ids layerd.test/flat:3)" "$(diff_ids layerd.test/flat:1)"

# ---- buildah, podman: where they are ----
for tool in buildah podman; do
    command -v $tool >/dev/null || continue
    export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
    args=(--root /mnt/cstore --runroot /mnt/crun)
    if ! $tool "${args[@]}" images >.log 2>&1; then
        echo "$tool does not run here: $(head -n 1 .log)"
        continue
    fi
    for from in oci-archive:out.oci docker-archive:out.oci docker-archive:out.docker; do
        check "$tool pulls $from" $tool "${args[@]}" pull "$from"
    done
    if [[ $tool == podman ]]; then
        check "podman loads" podman "${args[@]}" load -i three.oci
        is "podman: the id" "$(podman "${args[@]}" images --no-trunc --format '{{.ID}}' layerd.test/other:1 | sort -u)" "sha256:$want_config"
    fi
    rm -rf cstore crun
done

# ---- containerd and Docker: where they are, as private daemons ----
# engine NAME SOCKET COMMAND...: starts it and waits until it listens.
engine() {
    local name=$1 socket=$2
    command -v "$3" >/dev/null || return 1
    "${@:3}" >"$name.log" 2>&1 &
    engine=$!
    for _ in {1..200}; do
        [[ -S $socket ]] && return
        sleep 0.05
    done
    echo "$name does not run here: $(tail -n 1 "$name.log")"
    kill "$engine" 2>/dev/null
    return 1
}
if engine containerd /mnt/c.sock containerd --root /mnt/croot --state /mnt/cstate --address /mnt/c.sock; then
    ctr() { command ctr -a /mnt/c.sock "$@"; }
    for archive in out.oci three.oci out.docker; do
        check "ctr imports $archive" ctr images import --snapshotter native $archive
    done
    check "ctr has both names" eval "ctr images ls -q | grep -qx layerd.test/other:1 && ctr images ls -q | grep -qx layerd.test/two:1"
    kill "$engine" && wait "$engine"
fi
if engine dockerd /mnt/d.sock dockerd --data-root /mnt/droot --exec-root /mnt/dexec -H unix:///mnt/d.sock --pidfile /mnt/d.pid \
    --storage-driver vfs --iptables=false --bridge=none --ip-forward=false; then
    docker() { command docker -H unix:///mnt/d.sock "$@"; }
    for archive in out.oci three.oci out.docker; do
        check "docker loads $archive" docker load -i $archive
    done
    is "docker: the id" "$(docker images --no-trunc --format '{{.ID}}' layerd.test/other:1)" "sha256:$want_config"
    kill "$engine" && wait "$engine"
fi

finish

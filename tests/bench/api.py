"""Measures a private layerd over its socket: api.py BUILD ROOT [PART...], run by api.sh.

Each figure stands beside what bounds it (the same work by tar, mount(2), cp ...) and beside a peer where one is
installed, measured in the same run; the ratio is ours to that. Medians, unless a figure says otherwise.
"""
import ctypes
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import threading
import time

LAYERED, ONE = "fat:1", "debian:1"
libc = ctypes.CDLL(None, use_errno=True)


# ---- the daemon and its client ----

class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("layerd", timeout=3600, blocksize=1 << 20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    def __init__(self, build, disk, name):
        self.program = os.path.join(build, "layerd")
        self.data, self.run = f"{disk}/{name}", f"{disk}/{name}.run"
        self.log = f"{disk}/{name}.log"
        self.used = 0
        os.makedirs(self.data)
        os.makedirs(self.run)
        self.start()

    def start(self):
        """The seconds from fork to the first answer."""
        begin = time.perf_counter()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", self.program, "--data-root", self.data, "--run-root", self.run,
                 "--group", "root", "--log-level", "warn"], stdout=log, stderr=log)
        while True:
            self.client = Connection(f"{self.run}/layerd.sock")
            try:
                self.call("GET", "/v1")
                return time.perf_counter() - begin
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - begin > 60:
                    sys.exit(f"layerd does not start:\n{open(self.log).read()[-2000:]}")
                time.sleep(0.0005)

    def stop(self):
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            sys.exit(f"layerd ended badly:\n{open(self.log).read()[-2000:]}")

    def end(self):
        """Stops it and removes what it made."""
        for c in self.call("GET", "/v1/containers")["items"]:
            self.call("DELETE", f"/v1/containers/{c['id']}?force=1")
        self.stop()
        for mount in reversed([line.split()[4] for line in open("/proc/self/mountinfo") if self.run in line]):
            libc.umount2(mount.encode(), 2)
        shutil.rmtree(self.data)
        shutil.rmtree(self.run)

    def call(self, method, target, body=None, drain=False):
        if isinstance(body, dict):
            body = json.dumps(body)
        if time.monotonic() - self.used > 5:  # the daemon hangs up on who says nothing
            self.client.close()
        self.client.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        answer = self.client.getresponse()
        if drain:
            size = 0
            while chunk := answer.read(1 << 20):
                size += len(chunk)
            return size
        data = answer.read()
        self.used = time.monotonic()
        if answer.status >= 300:
            sys.exit(f"{method} {target}: {answer.status} {data[:500]}")
        return json.loads(data) if data else None

    def timed(self, *args, **kwargs):
        begin = time.perf_counter()
        self.call(*args, **kwargs)
        return time.perf_counter() - begin

    def memory(self, field):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        return 0

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")

    def load(self, archive):
        with open(archive, "rb") as f:
            return self.timed("POST", "/v1/images/import", f)

    def settle(self):
        """Waits until what was removed is gone, so that its deletion is in nobody's figure."""
        while os.listdir(f"{self.data}/trash") or os.listdir(f"{self.data}/staging"):
            time.sleep(0.02)


# ---- the table ----

def show(what, figure, unit, beside=None, name="", digits=2):
    ratio = f"{figure / beside:6.2f}" if beside else ""
    beside = f"{beside:10.{digits}f}" if beside else ""
    print(f"{what:<46} {figure:10.{digits}f} {unit:<5} {beside:>10} {ratio:>6}  {name}", flush=True)


def head(text):
    print(f"\n{text:<46} {'layerd':>10} {'':<5} {'beside':>10} {'ratio':>6}", flush=True)


def median(run, times):
    return statistics.median(run() for _ in range(times))


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def shell(command, **kwargs):
    """The seconds that a command takes."""
    begin = time.perf_counter()
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, **kwargs)
    return time.perf_counter() - begin


def fresh(command, place):
    """The same, with an empty directory `place` that is removed afterwards, untimed."""
    os.makedirs(place)
    try:
        return shell(command)
    finally:
        shell(f"rm -rf {place}; sync -f {os.path.dirname(place)}")


def peer(command, times, cleanup="true"):
    """The median of a peer's seconds; None where it is not installed or does not work here."""
    if not shutil.which(command.split()[0]):
        return None
    try:
        def once():
            seconds = shell(command, timeout=60)
            shell(cleanup)
            return seconds
        return median(once, times)
    except subprocess.SubprocessError as e:
        print(f"# {command.split()[0]}: {e}", file=sys.stderr)
        return None
    finally:
        shell(cleanup)


def blobs(images, name):
    """The layers of an image in the layout, lowest first."""
    def document(digest):
        return json.load(open(f"{images}/layout/blobs/{digest.replace(':', '/')}"))
    index = json.load(open(f"{images}/layout/index.json"))
    entry = next(m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == name)
    return [f"{images}/layout/blobs/{l['digest'].replace(':', '/')}" for l in document(entry["digest"])["layers"]]


# ---- the parts ----

class Bench:
    def __init__(self, build, root):
        self.build, self.disk, self.slow = build, f"{root}/disk", f"{root}/slow"
        self.images = f"{self.disk}/images"
        os.environ["CONTAINERS_STORAGE_CONF"] = f"{root}/storage.conf"
        self.empty_store = (f"umount {self.disk}/peer/overlay 2>/dev/null || true; "
                            f"rm -rf {self.disk}/peer; sync -f {self.disk}")
        with open(f"{root}/storage.conf", "w") as f:
            f.write(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.disk}/peer"\nrunroot = "{root}/peer.run"\n')

    def daemon(self, disk=None):
        return Daemon(self.build, disk or self.disk, "layerd")

    def run_import(self):
        head("import, s (upload included, on disk when answered)")
        unpacker = "igzip -dc" if shutil.which("igzip") else "gzip -dc"
        for name, times in (("debian", 5), ("fat", 3)):
            archive, layers = f"{self.images}/{name}.oci", blobs(self.images, name)
            d = self.daemon()

            def once():
                d.forget_peak()
                seconds = d.load(archive)
                once.peak = max(once.peak, d.memory("VmHWM"))
                for image in d.call("GET", "/v1/images")["items"]:
                    d.call("DELETE", f"/v1/images/{image['id']}")
                d.settle()
                return seconds
            once.peak = 0
            once()
            ours = median(once, times)
            each = " ".join(layers)
            floor = median(lambda: fresh(
                f"export to={self.disk}/floor; printf '%s\\n' {each} | xargs -P $(nproc) -I@ bash -euo pipefail -c "
                f"'mkdir $to/$(basename @); {unpacker} @ | tar -x -C $to/$(basename @)'; sync -f $to",
                f"{self.disk}/floor"), times)
            show(f"{name}, {len(layers)} layer{'s'[:len(layers) > 1]}, gzip", ours, "s", floor,
                 f"{unpacker} | tar -x, sync")
            show("", ours, "s", median(lambda: shell(f"cat {archive} >/dev/null; sha256sum {archive}"), times),
                 "sha256sum of the archive")
            few = 1 if name == "fat" else 3
            show("", ours, "s", peer(f"umoci raw unpack --image {self.images}/layout:{name} {self.disk}/floor", few,
                                     f"rm -rf {self.disk}/floor; sync -f {self.disk}"),
                 "umoci raw unpack (one tree, not synced)")
            show("", ours, "s", peer(self.store(name), few, self.empty_store),
                 "skopeo into containers-storage (not synced)")
            show("   peak memory", once.peak, "MiB", digits=1)
            d.end()

    def store(self, name):
        return f"skopeo --insecure-policy copy oci-archive:{self.images}/{name}.oci containers-storage:localhost/{name}:1"

    def run_peak(self):
        """4 GiB each; a sixteenth of it never repeats, so that no packer takes an hour and none is a bomb."""
        head("a root file system of 4 GiB in 64 files, imported as a stream")
        rng = random.Random(1)
        common = rng.randbytes(4 << 20)

        def tar(pipe):
            with pipe, tarfile.open(fileobj=pipe, mode="w|", bufsize=1 << 20) as out:
                for i in range(64):
                    info = tarfile.TarInfo(f"data/file{i}")
                    info.size = 64 << 20
                    out.addfile(info, io.BytesIO(rng.randbytes(4 << 20) + 15 * common))

        for packer in ("cat", "gzip -1", "gzip -9", "bzip2 -9", "xz -6", "zstd -3", "zstd -19"):
            d = self.daemon()
            d.forget_peak()
            process = subprocess.Popen(packer.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            writer = threading.Thread(target=tar, args=(process.stdin,))
            writer.start()
            seconds = d.timed("POST", "/v1/images/import?format=rootfs&ref=big:1", process.stdout)
            writer.join()
            show(f"{packer}: peak memory", d.memory("VmHWM"), "MiB", 64, f"the limit ({seconds:.0f} s, packer included)", 1)
            d.call("DELETE", "/v1/images/big:1")
            d.settle()
            d.end()

    def run_export(self):
        head("export, MB/s")
        d = self.daemon()
        d.load(f"{self.images}/debian.oci")
        d.call("POST", "/v1/containers", {"name": "web", "image": ONE})
        place = d.call("POST", "/v1/containers/web/mount")["mountpoint"]

        def rate(target):
            begin = time.perf_counter()
            return d.call("GET", target, drain=True) / (time.perf_counter() - begin) / 1e6
        size = d.call("GET", "/v1/containers/web/export", drain=True)
        floor = median(lambda: size / shell(f"tar -C {place} -c . | cat") / 1e6, 5)
        show("root of a container as a tar", median(lambda: rate("/v1/containers/web/export"), 5), "MB/s", floor,
             "tar -c of the mount", 0)
        show("image as an OCI archive", median(lambda: rate(f"/v1/images/{ONE}/export"), 5), "MB/s", floor,
             "tar -c of the mount", 0)
        d.end()

    def run_vfs(self):
        head("a container of debian by the copying driver, ms")
        d = self.daemon()
        d.load(f"{self.images}/debian.oci")

        def create():
            seconds = d.timed("POST", "/v1/containers", {"name": "copy", "image": ONE, "driver": "vfs"})
            d.call("DELETE", "/v1/containers/copy")
            d.settle()
            return seconds * 1e3
        create()
        layer = next(e.path for e in os.scandir(f"{d.data}/layers") if e.is_dir() and os.listdir(e.path))
        floor = median(lambda: fresh(f"cp -a {layer} {self.disk}/floor/root; sync -f {self.disk}/floor",
                                     f"{self.disk}/floor") * 1e3, 5)
        show("create", median(create, 5), "ms", floor, "cp -a, sync", 0)
        d.end()

    def overlay(self, place, lowers):
        """A function that mounts an overlay as layerd does, by mount(2), and one that unmounts it."""
        options = (f"lowerdir={':'.join(lowers)},upperdir={place}/upper,workdir={place}/work,"
                   "index=off,metacopy=off,redirect_dir=nofollow,xino=off").encode()

        def mount():
            for name in ("upper", "work", "merged"):
                os.makedirs(f"{place}/{name}")
            if libc.mount(b"floor", f"{place}/merged".encode(), b"overlay", 0, options) < 0:
                sys.exit(f"overlay: {os.strerror(ctypes.get_errno())}")

        def unmount():
            libc.umount2(f"{place}/merged".encode(), 0)

        return mount, unmount

    def layers_of(self, d):
        return [e.path for e in os.scandir(f"{d.data}/layers") if e.is_dir() and os.listdir(e.path)]

    def run_life(self):
        head("create + mount + unmount + remove, 20 layers, ms")
        d = self.daemon()
        d.load(f"{self.images}/fat.oci")
        steps = {"create": [], "mount": [], "unmount": [], "remove": []}
        cycles = []
        for _ in range(400):
            begin = time.perf_counter()
            steps["create"].append(d.timed("POST", "/v1/containers", {"name": "web", "image": LAYERED}))
            steps["mount"].append(d.timed("POST", "/v1/containers/web/mount"))
            steps["unmount"].append(d.timed("POST", "/v1/containers/web/unmount"))
            steps["remove"].append(d.timed("DELETE", "/v1/containers/web"))
            cycles.append((time.perf_counter() - begin) * 1e3)
        d.settle()
        mount, unmount = self.overlay(f"{self.disk}/floor", self.layers_of(d))

        def kernel():
            begin = time.perf_counter()
            mount()
            unmount()
            shutil.rmtree(f"{self.disk}/floor")
            return (time.perf_counter() - begin) * 1e3
        floor = [kernel() for _ in range(200)]
        show("cycle, median", statistics.median(cycles), "ms", statistics.median(floor),
             "mkdir, mount(2), umount(2), rm: not durable")
        if shutil.which("buildah") and peer(self.store("fat"), 1):
            show("", statistics.median(cycles), "ms", 1e3 * (peer(
                "buildah from --pull-never --name peer localhost/fat:1; buildah mount peer; buildah umount peer; "
                "buildah rm peer", 5) or 0), "buildah from, mount, umount, rm (four programs)")
            shell(self.empty_store)
        show("cycle, p99", percentile(cycles, 99), "ms", percentile(floor, 99), "the same, p99")
        for name, values in steps.items():
            show(f"   {name}, median", statistics.median(values) * 1e3, "ms")
        show("   GET /v1, median: the way there and back", median(lambda: d.timed("GET", "/v1") * 1e3, 500), "ms")
        d.end()

    def run_busy(self):
        head("unmount, ms to the client")
        d = self.daemon(self.slow)
        d.load(f"{self.images}/debian.oci")
        d.call("POST", "/v1/containers", {"name": "web", "image": ONE})
        mount, unmount = self.overlay(f"{self.slow}/floor", self.layers_of(d))

        def ours():
            place = d.call("POST", "/v1/containers/web/mount")["mountpoint"]
            with open(f"{place}/root/note", "w") as f:
                f.write("dirty")
            return d.timed("POST", "/v1/containers/web/unmount") * 1e3

        def kernel():
            mount()
            with open(f"{self.slow}/floor/merged/root/note", "w") as f:
                f.write("dirty")
            begin = time.perf_counter()
            unmount()
            seconds = time.perf_counter() - begin
            shutil.rmtree(f"{self.slow}/floor")
            return seconds * 1e3
        show("quiet, median", median(ours, 100), "ms", median(kernel, 100), "umount(2)")
        writer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "bash", "-c",
             f"while :; do dd if=/dev/zero of={self.slow}/noise bs=1M count=1500 conv=fsync 2>/dev/null; done"],
            start_new_session=True)
        try:
            time.sleep(1)
            mine, plain = [], []
            begin = time.perf_counter()
            while len(mine) < 50 and time.perf_counter() - begin < 45:
                mine.append(ours())
                plain.append(kernel())
            show("beside a writer that keeps the disk busy, median", statistics.median(mine), "ms",
                 statistics.median(plain), f"umount(2), {len(plain)} each")
            show("   the longest", max(mine), "ms", max(plain), "the same")
        finally:
            os.killpg(writer.pid, signal.SIGKILL)
            writer.wait()
            os.unlink(f"{self.slow}/noise")
        d.end()

    def run_scale(self):
        head("3,000 containers of 20 layers, roots on one file system")
        d = self.daemon()
        d.load(f"{self.images}/fat.oci")

        def create(first, last):
            return [d.timed("POST", "/v1/containers", {"name": f"c{i}", "image": LAYERED}) * 1e3
                    for i in range(first, last)]
        created = create(0, 1000)
        d.stop()
        d.start()
        d.call("GET", "/v1/containers/c1")
        time.sleep(1)
        show("memory at rest, 1,000 containers, after a restart", d.memory("VmRSS"), "MiB", 16, "the limit", 1)
        for i in range(200):
            d.call("POST", f"/v1/containers/c{i}/mount")
        d.call("GET", "/v1/containers", drain=True)
        for i in range(200):
            d.call("POST", f"/v1/containers/c{i}/unmount")
        d.load(f"{self.images}/debian.oci")
        time.sleep(2)
        show("   after use (200 mounted, listed, unmounted; an import)", d.memory("VmRSS"), "MiB", 16, "the limit", 1)
        created += create(1000, 3000)
        show("create, median", statistics.median(created), "ms")
        show("   the last 100 to the first 100", statistics.median(created[-100:]), "ms",
             statistics.median(created[:100]), "the first 100")
        mounted = [d.timed("POST", f"/v1/containers/c{i}/mount") * 1e3 for i in range(3000)]
        show("mount, the last 100 to the first 100", statistics.median(mounted[-100:]), "ms",
             statistics.median(mounted[:100]), "the first 100")
        lists = [d.timed("GET", "/v1/containers", drain=True) * 1e3 for _ in range(10)]
        show("list all", statistics.median(lists), "ms")
        starts = []
        for _ in range(5):
            d.stop()
            starts.append(d.start() * 1e3)
        show("restart to the first answer, all mounted", statistics.median(starts), "ms")
        show("memory, all mounted, after a restart", d.memory("VmRSS"), "MiB", digits=1)
        gone = [d.timed("POST", f"/v1/containers/c{i}/unmount") * 1e3 for i in range(3000)]
        show("unmount, median", statistics.median(gone), "ms")
        gone = [d.timed("DELETE", f"/v1/containers/c{i}") * 1e3 for i in range(3000)]
        show("remove, median", statistics.median(gone), "ms")
        d.settle()
        d.end()

    def run_snapshots(self):
        head("1,000 snapshots of one container, a file changed before each, ms")
        d = self.daemon()
        d.load(f"{self.images}/debian.oci")
        for name in "old", "new":
            d.call("POST", "/v1/containers", {"name": name, "image": ONE})
        taken, deepest = [], 0
        for i in range(1000):
            place = d.call("POST", "/v1/containers/old/mount")["mountpoint"]
            with open(f"{place}/root/note{i % 100}", "w") as f:
                f.write(f"{i}\n" * 500)
            d.call("POST", "/v1/containers/old/unmount")
            taken.append(d.timed("POST", "/v1/containers/old/snapshots", {"name": f"s{i}"}) * 1e3)
            deepest = max(deepest, d.call("GET", "/v1/containers/old")["layers"])
        show("snapshot, median", statistics.median(taken), "ms")
        show("   p99", percentile(taken, 99), "ms")
        show("   the longest", max(taken), "ms")

        def mount(name):
            """Not from the clone that an unmount keeps for a moment: it waits until that is closed."""
            d.call("POST", f"/v1/containers/{name}/unmount?sync=1")
            return d.timed("POST", f"/v1/containers/{name}/mount") * 1e3

        def compare(what):
            pairs = [(mount("old"), mount("new")) for _ in range(200)]
            show(what, statistics.median(a for a, _ in pairs), "ms", statistics.median(b for _, b in pairs),
                 f"a new container; {d.call('GET', '/v1/containers/old')['layers']} layers to 1")
            d.call("POST", "/v1/containers/old/unmount?sync=1")
        compare("mount, right after the last")
        d.settle()
        time.sleep(2)
        compare("   when the chain is folded")
        back = []
        for i in range(100, 1000, 100):
            back.append(d.timed("POST", f"/v1/containers/old/snapshots/s{i}/rollback") * 1e3)
            compare(f"   after a rollback to number {i}")
        show("rollback, median", statistics.median(back), "ms")
        show("layers at most", deepest, "", digits=0)
        gone = [d.timed("DELETE", f"/v1/containers/old/snapshots/s{i}") * 1e3 for i in range(1000)]
        show("remove a snapshot, median", statistics.median(gone), "ms")
        d.end()

    def changed(self, d, name, size):
        """A container with a file of so many bytes of its own, all of them on the disk, unmounted."""
        d.call("POST", "/v1/containers", {"name": name, "image": ONE})
        place = d.call("POST", f"/v1/containers/{name}/mount")["mountpoint"]
        with open(f"{place}/root/file", "wb") as f:
            for _ in range(max(1, size >> 20)):
                f.write(os.urandom(min(size, 1 << 20)))
        d.call("POST", f"/v1/containers/{name}/unmount?sync=1")

    def run_forks(self):
        head("forks of a changed container, ms; its first fork freezes it")
        d = self.daemon()
        d.load(f"{self.images}/debian.oci")
        first = {"big": [], "small": []}
        for i in range(3):
            for name, size in ("big", 1 << 30), ("small", 4096):
                self.changed(d, name, size)
                first[name].append(d.timed("POST", f"/v1/containers/{name}/clone", {"name": "fork"}) * 1e3)
                d.call("DELETE", "/v1/containers/fork")
                if i < 2:
                    d.call("DELETE", f"/v1/containers/{name}")
                    d.settle()
        show("the first, of one with 1 GiB", statistics.median(first["big"]), "ms", statistics.median(first["small"]),
             "of one with 4 KiB")
        d.settle()
        before = d.call("GET", "/v1/df")["total"]["bytes"]
        times = [d.timed("POST", "/v1/containers/big/clone", {"name": f"fork{i}"}) * 1e3 for i in range(1000)]
        after = d.call("GET", "/v1/df")["total"]["bytes"]
        show("1,000 more of the one with 1 GiB, median", statistics.median(times), "ms")
        show("   p99", percentile(times, 99), "ms")
        show("   KiB on the disk for each", (after - before) / 1000 / 1024, "KiB", 64, "the aim")
        d.end()

    def run_commit(self):
        head("commit of 256 MiB in 4,096 files, s")
        d = self.daemon()
        d.load(f"{self.images}/debian.oci")
        d.call("POST", "/v1/containers", {"name": "web", "image": ONE})
        place = d.call("POST", "/v1/containers/web/mount")["mountpoint"]
        for i in range(4096):
            os.makedirs(f"{place}/root/{i % 64}", exist_ok=True)
            with open(f"{place}/root/{i % 64}/{i}", "wb") as f:
                f.write(os.urandom(65536))
        d.call("POST", "/v1/containers/web/unmount?sync=1")
        upper = next(e.path for e in os.scandir(f"{d.data}/w")) + "/upper"
        floor = median(lambda: fresh(f"cp -a {upper} {self.disk}/floor/root; tar -C {self.disk}/floor/root -c . | "
                                     f"sha256sum; sync -f {self.disk}/floor", f"{self.disk}/floor"), 3)
        times = []
        for i in range(3):
            place = d.call("POST", "/v1/containers/web/mount")["mountpoint"]
            with open(f"{place}/root/now", "w") as f:
                f.write(str(i))
            d.call("POST", "/v1/containers/web/unmount?sync=1")
            times.append(d.timed("POST", "/v1/containers/web/commit", {"ref": "web:1"}))
        show("commit, one layer, recorded", statistics.median(times), "s", floor, "cp -a, tar | sha256sum, sync")
        d.settle()
        show("   MiB of the writable layer after it", d.call("GET", "/v1/df")["writable_layers"]["bytes"] / 2**20, "MiB")
        d.end()


PARTS = ("import", "peak", "export", "vfs", "life", "busy", "scale", "snapshots", "forks", "commit")


def load():
    return " ".join(open("/proc/loadavg").read().split()[:3])


def main(build, root, *parts):
    uname = os.uname()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{os.cpu_count()} CPUs ({cpu}), {uname.sysname} {uname.release} {uname.machine}, load {load()} at the start")
    bench = Bench(build, root)
    for part in parts or PARTS:
        if part not in PARTS:
            sys.exit(f"'{part}' is none of {', '.join(PARTS)}")
        getattr(bench, "run_" + part)()
    print(f"\nload {load()} at the end; a load above the number of CPUs makes times doubtful, ratios less so")


main(*sys.argv[1:])

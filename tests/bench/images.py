"""The images of the benchmarks, by umoci: images.py DEBIAN_TAR DIR

DIR/layout is an OCI layout with debian (one layer) and fat (twenty layers on it); DIR/debian.oci and DIR/fat.oci are
the same as archives, the layers compressed by gzip.
"""
import io
import os
import random
import subprocess
import sys
import tarfile

LAYERS, FILES = 20, 1000


def umoci(*args):
    subprocess.run(["umoci", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def layer(path, number, words):
    """A thousand files of 1 to 32 KiB that compress about as well as programs do; some replace those of other layers."""
    rng = random.Random(number)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for i in range(FILES):
            owner = number if i % 10 else rng.randrange(1, number + 1)
            info = tarfile.TarInfo(f"opt/app{owner}/part{i % 25}/file{i}")
            data = b"".join(rng.choices(words, k=rng.randrange(64, 2048)))
            info.size, info.mode, info.mtime = len(data), 0o644, 1700000000 + i
            tar.addfile(info, io.BytesIO(data))


def main(debian, place):
    os.chdir(place)
    rng = random.Random(1)
    words = [rng.randbytes(rng.randrange(8, 25)) for _ in range(2000)]
    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:debian")
    umoci("raw", "add-layer", "--image", "layout:debian", debian)
    umoci("tag", "--image", "layout:debian", "fat")
    for number in range(1, LAYERS):
        layer("layer.tar", number, words)
        umoci("raw", "add-layer", "--image", "layout:fat", "layer.tar")
    os.unlink("layer.tar")
    for name in ("debian", "fat"):
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:layout:{name}",
                        f"oci-archive:{name}.oci:{name}:1"], check=True)


main(*sys.argv[1:])

#!/usr/bin/env python3
"""Writes a container image as one tar file, with nothing but the standard library: no registry, no daemon.

    oci.py OUT.tar NAME:TAG FILE=/PATH... [--entrypoint PATH] [--user UID:GID]

The tar is an OCI layout and a docker archive in one: `ctr images import`, `docker load`, `podman load` and `kind load
image-archive` take it. The same files give the same bytes, so the same digest: no time, no name of a user and no order
of a file system gets in.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import stat
import sys
import tarfile

# Nobody in particular, by the number that distroless images use; Kubernetes proves from a number that it is not root.
USER = "65532:65532"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def to_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def add(archive, path, data=b"", mode=0o644, kind=tarfile.REGTYPE, target=""):
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
    archive.addfile(entry, io.BytesIO(data))


def layer_of(tree):
    """The layer of a tree: path without leading slash -> (mode, content); content None is a folder."""
    tree = dict(tree)
    for path in list(tree):
        parent = os.path.dirname(path)
        while parent:
            tree.setdefault(parent, (0o755, None))
            parent = os.path.dirname(parent)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, (mode, content) in sorted(tree.items()):
            if content is None:
                add(archive, path + "/", mode=mode, kind=tarfile.DIRTYPE)
            else:
                add(archive, path, content, mode)
    return packed.getvalue()


def write_image(out, reference, tree, config):
    """Writes the image; returns its digest and the bytes of its compressed layer."""
    layer = layer_of(tree)
    compressed = gzip.compress(layer, 6, mtime=0)
    platform = {"architecture": MACHINES[os.uname().machine], "os": "linux"}
    image = to_json(
        {
            **platform,
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "images/oci.py"}],
        }
    )
    media = "application/vnd.oci.image."

    def descriptor(kind, data):
        return {"mediaType": media + kind, "digest": digest(data), "size": len(data)}

    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": media + "manifest.v1+json",
            "config": descriptor("config.v1+json", image),
            "layers": [descriptor("layer.v1.tar+gzip", compressed)],
        }
    )
    names = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    entry = {**descriptor("manifest.v1+json", manifest), "platform": platform, "annotations": names}
    blobs = {digest(data): data for data in (image, manifest, compressed)}

    def blob(data):
        return "blobs/" + digest(data).replace(":", "/")

    partial = f"{out}.partial"
    with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive:
        add(archive, "oci-layout", to_json({"imageLayoutVersion": "1.0.0"}))
        add(archive, "index.json", to_json({"schemaVersion": 2, "manifests": [entry]}))
        for name, data in sorted(blobs.items()):
            add(archive, "blobs/" + name.replace(":", "/"), data)
        loaded = {"Config": blob(image), "RepoTags": [reference], "Layers": [blob(compressed)]}
        add(archive, "manifest.json", to_json([loaded]))
    os.replace(partial, out)
    return digest(manifest), len(compressed)


def file_entry(path):
    """A file of this machine: it may be read by all, and run if it can be run here."""
    runs = os.stat(path).st_mode & stat.S_IXUSR
    with open(path, "rb") as file:
        return (0o755 if runs else 0o644, file.read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("reference")
    parser.add_argument("files", nargs="+", metavar="FILE=/PATH")
    parser.add_argument("--entrypoint", required=True)
    parser.add_argument("--user", default=USER)
    args = parser.parse_args()
    tree = {}
    for item in args.files:
        file, _, path = item.partition("=")
        tree[path.lstrip("/")] = file_entry(file)
    found, _ = write_image(args.out, args.reference, tree, {"Entrypoint": [args.entrypoint], "User": args.user})
    print(args.reference, found)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes the initramfs that the test guest boots.

Busybox, mke2fs, ethtool, iperf3, blkdiscard and fstrim with their libraries, the kernel modules for virtio disks and nets, and the
files `init` and `init-net` beside this one. Needs no root: the archive is written here, entry by entry, with every file owned by
root. The result is kept under a name made from everything that went into it, so the next call only
reads and hashes.

Called by run_guest.py (the next file on the way) and, as a program, for a look: it prints the kernel's
and the initramfs's path.
"""

import functools
import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODULES = ("virtio_pci", "virtio_blk", "ext4", "virtio_net")
VLAN_MODULES = ("8021q",)                # loaded by the step that wants them
PACKAGES = {
    "kernel": "linux-image-cloud-amd64",
    "busybox": "busybox-static",
    "mke2fs": "e2fsprogs",
    "ethtool": "ethtool",
    "iperf3": "iperf3",
    "blkdiscard": "util-linux",
    "fstrim": "util-linux",
}


class GuestError(Exception):
    """Something about the guest went wrong; the text is meant for a person."""


def newest_kernel(boot=Path("/boot")):
    """Path and release of the newest of Debian's cloud kernels that has its modules installed."""

    def version(path):
        return [int(n) for n in re.findall(r"\d+", path.name)]

    for path in sorted(boot.glob("vmlinuz-*-cloud-amd64"), key=version, reverse=True):
        release = path.name[len("vmlinuz-"):]
        if module_dir(release).is_dir():
            if not os.access(path, os.R_OK):
                raise GuestError(f"{path} is not readable for this user")
            return path, release
    raise GuestError(f"no {boot}/vmlinuz-*-cloud-amd64 with its modules: "
                     f"apt-get install {PACKAGES['kernel']}")


def module_dir(release):
    for top in (Path("/lib/modules"), Path("/usr/lib/modules")):
        if (top / release).is_dir():
            return top / release
    return Path("/lib/modules") / release


def module_name(path):
    """`kernel/drivers/block/virtio_blk.ko.xz` -> `virtio_blk`."""
    return Path(path).name.split(".ko")[0].replace("-", "_")


def resolve_modules(release, wanted):
    """Paths of the wanted modules and of all they depend on, in the order in which to load them.

    depmod's modules.dep names, for each module, everything it needs, the deepest last. What is built
    into the kernel is in modules.builtin and needs no file.
    """
    top = module_dir(release)
    needs = {}
    try:
        for line in (top / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            needs[module_name(path)] = (path, rest.split())
        builtin = {module_name(line) for line in (top / "modules.builtin").read_text().splitlines()}
    except OSError as err:
        raise GuestError(f"{err.filename}: {err.strerror}; run `depmod {release}` as root") from err
    order = []
    for name in wanted:
        if name in builtin:
            continue
        if name not in needs:
            raise GuestError(f"kernel {release} has no module {name}")
        path, deps = needs[name]
        for item in [*reversed(deps), path]:
            if item not in order:
                order.append(item)
    return [top / path for path in order]


def shared_libraries(program):
    """What the dynamic loader would load for a program, the loader itself included."""
    env = dict(os.environ, LC_ALL="C")
    out = subprocess.run(["ldd", program], capture_output=True, text=True, env=env, check=False)
    if out.returncode != 0 or "not found" in out.stdout:
        raise GuestError(f"ldd {program}: {(out.stdout + out.stderr).strip()}")
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", out.stdout)]


def find_program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise GuestError(f"no {name}: apt-get install {PACKAGES[name]}")
    return Path(path)


def is_static(path):
    """A static ELF file has no PT_INTERP; the guest has a loader only for the libraries of the others."""
    return b"ld-linux" not in path.read_bytes()[:4096]


def read_module(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def contents(release):
    """Everything in the initramfs: {path inside it: (mode, bytes)}."""
    tree = {}
    for name in ("bin", "sbin", "dev", "proc", "sys", "tmp", "mnt", "etc", "modules"):
        tree[name] = (stat.S_IFDIR | 0o755, b"")

    def add(inside, data, mode=0o755):
        parts = Path(inside).parts
        for depth in range(1, len(parts)):
            tree.setdefault("/".join(parts[:depth]), (stat.S_IFDIR | 0o755, b""))
        tree[inside] = (stat.S_IFREG | mode, data)

    busybox = find_program("busybox")
    if not is_static(busybox):
        raise GuestError(f"{busybox} is not static: apt-get install {PACKAGES['busybox']}")
    add("init", (HERE / "init").read_bytes())
    add("init-net", (HERE / "init-net").read_bytes(), 0o644)
    add("bin/busybox", busybox.read_bytes())
    for program in map(find_program, ("mke2fs", "ethtool", "iperf3", "blkdiscard", "fstrim")):
        add(f"sbin/{program.name}", program.read_bytes())
        for path in shared_libraries(program):
            add(str(path).lstrip("/"), path.read_bytes())
    conf = Path("/etc/mke2fs.conf")
    if conf.exists():
        add("etc/mke2fs.conf", conf.read_bytes(), 0o644)
    add("etc/mtab", b"", 0o644)
    for name, wanted in (("order", MODULES), ("order-vlan", VLAN_MODULES)):
        modules = resolve_modules(release, wanted)
        for path in modules:
            add(f"modules/{module_name(path)}.ko", read_module(path), 0o644)
        add(f"modules/{name}", "".join(f"{module_name(path)}.ko\n" for path in modules).encode(), 0o644)
    tree["bin/sh"] = (stat.S_IFLNK | 0o777, b"busybox")
    return tree


def cpio_entry(inode, name, mode, data):
    """One member of a "newc" archive: 110 bytes of hexadecimal header, name, data, padded to 4."""
    raw = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def pack(tree):
    """The archive. /dev/console is in the initramfs that every kernel has built in."""
    out = [cpio_entry(i, name, *tree[name]) for i, name in enumerate(sorted(tree), 1)]
    out.append(cpio_entry(0, "TRAILER!!!", 0, b""))
    return b"".join(out)


def cache_dir():
    return Path(os.environ.get("VHUB_GUEST_CACHE") or ROOT / "build-guest")


@functools.cache
def build():
    """(kernel path, initramfs path); makes the initramfs unless it is there already. Once for each process: what is in it
    does not change meanwhile, and takes half a second to read."""
    kernel, release = newest_kernel()
    archive = pack(contents(release))
    digest = hashlib.sha256(archive).hexdigest()[:16]
    folder = cache_dir()
    path = folder / f"initramfs-{release}-{digest}.cpio"
    if path.exists() and path.stat().st_size == len(archive):
        return kernel, path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two runs at once: each writes a file of its own, and the last rename wins with the same bytes.
        temporary = folder / f".{path.name}.{os.getpid()}"
        temporary.write_bytes(archive)
        temporary.rename(path)
        for old in folder.glob("initramfs-*.cpio"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as err:
        raise GuestError(f"cannot write {err.filename}: {err.strerror} "
                         f"(VHUB_GUEST_CACHE names another folder)") from err
    return kernel, path


def main():
    try:
        kernel, initramfs = build()
    except GuestError as err:
        print(f"initramfs.py: {err}", file=sys.stderr)
        return 1
    print(kernel)
    print(initramfs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

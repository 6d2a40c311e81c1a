# SPDX-License-Identifier: BSD-3-Clause
"""What `meson install` puts down can be used: headers, shared and static library, libvhub.pc, programs and
how management software finds them."""

import json
import os
import subprocess

import pytest
from tree import ROOT, build_dir, files

# A program of somebody else's: a driver of its own, and the registry that vhub keeps it in.
CONSUMER = r"""
#include <stdio.h>
#include <vhub_blk.h>
#include <vhub_conn.h>
#include <vhub_device.h>

int
main(void)
{
	const struct vhub_builder_ops *blk = vhub_builder_find("blk");
	const struct vhub_blk_driver_ops *null = vhub_blk_driver_find("null");

	printf("%s %s %s\n", vhub_user_request_info(VHUB_USER_SET_OWNER)->name,
		blk != NULL ? blk->name : "-", null != NULL ? null->name : "-");
	return 0;
}
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """A tree into which the build was installed."""
    root = tmp_path_factory.mktemp("install")
    subprocess.run(["meson", "install", "-C", build_dir(), "--no-rebuild", "--quiet", "--destdir", root],
                   check=True, capture_output=True, timeout=120)
    return root / "usr/local"


def pkg_config(prefix, *args, modules=("libvhub",)):
    """Words of pkg-config, with what lies below the prefix."""
    libdir = next(prefix.glob("lib*/**/pkgconfig"))
    env = dict(os.environ, PKG_CONFIG_PATH=str(libdir), PKG_CONFIG_SYSROOT_DIR=str(prefix.parent.parent))
    out = subprocess.run(["pkg-config", *args, *modules], env=env, check=True, capture_output=True, text=True)
    # The system's own libraries are not below the prefix.
    return out.stdout.replace(f"{prefix.parent.parent}/usr/include", "/usr/include").split()


def build_and_run(prefix, tmp_path, link):
    (tmp_path / "consumer.c").write_text(CONSUMER)
    program = tmp_path / "consumer"
    done = subprocess.run(["cc", "-o", program, tmp_path / "consumer.c",
                           *pkg_config(prefix, "--cflags"), *link],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    libdir = next(prefix.glob("lib*/**/pkgconfig")).parent
    return subprocess.run([program], env=dict(os.environ, LD_LIBRARY_PATH=str(libdir)), check=True,
                          capture_output=True, text=True).stdout


def test_every_public_header_is_installed(prefix):
    ours = {path.name for path in files(".h") if path.parts[0] == "lib" and path.name.startswith("vhub_")}
    assert ours == {path.name for path in prefix.glob("include/vhub/*.h")}


def test_a_program_links_with_the_shared_library(prefix, tmp_path):
    out = build_and_run(prefix, tmp_path, pkg_config(prefix, "--libs"))
    assert out == "SET_OWNER blk null\n"


def test_a_program_links_with_the_archive(prefix, tmp_path):
    """Drivers register in constructors, so the archive is linked whole, as DPDK's are."""
    archive = next(prefix.glob("lib*/**/libvhub.a"))
    libs = pkg_config(prefix, "--libs", modules=("libdpdk", "libbsd", "libpcap", "liburing", "jansson", "numa"))
    out = build_and_run(prefix, tmp_path, ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive", *libs])
    assert out == "SET_OWNER blk null\n"


# The smallest driver that does nothing, as a plug-in of somebody else's.
PLUGIN = r"""
#include <errno.h>
#include <vhub_blk.h>

static int
parse(const struct rte_kvargs *args, bool read_only, struct vhub_blk_disk **out, char *error, size_t len)
{
	(void)args; (void)read_only; (void)out; (void)error; (void)len;
	return -ENOMEM;
}

static int
open_(struct vhub_blk_disk *disk, char *error, size_t len)
{
	(void)disk; (void)error; (void)len;
	return 0;
}

static void destroy(struct vhub_blk_disk *disk) { (void)disk; }
static void info(const struct vhub_blk_disk *disk, struct vhub_blk_info *i) { (void)disk; (void)i; }
static int get(struct vhub_blk_disk *disk, struct vhub_blk_queue **q) { (void)disk; (void)q; return -ENOMEM; }
static void put(struct vhub_blk_queue *q) { (void)q; }
static uint16_t submit(struct vhub_blk_queue *q, struct vhub_blk_io *const *ios, uint16_t n)
{ (void)q; (void)ios; (void)n; return 0; }
static uint16_t reap(struct vhub_blk_queue *q, struct vhub_blk_io **ios, uint16_t n)
{ (void)q; (void)ios; (void)n; return 0; }

static const char *const keys[] = { "colour", NULL };
static const struct vhub_blk_driver_ops plug_ops = {
	.name = "plug", .help = "colour=NAME", .keys = keys, .parse = parse, .open = open_,
	.destroy = destroy, .info = info, .queue_get = get, .queue_put = put, .submit = submit, .reap = reap,
};
VHUB_BLK_DRIVER_REGISTER(plug_ops)
"""


def test_a_shared_object_adds_a_driver(prefix, tmp_path):
    (tmp_path / "plug.c").write_text(PLUGIN)
    plug = tmp_path / "plug.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", plug, tmp_path / "plug.c", *pkg_config(prefix, "--cflags")],
                   check=True)
    out = subprocess.run([prefix / "bin/vhubd", "--load", plug, "--help"], check=True, capture_output=True,
                         text=True).stdout
    assert "driver=plug" in out and "colour=NAME" in out
    wrong = subprocess.run([prefix / "bin/vhubd", "--load", tmp_path / "none.so", "--help"],
                           capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "none.so" in wrong.stderr


def test_vhubd_is_installed(prefix):
    out = subprocess.run([prefix / "bin/vhubd", "--version"], check=True, capture_output=True, text=True).stdout
    assert out.startswith("vhubd ")


# VHostUserBackendType of QEMU's docs/interop/vhost-user.json.
BACKEND_TYPES = {"9p", "balloon", "block", "caif", "console", "crypto", "gpu", "input", "net", "rng", "rpmsg",
                 "rproc-serial", "scsi", "vsock", "fs"}


def is_text(value):
    return isinstance(value, str) and value != ""


@pytest.mark.parametrize("name, kind", [("vhub-blk", "block"), ("vhub-net", "net")])
def test_management_software_finds_the_programs(prefix, name, kind):
    """VhostUserBackend of the same file: its members and no others, and a binary that says of itself what
    the file says of it."""
    backend = json.loads((prefix / f"share/qemu/vhost-user/50-{name}.json").read_text())
    assert backend.keys() - {"tags"} == {"description", "type", "binary"}
    assert all(is_text(backend[key]) for key in ("description", "type", "binary"))
    assert all(is_text(tag) for tag in backend.get("tags", []))
    assert backend["type"] == kind and kind in BACKEND_TYPES
    assert backend["binary"] == f"/usr/local/bin/{name}"
    binary = prefix.parent.parent / backend["binary"].lstrip("/")
    assert os.readlink(binary) == "vhubd"
    out = subprocess.run([binary, "--print-capabilities"], check=True, capture_output=True, text=True).stdout
    assert json.loads(out)["type"] == kind


def test_the_table_of_requests_in_the_documentation_is_current():
    out = subprocess.run([ROOT / "doc/requests.py"], check=True, capture_output=True, text=True).stdout
    assert out == (ROOT / "doc/guides/requests.rst").read_text(), "doc/requests.py > doc/guides/requests.rst"

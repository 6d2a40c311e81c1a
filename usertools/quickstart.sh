#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# From a fresh Debian 12 to a Linux guest that uses a vhub disk: installs what is missing, builds, starts
# vhubd with a disk in memory and a network port that echoes, boots a real guest that makes an ext4 on the
# disk, writes, reads back and compares, and has dpdk-testpmd send packets through the port. Run by a new
# user, and by run-tests.sh. lib.sh has the shared parts, test/guest/run_guest.py boots the guest,
# test/e2e/testpmd.py runs testpmd.

set -euo pipefail
# shellcheck source=usertools/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DISK_MIB=256
EAL_MIB=64 # what vhubd asks for itself
KEEP=

usage() {
	cat <<'EOF'
Usage: usertools/quickstart.sh [--keep] [--help]

Installs the packages that are missing (Debian 12; root, or sudo for this step only), builds into build/,
starts vhubd with a disk of 256 MiB in memory and a network port that sends every packet back, boots a
Linux guest under QEMU that makes an ext4 on the disk, writes files, reads them back and compares, and has
dpdk-testpmd send packets through the port. Prints what they saw, stops everything and leaves nothing behind but build/ and build-guest/. A second run takes seconds.

  --keep   leave vhubd running, and say where its socket is and how to stop it
  --help   this text

Works with and without hugepages, and says which it was. Exit status: 0 when all went well.
EOF
}

parse_arguments() {
	while [[ $# -gt 0 ]]; do
		case $1 in
		--keep) KEEP=1 ;;
		-h | --help)
			usage
			exit 0
			;;
		*)
			printf 'quickstart.sh: unknown option %s; --keep and --help are allowed\n' "$1" >&2
			exit 2
			;;
		esac
		shift
	done
}

packages() {
	VHUB_PROGRESS=packages
	say "[1/6] packages"
	need_packages "$VHUB_TMP/packages.log" "${VHUB_BUILD_PACKAGES[@]}" "${VHUB_GUEST_PACKAGES[@]}" \
		"${VHUB_NET_PACKAGES[@]}"
	say "      all there"
}

build() {
	local log=$VHUB_TMP/build.log
	VHUB_PROGRESS=build
	say "[2/6] build into build/ (the first time takes about a minute)"
	if ! build_into build "$log"; then
		tail -n 40 "$log" >&2
		die "the build failed (above: the end of what it said)"
	fi
	say "      $(build/app/vhubd --version 2>&1 | head -n 1)"
}

# vhubd decides by itself; this only tells the user beforehand what it will find.
describe_memory() {
	local dir free size_kib mib
	dir=$(hugepages_dir)
	size_kib=${dir##*-}
	size_kib=${size_kib%kB}
	free=$(hugepages free_hugepages)
	mib=$((free * size_kib / 1024))
	if ((mib >= EAL_MIB + DISK_MIB)); then
		say "      hugepages: $mib MiB free: vhubd and its disk use them"
	elif ((mib >= EAL_MIB)); then
		say "      hugepages: $mib MiB free: vhubd uses them, but for its disk it takes ordinary memory"
	else
		say "      hugepages: $mib MiB free: too few, so vhubd runs in ordinary memory (--no-huge)."
		say "      All works the same, with less speed. To have hugepages, as root:"
		say "        echo $(($(hugepages nr_hugepages) - free + (EAL_MIB + DISK_MIB) * 1024 / size_kib)) >$dir/nr_hugepages"
	fi
}

start_vhubd() {
	local log=$VHUB_TMP/vhubd.log i
	SOCKET=$VHUB_TMP/disk0.sock
	PORT=$VHUB_TMP/port0.sock
	say "[3/6] vhubd with a disk of $DISK_MIB MiB in memory and a network port"
	describe_memory
	COMMAND=(build/app/vhubd --blk "disk0,socket=$SOCKET,driver=malloc,size=${DISK_MIB}M,queues=1" \
		--net "port0,socket=$PORT,driver=echo")
	start_child "$log" "${COMMAND[@]}"
	VHUBD=$VHUB_CHILD
	for ((i = 0; i < 300; i++)); do
		if grep -q ready "$log"; then
			say "      ready: process $VHUBD, sockets $SOCKET, $PORT"
			return
		fi
		kill -0 "$VHUBD" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 30 "$log" >&2
	die "vhubd did not start (above: the end of its log)"
}

boot_guest() {
	say "[4/6] a Linux guest on that disk (QEMU, emulated CPU)"
	VHUB_PROGRESS=guest
	if ! run_child "$VHUB_TMP/guest.txt" /usr/bin/python3 test/guest/run_guest.py --do mkfs-write \
		"$SOCKET"; then
		cat "$VHUB_TMP/guest.txt" >&2
		say "--- the end of vhubd's log ---" >&2
		tail -n 20 "$VHUB_TMP/vhubd.log" >&2
		die "the guest did not do what it should (above: what it said)"
	fi
	grep -v ' guest: ' "$VHUB_TMP/guest.txt"
}

send_packets() {
	say "[5/6] dpdk-testpmd on the port, which sends every packet back"
	VHUB_PROGRESS=testpmd
	if ! run_child "$VHUB_TMP/testpmd.txt" /usr/bin/python3 test/e2e/testpmd.py "$PORT"; then
		cat "$VHUB_TMP/testpmd.txt" >&2
		die "testpmd got nothing back (above: what it said)"
	fi
	cat "$VHUB_TMP/testpmd.txt"
}

stop_vhubd() {
	local status=0
	say "[6/6] stopping"
	kill -TERM "$VHUBD" 2>/dev/null || true
	wait "$VHUBD" || status=$?
	forget_child "$VHUBD"
	if [[ $status != 0 ]]; then
		tail -n 30 "$VHUB_TMP/vhubd.log" >&2
		die "vhubd ended with status $status (above: the end of its log)"
	fi
	[[ ! -e $SOCKET ]] || die "vhubd left its socket behind"
	say "      vhubd has ended, its socket is gone"
}

say_how_to_go_on() {
	cat <<EOF

Everything worked. How to go on:
  a disk of your own   build/app/vhubd --blk disk0,socket=/tmp/disk0.sock,driver=uring,path=FILE
  with a guest         test/guest/run_guest.py --do info /tmp/disk0.sock
  a port of your own   build/app/vhubd --net port0,socket=/tmp/port0.sock,driver=echo
  with testpmd         test/e2e/testpmd.py /tmp/port0.sock
  all options          build/app/vhubd --help
  all tests            usertools/run-tests.sh
  leave it running     usertools/quickstart.sh --keep
EOF
}

say_how_to_use_it() {
	VHUB_KEEP=1
	cat <<EOF
[6/6] vhubd stays, as you asked: process $VHUBD, log $VHUB_TMP/vhubd.log

  a guest again   test/guest/run_guest.py --do verify $SOCKET
  your own QEMU   -object memory-backend-memfd,id=mem,share=on,size=1G -machine q35,memory-backend=mem -m 1G
                  -chardev socket,id=c0,path=$SOCKET,reconnect=1 -device vhost-user-blk-pci,chardev=c0
  stop it         kill $VHUBD && rm -r $VHUB_TMP
EOF
}

main() {
	parse_arguments "$@"
	vhub_begin
	packages
	build
	start_vhubd
	boot_guest
	send_packets
	if [[ -n $KEEP ]]; then
		say_how_to_use_it
	else
		stop_vhubd
		say_how_to_go_on
	fi
}

main "$@"

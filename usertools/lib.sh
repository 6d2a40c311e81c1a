# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What quickstart.sh and run-tests.sh share: packages, building, hugepages, processes that must not
# outlive the script. Sourced, never run. The sourcing script has `set -euo pipefail` on and calls
# vhub_begin first.

VHUB_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VHUB_TMP=          # directory for sockets and logs, removed at the end unless VHUB_KEEP is set
VHUB_KEEP=         # not empty: leave VHUB_TMP and the processes alone at the end
VHUB_CHILDREN=()   # processes started with start_child
VHUB_ASIDE=        # not empty: children take only what others leave of the CPUs
VHUB_PROGRESS=     # what run_child calls the work that it shows to be alive
VHUB_HUGEPAGES=    # number of hugepages to go back to at the end, when it was changed

# For building and for booting the test guest; recommended packages are left out. Without dpkg-dev meson
# does not know where Debian's libraries belong, and would install into lib64.
# shellcheck disable=SC2034 # for the scripts that source this
VHUB_BUILD_PACKAGES=(gcc libc6-dev dpkg-dev meson ninja-build pkg-config libdpdk-dev libnuma-dev
	libbsd-dev libpcap-dev liburing-dev libjansson-dev libcmocka-dev)
# shellcheck disable=SC2034
VHUB_GUEST_PACKAGES=(qemu-system-x86 linux-image-cloud-amd64 busybox-static e2fsprogs ethtool iperf3
	kmod util-linux python3)
# dpdk-testpmd, the front end of network ports.
# shellcheck disable=SC2034
VHUB_NET_PACKAGES=(dpdk-dev)
# shellcheck disable=SC2034
VHUB_TEST_PACKAGES=(clang clang-format lld llvm codespell shellcheck python3-pytest python3-pytest-xdist
	python3-matplotlib git
	qemu-utils qemu-system-common dpdk libclang-rt-14-dev librte-net-pcap23 iproute2)

# --- talking ---------------------------------------------------------------------------------------

say() {
	printf '%s\n' "$*"
}

# Standard error, so that it is seen where standard output is a pipe.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# --- begin and end ---------------------------------------------------------------------------------

# Every way out goes through vhub_end: normal end, error, and the signals, which end the script with
# the status that a shell gives them.
vhub_begin() {
	cd "$VHUB_ROOT" || exit 1
	exec {VHUB_CLOCK}<> <(:)
	VHUB_TMP=$(mktemp -d "${TMPDIR:-/tmp}/vhub.XXXXXX")
	trap vhub_end EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

vhub_end() {
	local status=$?
	trap '' HUP INT TERM
	trap - EXIT
	set +e
	if [[ -z $VHUB_KEEP ]]; then
		local pid
		for pid in "${VHUB_CHILDREN[@]}"; do
			stop_child "$pid"
		done
		rm -rf "$VHUB_TMP"
	fi
	restore_hugepages
	exit "$status"
}

# --- processes -------------------------------------------------------------------------------------

# start_child LOG COMMAND...: in the background, without standard input, its output added to LOG; in a
# session of its own, so that a Ctrl-C at the terminal reaches this script alone, which then stops it in
# order. Its id is in VHUB_CHILD.
start_child() {
	local log=$1 lower=()
	shift
	: >>"$log" # there at once, for whoever looks into it
	# Where the kernel groups processes by their session, it is the session that has to be nice.
	# shellcheck disable=SC2016 # for the shell that is started
	[[ -z $VHUB_ASIDE ]] ||
		lower=(bash -c '{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec nice -n 19 "$@"' --)
	setsid "${lower[@]}" "$@" </dev/null >>"$log" 2>&1 {VHUB_CLOCK}>&- &
	VHUB_CHILD=$!
	VHUB_CHILDREN+=("$VHUB_CHILD")
}

# SIGTERM, and SIGKILL to one that has not gone after ten seconds.
stop_child() {
	local pid=$1 i
	kill -TERM "$pid" 2>/dev/null || return 0
	for ((i = 0; i < 100; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL -- "-$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
}

# forget_child PID: it has ended and its status was taken.
forget_child() {
	local pid rest=()
	for pid in "${VHUB_CHILDREN[@]}"; do
		[[ $pid == "$1" ]] || rest+=("$pid")
	done
	VHUB_CHILDREN=("${rest[@]}")
}

# run_child LOG COMMAND...: runs it to its end like start_child, and shows meanwhile that it is alive: on
# a terminal by the log's last line, elsewhere (a log that somebody reads later) by a line every half
# minute. Returns the command's status.
run_child() {
	local log=$1 begin=$SECONDS shown=$SECONDS status=0 line
	start_child "$@"
	while kill -0 "$VHUB_CHILD" 2>/dev/null; do
		# Nothing ever comes from there: a sleep that needs no process and that a signal ends.
		read -r -t 0.2 -u "$VHUB_CLOCK" || true
		if [[ -t 1 && $SECONDS != "$shown" ]]; then
			line=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-70)
			printf '\r\033[K    %s %d s: %s\r' "$VHUB_PROGRESS" $((SECONDS - begin)) "$line"
			shown=$SECONDS
		elif [[ ! -t 1 && $((SECONDS - shown)) -ge 30 ]]; then
			line=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-70)
			printf '    %s %d s: %s\n' "$VHUB_PROGRESS" $((SECONDS - begin)) "$line"
			shown=$SECONDS
		fi
	done
	[[ ! -t 1 ]] || printf '\033[K'
	wait "$VHUB_CHILD" || status=$?
	forget_child "$VHUB_CHILD"
	return "$status"
}

# --- packages --------------------------------------------------------------------------------------

# missing_packages NAME...: those that are not installed, on one line.
missing_packages() {
	local name state out=()
	for name in "$@"; do
		# shellcheck disable=SC2016 # dpkg-query expands it
		state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null) || state=
		[[ $state == ii* ]] || out+=("$name")
	done
	printf '%s' "${out[*]}"
}

# need_packages LOG NAME...: installs what is missing, and only that. Root does it directly, another
# user through sudo; where neither goes, says what is missing and how to get it.
need_packages() {
	local log=$1 missing run=()
	shift
	command -v dpkg-query >/dev/null ||
		die "this is made for Debian 12 and finds no dpkg; packages needed, by Debian's names: $*"
	missing=$(missing_packages "$@")
	[[ -n $missing ]] || return 0
	[[ $(dpkg --print-architecture) == amd64 ]] || die "the test guest needs an amd64 machine"
	if [[ $(id -u) != 0 ]]; then
		run=(sudo)
		[[ -t 0 ]] || run+=(-n)
		if ! command -v sudo >/dev/null || ! "${run[@]}" true; then
			die "packages are missing and this user can install none. As root:
    apt-get update && apt-get install --no-install-recommends $missing"
		fi
	fi
	say "      installing: $missing"
	run+=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
	# shellcheck disable=SC2086 # a list of words
	# Not through run_child: sudo may have to ask at this terminal.
	if ! { "${run[@]}" update && "${run[@]}" install -y --no-install-recommends $missing; } \
		</dev/null >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		die "installing packages failed (above: the end of what apt-get said). As root, by hand:
    apt-get update && apt-get install --no-install-recommends $missing"
	fi
}

# --- building --------------------------------------------------------------------------------------

# built_from_here DIR: whether the build directory was set up for this tree, at this place.
built_from_here() {
	grep -qF "\"source\": \"$VHUB_ROOT\"" "$1/meson-info/meson-info.json" 2>/dev/null
}

# build_into DIR LOG [MESON OPTION...]: configures DIR, or changes the options of one that is there, and
# builds everything that can be built, so that one fault hides no other. Nothing is compiled twice.
build_into() {
	local dir=$1 log=$2
	shift 2
	if [[ -f $dir/build.ninja ]] && built_from_here "$dir"; then
		[[ $# == 0 ]] || run_child "$log" meson configure "$dir" "$@" || return 1
	else
		# What is left of a set-up that failed, or came along with a copied tree, is only in the way.
		rm -rf "$dir"
		run_child "$log" meson setup "$dir" "$@" || return 1
	fi
	run_child "$log" ninja -k 0 -C "$dir"
}

# --- hugepages -------------------------------------------------------------------------------------

hugepages_dir() {
	local size
	size=$(awk '$1 == "Hugepagesize:" { print $2 }' /proc/meminfo)
	printf '/sys/kernel/mm/hugepages/hugepages-%skB' "${size:-2048}"
}

hugepages() {
	cat "$(hugepages_dir)/$1" 2>/dev/null || printf '0\n'
}

# reserve_hugepages MIB: sees to that much free hugepage memory; true if it is there. Takes it only as
# root and only when three times as much memory is available.
reserve_hugepages() {
	local mib=$1 dir size_kib need free total available
	dir=$(hugepages_dir)
	size_kib=${dir##*-}
	size_kib=${size_kib%kB}
	need=$(((mib * 1024 + size_kib - 1) / size_kib))
	free=$(hugepages free_hugepages)
	[[ $free -lt $need ]] || return 0
	[[ -w $dir/nr_hugepages ]] || return 1
	available=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
	[[ $available -gt $((mib * 3)) ]] || return 1
	total=$(hugepages nr_hugepages)
	VHUB_HUGEPAGES=$total
	echo $((total + need - free)) 2>/dev/null >"$dir/nr_hugepages" || true
	[[ $(hugepages free_hugepages) -ge $need ]]
}

restore_hugepages() {
	[[ -n $VHUB_HUGEPAGES ]] || return 0
	echo "$VHUB_HUGEPAGES" 2>/dev/null >"$(hugepages_dir)/nr_hugepages"
	VHUB_HUGEPAGES=
}

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Builds with gcc, and with clang and its sanitizers, runs every test there is, and ends with the line
# "N passed, N failed". Run by developers and by .ci/run. lib.sh has what it shares with quickstart.sh;
# test/check/count.py does the counting.
#
# A stage that fails never keeps a later one from running, except for those that need what it should
# have built: they then count one failure each.

set -euo pipefail
# shellcheck source=usertools/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LOGS=$VHUB_ROOT/build-logs
ONLY=()
QUICK=
BUILDS_ASIDE= # the process that builds what later stages need
PASSED=0
FAILED=0
SUMMARY=()
AGAIN=() # what the end says once more

# name: seconds at most: what it does. In the order in which they run.
STAGES=(
	"packages:900:install the packages that are missing"
	"build:900:build with gcc into build/, release, warnings are errors"
	"check:300:format, licence lines, headers, spelling, scripts, links"
	"unit:300:unit tests"
	"e2e-nohuge:900:conformance and end-to-end tests, ordinary memory"
	"e2e-huge:900:rings, disks, ports and end-to-end tests of these with hugepages, where some can be had"
	"quickstart:300:usertools/quickstart.sh as a new user runs it"
	"build-asan:900:build with clang, ASan and UBSan into build-asan/, warnings are errors"
	"build-fuzz:900:build the fuzzers with clang into build-fuzz/, warnings are errors"
	"unit-asan:600:unit tests under the sanitizers"
	"e2e-asan:900:conformance and most end-to-end tests under the sanitizers"
	"fuzz:600:fuzzers, for a bounded time"
)
QUICK_STAGES=(packages build check unit e2e-nohuge)
FUZZ_SECONDS=5
# Tests side by side: most wait a third of their time. With hugepages each takes some.
SIDE_BY_SIDE=$(($(nproc) < 8 ? $(nproc) * 3 / 2 : 12))
HUGEPAGE_MIB=$((SIDE_BY_SIDE * 768))
# Each is given out as soon as a place is free. Not with -v: pytest-xdist then asks each worker what it is
# before it gives it the tests, and if the worker has not done with the answer, execnet 1.9 runs the tests in
# another thread than the main one, where no alarm rings.
BESIDE=(--verbosity=0 -n "$SIDE_BY_SIDE" --dist loadgroup)

usage() {
	cat <<'EOF'
Usage: usertools/run-tests.sh [--quick] [--only STAGE[,STAGE...]] [--aside] [--list] [--help]

Installs the packages that the tests need (Debian 12; root, or sudo for this step only), builds, runs all
tests and ends with the line "N passed, N failed". Exit status: 0 when none failed. Takes 15
to 35 minutes on two cores, by how fast they are and how far apart.

  --quick        build with gcc, checks, unit tests, and end-to-end tests in ordinary memory
  --only STAGES  only these stages; they use what earlier runs have built
  --aside        take only what others leave of the CPUs: for builds beside other work
  --list         the stages and what they do
  --help         this text

Each stage's output is kept in build-logs/.
EOF
}

stage_names() {
	local each
	for each in "${STAGES[@]}"; do
		printf '%s ' "${each%%:*}"
	done
}

parse_arguments() {
	local each
	while [[ $# -gt 0 ]]; do
		case $1 in
		--quick) QUICK=1 ;;
		--aside) VHUB_ASIDE=1 ;;
		--only | --only=*)
			if [[ $1 == --only ]]; then
				[[ $# -gt 1 ]] || wrong_argument "--only needs a stage of: $(stage_names)"
				shift
			fi
			IFS=, read -r -a ONLY <<<"${1#--only=}"
			for each in "${ONLY[@]}"; do
				[[ " $(stage_names)" == *" $each "* ]] ||
					wrong_argument "--only $each: no such stage; there are $(stage_names)"
			done
			;;
		--list)
			printf '%s\n' "${STAGES[@]}" | awk -F: '{ printf "%-12s %s\n", $1, $3 }'
			exit 0
			;;
		-h | --help)
			usage
			exit 0
			;;
		*) wrong_argument "unknown option $1; --quick, --only, --aside, --list and --help are allowed" ;;
		esac
		shift
	done
}

wrong_argument() {
	printf 'run-tests.sh: %s\n' "$1" >&2
	exit 2
}

chosen() {
	if [[ ${#ONLY[@]} -gt 0 ]]; then
		[[ " ${ONLY[*]} " == *" $1 "* ]]
	elif [[ -n $QUICK ]]; then
		[[ " ${QUICK_STAGES[*]} " == *" $1 "* ]]
	fi
}

# --- running and counting --------------------------------------------------------------------------

# bounded COMMAND...: runs it in the stage's time, output to the stage's log. What it has started ends
# with it when the time is over, or when this script ends.
bounded() {
	local status=0
	echo "+ $*" >>"$LOG"
	run_child "$LOG" timeout -k 20 "$LIMIT" "$@" || status=$?
	if [[ $status == 124 || $status == 137 ]]; then
		echo "stopped after $LIMIT s: $*" >>"$LOG"
	fi
	return "$status"
}

# count PASSED FAILED: adds to what this stage has.
count() {
	STAGE_PASSED=$((STAGE_PASSED + $1))
	STAGE_FAILED=$((STAGE_FAILED + $2))
}

# again TEXT: said now, and once more at the end.
again() {
	say "      $1"
	AGAIN+=("$VHUB_PROGRESS: $1")
}

# The first of them, if it is much: that is what tells most.
say_again() {
	[[ ${#AGAIN[@]} -gt 0 ]] || return 0
	printf '%s\n' "${AGAIN[@]:0:40}"
	[[ ${#AGAIN[@]} -le 40 ]] || say "and $((${#AGAIN[@]} - 40)) more: see build-logs/*.failed"
	say
}

show_end_of_log() {
	[[ ! -s $LOG ]] || tail -n "${1:-60}" "$LOG" | sed 's/^/      | /'
}

# Of a build, what went wrong stands between what went well.
show_why() {
	if grep -q '^FAILED: ' "$LOG"; then
		grep -A 12 '^FAILED: ' "$LOG" | cut -c 1-250 | head -n 100 | sed 's/^/      | /'
	else
		show_end_of_log
	fi
}

# one_test COMMAND...: a command that is a test itself: a build, a script.
one_test() {
	if "$@"; then
		count 1 0
	else
		count 0 1
		show_why
		again "failed: $(grep -m 1 '^FAILED: ' "$LOG" || tail -n 1 "$LOG")"
	fi
}

# count_file KIND FILE STATUS: counts what a test runner has written. A runner that failed though no test
# of it did (it crashed, or ran out of time) is one more failure.
count_file() {
	local line numbers
	numbers=$(/usr/bin/python3 test/check/count.py "$1" "$2" 2>"$LOG.failed") || numbers="0 1"
	# shellcheck disable=SC2086 # two numbers
	set -- $numbers "$3"
	if [[ $3 != 0 && $2 == 0 ]]; then
		echo "the runner itself, status $3" >>"$LOG.failed"
		set -- "$1" 1
	fi
	count "$1" "$2"
	if [[ $2 != 0 ]]; then
		show_end_of_log 120
		while IFS= read -r line; do
			again "failed: $line"
		done <"$LOG.failed"
	fi
}

run_pytest() {
	local status=0 junit=$LOG.xml
	rm -f "$junit"
	bounded env "$@" || status=$?
	count_file junit "$junit" "$status"
}

# pytest_in BUILD [NAME=VALUE...] -- ARGUMENT...: what pytest runs with these arguments, one test after
# the other.
pytest_in() {
	local env=(VHUB_BUILD="$1" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1)
	shift
	while [[ $1 != -- ]]; do
		env+=("$1")
		shift
	done
	shift
	run_pytest "${env[@]}" /usr/bin/python3 -m pytest -p no:cacheprovider -v --durations=20 \
		--junitxml="$LOG.xml" "$@"
}

# end_to_end EXPRESSION BUILD ...: the end-to-end tests whose markers match: side by side, and then, in a
# run of their own, those that have to be alone.
end_to_end() {
	local markers=$1
	shift
	pytest_in "$@" "${BESIDE[@]}" -m "not alone${markers:+ and $markers}" test/e2e
	end_builds_aside
	pytest_in "$@" -m "alone${markers:+ and $markers}" test/e2e
}

meson_tests() {
	local dir=$1 status=0
	shift
	rm -f "$dir/meson-logs/testlog.json"
	bounded env "$@" meson test -C "$dir" --no-rebuild --suite unit \
		--num-processes "$SIDE_BY_SIDE" --print-errorlogs || status=$?
	count_file meson "$dir/meson-logs/testlog.json" "$status"
}

# The builds of later stages go on beside the tests of others, which leave a quarter of the CPUs; the stages then
# find them done, or say what is wrong with them.
begin_builds_aside() {
	local each builds=()
	for each in build-asan build-fuzz; do
		! chosen "$each" || builds+=("$each")
	done
	[[ ${#builds[@]} -gt 0 ]] || return 0
	start_child "$LOGS/aside.log" "$0" --aside --only "$(IFS=,; echo "${builds[*]}")"
	BUILDS_ASIDE=$VHUB_CHILD
}

end_builds_aside() {
	[[ -n $BUILDS_ASIDE ]] || return 0
	run_child "$LOG" tail -n 1 -f --pid="$BUILDS_ASIDE" "$LOGS/aside.log"
	wait "$BUILDS_ASIDE" || true
	forget_child "$BUILDS_ASIDE"
	BUILDS_ASIDE=
}

# needs FILE: whether an earlier stage has built it.
needs() {
	[[ -e $1 ]] && return
	count 0 1
	again "failed: $1 is not there; run the stage that builds it"
	return 1
}

# --- stages ----------------------------------------------------------------------------------------

SANITIZER_ENV=(
	"ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1"
	"UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1"
)

stage_packages() {
	(need_packages "$LOG" "${VHUB_BUILD_PACKAGES[@]}" "${VHUB_GUEST_PACKAGES[@]}" \
		"${VHUB_NET_PACKAGES[@]}" "${VHUB_TEST_PACKAGES[@]}") || {
		count 0 1
		again "failed: packages are missing, see $LOG"
	}
}

# build_stage DIR MESON-OPTION...
build_stage() {
	one_test build_into "$1" "$LOG" -Dwerror=true "${@:2}"
}

stage_build() {
	build_stage build
	begin_builds_aside
}

# What a sanitizer needs to tell where something happened. All of -g takes clang nearly twice the time.
LINES=-Dc_args=-gline-tables-only

# The other compiler's warnings and the sanitizers' findings from one build. clang wants -Db_lundef=false for
# shared objects with sanitizers.
stage_build_asan() {
	end_builds_aside
	CC=clang build_stage build-asan -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 "$LINES"
}

stage_check() {
	needs build/compile_commands.json || return 0
	pytest_in build -- "${BESIDE[@]}" test/check
}

stage_unit() {
	needs build/build.ninja || return 0
	meson_tests build
}

stage_unit_asan() {
	needs build-asan/build.ninja || return 0
	meson_tests build-asan "${SANITIZER_ENV[@]}"
}

stage_e2e_nohuge() {
	needs build/app/vhubd || return 0
	pytest_in build VHUB_NO_HUGE=1 -- "${BESIDE[@]}" test/conformance
	end_to_end "" build VHUB_NO_HUGE=1 --
}

# Front ends bring the same memory there, so hugepages are only what vhubd keeps for itself: rings,
# requests, buffers of packets, disks in memory. These are the tests in which all of that is used, with or
# without a guest, and in which it is given back.
HUGE_CONFORMANCE=(test/conformance/test_{rings,memory,lcores,blk,net}.py)
HUGE_END_TO_END=(test/e2e/test_{connections,disk_changes,end_saves,guest_blk,net_dma,net_echo,net_paths}.py
	test/e2e/test_{net_ports,perf_blk,perf_net}.py)

stage_e2e_huge() {
	needs build/app/vhubd || return 0
	if ! reserve_hugepages "$HUGEPAGE_MIB"; then
		again "not run: $HUGEPAGE_MIB MiB of hugepages cannot be had on this machine"
		return 0
	fi
	pytest_in build VHUB_HUGE=1 -- "${BESIDE[@]}" -m "not plain_only" "${HUGE_CONFORMANCE[@]}"
	pytest_in build VHUB_HUGE=1 -- "${BESIDE[@]}" -m "not plain_only and not alone" "${HUGE_END_TO_END[@]}"
	restore_hugepages
}

stage_e2e_asan() {
	needs build-asan/app/vhubd || return 0
	pytest_in build-asan VHUB_NO_HUGE=1 "${SANITIZER_ENV[@]}" -- "${BESIDE[@]}" -m "not plain_only" \
		test/conformance
	end_to_end "not plain_only" build-asan VHUB_NO_HUGE=1 "${SANITIZER_ENV[@]}" --
}

stage_quickstart() {
	one_test bounded usertools/quickstart.sh
}

stage_build_fuzz() {
	end_builds_aside
	one_test build_fuzzers
}

# The fuzzers alone, without the programs and unit tests that the same configuration would build.
build_fuzzers() {
	local targets
	if [[ ! -f build-fuzz/build.ninja ]]; then
		CC=clang run_child "$LOG" meson setup build-fuzz -Dfuzz=true -Dwerror=true -Doptimization=1 "$LINES" || return 1
	fi
	# Targets are known once the build files are up to date.
	run_child "$LOG" ninja -C build-fuzz build.ninja || return 1
	mapfile -t targets < <(ninja -C build-fuzz -t targets all |
		sed -n 's,^\(test/fuzz/fuzz_[a-z0-9_]*\): .*,\1,p')
	[[ ${#targets[@]} -gt 0 ]] || return 1
	run_child "$LOG" ninja -k 0 -C build-fuzz "${targets[@]}"
}

# fuzzed NAME: whether this fuzzer has ended well; one that was stopped has no status.
fuzzed() {
	[[ $(cat "$LOG.$1.status" 2>/dev/null) == 0 ]]
}

# As many at once as there are CPUs. What they have found to be interesting is kept, so that the next run
# starts from there.
stage_fuzz() {
	local fuzzer name names=()
	for fuzzer in build-fuzz/test/fuzz/fuzz_*; do
		[[ -f $fuzzer && -x $fuzzer ]] || continue
		names+=("${fuzzer##*/}")
		mkdir -p "$LOGS/corpus/${fuzzer##*/}"
	done
	needs "build-fuzz/test/fuzz/${names[0]:-fuzz_}" || return 0
	printf '%s\n' "${names[@]}" >"$LOG.names"
	# shellcheck disable=SC2016 # for the shell that xargs starts
	bounded env "${SANITIZER_ENV[@]}" xargs -a "$LOG.names" -P "$(nproc)" -I NAME bash -c '
		"build-fuzz/test/fuzz/$1" -max_total_time="$3" -rss_limit_mb=2048 -timeout=10 \
			-print_final_stats=1 -artifact_prefix="$2/$1-" "$2/corpus/$1" >"$4.$1" 2>&1
		echo $? >"$4.$1.status"' fuzz NAME "$LOGS" "$FUZZ_SECONDS" "$LOG"
	for name in "${names[@]}"; do
		echo "+ $name" >>"$LOG"
		cat "$LOG.$name" >>"$LOG"
		one_test fuzzed "$name"
	done
}

# --- entry -----------------------------------------------------------------------------------------

run_stage() {
	local name=$1 what=$3 begin=$SECONDS
	LIMIT=$2
	LOG=$LOGS/$name.log
	STAGE_PASSED=0
	STAGE_FAILED=0
	rm -f "$LOG" "$LOG".*
	: >"$LOG"
	say "--- $name: $what"
	VHUB_PROGRESS=$name
	# Without errexit: a stage says by counting how it went.
	set +e
	"stage_${name//-/_}"
	set -e
	PASSED=$((PASSED + STAGE_PASSED))
	FAILED=$((FAILED + STAGE_FAILED))
	say "    $name: $STAGE_PASSED passed, $STAGE_FAILED failed, $((SECONDS - begin)) s"
	SUMMARY+=("$(printf '%-12s %6d %6d %6d s' "$name" "$STAGE_PASSED" "$STAGE_FAILED" \
		$((SECONDS - begin)))")
}

main() {
	local each name limit what
	parse_arguments "$@"
	vhub_begin
	mkdir -p "$LOGS"
	for each in "${STAGES[@]}"; do
		IFS=: read -r name limit what <<<"$each"
		if chosen "$name"; then
			run_stage "$name" "$limit" "$what"
		fi
	done
	say
	say_again
	printf '%-12s %6s %6s %8s\n' stage passed failed time
	printf '%s\n' "${SUMMARY[@]}"
	say "in all $((SECONDS / 60)) min $((SECONDS % 60)) s"
	say "$PASSED passed, $FAILED failed"
	[[ $FAILED == 0 && ($PASSED -gt 0 || ${#ONLY[@]} -gt 0) ]]
}

main "$@"

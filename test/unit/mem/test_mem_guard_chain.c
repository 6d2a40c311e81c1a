/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is not the guard's: each SIGBUS that is none of ours meets what was there before, a handler or the default. Each
 * case runs in a child, since most of them end it.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "guard_fixture.h"

static uint8_t *child_hva;
static uint32_t child_signals; /* atomic: the compiler does not know when handlers run */

static void
previous_handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	_exit(sig == SIGBUS && info->si_code == BUS_ADRERR && info->si_addr == child_hva ? 42 : 43);
}

static void
previous_plain(int sig)
{
	_exit(sig == SIGBUS ? 44 : 45);
}

static void
previous_returns(int sig)
{
	(void)sig;
	__atomic_fetch_add(&child_signals, 1, __ATOMIC_RELAXED);
}

/* Runs fn in a child in which `previous` was installed before the guard; returns the status of waitpid(2). */
static int
in_child(const struct sigaction *previous, void (*fn)(void))
{
	struct rlimit no_core = { 0, 0 };
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		vhub_mem_guard_stop();
		sigaction(SIGBUS, previous, NULL);
		if (vhub_loop_create(&loop) != 0 || vhub_mem_guard_start(loop) != 0)
			_exit(100);
		/* Memory of somebody else, that will fault. */
		child_hva = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
				memfd_create("vhub-foreign", MFD_CLOEXEC), 0);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
fault_outside(void)
{
	/* A mapping of ours beside it makes no difference. */
	struct session session;

	session_open(&session, PAGE);
	poke(child_hva, 1);
	_exit(101);
}

static void
send_to_self(void)
{
	raise(SIGBUS);
}

/* The address that comes with a sent signal, or with a fault that is no page's, is nothing to go by. */
static void
send_with_address_of_ours(void)
{
	static const int codes[] = { SI_QUEUE, SI_USER, SI_TKILL, BUS_ADRALN, BUS_OBJERR,
		SI_KERNEL };
	struct session session;
	siginfo_t info;

	session_open(&session, PAGE);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		memset(&info, 0, sizeof(info));
		info.si_signo = SIGBUS;
		info.si_code = codes[i];
		info.si_addr = session.hva;
		if (syscall(SYS_rt_sigqueueinfo, getpid(), SIGBUS, &info) != 0)
			_exit(102);
		if (session_faulted(&session) != 0 ||
				__atomic_load_n(&child_signals, __ATOMIC_RELAXED) != i + 1)
			_exit(103);
	}
	_exit(46);
}

static void
fault_after_stop(void)
{
	struct session session;

	session_open(&session, PAGE);
	if (ftruncate(session.fd, 0) != 0)
		_exit(105);
	vhub_mem_guard_stop();
	vhub_mem_guard_stop();
	child_hva = session.hva;
	touch(session.hva);
	_exit(106);
}

static void
test_other_faults_go_to_the_previous_handler(void **state)
{
	const struct sigaction with_info = { .sa_sigaction = previous_handler,
		.sa_flags = SA_SIGINFO };
	const struct sigaction plain = { .sa_handler = previous_plain };
	const struct sigaction returns = { .sa_handler = previous_returns };
	int status;

	(void)state;
	status = in_child(&with_info, fault_outside);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	status = in_child(&plain, fault_outside);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 44);
	status = in_child(&plain, send_to_self);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 44);
	status = in_child(&returns, send_with_address_of_ours);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 46);
	status = in_child(&with_info, fault_after_stop);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void
test_other_faults_meet_the_default(void **state)
{
	const struct sigaction dfl = { .sa_handler = SIG_DFL };
	const struct sigaction ign = { .sa_handler = SIG_IGN };
	int status;

	(void)state;
	status = in_child(&dfl, fault_outside);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	status = in_child(&dfl, send_to_self);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	/* A fault cannot be ignored, a signal that was sent can. */
	status = in_child(&ign, fault_outside);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	status = in_child(&ign, send_to_self);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/*
 * Where private memory is counted at its full size, there is not enough for the zeros; the way out costs pages.
 * The errors that the handler met on that way are not seen by the code that it interrupted.
 */
static void
no_private_memory(void)
{
	struct rlimit none = { 0, 0 };
	struct session session;

	session_open(&session, 512 * PAGE);
	if (ftruncate(session.fd, 0) != 0 || setrlimit(RLIMIT_DATA, &none) != 0)
		_exit(107);
	if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
			MAP_FAILED)
		_exit(108);
	errno = 4711;
	if (touch(session.hva + 511 * PAGE) != 0 || errno != 4711)
		_exit(109);
	poke(session.hva, 1);
	_exit(touch(session.hva) == 1 && session_faulted(&session) != 0 ? 48 : 110);
}

static void
test_zero_pages_without_private_memory(void **state)
{
	const struct sigaction dfl = { .sa_handler = SIG_DFL };
	int status;

	(void)state;
	status = in_child(&dfl, no_private_memory);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 48);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_faults_go_to_the_previous_handler),
		cmocka_unit_test(test_other_faults_meet_the_default),
		cmocka_unit_test(test_zero_pages_without_private_memory),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

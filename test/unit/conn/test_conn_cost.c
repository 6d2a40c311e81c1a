/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Front ends on whose sockets each step takes long: how little of it there is in a turn, how long the slot rests
 * then, and when it is closed; and that what hangs up takes the loop none of it.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "conn_fixture.h"
#include "vhub_work.h"

/*
 * In this program the C library's come after ours. What the loop sends, and what it reads but for looks, on
 * sockets of `slow_inode` takes so much of its CPU: the front end's end has another inode.
 */
static ino_t slow_inode;
static uint64_t slow_ns;
static unsigned int n_slow; /* of the next ones */
static size_t longest_read;
static unsigned int n_steps;
static bool shutdown_on_loop;
static pthread_t loop_thread;

static _Atomic uint64_t passed_s;

/* Has so much time gone by. */
static void
pass_s(unsigned int s)
{
	passed_s += s;
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
	const int ret = (int)syscall(SYS_clock_gettime, id, now);

	if (ret == 0 && id == CLOCK_MONOTONIC)
		now->tv_sec += (time_t)passed_s;
	return ret;
}

static uint64_t
cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static bool
is_slow(int fd)
{
	struct stat st;

	return slow_inode != 0 && fstat(fd, &st) == 0 && st.st_ino == slow_inode;
}

static void
step(int fd)
{
	const uint64_t begin = cpu_ns();

	if (!is_slow(fd))
		return;
	n_steps++;
	if (n_slow == 0)
		return;
	n_slow--;
	while (cpu_ns() - begin < slow_ns)
		continue;
}

ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
	step(fd);
	return syscall(SYS_sendmsg, fd, msg, flags);
}

ssize_t
recvmsg(int fd, struct msghdr *msg, int flags)
{
	if ((flags & MSG_PEEK) == 0) {
		step(fd);
		if (is_slow(fd))
			longest_read = RTE_MAX(longest_read, msg->msg_iov[0].iov_len);
	}
	return syscall(SYS_recvmsg, fd, msg, flags);
}

int
shutdown(int fd, int how)
{
	if (pthread_equal(pthread_self(), loop_thread))
		shutdown_on_loop = true;
	return (int)syscall(SYS_shutdown, fd, how);
}

/* Two slots. */
struct slots {
	struct bed beds[2]; /* the loop is the first one's */
	struct vhub_server *servers[2];
	char dir[64];
	char paths[2][96];
	struct log_catcher log;
	unsigned int n_fds;
};

static void
slots_up(struct slots *slots)
{
	struct vhub_listener_options options = { .owner = (uid_t)-1, .group = (gid_t)-1 };
	struct vhub_connection *connection;

	slow_inode = 0;
	n_slow = n_steps = 0;
	longest_read = 0;
	slots->n_fds = count_fds();
	log_catch(&slots->log);
	make_dir(slots->dir);
	bed_up(&slots->beds[0]);
	fake_init(&slots->beds[1].fake);
	slots->beds[1].fake.handler.name = "fake1";
	for (unsigned int i = 0; i < 2; i++) {
		snprintf(slots->paths[i], sizeof(slots->paths[i]), "%s/%u.sock", slots->dir, i);
		options.path = slots->paths[i];
		assert_int_equal(vhub_listener_create(&options, &connection), 0);
		assert_int_equal(vhub_serve(connection, &slots->beds[i].fake.handler,
						 &slots->beds[0].executor, &slots->servers[i]),
				0);
	}
}

static void
slots_down(struct slots *slots)
{
	for (unsigned int i = 0; i < 2; i++)
		vhub_server_stop(slots->servers[i], bed_complete, &slots->beds[0]);
	WAIT_FOR(&slots->beds[0], slots->beds[0].n_completed == 2);
	assert_int_equal(rmdir(slots->dir), 0);
	bed_down(&slots->beds[0]);
	log_release(&slots->log);
	assert_fds(slots->n_fds);
}

static int
come(struct slots *slots, unsigned int i)
{
	const int sock = fe_connect(slots->paths[i]);

	assert_true(sock >= 0);
	fe_fence(&slots->beds[0], sock);
	return sock;
}

/* The back end's end of a front end's socket: the one that was accepted last. */
static ino_t
newest_socket(void)
{
	struct stat st;
	ino_t inode = 0;

	for (int fd = 0; fd < 1024; fd++) {
		int domain;
		socklen_t len = sizeof(domain);

		if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
				domain == AF_UNIX && fstat(fd, &st) == 0 && st.st_ino > inode)
			inode = st.st_ino;
	}
	return inode;
}

static int
come_slow(struct slots *slots, uint64_t ns)
{
	const int sock = come(slots, 0);

	slow_inode = newest_socket();
	slow_ns = ns;
	n_steps = 0;
	fe_fence(&slots->beds[0], sock);
	assert_true(n_steps > 0); /* that it is this one */
	return sock;
}

static void
send_requests(int sock, unsigned int n)
{
	while (n-- > 0)
		fe_send(sock, VHUB_USER_GET_FEATURES, 0, NULL, 0);
}

/* Of eight requests that are there the turn takes one or two: its steps have cost enough then. */
static void
a_turn_ends_with_what_it_costs(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	unsigned int n_before;
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come_slow(&slots, 150000); /* not dear */
	n_before = bed->fake.n_calls;
	n_slow = 1000;
	/* The loop stops in the slot of the first one, and what it does after that is the rest of the turn. */
	bed->fake.stop_loop = bed->loop;
	send_requests(sock, 8);
	assert_int_equal(vhub_loop_run(bed->loop), 0);
	bed->fake.stop_loop = NULL;
	assert_in_range(bed->fake.n_calls - n_before, 1, 2);
	WAIT_FOR(bed, bed->fake.n_calls == n_before + 8);
	assert_int_equal(log_count(&slots.log, "closed for"), 0);
	close(sock);
	slots_down(&slots);
}

/* After each dear step the slot rests a hundred times as long, be it one that reads or one that sends. */
static void
a_slot_rests_after_a_dear_step(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	unsigned int n_before;
	int sock, other;
	double since_s;

	(void)state;
	slots_up(&slots);
	other = come(&slots, 1);
	sock = come_slow(&slots, 500000); /* dear, and not long */
	n_before = bed->fake.n_calls;
	longest_read = 0;
	n_slow = 2;
	since_s = now_s();
	send_requests(sock, 3);
	for (unsigned int i = 0; i < 10; i++)
		fe_fence(bed, other);
	WAIT_FOR(bed, bed->fake.n_calls == n_before + 3);
	assert_int_equal(n_slow, 0);
	assert_true(now_s() - since_s >= 2 * 0.05);
	assert_true(longest_read <= 16);
	/* From now on one byte at a time, which can be a piece of its own each. */
	longest_read = 0;
	send_requests(sock, 1);
	WAIT_FOR(bed, bed->fake.n_calls == n_before + 4);
	assert_int_equal(longest_read, 1);
	assert_int_equal(log_count(&slots.log, "closed for"), 0);
	close(sock);
	close(other);
	slots_down(&slots);
}

/* The front end that comes next waits for what the one before has cost. */
static void
the_rest_outlasts_the_session(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	double since_s;
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come_slow(&slots, 3000000);
	n_slow = 2;
	since_s = now_s();
	send_requests(sock, 2);
	WAIT_FOR(bed, n_slow == 0);
	vhub_session_end(bed->fake.session, -EIO, "the test says so");
	WAIT_FOR(bed, bed->fake.n_closing == 1);
	close(sock);
	sock = come(&slots, 0);
	assert_true(now_s() - since_s >= 0.1 + 0.3);
	close(sock);
	slots_down(&slots);
}

/* Long steps one after the other end the session and close the slot; others are served meanwhile. */
static void
long_steps_close_the_slot(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock, other, again;

	(void)state;
	slots_up(&slots);
	other = come(&slots, 1);
	sock = come_slow(&slots, 3000000);
	n_slow = 1000;
	send_requests(sock, 20);
	for (unsigned int i = 0; i < 20; i++)
		fe_fence(bed, other);
	WAIT_FOR(bed, bed->fake.n_closing == 1);
	assert_int_equal(bed->fake.reason, -ETIMEDOUT);
	/* A few steps, of all that the requests would have taken. */
	assert_true(n_slow >= 1000 - 9);
	assert_int_equal(log_count(&slots.log, "fake0: the slot is closed for 1 s"), 1);
	assert_int_equal(log_count(&slots.log, "too many wait on it"), 1);
	close(sock);
	again = fe_connect(slots.paths[0]);
	WAIT_FOR(bed, fe_is_closed(again));
	close(again);
	/* And it is open again. */
	for (again = -1; again < 0;) {
		again = fe_connect(slots.paths[0]);
		WAIT_FOR(bed, fe_is_closed(again) || bed->fake.session != NULL);
		if (bed->fake.session == NULL) {
			close(again);
			again = -1;
		}
	}
	fe_fence(bed, again);
	fe_fence(bed, other);
	assert_int_equal(slots.beds[1].fake.n_closing, 0);
	close(again);
	close(other);
	slots_down(&slots);
}

/* The same with what others have done for the front end. */
static void
what_is_charged_counts(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come(&slots, 0);
	vhub_session_charge(bed->fake.session, 10000);
	assert_false(vhub_session_rests(bed->fake.session));
	for (unsigned int i = 0; i < 7; i++) {
		vhub_session_charge(bed->fake.session, 3000000);
		assert_true(vhub_session_rests(bed->fake.session));
	}
	fe_fence(bed, sock);
	assert_int_equal(log_count(&slots.log, "closed for"), 0);
	vhub_session_charge(bed->fake.session, 3000000);
	WAIT_FOR(bed, fe_is_closed(sock));
	assert_int_equal(bed->fake.reason, -ETIMEDOUT);
	assert_int_equal(log_count(&slots.log, "closed for"), 1);
	close(sock);
	slots_down(&slots);
}

/* What a hypervisor does now and then is nobody's fault, however much a front end does meanwhile. */
static void
long_steps_with_many_others_are_forgiven(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come_slow(&slots, 3000000);
	for (unsigned int i = 0; i < 20; i++) {
		n_slow = 1;
		fe_fence(bed, sock);
		for (unsigned int k = 0; k < 40; k++)
			fe_fence(bed, sock);
		pass_s(1);
	}
	assert_int_equal(log_count(&slots.log, "closed for"), 0);
	close(sock);
	slots_down(&slots);
}

/* Long steps, with so few cheap ones and so much time between each and the next, close the slot. */
static void
check_not_forgiven(unsigned int n_cheap, unsigned int s)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock;

	slots_up(&slots);
	sock = come_slow(&slots, 3000000);
	for (unsigned int i = 0; i < 7; i++) {
		n_slow = 1;
		fe_fence(bed, sock);
		for (unsigned int k = 0; k < n_cheap; k++)
			fe_fence(bed, sock);
		pass_s(s);
		assert_int_equal(log_count(&slots.log, "closed for"), 0);
	}
	n_slow = 1;
	send_requests(sock, 1);
	WAIT_FOR(bed, bed->fake.n_closing == 1);
	assert_int_equal(bed->fake.reason, -ETIMEDOUT);
	assert_int_equal(log_count(&slots.log, "closed for"), 1);
	close(sock);
	slots_down(&slots);
}

static void
a_few_cheap_steps_forgive_nothing(void **state)
{
	(void)state;
	check_not_forgiven(2, 0);
}

static void
time_forgives_nothing(void **state)
{
	(void)state;
	check_not_forgiven(0, 20);
}

/* A front end has as many cheap steps as it likes: they make no rest shorter. */
static void
cheap_steps_alone_shorten_no_rest(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come(&slots, 0);
	vhub_session_charge(bed->fake.session, 3000000);
	pass_s(1);
	for (unsigned int k = 0; k < 40; k++)
		fe_fence(bed, sock);
	vhub_session_charge(bed->fake.session, 30000000); /* 3 s */
	pass_s(2);
	assert_true(vhub_session_rests(bed->fake.session));
	pass_s(1);
	fe_fence(bed, sock);
	close(sock);
	slots_down(&slots);
}

/* What is charged in the middle of a rest makes it no shorter. */
static void
a_rest_gets_no_shorter(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come(&slots, 0);
	vhub_session_charge(bed->fake.session, 300000);
	vhub_session_charge(bed->fake.session, 1000000000); /* 10 s */
	vhub_session_charge(bed->fake.session, 300000);	    /* 30 ms */
	pass_s(5);
	bed_turns(bed, 2);
	assert_true(vhub_session_rests(bed->fake.session));
	pass_s(5);
	fe_fence(bed, sock);
	close(sock);
	slots_down(&slots);
}

/* A request that the dear step has read is served when the session is released, if the rest ended before. */
static void
a_hold_over_the_end_of_a_rest_loses_no_request(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	unsigned int n_before;
	int sock;

	(void)state;
	slots_up(&slots);
	sock = come_slow(&slots, 500000);
	n_before = bed->fake.n_calls;
	n_slow = 1;
	send_requests(sock, 1);
	WAIT_FOR(bed, vhub_session_rests(bed->fake.session));
	assert_int_equal(vhub_session_hold(bed->fake.session), 0);
	pass_s(1);
	WAIT_FOR(bed, !vhub_session_rests(bed->fake.session));
	bed_turns(bed, 5);
	assert_int_equal(bed->fake.n_calls, n_before);
	vhub_session_release(bed->fake.session);
	WAIT_FOR(bed, bed->fake.n_calls == n_before + 1);
	close(sock);
	slots_down(&slots);
}

/* To hang up tells all who wait on the front end's end: that is others' to do. */
static void
the_loop_shuts_nothing_down(void **state)
{
	struct slots slots;
	struct bed *bed = &slots.beds[0];
	int sock, second;

	(void)state;
	loop_thread = pthread_self();
	slots_up(&slots);
	assert_int_equal(vhub_work_start(bed->loop), 0);
	sock = come(&slots, 0);
	shutdown_on_loop = false;
	second = fe_connect(slots.paths[0]);
	WAIT_FOR(bed, fe_is_closed(second));
	close(second);
	vhub_session_end(bed->fake.session, -EIO, "the test says so");
	WAIT_FOR(bed, fe_is_closed(sock));
	close(sock);
	assert_false(shutdown_on_loop);
	assert_int_equal(vhub_work_stop(), 0);
	slots_down(&slots);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_turn_ends_with_what_it_costs),
		cmocka_unit_test(a_slot_rests_after_a_dear_step),
		cmocka_unit_test(the_rest_outlasts_the_session),
		cmocka_unit_test(long_steps_close_the_slot),
		cmocka_unit_test(what_is_charged_counts),
		cmocka_unit_test(long_steps_with_many_others_are_forgiven),
		cmocka_unit_test(a_few_cheap_steps_forgive_nothing),
		cmocka_unit_test(time_forgives_nothing),
		cmocka_unit_test(cheap_steps_alone_shorten_no_rest),
		cmocka_unit_test(a_rest_gets_no_shorter),
		cmocka_unit_test(a_hold_over_the_end_of_a_rest_loses_no_request),
		cmocka_unit_test(the_loop_shuts_nothing_down),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue that is handed to another lcore: what it has in flight, what its front end asks meanwhile,
 * and what happens when it cannot run there.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "../fds.h"
#include "frontend.h"
#include "holding_device.h"
#include "scene.h"
#include "vhub_fd.h"

#define RUNNING 1 /* no result of a move */

static struct vhub_loop *loop;
static struct hold_device hold;

#define LOST_MS 10000

/* Shared atomics. */
static uint32_t n_by_lcores, n_by_others;
static uint32_t holding; /* who puts an epoll instance into another waits until it is 0 */
static uint32_t n_held, n_lost;

static bool
is_epoll(int fd)
{
	static const char name[] = "anon_inode:[eventpoll]";
	char path[64], link[sizeof(name)] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, link, sizeof(link)) == (ssize_t)sizeof(name) - 1 &&
			memcmp(link, name, sizeof(name) - 1) == 0;
}

/* As the kernel has one wait when any process of the machine keeps its lock. */
static void
wait_while_held(void)
{
	int i;

	__atomic_fetch_add(&n_held, 1, __ATOMIC_ACQ_REL);
	for (i = 0; i < LOST_MS && __atomic_load_n(&holding, __ATOMIC_ACQUIRE) != 0; i++)
		usleep(1000);
	if (i == LOST_MS)
		__atomic_fetch_add(&n_lost, 1, __ATOMIC_RELAXED);
}

/* In this program the C library's comes after ours. */
int
epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
	__atomic_fetch_add(vhub_lcore_self() != NULL ? &n_by_lcores : &n_by_others, 1,
			__ATOMIC_RELAXED);
	if (op == EPOLL_CTL_ADD && __atomic_load_n(&holding, __ATOMIC_ACQUIRE) != 0 && is_epoll(fd))
		wait_while_held();
	return (int)syscall(SYS_epoll_ctl, epoll, op, fd, event);
}

static int
setup(void **state)
{
	(void)state;
	failed = NULL;
	hold_init(&hold, loop);
	n_held = n_lost = 0;
	return 0;
}

/* ---- moves, asked for by the front end's thread ---- */

struct ask {
	struct vhub_msg msg;
	struct vhub_queue_move move;
	int result; /* shared atomic */
};

static void
told(struct vhub_queue_move *move, int result)
{
	struct ask *ask = vhub_container_of(move, struct ask, move);

	__atomic_store_n(&ask->result, result, __ATOMIC_RELEASE);
}

static void
ask_on_ctl(struct vhub_msg *msg)
{
	struct ask *ask = vhub_container_of(msg, struct ask, msg);

	if (vhub_device_queue_move(&hold.dev, &ask->move) != 0)
		told(&ask->move, -EINVAL);
}

static void
ask_for(struct ask *ask, uint16_t queue, unsigned int lcore)
{
	*ask = (struct ask){
		.msg.fn = ask_on_ctl,
		.move = { .queue = queue, .lcore = vhub_lcore_at(lcore), .done = told },
		.result = RUNNING,
	};
	vhub_loop_post(loop, &ask->msg);
}

static int
result_of(struct ask *ask)
{
	int i, result = RUNNING;

	for (i = 0; i < 30000 && result == RUNNING; i++) {
		usleep(1000);
		result = __atomic_load_n(&ask->result, __ATOMIC_ACQUIRE);
	}
	return result;
}

static int
move(uint16_t queue, unsigned int lcore)
{
	struct ask ask;

	ask_for(&ask, queue, lcore);
	return result_of(&ask);
}

/* Has the queue take what is offered and keep it. */
static void
take(struct fe *fe, uint32_t queue, uint32_t n)
{
	uint32_t i;

	__atomic_store_n(&hold.holding, 1, __ATOMIC_RELEASE);
	for (i = 0; i < n; i++)
		fe_offer(fe, queue);
	fe_check(hold_wait(&hold, queue, n));
}

/* One more chain goes through, and this lcore has it. */
static void
serves(struct fe *fe, uint32_t queue, unsigned int lcore)
{
	uint16_t used = fe_used(fe, queue);

	fe_offer(fe, queue);
	fe_check(fe_wait_used(fe, queue, (uint16_t)(used + 1)));
	fe_check(__atomic_load_n(&hold.queues[queue].lcore_id, __ATOMIC_RELAXED) ==
			vhub_lcore_id(vhub_lcore_at(lcore)));
}

/* ---- a move ---- */

static void
play_moves(struct fe *fe)
{
	unsigned int i;

	fe_negotiate(fe);
	fe_check(fe_start_ring(fe, 0) == 0);
	fe_check(fe_start_ring(fe, 1) == 0);
	serves(fe, 0, 0);
	for (i = 1; i < 7; i++) {
		fe_check(move(0, i % 2) == 0);
		serves(fe, 0, i % 2);
		serves(fe, 1, 1);
	}
	fe_check(move(0, 0) == 0); /* it is there */
	fe_check(hold.running_changes == 1);
	fe_check(fe_get_base(fe, 0) == 7);
}

static void
test_a_queue_goes_on_on_the_other_lcore(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_moves), 0);
	assert_null(failed);
	assert_int_equal(hold.queues[0].starts, 7);
	assert_int_equal(hold.queues[0].stops, 7);
	assert_int_equal(hold.queues[1].starts, 1);
}

static void
play_kicks(struct fe *fe)
{
	const uint64_t zero = 0;
	int kick = eventfd(0, EFD_NONBLOCK);
	unsigned int i;

	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	fe_check(fe_ack(fe, VHUB_USER_SET_VRING_KICK, &zero, sizeof(zero), &kick, 1) == 0);
	for (i = 0; i < 4; i++) {
		fe_check(move(0, (i + 1) % 2) == 0);
		usleep(20000); /* asleep by now */
		fe_offer(fe, 0);
		fe_check(eventfd_write(kick, 1) == 0);
		fe_check(fe_wait_used(fe, 0, (uint16_t)(i + 1)));
	}
	close(kick);
}

/* The lcores sleep: the kick wakes the one that the queue has come to. */
static void
test_its_kicks_wake_the_lcore_that_it_has_come_to(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_kicks), 0);
	assert_null(failed);
}

static void
play_new_kicks(struct fe *fe)
{
	const uint64_t zero = 0;
	uint16_t used;

	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	for (unsigned int i = 0; i < 4; i++) {
		const int kick = eventfd(0, EFD_NONBLOCK);

		fe_check(fe_ack(fe, VHUB_USER_SET_VRING_KICK, &zero, sizeof(zero), &kick, 1) == 0);
		used = fe_used(fe, 0);
		usleep(20000); /* asleep by now */
		fe_offer(fe, 0);
		fe_check(eventfd_write(kick, 1) == 0);
		fe_check(fe_wait_used(fe, 0, (uint16_t)(used + 1)));
		if (i == 2)
			fe_check(move(0, 1) == 0);
		close(kick);
	}
}

/*
 * To watch a kick fd, and to let go of it, takes a lock that a front end may hold for long while it writes: when the
 * ring starts, gets another one, moves and stops, that is nothing for an lcore.
 */
static void
test_no_lcore_takes_the_lock_of_a_kick_fd(void **state)
{
	(void)state;
	__atomic_store_n(&n_by_lcores, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&n_by_others, 0, __ATOMIC_RELAXED);
	assert_int_equal(scene_run(loop, &hold.dev, play_new_kicks), 0);
	assert_null(failed);
	assert_int_equal(__atomic_load_n(&n_by_lcores, __ATOMIC_RELAXED), 0);
	assert_true(__atomic_load_n(&n_by_others, __ATOMIC_RELAXED) >= 8);
}

/* ---- somebody keeps the kernel's lock that it takes to have kicks wake an lcore ---- */

static void
begin_hold(void)
{
	__atomic_store_n(&holding, 1, __ATOMIC_RELEASE);
}

static void
end_hold(void)
{
	__atomic_store_n(&holding, 0, __ATOMIC_RELEASE);
}

static bool
wait_held(uint32_t n)
{
	int i;

	for (i = 0; i < LOST_MS && __atomic_load_n(&n_held, __ATOMIC_ACQUIRE) < n; i++)
		usleep(1000);
	return i < LOST_MS;
}

static int
start_with_kick(struct fe *fe, uint64_t queue)
{
	const int kick = eventfd(0, EFD_NONBLOCK);

	fe_check(fe_ack(fe, VHUB_USER_SET_VRING_KICK, &queue, sizeof(queue), &kick, 1) == 0);
	return kick;
}

/* Nobody kicks: an lcore that the ring's kicks do not wake looks by itself. */
static void
serves_unkicked(struct fe *fe, uint32_t queue, unsigned int lcore)
{
	usleep(20000); /* it would be asleep by now */
	serves(fe, queue, lcore);
}

static bool
sleeps(unsigned int lcore)
{
	struct vhub_lcore_stats stats = { .asleep = false };

	for (int i = 0; i < LOST_MS && !stats.asleep; i++) {
		usleep(1000);
		vhub_lcore_get_stats(vhub_lcore_at(lcore), &stats);
	}
	return stats.asleep;
}

static void
serves_kicked(struct fe *fe, uint32_t queue, int kick, unsigned int lcore)
{
	const uint16_t used = fe_used(fe, queue);

	fe_check(sleeps(lcore));
	fe_offer(fe, queue);
	fe_check(eventfd_write(kick, 1) == 0);
	fe_check(fe_wait_used(fe, queue, (uint16_t)(used + 1)));
}

static void
play_while_held(struct fe *fe)
{
	int kicks[5];

	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	fe_setup_ring(fe, 1);
	begin_hold();
	kicks[0] = start_with_kick(fe, 0);
	fe_check(wait_held(1));
	serves_unkicked(fe, 0, 0);
	kicks[1] = start_with_kick(fe, 1);
	serves_unkicked(fe, 1, 1);
	kicks[2] = start_with_kick(fe, 0);
	serves_unkicked(fe, 0, 0);
	fe_check(move(0, 1) == 0);
	serves_unkicked(fe, 0, 1);
	kicks[3] = start_with_kick(fe, 1);
	serves_unkicked(fe, 1, 1);
	fe_check(fe_get_base(fe, 0) == 3);
	kicks[4] = start_with_kick(fe, 0);
	serves_unkicked(fe, 0, 1);
	fe_check(__atomic_load_n(&n_held, __ATOMIC_ACQUIRE) == 1);
	end_hold();
	serves_kicked(fe, 0, kicks[4], 1);
	serves_kicked(fe, 1, kicks[3], 1);
	for (unsigned int i = 0; i < 5; i++)
		close(kicks[i]);
}

/* Rings start, get new kick fds, move and stop meanwhile, and what is offered to them is done. */
static void
test_nobody_waits_for_kicks_that_are_to_wake_an_lcore(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_while_held), 0);
	assert_null(failed);
	assert_int_equal(n_lost, 0);
}

static void
play_move_while_held(struct fe *fe)
{
	int kick;

	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	begin_hold();
	kick = start_with_kick(fe, 0);
	fe_check(wait_held(1));
	fe_check(move(0, 1) == 0);
	end_hold();
	serves_kicked(fe, 0, kick, 1);
	close(kick);
}

/* What is under way is for the lcore that it has left. */
static void
test_kicks_wake_the_lcore_to_which_the_ring_has_gone_meanwhile(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_move_while_held), 0);
	assert_null(failed);
	assert_int_equal(n_lost, 0);
}

static void
play_leave_while_held(struct fe *fe)
{
	fe_negotiate(fe);
	fe_setup_ring(fe, 0);
	fe_setup_ring(fe, 1);
	begin_hold();
	close(start_with_kick(fe, 0));
	close(start_with_kick(fe, 1));
	fe_check(wait_held(1));
}

static void
test_a_front_end_leaves_meanwhile_and_nothing_of_it_stays(void **state)
{
	unsigned int before;

	(void)state;
	vhub_fd_discard_wait();
	before = count_fds();
	assert_int_equal(scene_run(loop, &hold.dev, play_leave_while_held), 0);
	assert_null(failed);
	assert_int_equal(n_lost, 0);
	end_hold();
	vhub_work_wait(VHUB_WORK_KICK);
	vhub_fd_discard_wait();
	assert_int_equal(count_fds(), before);
}

static void
play_stopped(struct fe *fe)
{
	fe_negotiate(fe);
	fe_check(move(2, 1) == 0);
	fe_check(vhub_device_queue_lcore(&hold.dev, 2) == vhub_lcore_at(1));
	fe_check(fe_start_ring(fe, 2) == 0);
	serves(fe, 2, 1);
	fe_check(move(2, 0) == 0);
	fe_check(fe_get_base(fe, 2) == 1);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, 2 | VHUB_USER_VRING_NOFD) == 0);
	serves(fe, 2, 0);
	fe_check(move(HOLD_QUEUES, 0) == -EINVAL);
}

static void
test_a_queue_that_is_not_started_starts_there(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_stopped), 0);
	assert_null(failed);
}

/* ---- in flight ---- */

static void
play_in_flight(struct fe *fe)
{
	struct vhub_user_vring_state state = { 0, 0 };
	struct pollfd pfd = { fe->sock, POLLIN, 0 };
	struct ask first, second;

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_start_ring(fe, 1);
	take(fe, 0, 3);
	ask_for(&first, 0, 1);
	ask_for(&second, 1, 0);
	usleep(50000);
	fe_check(hold.queues[0].stops == 0);
	/* What the front end asks meanwhile comes after it. */
	fe_send(fe, VHUB_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0);
	fe_check(poll(&pfd, 1, 50) == 0);
	hold_let_go(&hold);
	fe_recv(fe, &state, sizeof(state));
	fe_check(state.num == 3);
	fe_check(result_of(&first) == 0);
	fe_check(result_of(&second) == 0);
	fe_check(fe_used(fe, 0) == 3);
	serves(fe, 1, 0);
	fe_check(fe_set_u64(fe, VHUB_USER_SET_VRING_KICK, VHUB_USER_VRING_NOFD) == 0);
	serves(fe, 0, 1);
}

static void
test_a_move_waits_for_what_is_in_flight_and_requests_for_the_move(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_in_flight), 0);
	assert_null(failed);
}

static void
play_request_first(struct fe *fe)
{
	struct vhub_user_vring_state state = { 0, 0 };
	struct ask ask;

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	fe_start_ring(fe, 1);
	take(fe, 0, 2);
	fe_send(fe, VHUB_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0);
	usleep(50000);
	ask_for(&ask, 1, 0);
	usleep(20000);
	fe_check(__atomic_load_n(&ask.result, __ATOMIC_ACQUIRE) == RUNNING);
	hold_let_go(&hold);
	fe_recv(fe, &state, sizeof(state));
	fe_check(result_of(&ask) == 0);
	serves(fe, 1, 0);
}

static void
test_a_move_waits_for_the_request_under_way(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_request_first), 0);
	assert_null(failed);
}

static void
play_stuck(struct fe *fe)
{
	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	take(fe, 0, 2);
	fe_check(move(0, 1) == -ETIMEDOUT);
	fe_check(hold.queues[0].stops == 0);
	fe_check(vhub_device_queue_lcore(&hold.dev, 0) == vhub_lcore_at(0));
	hold_let_go(&hold);
	fe_check(fe_wait_used(fe, 0, 2));
	serves(fe, 0, 0);
	fe_check(move(0, 1) == 0);
	serves(fe, 0, 1);
}

static void
test_with_stuck_storage_the_queue_stays_and_goes_on(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_stuck), 0);
	assert_null(failed);
}

static struct ask last_ask;

static void
play_hang_up(struct fe *fe)
{
	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	take(fe, 0, 2);
	ask_for(&last_ask, 0, 1);
	usleep(20000);
	hold_let_go_soon(&hold);
}

static void
test_a_front_end_that_leaves_meanwhile_is_let_go_after_the_move(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_hang_up), 0);
	assert_null(failed);
	assert_int_equal(last_ask.result, 0);
	assert_int_equal(hold.queues[0].starts, 2);
	assert_int_equal(hold.queues[0].stops, 2);
	assert_int_equal(hold.resets, 1);
}

/* ---- the other lcore cannot have it ---- */

static void
play_refused(struct fe *fe)
{
	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	serves(fe, 0, 0);
	__atomic_store_n(&hold.refusing, 1u << 1, __ATOMIC_RELEASE);
	fe_check(move(0, 1) == -ENOSPC);
	serves(fe, 0, 0);
	__atomic_store_n(&hold.refusing, 0, __ATOMIC_RELEASE);
	fe_check(move(0, 1) == 0);
	serves(fe, 0, 1);
}

static void
test_a_queue_that_cannot_run_there_goes_back(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_refused), 0);
	assert_null(failed);
}

static void
play_nowhere(struct fe *fe)
{
	char byte;

	fe_negotiate(fe);
	fe_start_ring(fe, 0);
	serves(fe, 0, 0);
	__atomic_store_n(&hold.refusing, 3, __ATOMIC_RELEASE);
	fe_check(move(0, 1) == -ENOSPC);
	fe_check(recv(fe->sock, &byte, 1, 0) == 0);
}

static void
test_a_queue_that_can_run_nowhere_ends_the_session(void **state)
{
	(void)state;
	assert_int_equal(scene_run(loop, &hold.dev, play_nowhere), -ENOSPC);
	assert_null(failed);
	assert_false(hold.running);
	assert_int_equal(hold.running_changes, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_queue_goes_on_on_the_other_lcore, setup),
		cmocka_unit_test_setup(test_its_kicks_wake_the_lcore_that_it_has_come_to, setup),
		cmocka_unit_test_setup(test_no_lcore_takes_the_lock_of_a_kick_fd, setup),
		cmocka_unit_test_setup(test_nobody_waits_for_kicks_that_are_to_wake_an_lcore,
				setup),
		cmocka_unit_test_setup(
				test_kicks_wake_the_lcore_to_which_the_ring_has_gone_meanwhile,
				setup),
		cmocka_unit_test_setup(test_a_front_end_leaves_meanwhile_and_nothing_of_it_stays,
				setup),
		cmocka_unit_test_setup(test_a_queue_that_is_not_started_starts_there, setup),
		cmocka_unit_test_setup(
				test_a_move_waits_for_what_is_in_flight_and_requests_for_the_move,
				setup),
		cmocka_unit_test_setup(test_a_move_waits_for_the_request_under_way, setup),
		cmocka_unit_test_setup(test_with_stuck_storage_the_queue_stays_and_goes_on, setup),
		cmocka_unit_test_setup(
				test_a_front_end_that_leaves_meanwhile_is_let_go_after_the_move,
				setup),
		cmocka_unit_test_setup(test_a_queue_that_cannot_run_there_goes_back, setup),
		cmocka_unit_test_setup(test_a_queue_that_can_run_nowhere_ends_the_session, setup),
	};
	int ret;

	if (scene_begin(&loop) != 0)
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	scene_end(loop);
	return ret;
}

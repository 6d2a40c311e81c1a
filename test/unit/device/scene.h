/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One front end, on a thread of its own, against one run of a device on the control loop: for the
 * tests of lib/device that need both.
 */
#ifndef SCENE_H
#define SCENE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../eal_fixture.h"
#include "frontend.h"
#include "vhub_device.h"
#include "vhub_work.h"

struct scene {
	void (*play)(struct fe *fe);
	struct fe fe;
	struct vhub_loop *loop;
	int result;
};

/* cmocka's asserts jump: on the front end's thread a failure is noted and looked at by the test. */
static const char *failed;
#define fe_check(what) \
	do { \
		if (!(what) && failed == NULL) \
			failed = #what; \
	} while (0)

static inline void *
scene_play(void *arg)
{
	struct scene *scene = arg;

	scene->play(&scene->fe);
	fe_fini(&scene->fe);
	return NULL;
}

static inline void
scene_ran(void *arg, int result)
{
	struct scene *scene = arg;

	scene->result = result;
	vhub_loop_stop(scene->loop, 0);
}

/* Serves the front end that `fn` plays; returns the result of the run. */
static inline int
scene_run(struct vhub_loop *loop, struct vhub_device *dev, void (*fn)(struct fe *fe))
{
	struct scene scene = { .play = fn, .loop = loop, .result = 1 };
	struct vhub_connection *connection;
	pthread_t thread;
	int sock[2];

	failed = NULL;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	fe_init(&scene.fe, sock[0]);
	assert_int_equal(vhub_connection_from_fd(sock[1], &connection), 0);
	assert_int_equal(vhub_run_backend(connection, dev, &dev->executor, scene_ran, &scene), 0);
	assert_int_equal(pthread_create(&thread, NULL, scene_play, &scene), 0);
	assert_int_equal(vhub_loop_run(loop), 0);
	pthread_join(thread, NULL);
	return scene.result;
}

/* What every such test program needs before its tests, and gives back after them. */
static inline int
scene_begin(struct vhub_loop **loop)
{
	return test_eal_init() == 0 && vhub_loop_create(loop) == 0 && vhub_work_start(*loop) == 0 &&
					vhub_mem_guard_start(*loop) == 0 &&
					vhub_lcores_start(*loop, VHUB_IDLE_ADAPTIVE, 50) == 0 ?
			0 :
			-1;
}

static inline void
scene_end(struct vhub_loop *loop)
{
	vhub_work_stop(); /* first: it has kicks wake lcores */
	vhub_lcores_stop();
	vhub_mem_guard_stop();
	vhub_loop_destroy(loop);
}

#endif /* SCENE_H */

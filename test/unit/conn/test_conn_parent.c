/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parent-process resources, with a real fork: a child in an empty root (and as root's child under
 * another uid) that cannot remove the socket file serves a front end, ends or is killed; the
 * parent's release removes the file, and without the release it stays. The parent never starts EAL,
 * as a parent that jails its child will not.
 */
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "conn_fixture.h"

#define NOBODY 65534

enum jail {
	JAIL_NONE, /* a child that could remove the file */
	JAIL_FULL,
};

struct place {
	char dir[64];
	char path[96];
	char root[96]; /* empty */
	unsigned int n_fds;
	struct vhub_connection *connection;
	struct vhub_parent_resources *resources;
};

static void
place_up(struct place *place)
{
	struct vhub_listener_options options = { .mode = 0666,
		.owner = (uid_t)-1,
		.group = (gid_t)-1 };

	memset(place, 0, sizeof(*place));
	place->n_fds = count_fds();
	make_dir(place->dir);
	snprintf(place->path, sizeof(place->path), "%s/parent.sock", place->dir);
	snprintf(place->root, sizeof(place->root), "%s/root", place->dir);
	assert_int_equal(mkdir(place->root, 0555), 0);
	options.path = place->path;
	assert_int_equal(vhub_listener_create(&options, &place->connection), 0);
}

static void
place_down(struct place *place)
{
	assert_false(exists(place->path));
	assert_int_equal(rmdir(place->root), 0);
	assert_int_equal(rmdir(place->dir), 0);
	assert_fds(place->n_fds);
}

/* ---- the child; it tells failures by its exit status ---- */

#define CHILD_CHECK(expr) \
	do { \
		if (!(expr)) { \
			fprintf(stderr, "child: %s:%d: %s: errno %d\n", __FILE__, __LINE__, #expr, \
					errno); \
			_exit(1); \
		} \
	} while (0)

/* Before EAL, whose threads would be in the way. Root needs no user namespace to leave its root. */
static void
child_prepare(enum jail jail)
{
	if (jail == JAIL_FULL && geteuid() != 0)
		CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
}

static void
child_enter_jail(const struct place *place, bool root)
{
	CHILD_CHECK(chroot(place->root) == 0);
	CHILD_CHECK(chdir("/") == 0);
	if (root) {
		CHILD_CHECK(setgroups(0, NULL) == 0);
		CHILD_CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0);
		CHILD_CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	}
	/* What this test is about. */
	CHILD_CHECK(unlink(place->path) != 0 && errno == ENOENT);
	CHILD_CHECK(open(".", O_WRONLY | O_TMPFILE, 0600) < 0);
}

static void
child_complete(void *arg, int result)
{
	struct bed *bed = arg;

	bed->n_completed++;
	bed->result = result;
	vhub_loop_stop(bed->loop, result);
}

/* Serves one front end to its end, orderly; does not return. */
static void
child_main(const struct place *place, enum jail jail)
{
	const bool root = geteuid() == 0;
	static struct bed bed;

	child_prepare(jail);
	CHILD_CHECK(test_eal_init() == 0);
	bed_up(&bed);
	if (jail == JAIL_FULL)
		child_enter_jail(place, root);
	CHILD_CHECK(vhub_run_req_handler(place->connection, &bed.fake.handler, &bed.executor,
				    child_complete, &bed) == 0);
	CHILD_CHECK(vhub_loop_run(bed.loop) == 0);
	CHILD_CHECK(bed.n_completed == 1 && bed.fake.n_opened == 1 && bed.fake.n_closing == 1);
	_exit(0);
}

/* ---- the parent ---- */

/*
 * Forks as a program with a jail does: resources taken before, the parent's copy of the connection
 * destroyed after.
 */
static pid_t
start_child(struct place *place, enum jail jail)
{
	pid_t pid;

	place->resources = vhub_take_parent_process_resources(place->connection);
	assert_non_null(place->resources);
	assert_null(vhub_take_parent_process_resources(
			place->connection)); /* there was one thing to take */
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child_main(place, jail);
	vhub_connection_destroy(place->connection);
	place->connection = NULL;
	assert_true(exists(place->path));
	return pid;
}

/* A front end of the child: asks for something and gets it. */
static int
be_served(const struct place *place)
{
	struct pollfd pfd = { .events = POLLIN };
	struct fe_reply reply;

	pfd.fd = fe_connect(place->path);
	assert_true(pfd.fd >= 0);
	fe_send(pfd.fd, VHUB_USER_GET_FEATURES, 0, NULL, 0);
	assert_int_equal(poll(&pfd, 1, 30000), 1);
	fe_take_reply(pfd.fd, &reply);
	assert_int_equal(reply.header.request, VHUB_USER_GET_FEATURES);
	return pfd.fd;
}

static int
wait_child(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
test_a_jailed_child_serves_and_ends(void **state)
{
	struct place place;
	pid_t pid;
	int status;

	(void)state;
	place_up(&place);
	pid = start_child(&place, JAIL_FULL);
	close(be_served(&place));
	status = wait_child(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* Without the release it stays, though nobody listens any more. */
	assert_true(exists(place.path));
	assert_int_equal(fe_connect(place.path), -ECONNREFUSED);
	vhub_parent_resources_release(place.resources);
	assert_false(exists(place.path));
	place_down(&place);
}

static void
test_a_jailed_child_is_killed(void **state)
{
	struct place place;
	pid_t pid;
	int status, sock;

	(void)state;
	place_up(&place);
	pid = start_child(&place, JAIL_FULL);
	sock = be_served(&place);
	kill(pid, SIGKILL);
	status = wait_child(pid);
	assert_true(WIFSIGNALED(status));
	assert_true(fe_is_closed(sock));
	close(sock);
	assert_true(exists(place.path));
	vhub_parent_resources_release(place.resources);
	assert_false(exists(place.path));
	place_down(&place);
}

/*
 * Also a child that could remove the file leaves it to the parent, who may need it for the next
 * child.
 */
static void
test_a_child_without_a_jail_leaves_the_file_too(void **state)
{
	struct place place;
	pid_t pid;
	int status;

	(void)state;
	place_up(&place);
	pid = start_child(&place, JAIL_NONE);
	close(be_served(&place));
	status = wait_child(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(exists(place.path));
	vhub_parent_resources_release(place.resources);
	place_down(&place);
}

/* Nothing to take here; but the parent's copy must go without a word to the front end. */
static void
test_a_child_serves_a_connected_fd(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	struct fe_reply reply;
	struct place place;
	int pair[2], status;
	pid_t pid;

	(void)state;
	place_up(&place);
	vhub_connection_destroy(place.connection);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vhub_connection_from_fd(pair[1], &place.connection), 0);
	assert_null(vhub_take_parent_process_resources(place.connection));
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(pair[0]);
		child_main(&place, JAIL_FULL);
	}
	vhub_connection_destroy(place.connection);
	pfd.fd = pair[0];
	fe_send(pfd.fd, VHUB_USER_GET_FEATURES, 0, NULL, 0);
	assert_int_equal(poll(&pfd, 1, 30000), 1);
	fe_take_reply(pfd.fd, &reply);
	close(pair[0]);
	status = wait_child(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	place_down(&place);
}

static void
test_release_removes_only_the_very_file(void **state)
{
	struct vhub_listener_options options = { .owner = (uid_t)-1, .group = (gid_t)-1 };
	struct vhub_connection *other;
	struct place place;

	(void)state;
	place_up(&place);
	place.resources = vhub_take_parent_process_resources(place.connection);
	vhub_connection_destroy(place.connection);
	/* Nobody listens on it now: somebody else may take the path. */
	options.path = place.path;
	assert_int_equal(vhub_listener_create(&options, &other), 0);
	vhub_parent_resources_release(place.resources);
	assert_true(exists(place.path));
	close(fe_connect(place.path));
	vhub_connection_destroy(other);
	place_down(&place);
}

/* What would happen without all this: the parent's copy removes the file from under its child. */
static void
test_without_taking_them_the_connection_removes_its_file(void **state)
{
	struct place place;

	(void)state;
	place_up(&place);
	vhub_connection_destroy(place.connection);
	assert_false(exists(place.path));
	place_down(&place);
}

static void
test_nothing_to_release(void **state)
{
	(void)state;
	vhub_parent_resources_release(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_jailed_child_serves_and_ends),
		cmocka_unit_test(test_a_jailed_child_is_killed),
		cmocka_unit_test(test_a_child_without_a_jail_leaves_the_file_too),
		cmocka_unit_test(test_a_child_serves_a_connected_fd),
		cmocka_unit_test(test_release_removes_only_the_very_file),
		cmocka_unit_test(test_without_taking_them_the_connection_removes_its_file),
		cmocka_unit_test(test_nothing_to_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

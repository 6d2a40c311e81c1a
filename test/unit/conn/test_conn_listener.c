/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners: stale and living sockets in the way, mode, owner and group of the file, whose file is
 * removed, long paths, and peers that are checked.
 */
#include "conn_fixture.h"

struct place {
	char dir[64];
	char path[96];
	unsigned int n_fds;
};

static void
place_up(struct place *place)
{
	place->n_fds = count_fds();
	make_dir(place->dir);
	snprintf(place->path, sizeof(place->path), "%s/listener.sock", place->dir);
}

static void
place_down(struct place *place)
{
	assert_int_equal(rmdir(place->dir), 0);
	assert_fds(place->n_fds);
}

static struct vhub_listener_options
options_of(const char *path)
{
	return (struct vhub_listener_options){ .path = path,
		.owner = (uid_t)-1,
		.group = (gid_t)-1,
		.peer_uid = (uid_t)-1,
		.peer_gid = (gid_t)-1 };
}

static int
listen_at(const char *path, struct vhub_connection **connection)
{
	const struct vhub_listener_options options = options_of(path);

	return vhub_listener_create(&options, connection);
}

/* A socket of ours at the path, as somebody else would have made it. */
static int
bind_at(const char *path, int type)
{
	const struct sockaddr_un addr = address_of(path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static ino_t
inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_ino;
}

static void
test_a_stale_socket_is_replaced(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	int fd;

	(void)state;
	place_up(&place);
	close(bind_at(place.path, SOCK_STREAM));
	assert_int_equal(listen_at(place.path, &connection), 0);
	fd = fe_connect(place.path);
	assert_true(fd >= 0);
	close(fd);
	vhub_connection_destroy(connection);
	assert_false(exists(place.path));
	place_down(&place);
}

static void
test_a_living_socket_is_left_alone(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	ino_t inode;
	int fd;

	(void)state;
	place_up(&place);
	fd = bind_at(place.path, SOCK_STREAM);
	assert_int_equal(listen(fd, 0), 0);
	inode = inode_of(place.path);
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	/* Now its backlog is full, and it answers nobody. */
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	assert_int_equal(inode_of(place.path), inode);
	close(fd);
	unlink(place.path);
	place_down(&place);
}

static void
test_two_listeners_at_one_path(void **state)
{
	struct vhub_connection *first, *second;
	struct place place;

	(void)state;
	place_up(&place);
	assert_int_equal(listen_at(place.path, &first), 0);
	assert_int_equal(listen_at(place.path, &second), -EADDRINUSE);
	vhub_connection_destroy(first);
	assert_int_equal(listen_at(place.path, &second), 0);
	vhub_connection_destroy(second);
	place_down(&place);
}

static void
test_what_is_no_stream_socket_is_never_removed(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	char target[128];
	int fd;

	(void)state;
	place_up(&place);
	/* A file. */
	fd = open(place.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	assert_true(exists(place.path));
	close(fd);
	unlink(place.path);
	/* A directory. */
	assert_int_equal(mkdir(place.path, 0700), 0);
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	rmdir(place.path);
	/* A fifo: opening it must not wait for a writer. */
	assert_int_equal(mkfifo(place.path, 0600), 0);
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	unlink(place.path);
	/* A link, to nothing and to a stale socket. */
	snprintf(target, sizeof(target), "%s/target", place.dir);
	assert_int_equal(symlink(target, place.path), 0);
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	close(bind_at(target, SOCK_STREAM));
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	assert_true(exists(target));
	unlink(target);
	unlink(place.path);
	/* Somebody's datagram socket. */
	fd = bind_at(place.path, SOCK_DGRAM);
	assert_int_equal(listen_at(place.path, &connection), -EADDRINUSE);
	assert_true(exists(place.path));
	close(fd);
	unlink(place.path);
	place_down(&place);
}

static void
test_only_the_very_file_is_removed(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	ino_t inode;
	int fd;

	(void)state;
	place_up(&place);
	assert_int_equal(listen_at(place.path, &connection), 0);
	/*
	 * Another took its place: with the same name, and, were ours not held, perhaps the same
	 * inode number.
	 */
	assert_int_equal(unlink(place.path), 0);
	fd = bind_at(place.path, SOCK_STREAM);
	inode = inode_of(place.path);
	vhub_connection_destroy(connection);
	assert_true(exists(place.path));
	assert_int_equal(inode_of(place.path), inode);
	close(fd);
	unlink(place.path);
	/* Gone already is fine, too. */
	assert_int_equal(listen_at(place.path, &connection), 0);
	unlink(place.path);
	vhub_connection_destroy(connection);
	place_down(&place);
}

static void
test_a_relative_path_is_removed_from_where_it_was_made(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	char cwd[4096];

	(void)state;
	place_up(&place);
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(place.dir), 0);
	assert_int_equal(listen_at("listener.sock", &connection), 0);
	assert_int_equal(chdir("/"), 0);
	assert_true(exists(place.path));
	vhub_connection_destroy(connection);
	assert_false(exists(place.path));
	assert_int_equal(chdir(cwd), 0);
	place_down(&place);
}

static void
test_mode_whatever_the_umask(void **state)
{
	const mode_t modes[] = { 0, 0600, 0660, 0666, 0777, 0620 };
	const mode_t umasks[] = { 0, 022, 077, 0777 };
	struct vhub_connection *connection;
	struct vhub_listener_options options;
	struct place place;
	struct stat st;
	mode_t old;

	(void)state;
	place_up(&place);
	old = umask(0);
	for (size_t i = 0; i < sizeof(umasks) / sizeof(umasks[0]); i++) {
		for (size_t j = 0; j < sizeof(modes) / sizeof(modes[0]); j++) {
			options = options_of(place.path);
			options.mode = modes[j];
			umask(umasks[i]);
			assert_int_equal(vhub_listener_create(&options, &connection), 0);
			assert_int_equal(umask(umasks[i]), umasks[i]); /* untouched */
			assert_int_equal(lstat(place.path, &st), 0);
			assert_int_equal(st.st_mode & 07777, modes[j] != 0 ? modes[j] : 0660);
			vhub_connection_destroy(connection);
		}
	}
	umask(old);
	place_down(&place);
}

/* Root may give it to anybody, others only to themselves. */
static void
test_owner_and_group(void **state)
{
	const bool root = geteuid() == 0;
	struct vhub_connection *connection;
	struct vhub_listener_options options;
	struct place place;
	struct stat st;

	(void)state;
	place_up(&place);
	options = options_of(place.path);
	options.owner = root ? 12345 : geteuid();
	options.group = root ? 54321 : getegid();
	assert_int_equal(vhub_listener_create(&options, &connection), 0);
	assert_int_equal(lstat(place.path, &st), 0);
	assert_int_equal(st.st_uid, options.owner);
	assert_int_equal(st.st_gid, options.group);
	assert_int_equal(st.st_mode & 07777, 0660);
	vhub_connection_destroy(connection);
	options.owner = (uid_t)-1;
	assert_int_equal(vhub_listener_create(&options, &connection), 0);
	assert_int_equal(lstat(place.path, &st), 0);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(st.st_gid, options.group);
	vhub_connection_destroy(connection);
	place_down(&place);
}

static void
test_paths(void **state)
{
	struct vhub_connection *connection;
	struct place place;
	char path[200];
	size_t len;

	(void)state;
	place_up(&place);
	len = (size_t)snprintf(path, sizeof(path), "%s/", place.dir);
	memset(path + len, 'x', sizeof(path) - len);
	path[107] = '\0';
	assert_int_equal(listen_at(path, &connection), 0);
	assert_true(exists(path));
	vhub_connection_destroy(connection);
	assert_false(exists(path));
	path[107] = 'x';
	path[108] = '\0';
	assert_int_equal(listen_at(path, &connection), -ENAMETOOLONG);
	assert_int_equal(listen_at("", &connection), -EINVAL);
	assert_int_equal(listen_at(NULL, &connection), -EINVAL);
	snprintf(path, sizeof(path), "%s/none/x.sock", place.dir);
	assert_int_equal(listen_at(path, &connection), -ENOENT);
	place_down(&place);
}

/* ---- peers ---- */

static void
check_peer(uid_t uid, gid_t gid, bool welcome)
{
	struct vhub_connection *connection;
	struct vhub_listener_options options;
	struct vhub_server *server;
	struct vhub_server_stats stats;
	struct place place;
	struct bed bed;
	int sock;

	place_up(&place);
	bed_up(&bed);
	options = options_of(place.path);
	options.check_peer = true;
	options.peer_uid = uid;
	options.peer_gid = gid;
	assert_int_equal(vhub_listener_create(&options, &connection), 0);
	assert_int_equal(vhub_serve(connection, &bed.fake.handler, &bed.executor, &server), 0);
	sock = fe_connect(place.path);
	if (welcome)
		fe_fence(&bed, sock);
	else
		WAIT_FOR(&bed, fe_is_closed(sock));
	vhub_server_get_stats(server, &stats);
	assert_int_equal(stats.sessions, welcome);
	assert_int_equal(stats.refused, !welcome);
	assert_int_equal(bed.fake.n_opened, welcome);
	close(sock);
	vhub_server_stop(server, bed_complete, &bed);
	WAIT_FOR(&bed, bed.n_completed == 1);
	bed_down(&bed);
	place_down(&place);
}

static void
test_peers_are_checked(void **state)
{
	const uid_t uid = geteuid();
	const gid_t gid = getegid();

	(void)state;
	check_peer((uid_t)-1, (gid_t)-1, true);
	check_peer(uid, (gid_t)-1, true);
	check_peer((uid_t)-1, gid, true);
	check_peer(uid, gid, true);
	check_peer(uid + 1, (gid_t)-1, false);
	check_peer((uid_t)-1, gid + 1, false);
	check_peer(uid + 1, gid, false);
	check_peer(uid, gid + 1, false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_stale_socket_is_replaced),
		cmocka_unit_test(test_a_living_socket_is_left_alone),
		cmocka_unit_test(test_two_listeners_at_one_path),
		cmocka_unit_test(test_what_is_no_stream_socket_is_never_removed),
		cmocka_unit_test(test_only_the_very_file_is_removed),
		cmocka_unit_test(test_a_relative_path_is_removed_from_where_it_was_made),
		cmocka_unit_test(test_mode_whatever_the_umask),
		cmocka_unit_test(test_owner_and_group),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_peers_are_checked),
	};

	return cmocka_run_group_tests(tests, test_eal_up, NULL);
}

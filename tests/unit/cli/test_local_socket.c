/* Unix sockets that forwards listen on: whose file it is that is removed. */
#include "support/case.h"

#include "cli/local_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[64];
static struct forward_place place;

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/local-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	memset(&place, 0, sizeof place);
	snprintf(place.path, sizeof place.path, "%s/socket", folder);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(place.path);
	return rmdir(folder);
}

static int dial(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(at.sun_path, sizeof at.sun_path, "%s", place.path);
	int rc = connect(fd, (const struct sockaddr *)&at, sizeof at) == 0 ? 0 : -errno;
	close(fd);
	return rc;
}

static void test_its_own_file_goes(void **state)
{
	(void)state;
	struct local_socket s;
	struct err e;
	struct stat st;
	assert_int_equal(local_socket_listen(&place, &s, &e), 0);
	assert_int_equal(lstat(place.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(dial(), 0);
	local_socket_remove(&s, &place);
	assert_int_equal(access(place.path, F_OK), -1);
	local_socket_remove(&s, &place); /* harmless */
}

/* Handed on, as a listener has it: the file goes while somebody still listens. */
static void test_a_descriptor_that_was_handed_on_stays(void **state)
{
	(void)state;
	struct local_socket s;
	struct err e;
	assert_int_equal(local_socket_listen(&place, &s, &e), 0);
	int fd = s.fd;
	s.fd = -1;
	local_socket_remove(&s, &place);
	assert_int_equal(access(place.path, F_OK), -1);
	assert_int_equal(close(fd), 0);
}

static void test_the_file_of_another_stays(void **state)
{
	(void)state;
	struct local_socket mine, other;
	struct err e;
	assert_int_equal(local_socket_listen(&place, &mine, &e), 0);
	assert_int_equal(local_socket_listen(&place, &other, &e), ERR_CONFLICT);
	close(mine.fd); /* it dies, and its place is taken before it is cleaned up; the inode is often the same */
	mine.fd = -1;
	assert_int_equal(local_socket_listen(&place, &other, &e), 0);
	local_socket_remove(&mine, &place);
	assert_int_equal(dial(), 0);
	local_socket_remove(&other, &place);
	assert_int_equal(access(place.path, F_OK), -1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_its_own_file_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_descriptor_that_was_handed_on_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_file_of_another_stays, set_up, tear_down),
	};
	return RUN_CASES(tests);
}

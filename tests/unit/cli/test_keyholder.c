/* The socket of a session's SSH agent, with peers that are many, slow or rude. */
#include "support/case.h"

#include "cli/keyholder.h"
#include "cli/sshdir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[64];
static uv_loop_t loop;
static struct sshdir dir;
static struct keyholder holder;
static const uint8_t list_request[] = { 0, 0, 0, 1, 11 };

static void fill(struct sshdir *d)
{
	const char *const principals[] = { "root" };
	const struct sshcert cert = { .type = SSHCERT_USER,
				      .key_id = "s-1",
				      .principals = principals,
				      .principal_count = 1,
				      .valid_before_s = 4102444800 };
	char text[SSHCERT_TEXT];
	EVP_PKEY *ca = sshkey_generate(NULL);
	assert_int_equal(sshcert_sign(ca, &cert, d->public_key, text, NULL), 0);
	json_t *ssh = json_pack("{s:s, s:s}", "certificate", text, "host_alias", "web-1");
	struct err e = { 0 };
	if (sshdir_fill(d, ssh, &e))
		fail_msg("%s", e.text);
	json_decref(ssh);
	EVP_PKEY_free(ca);
}

static int set_up(void **state)
{
	(void)state;
	struct err e = { 0 };
	case_folder(folder);
	assert_int_equal(sshdir_open(&dir, folder, &e), 0);
	fill(&dir);
	uv_loop_init(&loop);
	holder = (struct keyholder){ .active = false };
	assert_int_equal(keyholder_start(&holder, &loop, sshdir_listen(&dir, "agent", &e), &dir.identity, &e), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	keyholder_stop(&holder);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	sshdir_close(&dir);
	case_folder_remove(folder);
	return 0;
}

static int connect_to_it(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s/agent", folder);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

/* Reads until all of it is there; false: the other side hung up first. */
static bool read_all(int fd, void *out, size_t len)
{
	size_t have = 0;
	while (have < len) {
		uv_run(&loop, UV_RUN_NOWAIT);
		ssize_t n = read(fd, (char *)out + have, len - have);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return false;
		have += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void assert_answers(int fd)
{
	uint8_t head[5], rest[SSHAGENT_ANSWER_MAX];
	assert_true(read_all(fd, head, sizeof head));
	assert_int_equal(head[4], 12);
	assert_true(read_all(fd, rest, ((size_t)head[2] << 8 | head[3]) - 1));
}

static void test_requests_in_pieces_and_in_a_row(void **state)
{
	(void)state;
	int fd = connect_to_it();
	for (size_t i = 0; i < sizeof list_request; i++) {
		assert_int_equal(write(fd, list_request + i, 1), 1);
		for (int turn = 0; turn < 3; turn++)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	assert_answers(fd);
	for (int i = 0; i < 100; i++)
		assert_int_equal(write(fd, list_request, sizeof list_request), sizeof list_request);
	for (int i = 0; i < 100; i++)
		assert_answers(fd);
	close(fd);
}

static void test_more_than_it_serves_at_once_wait(void **state)
{
	(void)state;
	int fds[KEYHOLDER_PEERS + 3];
	const size_t count = sizeof fds / sizeof *fds;
	uint8_t byte;
	for (size_t i = 0; i < count; i++) {
		fds[i] = connect_to_it();
		uv_run(&loop, UV_RUN_NOWAIT); /* the queue is short */
		assert_int_equal(write(fds[i], list_request, sizeof list_request), sizeof list_request);
	}
	for (size_t i = 0; i < KEYHOLDER_PEERS; i++)
		assert_answers(fds[i]);
	for (int turn = 0; turn < 20; turn++)
		uv_run(&loop, UV_RUN_NOWAIT);
	for (size_t i = KEYHOLDER_PEERS; i < count; i++)
		assert_int_equal(read(fds[i], &byte, 1), -1);
	for (size_t i = 0; i < count - KEYHOLDER_PEERS; i++) {
		close(fds[i]);
		assert_answers(fds[KEYHOLDER_PEERS + i]);
	}
	for (size_t i = count - KEYHOLDER_PEERS; i < count; i++)
		close(fds[i]);
}

static void test_who_asks_for_too_much_is_hung_up_on(void **state)
{
	(void)state;
	static const uint8_t long_one[] = { 0, 1, 0, 0, 11 };
	uint8_t byte;
	int rude = connect_to_it(), polite = connect_to_it();
	assert_int_equal(write(rude, long_one, sizeof long_one), sizeof long_one);
	assert_false(read_all(rude, &byte, 1));
	assert_int_equal(write(polite, list_request, sizeof list_request), sizeof list_request);
	assert_answers(polite);
	close(rude);
	close(polite);
}

static void test_a_second_session_takes_the_place(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct sshdir second;
	struct stat st;
	char path[128];
	assert_int_equal(sshdir_open(&second, folder, &e), 0);
	int fd = sshdir_listen(&second, "agent", &e), old = connect_to_it();
	assert_true(fd >= 0);
	assert_int_equal(accept4(fd, NULL, NULL, SOCK_NONBLOCK) >= 0, true);
	close(old);
	close(fd);
	snprintf(path, sizeof path, "%s/agent", folder);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	sshdir_close(&second);
}

static void test_the_folder_is_the_users_alone_and_its_path_short(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct sshdir d;
	char path[SSHDIR_PATH + 64];
	assert_int_equal(chmod(folder, 0750), 0);
	assert_int_equal(sshdir_open(&d, folder, &e), ERR_DENIED);
	assert_non_null(strstr(e.text, "chmod 700"));
	sshdir_close(&d);
	assert_int_equal(chmod(folder, 0700), 0);
	snprintf(path, sizeof path, "%s/%0*d", folder, SSHDIR_PATH - 1 - (int)strlen(folder), 0);
	assert_int_equal(sshdir_open(&d, path, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "too long"));
	sshdir_close(&d);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests_in_pieces_and_in_a_row, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_more_than_it_serves_at_once_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_asks_for_too_much_is_hung_up_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_second_session_takes_the_place, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_folder_is_the_users_alone_and_its_path_short, set_up,
						tear_down),
	};
	return RUN_CASES(tests);
}

/* Streams to and from every kind of descriptor, and the ways in which they end. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static uint32_t open_stream(struct harness *h, int in_fd, int out_fd)
{
	uint32_t id = 0;
	struct err e = { 0 };
	if (endpoint_open_stream(h->client.ep, &harness_dest, in_fd, out_fd, &id, &e) != 0)
		fail_msg("%s", e.text);
	return id;
}

static void expect_code(struct harness *h, uint32_t id, unsigned client, unsigned target)
{
	HARNESS_UNTIL(h, h->client.streams[id].done && h->target.streams[id].done);
	assert_int_equal(h->client.streams[id].code, client);
	assert_int_equal(h->target.streams[id].code, target);
}

static int file_of(struct harness *h, const char *name, size_t len, int flags)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", h->folder, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i += 4096) {
		char block[4096];
		for (size_t k = 0; k < sizeof block; k++)
			block[k] = (char)((i + k) * 2654435761u >> 11);
		size_t n = len - i < sizeof block ? len - i : sizeof block;
		assert_int_equal(write(fd, block, n), (ssize_t)n);
	}
	close(fd);
	fd = open(path, flags | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static bool files_are_equal(struct harness *h, const char *a, const char *b)
{
	char command[300];
	snprintf(command, sizeof command, "cmp -s %s/%s %s/%s", h->folder, a, h->folder, b);
	return system(command) == 0;
}

/* epoll refuses both of these. */
static void test_regular_files(void **state)
{
	static const size_t sizes[] = { 0, 1, 65536, 3000001 };
	struct harness *h = *state;
	harness_start_both(h);
	for (size_t i = 0; i < 4; i++) {
		int in = file_of(h, "in", sizes[i], O_RDONLY), out = file_of(h, "out", 0, O_WRONLY);
		uint32_t id = open_stream(h, in, out);
		expect_code(h, id, LINK_OK, LINK_OK);
		assert_int_equal(h->client.streams[id].in, sizes[i]);
		assert_true(files_are_equal(h, "in", "out"));
	}
}

static void test_nothing_in_and_nowhere_out(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	int null_in = open("/dev/null", O_RDONLY | O_CLOEXEC), null_out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	expect_code(h, open_stream(h, null_in, null_out), LINK_OK, LINK_OK);
	int in = file_of(h, "in", 500000, O_RDONLY);
	null_out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint32_t id = open_stream(h, in, null_out);
	expect_code(h, id, LINK_OK, LINK_OK);
	assert_int_equal(h->client.streams[id].in, 500000);
}

static bool pipe_says(int fd, char *out, size_t size, size_t *len)
{
	ssize_t n = read(fd, out + *len, size - *len);
	if (n > 0)
		*len += (size_t)n;
	return n == 0;
}

/* As standard input and output of a command: half-closes in both directions, flags as before afterwards. */
static void test_pipes(void **state)
{
	struct harness *h = *state;
	int in[2], out[2];
	char got[100];
	size_t len = 0;
	harness_start_both(h);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	int other_holder = dup(in[0]);
	uint32_t id = open_stream(h, in[0], out[1]);
	assert_int_equal(write(in[1], "hello", 5), 5);
	HARNESS_UNTIL(h, (pipe_says(out[0], got, sizeof got, &len), len == 5));
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(write(in[1], " world", 6), 6);
	close(in[1]);
	HARNESS_UNTIL(h, pipe_says(out[0], got, sizeof got, &len));
	assert_memory_equal(got, "hello world", 11);
	assert_int_equal(len, 11);
	expect_code(h, id, LINK_OK, LINK_OK);
	assert_int_equal(fcntl(other_holder, F_GETFL) & O_NONBLOCK, 0);
	close(other_holder);
	close(out[0]);
}

/* "command | head -1" */
static void test_a_pipe_whose_reader_leaves(void **state)
{
	struct harness *h = *state;
	int in = file_of(h, "in", 3000000, O_RDONLY), out[2];
	char got[100];
	size_t len = 0;
	harness_start_both(h);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	uint32_t id = open_stream(h, in, out[1]);
	HARNESS_UNTIL(h, (pipe_says(out[0], got, sizeof got, &len), len > 0));
	for (int i = 0; i < 30; i++) /* it waits for room in the pipe then */
		harness_turn(h);
	assert_false(h->client.streams[id].done);
	close(out[0]);
	expect_code(h, id, LINK_IO, LINK_IO);
	assert_non_null(strstr(h->target.streams[id].text, "Broken pipe"));
}

static void test_a_terminal(void **state)
{
	struct harness *h = *state;
	int master, slave;
	char got[100];
	size_t len = 0;
	struct termios raw;
	harness_start_both(h);
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	tcgetattr(slave, &raw);
	cfmakeraw(&raw);
	tcsetattr(slave, TCSANOW, &raw);
	fcntl(master, F_SETFL, O_NONBLOCK);
	int out = dup(slave), shell = dup(slave);
	uint32_t id = open_stream(h, slave, out);
	assert_int_equal(write(master, "typed", 5), 5);
	HARNESS_UNTIL(h, (pipe_says(master, got, sizeof got, &len), len == 5));
	assert_memory_equal(got, "typed", 5);
	endpoint_reset_stream(h->client.ep, id, LINK_OK, "");
	HARNESS_UNTIL(h, h->target.streams[id].done);
	assert_true(h->client.streams[id].done);
	assert_int_equal(fcntl(shell, F_GETFL) & O_NONBLOCK, 0);
	close(shell);
	close(master);
}

/* A connected TCP pair on loopback; [0] is for the endpoint. */
static void tcp_pair(int out[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&a, &len);
	out[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(out[1], (struct sockaddr *)&a, len), 0);
	out[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(out[0] >= 0);
	close(listener);
}

static void rst(int fd)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

static void accept_with_given(struct end *end, uint32_t stream, const struct link_dest *dest)
{
	struct err e = { 0 };
	(void)dest;
	if (endpoint_attach_fd(end->ep, stream, end->given[0], end->given[1], &e) != 0)
		fail_msg("%s", e.text);
}

static bool is_readable(int fd, ssize_t *n)
{
	char byte;
	*n = recv(fd, &byte, 1, MSG_DONTWAIT);
	return *n >= 0 || errno != EAGAIN;
}

/* One direction stays open after the other has ended. */
static void test_half_close_between_tcp_sockets(void **state)
{
	struct harness *h = *state;
	int client[2], target[2];
	ssize_t n;
	tcp_pair(client);
	tcp_pair(target);
	h->target.on_open = accept_with_given;
	h->target.given[0] = h->target.given[1] = target[0];
	harness_start_both(h);
	uint32_t id = open_stream(h, client[0], client[0]);
	shutdown(client[1], SHUT_WR);
	HARNESS_UNTIL(h, is_readable(target[1], &n));
	assert_int_equal(n, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send(target[1], "x", 1, 0), 1);
		HARNESS_UNTIL(h, is_readable(client[1], &n));
		assert_int_equal(n, 1);
	}
	assert_false(h->client.streams[id].done);
	close(target[1]);
	HARNESS_UNTIL(h, is_readable(client[1], &n));
	assert_int_equal(n, 0);
	expect_code(h, id, LINK_OK, LINK_OK);
	close(client[1]);
}

/* A reset must not look like an end: it goes through as a reset. */
static void test_a_reset_goes_through(void **state)
{
	struct harness *h = *state;
	int client[2], target[2];
	ssize_t n;
	tcp_pair(client);
	tcp_pair(target);
	h->target.on_open = accept_with_given;
	h->target.given[0] = h->target.given[1] = target[0];
	harness_start_both(h);
	uint32_t id = open_stream(h, client[0], client[0]);
	send(client[1], "x", 1, 0);
	HARNESS_UNTIL(h, is_readable(target[1], &n));
	rst(target[1]);
	expect_code(h, id, LINK_IO, LINK_IO);
	HARNESS_UNTIL(h, is_readable(client[1], &n));
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	close(client[1]);
}

/* A service answers a request that it does not read, and closes: its kernel sends an RST behind the answer. */
struct answer {
	int client[2], target[2];
	uint32_t id;
	size_t sent, got;
	int error; /* what the client saw at the end; 0: nothing yet */
};

static void ask(struct harness *h, struct answer *a)
{
	ssize_t n;
	tcp_pair(a->client);
	tcp_pair(a->target);
	h->target.on_open = accept_with_given;
	h->target.given[0] = h->target.given[1] = a->target[0];
	harness_start_both(h);
	a->id = open_stream(h, a->client[0], a->client[0]);
	assert_int_equal(send(a->client[1], "request", 7, 0), 7);
	HARNESS_UNTIL(h, is_readable(a->target[1], &n));
}

static int unsent(int fd)
{
	int n = 0;
	assert_int_equal(ioctl(fd, SIOCOUTQNSD, &n), 0);
	return n;
}

/* As much as there is room for. */
static bool say_some(struct answer *a, size_t most)
{
	static uint8_t bytes[65536];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)((a->sent + i) * 2654435761u >> 11);
	ssize_t n = send(a->target[1], bytes, most < sizeof bytes ? most : sizeof bytes, MSG_DONTWAIT);
	a->sent += n > 0 ? (size_t)n : 0;
	return n > 0;
}

/* The last bytes are not read yet when the RST comes. What the kernel has not sent goes with it, as ever. */
static void say_the_rest_and_close(struct answer *a)
{
	say_some(a, 30000);
	a->sent -= (size_t)unsent(a->target[1]);
	close(a->target[1]);
}

static bool hear(struct answer *a)
{
	uint8_t bytes[128 * 1024];
	ssize_t n = recv(a->client[1], bytes, sizeof bytes, MSG_DONTWAIT);
	if (n < 0)
		a->error = errno == EAGAIN ? 0 : errno;
	else if (n == 0)
		fail_msg("the answer seems to end after %zu bytes", a->got);
	for (ssize_t i = 0; i < n; i++, a->got++)
		if (bytes[i] != (uint8_t)(a->got * 2654435761u >> 11))
			fail_msg("another byte at %zu", a->got);
	return a->error != 0;
}

static void expect_whole_answer(struct harness *h, struct answer *a)
{
	HARNESS_UNTIL(h, hear(a));
	assert_int_equal(a->error, ECONNRESET);
	assert_int_equal(a->got, a->sent);
	expect_code(h, a->id, LINK_IO, LINK_IO);
	assert_int_equal(h->target.streams[a->id].out, a->sent);
	assert_int_equal(h->client.streams[a->id].in, a->sent);
	close(a->client[1]);
}

static void test_an_answer_before_a_reset(void **state)
{
	struct harness *h = *state;
	struct answer a = { 0 };
	ask(h, &a);
	say_the_rest_and_close(&a);
	expect_whole_answer(h, &a);
}

static void test_an_answer_before_a_reset_in_an_outage(void **state)
{
	struct harness *h = *state;
	struct answer a = { 0 };
	ask(h, &a);
	harness_tell(h, "down");
	HARNESS_UNTIL(h, !h->target.up);
	say_the_rest_and_close(&a);
	for (int i = 0; i < 20; i++)
		harness_turn(h);
	harness_tell(h, "up");
	expect_whole_answer(h, &a);
}

/* Its reader takes nothing before the stream is over. */
static void test_an_answer_for_a_slow_reader(void **state)
{
	struct harness *h = *state;
	struct answer a = { 0 };
	ask(h, &a);
	while (a.sent < 1000000 || unsent(a.target[1]) > 0) {
		if (a.sent < 1000000)
			say_some(&a, SIZE_MAX);
		harness_turn(h);
	}
	say_the_rest_and_close(&a);
	HARNESS_UNTIL(h, h->client.streams[a.id].done);
	assert_true(unsent(a.client[0]) > 0);
	expect_whole_answer(h, &a);
	HARNESS_UNTIL(h, fcntl(a.client[0], F_GETFD) == -1);
}

/* All windows are full of the answer when the service goes, and it is a write that finds out. */
static void test_an_answer_that_a_write_cuts_short(void **state)
{
	struct harness *h = *state;
	struct answer a = { 0 };
	ask(h, &a);
	for (int idle = 0; idle < 100; idle++) {
		if (say_some(&a, SIZE_MAX))
			idle = 0;
		harness_turn(h);
	}
	say_the_rest_and_close(&a);
	assert_int_equal(send(a.client[1], "more", 4, 0), 4);
	for (int i = 0; i < 20; i++)
		harness_turn(h);
	assert_false(h->target.streams[a.id].done);
	expect_whole_answer(h, &a);
	assert_non_null(strstr(h->target.streams[a.id].text, "write"));
}

/* What is taken away is taken away at once. */
static void test_a_reset_by_policy_waits_for_nobody(void **state)
{
	struct harness *h = *state;
	struct answer a = { 0 };
	ask(h, &a);
	for (int idle = 0; idle < 100; idle++) {
		if (say_some(&a, SIZE_MAX))
			idle = 0;
		harness_turn(h);
	}
	say_the_rest_and_close(&a);
	assert_int_equal(send(a.client[1], "more", 4, 0), 4);
	for (int i = 0; i < 20; i++)
		harness_turn(h);
	endpoint_reset_stream(h->target.ep, a.id, LINK_TERMINATED, "no more");
	assert_true(h->target.streams[a.id].done);
	HARNESS_UNTIL(h, h->client.streams[a.id].done);
	assert_int_equal(h->client.streams[a.id].code, LINK_TERMINATED);
	assert_true(h->client.streams[a.id].in < a.sent);
	close(a.client[1]);
}

static void refuse(struct end *end, uint32_t stream, const struct link_dest *dest)
{
	(void)dest;
	endpoint_refuse(end->ep, stream, LINK_NOT_ALLOWED, "not on the list");
	endpoint_refuse(end->ep, stream, LINK_NOT_ALLOWED, "twice is harmless");
}

static void test_a_refused_stream(void **state)
{
	struct harness *h = *state;
	int client[2];
	ssize_t n;
	tcp_pair(client);
	h->target.on_open = refuse;
	harness_start_both(h);
	uint32_t id = open_stream(h, client[0], client[0]);
	HARNESS_UNTIL(h, h->client.streams[id].done);
	assert_int_equal(h->client.streams[id].code, LINK_NOT_ALLOWED);
	assert_string_equal(h->client.streams[id].text, "not on the list");
	assert_false(h->target.streams[id].done);
	HARNESS_UNTIL(h, is_readable(client[1], &n));
	assert_true(n <= 0);
	close(client[1]);
}

static void ignore(struct end *end, uint32_t stream, const struct link_dest *dest)
{
	(void)end, (void)stream, (void)dest;
}

/* The target answers later than the client has patience. */
static void test_an_answer_that_comes_too_late(void **state)
{
	struct harness *h = *state;
	int client[2], target[2];
	struct err e;
	tcp_pair(client);
	tcp_pair(target);
	h->target.on_open = ignore;
	harness_start_both(h);
	uint32_t id = open_stream(h, client[0], client[0]);
	HARNESS_UNTIL(h, h->target.asked == 1);
	endpoint_reset_stream(h->client.ep, id, LINK_TIMEOUT, "too slow");
	HARNESS_UNTIL(h, h->target.streams[id].done);
	assert_int_equal(h->target.streams[id].code, LINK_TIMEOUT);
	assert_int_equal(endpoint_attach_fd(h->target.ep, id, target[0], target[0], &e), ERR_CLOSED);
	assert_int_equal(fcntl(target[0], F_GETFD), -1); /* it was taken all the same */
	close(target[1]);
	close(client[1]);
}

static void test_a_descriptor_that_is_none(void **state)
{
	struct harness *h = *state;
	struct err e;
	uint32_t id = 0;
	harness_start_both(h);
	assert_true(endpoint_open_stream(h->client.ep, &harness_dest, 999, 999, &id, &e) < 0);
	assert_non_null(strstr(e.text, "999"));
	struct link_dest nowhere = { .kind = LINK_KIND_TCP };
	int pair[2];
	tcp_pair(pair);
	assert_int_equal(endpoint_open_stream(h->client.ep, &nowhere, pair[0], pair[0], &id, &e), ERR_INVALID);
	assert_int_equal(fcntl(pair[0], F_GETFD), -1);
	close(pair[1]);
	struct app app; /* the session goes on */
	id = harness_open_app(h, &app, 1000, 1);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_code(h, id, LINK_OK, LINK_OK);
}

/* An application that does not read stops its own stream, and neither memory nor the others. */
static void test_a_reader_that_sleeps(void **state)
{
	struct harness *h = *state;
	int slow[2];
	struct app app;
	struct link_stats stats;
	uint8_t bytes[65536] = { 0 };
	harness_start_both(h);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, slow), 0);
	uint32_t id = open_stream(h, slow[0], slow[0]);
	size_t sent = 0;
	for (int idle = 0; idle < 100 || sent < 1000000;) {
		ssize_t n = write(slow[1], bytes, sizeof bytes);
		idle = n > 0 ? 0 : idle + 1;
		sent += n > 0 ? (size_t)n : 0;
		harness_turn(h);
	}
	endpoint_get_stats(h->client.ep, &stats);
	assert_in_range(sent, 1000000, 20000000);
	assert_true(stats.buffered < 12000000);
	uint32_t other = harness_open_app(h, &app, 2000000, 1);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_code(h, other, LINK_OK, LINK_OK);
	shutdown(slow[1], SHUT_WR);
	size_t got = 0;
	for (ssize_t n = 1; n != 0;) {
		n = read(slow[1], bytes, sizeof bytes);
		assert_true(n >= 0 || errno == EAGAIN);
		got += n > 0 ? (size_t)n : 0;
		harness_turn(h);
	}
	assert_int_equal(got, sent);
	expect_code(h, id, LINK_OK, LINK_OK);
	close(slow[1]);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_regular_files, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_in_and_nowhere_out, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_pipes, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_pipe_whose_reader_leaves, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_terminal, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_half_close_between_tcp_sockets, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_reset_goes_through, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_before_a_reset, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_before_a_reset_in_an_outage, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_for_a_slow_reader, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_that_a_write_cuts_short, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_reset_by_policy_waits_for_nobody, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_refused_stream, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_that_comes_too_late, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_descriptor_that_is_none, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_reader_that_sleeps, harness_setup, harness_teardown),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}

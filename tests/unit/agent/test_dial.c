#include "support/case.h"

#include "agent/reach.h"
#include "agent/sockpair.h"
#include "link/link.h"

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

struct result {
	int calls, fd;
	unsigned code;
	char text[256];
};

static void on_done(void *user, int fd, unsigned code, const char *text)
{
	struct result *r = user;
	r->calls++;
	r->fd = fd;
	r->code = code;
	snprintf(r->text, sizeof r->text, "%s", text);
}

static uint16_t listen_on(int *out_fd)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof a;
	*out_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(*out_fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(*out_fd, 16), 0);
	getsockname(*out_fd, (struct sockaddr *)&a, &len);
	return ntohs(a.sin_port);
}

static struct result dial_to(const char *host, uint16_t port, const char *entry, int64_t timeout_ms)
{
	struct result r = { .fd = -1 };
	struct allow *allow = NULL;
	struct reach *d = NULL;
	struct err e = { 0 };
	uv_loop_t loop;
	char *entries[] = { (char *)(uintptr_t)entry };
	uv_loop_init(&loop);
	if (entry)
		assert_int_equal(allow_parse(entries, 1, &allow, &e), 0);
	const struct dial_options options = { .host = host, .port = port, .allow = allow, .timeout_ms = timeout_ms };
	assert_int_equal(reach_start(&loop, &options, on_done, &r, &d, &e), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0); /* nothing is left behind */
	assert_int_equal(r.calls, 1);
	allow_free(&allow);
	return r;
}

static void test_connects(void **state)
{
	(void)state;
	int listener;
	uint16_t port = listen_on(&listener);
	struct result r = dial_to("127.0.0.1", port, NULL, 5000);
	assert_true(r.fd >= 0);
	assert_int_equal(r.code, LINK_OK);
	close(r.fd);
	r = dial_to("localhost", port, "tcp:127.0.0.0/8:*", 5000);
	assert_true(r.fd >= 0);
	close(r.fd);
	close(listener);
}

static void on_prepare(uv_prepare_t *prepare)
{
	const struct result *r = prepare->data;
	assert_int_equal(r->calls, 1);
	uv_close((uv_handle_t *)prepare, NULL);
}

/* One of this machine is not waited for; nor is one that is refused. */
static void test_a_local_one_is_there_before_the_loop_waits(void **state)
{
	(void)state;
	int listener;
	uint16_t port = listen_on(&listener);
	for (int open = 1; open >= 0; open--) {
		struct result r = { .fd = -1 };
		struct reach *d = NULL;
		uv_loop_t loop;
		uv_prepare_t prepare = { .data = &r };
		uv_loop_init(&loop);
		uv_prepare_init(&loop, &prepare);
		uv_prepare_start(&prepare, on_prepare);
		const struct dial_options options = { .host = "127.0.0.1", .port = port, .timeout_ms = 5000 };
		assert_int_equal(reach_start(&loop, &options, on_done, &r, &d, NULL), 0);
		assert_int_equal(r.calls, 0); /* never before reach_start has returned */
		uv_run(&loop, UV_RUN_DEFAULT);
		assert_int_equal(r.code, open ? LINK_OK : LINK_REFUSED);
		assert_int_equal(r.fd >= 0, open);
		assert_int_equal(uv_loop_close(&loop), 0);
		if (open) {
			close(r.fd);
			close(listener);
		}
	}
}

static void test_the_resolved_address_is_judged(void **state)
{
	(void)state;
	int listener;
	uint16_t port = listen_on(&listener);
	struct result r = dial_to("localhost", port, "tcp:10.0.0.0/8:*", 5000);
	assert_int_equal(r.fd, -1);
	assert_int_equal(r.code, LINK_NOT_ALLOWED);
	assert_non_null(strstr(r.text, "resolves to"));
	assert_non_null(strstr(r.text, "allow list"));
	/* Nobody knocked. */
	struct timeval none = { .tv_usec = 1 };
	setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
	assert_int_equal(accept(listener, NULL, NULL), -1);
	close(listener);
}

static void test_failures_have_their_codes(void **state)
{
	(void)state;
	int listener;
	uint16_t port = listen_on(&listener);
	close(listener);
	struct result r = dial_to("127.0.0.1", port, NULL, 5000);
	assert_int_equal(r.code, LINK_REFUSED);
	assert_non_null(strstr(r.text, "refused"));
	r = dial_to("no-such-host.invalid", 80, NULL, 20000);
	assert_true(r.code == LINK_UNREACHABLE || r.code == LINK_TIMEOUT);
	assert_non_null(strstr(r.text, "no-such-host.invalid"));
	r = dial_to("255.255.255.255", 80, NULL, 5000);
	assert_int_equal(r.code, LINK_UNREACHABLE);
}

/* A listener whose backlog is full does not answer. */
static void test_timeout(void **state)
{
	(void)state;
	int listener, fill[8];
	uint16_t port = listen_on(&listener);
	listen(listener, 0);
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	for (size_t i = 0; i < 8; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&a, sizeof a);
	}
	struct result r = dial_to("127.0.0.1", port, NULL, 200);
	assert_int_equal(r.fd, -1);
	assert_int_equal(r.code, LINK_TIMEOUT);
	for (size_t i = 0; i < 8; i++)
		close(fill[i]);
	close(listener);
}

static void test_cancel(void **state)
{
	(void)state;
	struct result r = { .calls = 0 };
	struct reach *d = NULL;
	uv_loop_t loop;
	uv_loop_init(&loop);
	const struct dial_options options = { .host = "localhost", .port = 1, .timeout_ms = 5000 };
	assert_int_equal(reach_start(&loop, &options, on_done, &r, &d, NULL), 0);
	reach_cancel(&d);
	reach_cancel(&d);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_int_equal(r.calls, 0);
}

/* The resolver: names with "hang" in them have no answer before it comes back. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool back;
	unsigned asked, now, most;
} resolver = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void hang(void)
{
	pthread_mutex_lock(&resolver.lock);
	resolver.asked++;
	if (++resolver.now > resolver.most)
		resolver.most = resolver.now;
	pthread_cond_broadcast(&resolver.changed);
	while (!resolver.back)
		pthread_cond_wait(&resolver.changed, &resolver.lock);
	resolver.now--;
	pthread_mutex_unlock(&resolver.lock);
}

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
						       const struct addrinfo *hints, struct addrinfo **out)
{
	typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	bool hangs = name && strstr(name, "hang");
	resolve *real;
	*(void **)(void *)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (hangs)
		hang();
	return real(hangs ? "127.0.0.1" : name, service, hints, out);
}

static void resolver_hangs(void)
{
	resolver.back = false;
	resolver.asked = resolver.most = 0;
}

static void resolver_is_back(void)
{
	pthread_mutex_lock(&resolver.lock);
	resolver.back = true;
	pthread_cond_broadcast(&resolver.changed);
	pthread_mutex_unlock(&resolver.lock);
}

static void wait_for_question(unsigned count)
{
	pthread_mutex_lock(&resolver.lock);
	while (resolver.asked < count)
		pthread_cond_wait(&resolver.changed, &resolver.lock);
	pthread_mutex_unlock(&resolver.lock);
}

static struct reach *reach_for(uv_loop_t *loop, const char *host, uint16_t port, struct result *r)
{
	struct reach *d = NULL;
	const struct dial_options options = { .host = host, .port = port, .timeout_ms = 60000 };
	*r = (struct result){ .fd = -1 };
	assert_int_equal(reach_start(loop, &options, on_done, r, &d, NULL), 0);
	return d;
}

static void on_real_name(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
	assert_int_equal(status, 0);
	uv_freeaddrinfo(list);
	*(bool *)request->data = true;
}

/* Neither addresses nor the session's own lookups wait for names that hang, however many they are. */
static void test_a_resolver_that_hangs(void **state)
{
	(void)state;
	char names[8][32];
	struct result hanging[8], literal;
	uv_getaddrinfo_t own;
	bool own_done = false;
	int listener;
	uint16_t port = listen_on(&listener);
	uv_loop_t loop;
	uv_loop_init(&loop);
	resolver_hangs();
	for (size_t i = 0; i < 8; i++) {
		snprintf(names[i], sizeof names[i], "hang-%zu.test", i);
		reach_for(&loop, names[i], port, &hanging[i]);
	}
	reach_for(&loop, "127.0.0.1", port, &literal);
	own.data = &own_done;
	assert_int_equal(uv_getaddrinfo(&loop, &own, on_real_name, "localhost", NULL, NULL), 0);
	while (!literal.calls || !own_done)
		uv_run(&loop, UV_RUN_ONCE);
	assert_true(literal.fd >= 0);
	close(literal.fd);
	resolver_is_back();
	uv_run(&loop, UV_RUN_DEFAULT);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(hanging[i].calls, 1);
		assert_true(hanging[i].fd >= 0);
		close(hanging[i].fd);
	}
	assert_int_equal(resolver.asked, 8);
	assert_in_range(resolver.most, 1, 2);
	assert_int_equal(uv_loop_close(&loop), 0);
	close(listener);
}

static void test_a_lookup_is_shared(void **state)
{
	(void)state;
	struct result r[6], gone, waiting;
	int listener;
	uint16_t port = listen_on(&listener);
	uv_loop_t loop;
	uv_loop_init(&loop);
	resolver_hangs();
	struct reach *first = reach_for(&loop, "hang-a.test", port, &gone);
	wait_for_question(1);
	reach_cancel(&first); /* its lookup goes on, for the next */
	for (size_t i = 0; i < 6; i++)
		reach_for(&loop, i % 2 ? "hang-a.test" : "HANG-A.test", port, &r[i]);
	reach_for(&loop, "hang-b.test", port, &waiting);
	struct reach *never = reach_for(&loop, "hang-c.test", port, &gone);
	reach_cancel(&never); /* before its turn */
	resolver_is_back();
	uv_run(&loop, UV_RUN_DEFAULT);
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(r[i].calls, 1);
		assert_true(r[i].fd >= 0);
		close(r[i].fd);
	}
	close(waiting.fd);
	assert_int_equal(gone.calls, 0);
	assert_int_equal(resolver.asked, 2);
	assert_int_equal(uv_loop_close(&loop), 0);
	close(listener);
}

static void test_loopback_pair(void **state)
{
	(void)state;
	struct err e = { 0 };
	for (int i = 0; i < 50; i++) {
		int fds[2];
		char got[6] = "";
		struct sockaddr_in a, b;
		socklen_t len = sizeof a;
		assert_int_equal(sockpair_loopback(fds, &e), 0);
		assert_int_equal(getpeername(fds[1], (struct sockaddr *)&a, &len), 0);
		len = sizeof b;
		assert_int_equal(getsockname(fds[0], (struct sockaddr *)&b, &len), 0);
		assert_int_equal(a.sin_family, AF_INET);
		assert_int_equal(a.sin_port, b.sin_port);
		assert_int_equal(write(fds[1], "hello", 5), 5);
		assert_int_equal(recv(fds[0], got, 5, MSG_WAITALL), 5);
		assert_string_equal(got, "hello");
		close(fds[0]);
		close(fds[1]);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connects),
		cmocka_unit_test(test_a_local_one_is_there_before_the_loop_waits),
		cmocka_unit_test(test_the_resolved_address_is_judged),
		cmocka_unit_test(test_failures_have_their_codes),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_a_resolver_that_hangs),
		cmocka_unit_test(test_a_lookup_is_shared),
		cmocka_unit_test(test_loopback_pair),
	};
	return RUN_CASES(tests);
}

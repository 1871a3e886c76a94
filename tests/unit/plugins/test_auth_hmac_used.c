/* auth-hmac: a signature that changes something is good once. */
#include "hmac_case.h"

#include "plugins/auth-hmac/used.h"

#include <pthread.h>

#define AT(method) method "\n/v1/sessions\n\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
#define SIGNED(method) AT(method) "\n\nhost;x-amz-date\n" EMPTY

static struct call signed_call(const char *method, const char *canonical, char value[512])
{
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date", canonical);
	return (struct call){ method, "/v1/sessions", "", "", { HOST, DATE, { "authorization", value } } };
}

static void test_a_change_is_made_once(void **state)
{
	(void)state;
	static const struct {
		const char *method, *canonical;
		int once;
	} cases[] = {
		{ "GET", SIGNED("GET"), 0 },   { "HEAD", SIGNED("HEAD"), 0 },     { "POST", SIGNED("POST"), 1 },
		{ "PUT", SIGNED("PUT"), 1 },   { "DELETE", SIGNED("DELETE"), 1 }, { "PATCH", SIGNED("PATCH"), 1 },
		{ "BREW", SIGNED("BREW"), 1 }, { "get", SIGNED("get"), 1 },
	};
	struct fixture f;
	char value[512];
	begin_open(&f);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct call c = signed_call(cases[i].method, cases[i].canonical, value);
		assert_call(&f, &c, NULL, cases[i].method);
		for (int again = 0; again < 3; again++)
			assert_call(&f, &c, cases[i].once ? USED : NULL, cases[i].method);
	}
	assert_non_null(strstr(f.p.err, "wait a second and sign again"));
	assert_true(strlen(f.p.err) < 190); /* the server has 200 bytes for it */
	assert_int_equal(fake_host_count(&f.p.host, "replays"), 6 * 3);
	end(&f);
}

/* Accepted up to its time and the window: remembered for as long, whichever way the clocks differ. */
static void test_it_is_remembered_as_long_as_it_is_good(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	struct call c = signed_call("POST", SIGNED("POST"), value);
	f.p.host.wall_ms = EXAMPLE_MS - 300000; /* the client's clock is fast */
	assert_call(&f, &c, NULL, "first");
	for (int64_t ms = -300000; ms <= 300000; ms += 10000) {
		f.p.host.wall_ms = EXAMPLE_MS + ms;
		assert_call(&f, &c, USED, "later");
	}
	f.p.host.wall_ms = EXAMPLE_MS + 300001;
	assert_call(&f, &c, "signed 300 s ago", "no longer good");
	end(&f);
}

static void test_a_wrong_signature_uses_nothing_up(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	struct call c = signed_call("POST", SIGNED("POST"), value);
	c.body = "{}";
	assert_call(&f, &c, CHANGED, "the signature of another body");
	c.body = "";
	assert_call(&f, &c, NULL, "of this one");
	end(&f);
}

static void test_another_header_makes_another_signature(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	for (int i = 0; i < 3; i++) {
		char canonical[512], nonce[8];
		snprintf(nonce, sizeof nonce, "%d", i);
		snprintf(canonical, sizeof canonical,
			 AT("POST") "\nx-tunnel-nonce:%s\n\nhost;x-amz-date;x-tunnel-nonce\n" EMPTY, nonce);
		authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date;x-tunnel-nonce", canonical);
		struct call c = { "POST",
				  "/v1/sessions",
				  "",
				  "",
				  { HOST, DATE, { "x-tunnel-nonce", nonce }, { "authorization", value } } };
		assert_call(&f, &c, NULL, "another nonce");
		assert_call(&f, &c, USED, "the same");
		c.headers[2].value = "another";
		assert_call(&f, &c, CHANGED, "one that was not signed");
	}
	end(&f);
}

#define PRESIGNED(method)                                                                                          \
	method "\n/v1/"                                                                                            \
	       "sessions\nX-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2F" \
	       "service%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host"

static void test_a_presigned_change_is_made_once(void **state)
{
	(void)state;
	static const char *const canonical[] = { PRESIGNED("DELETE"), PRESIGNED("GET") };
	struct fixture f;
	begin(&f);
	open_with(&f, "presigned_max", "600000");
	for (int get = 0; get < 2; get++) {
		char text[1024], value[512], query[1024];
		snprintf(text, sizeof text, "%s\nhost:example.amazonaws.com\n\nhost\n" EMPTY, canonical[get]);
		authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host", text);
		snprintf(query, sizeof query, "%s&X-Amz-Signature=%s", strrchr(canonical[get], '\n') + 1,
			 strstr(value, "Signature=") + 10);
		struct call c = { get ? "GET" : "DELETE", "/v1/sessions", query, "", { HOST } };
		f.p.host.wall_ms = EXAMPLE_MS;
		assert_call(&f, &c, NULL, "first");
		assert_call(&f, &c, get ? NULL : USED, "at once");
		f.p.host.wall_ms = EXAMPLE_MS + 599999; /* past the clock window */
		assert_call(&f, &c, get ? NULL : USED, "just before its end");
		f.p.host.wall_ms = EXAMPLE_MS + 600000;
		assert_call(&f, &c, "presigned URL expired", "its end");
	}
	end(&f);
}

struct racer {
	struct fixture *f;
	const struct call *c;
	pthread_barrier_t *start;
	unsigned taken, refused;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	struct tunnel_identity id;
	char err[512];
	pthread_barrier_wait(r->start);
	for (int i = 0; i < 20; i++) {
		int rc = send_call(r->f, r->c, &id, err);
		r->taken += rc == 0;
		r->refused += rc == TUNNEL_DENIED && strstr(err, USED);
	}
	return NULL;
}

static void test_of_many_at_once_one_is_taken(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	pthread_t threads[8];
	struct racer racers[8];
	pthread_barrier_t start;
	unsigned taken = 0, refused = 0;
	struct tunnel_identity id;
	begin_open(&f);
	struct call get = signed_call("GET", SIGNED("GET"), value);
	assert_int_equal(send_call(&f, &get, &id, NULL), 0); /* OpenSSL's first use is before the threads */
	struct call c = signed_call("POST", SIGNED("POST"), value);
	pthread_barrier_init(&start, NULL, 8);
	for (int i = 0; i < 8; i++) {
		racers[i] = (struct racer){ .f = &f, .c = &c, .start = &start };
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		taken += racers[i].taken;
		refused += racers[i].refused;
	}
	pthread_barrier_destroy(&start);
	assert_int_equal(taken, 1);
	assert_int_equal(refused, 8 * 20 - 1);
	end(&f);
}

/* What follows asks the table itself. */

static void zeros(void *ctx, void *out, size_t n)
{
	(void)ctx;
	memset(out, 0, n);
}
static const struct tunnel_host host = { .size = sizeof host, .random = zeros };

static enum used_result take(struct used *u, const char *id, unsigned number, int64_t until_ms, int64_t now_ms)
{
	unsigned char signature[32] = { (unsigned char)number, (unsigned char)(number >> 8),
					(unsigned char)(number >> 16) };
	return used_take(u, id, signature, until_ms, now_ms);
}

static void test_the_table_is_bounded(void **state)
{
	(void)state;
	struct used *u = used_new(&host, 100, 60);
	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(take(u, "A", i, 1000 + (i * 7) % 60, 1), USED_NEW);
	assert_int_equal(take(u, "A", 60, 1000, 1), USED_FULL); /* its share */
	assert_int_equal(take(u, "A", 59, 1000, 1), USED_BEFORE);
	for (unsigned i = 100; i < 140; i++)
		assert_int_equal(take(u, "B", i, 2000, 1), USED_NEW);
	assert_int_equal(take(u, "B", 140, 2000, 1), USED_FULL); /* all of it */
	int64_t end = 1000 + USED_LONGER_MS;
	assert_int_equal(take(u, "A", 60, 1000, end), USED_FULL);
	assert_int_equal(take(u, "A", 0, 1000, end), USED_BEFORE);
	assert_int_equal(take(u, "A", 60, 1500, end + 1), USED_NEW);
	assert_int_equal(take(u, "A", 61, 1500, end + 1), USED_FULL);
	for (unsigned i = 200; i < 259; i++)
		assert_int_equal(take(u, "A", i, 3000, end + 60), USED_NEW); /* of the first 60 none is left */
	assert_int_equal(take(u, "A", 259, 3000, end + 60), USED_FULL);
	used_free(&u);
	assert_null(u);
}

/* Against a plain list of ends, in an order that is none. */
static void test_each_is_forgotten_at_its_time(void **state)
{
	(void)state;
	enum { N = 3000 };
	static int64_t until[N];
	struct used *u = used_new(&host, N, N);
	unsigned x = 1;
	for (int64_t now = 1; now <= 40; now++)
		for (unsigned i = 0; i < N; i++) {
			x = x * 1103515245u + 12345u;
			int64_t wanted = now + (x >> 16) % 30;
			int known = until[i] >= now;
			assert_int_equal(take(u, "A", i, wanted, now + USED_LONGER_MS), known ? USED_BEFORE : USED_NEW);
			until[i] = known ? until[i] : wanted;
		}
	used_free(&u);
}

/* Two callers, of whom the one with the older clock comes second. */
static void test_a_later_clock_makes_nobody_forget(void **state)
{
	(void)state;
	struct used *u = used_new(&host, 10, 10);
	assert_int_equal(take(u, "A", 0, 1000, 500), USED_NEW);
	assert_int_equal(take(u, "B", 1, 2000, 1001), USED_NEW);
	assert_int_equal(take(u, "A", 0, 1000, 1000), USED_BEFORE);
	used_free(&u);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_change_is_made_once),
		cmocka_unit_test(test_it_is_remembered_as_long_as_it_is_good),
		cmocka_unit_test(test_a_wrong_signature_uses_nothing_up),
		cmocka_unit_test(test_another_header_makes_another_signature),
		cmocka_unit_test(test_a_presigned_change_is_made_once),
		cmocka_unit_test(test_of_many_at_once_one_is_taken),
		cmocka_unit_test(test_the_table_is_bounded),
		cmocka_unit_test(test_each_is_forgotten_at_its_time),
		cmocka_unit_test(test_a_later_clock_makes_nobody_forget),
	};
	return RUN_CASES(tests);
}

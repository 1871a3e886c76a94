/* Each single allocation of the Redis store's readers, and of hiredis, fails once while what a server answers is heard:
 * login, what the server is, documents, pages of a collection and of a log, and what became of a change. Then the call
 * is done, or says in words that it was not; what was handed on came, in its order; and nothing that is there is said
 * not to be there. The wire is no socket: each connection gets the same answers. */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "plugins/store-redis/change.h"
#include "plugins/store-redis/reader.h"
#include "plugins/store-redis/wire.h"

#define AT_ONCE 7 /* bytes */

/* ---- the wire ---- */

struct wire {
	size_t at;
};

static const char *answers;

int wire_open(const struct tunnel_host *host, const struct endpoint *to, const struct tls_options *tls, int stop_fd,
	      int64_t until_ms, struct wire **out_wire, struct words w)
{
	static struct wire wire;
	(void)host, (void)to, (void)tls, (void)stop_fd, (void)until_ms, (void)w;
	wire.at = 0;
	*out_wire = &wire;
	return 0;
}

void wire_close(struct wire **wire)
{
	*wire = NULL;
}

int wire_fd(const struct wire *wire)
{
	(void)wire;
	return -1;
}

int wire_send(struct wire *wire, const char *bytes, size_t n, int64_t until_ms, struct words w)
{
	(void)wire, (void)until_ms, (void)w;
	assert_true(n > 0 && bytes[0] == '*' && bytes[n - 1] == '\n');
	return 0;
}

int wire_receive(struct wire *wire, char *out, size_t size, int64_t until_ms, size_t *out_n, struct words w)
{
	(void)until_ms;
	size_t n = strnlen(answers + wire->at, size < AT_ONCE ? size : AT_ONCE);
	if (n == 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "the connection was closed by the other side");
	memcpy(out, answers + wire->at, n);
	wire->at += n;
	*out_n = n;
	return 0;
}

bool wire_is_quiet(const struct wire *wire)
{
	(void)wire;
	return true;
}

bool wire_has_more(const struct wire *wire)
{
	(void)wire;
	return false;
}

/* ---- the host ---- */

static int64_t now(void *ctx)
{
	(void)ctx;
	return 1000;
}

static void on_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	(void)ctx, (void)level;
	assert_true(text[0]);
}

static const struct tunnel_host host = {
	.size = sizeof host, .abi = TUNNEL_ABI, .wall_ms = now, .mono_ms = now, .log = on_log
};
static const struct tls_options no_tls = { .on = false };
static const struct endpoint server = { .name = "redis:6379" };
static struct account account;
static const struct dial dial = {
	.host = &host, .tls = &no_tls, .account = &account, .stop_fd = -1, .connect_ms = 1000
};
static char why[256];

/* ---- hiredis' memory: each reply and buffer that it makes is counted as one of ours ---- */

redisReader *__real_redisReaderCreate(void);
redisReader *__wrap_redisReaderCreate(void);
int __real_redisReaderFeed(redisReader *r, const char *bytes, size_t n);
int __wrap_redisReaderFeed(redisReader *r, const char *bytes, size_t n);

static redisReplyObjectFunctions theirs;

static bool lacks_memory(void)
{
	void *p = malloc(1);
	free(p);
	return !p;
}

static void *create_string(const redisReadTask *task, char *text, size_t n)
{
	return lacks_memory() ? NULL : theirs.createString(task, text, n);
}

#if HIREDIS_MAJOR >= 1
typedef size_t array_count;
#else
typedef int array_count;
#endif
static void *create_array(const redisReadTask *task, array_count n)
{
	return lacks_memory() ? NULL : theirs.createArray(task, n);
}

static void *create_integer(const redisReadTask *task, long long value)
{
	return lacks_memory() ? NULL : theirs.createInteger(task, value);
}

static void *create_nil(const redisReadTask *task)
{
	return lacks_memory() ? NULL : theirs.createNil(task);
}

redisReader *__wrap_redisReaderCreate(void)
{
	static redisReplyObjectFunctions ours;
	redisReader *r = lacks_memory() ? NULL : __real_redisReaderCreate();
	if (!r)
		return NULL;
	theirs = ours = *r->fn;
	ours.createString = create_string;
	ours.createArray = create_array;
	ours.createInteger = create_integer;
	ours.createNil = create_nil;
	r->fn = &ours;
	return r;
}

int __wrap_redisReaderFeed(redisReader *r, const char *bytes, size_t n)
{
	if (!lacks_memory())
		return __real_redisReaderFeed(r, bytes, n);
	r->err = REDIS_ERR_OOM;
	snprintf(r->errstr, sizeof r->errstr, "Out of memory");
	return REDIS_ERR;
}

/* ---- the cases ---- */

/* Done, or not and why. */
static bool judge(int rc)
{
	bool failed = failing_alloc_over();
	if (rc != TUNNEL_OK && (!failed || rc == TUNNEL_NOT_FOUND || rc == TUNNEL_CONFLICT || !why[0]))
		fail_msg("%d: %s%s", rc, why, failed ? "" : " (with all memory)");
	return failed;
}

/* ---- reading ---- */

struct rows {
	const char *const *expected; /* value, value, …, NULL */
	size_t n;
};

static int on_row(void *arg, const struct tunnel_row *row)
{
	struct rows *r = arg;
	assert_non_null(r->expected[r->n]);
	assert_int_equal(row->value_len, strlen(r->expected[r->n]));
	assert_memory_equal(row->value, r->expected[r->n], row->value_len);
	r->n++;
	return 0;
}

struct errand_of {
	char what;
	const char *const *expected;
	const char *answers;
};

static int read_some(char what, struct pool *pool, struct rows *rows)
{
	static const struct tunnel_scan scan = { .size = sizeof scan, .collection = "sessions", .limit = 5 };
	const struct tunnel_call call = { .size = sizeof call, .err = why, .err_len = sizeof why };
	char cursor[TUNNEL_CURSOR_MAX] = "";
	if (what == 'g')
		return reader_get(pool, "t", &call, "sessions", "s-1", on_row, rows);
	if (what == 'r')
		return reader_read(pool, "t", &call, "audit", 1, 5, on_row, rows);
	return reader_scan(pool, "t", &call, &scan, on_row, rows, cursor);
}

static int read_with(const struct errand_of *one, struct rows *rows)
{
	struct words w = { why, sizeof why };
	struct master *master = NULL;
	struct pool *pool = NULL;
	*rows = (struct rows){ .expected = one->expected };
	why[0] = '\0';
	answers = one->answers;
	int rc = master_new(&host, &master, w);
	if (rc == 0) {
		master_is(master, &server, "it");
		rc = pool_new(&dial, master, 1, 1000, &pool, w);
	}
	if (rc == 0)
		rc = read_some(one->what, pool, rows);
	pool_free(&pool);
	master_free(&master);
	return rc;
}

static bool read_once(void *arg)
{
	const struct errand_of *one = arg;
	struct rows rows;
	size_t all = 0;
	int rc = read_with(one, &rows);
	bool failed = judge(rc);
	while (one->expected[all])
		all++;
	assert_true(rc != TUNNEL_OK || rows.n == all);
	return failed;
}

static void test_reading(void **state)
{
	(void)state;
	static const char *const document[] = { "{\"id\":\"s-1\"}", NULL };
	static const char *const page[] = { "{\"id\":\"s-1\"}", "{\"id\":\"s-2\"}", "{\"id\":\"s-3\"}", NULL };
	static const char *const records[] = { "{\"n\":1}", "{\"n\":2}", NULL };
	struct errand_of errands[] = {
		{ 'g', document,
		  "*2\r\n$10\r\n1764500000\r\n$6\r\n123456\r\n$29\r\n7 0 state:active\n{\"id\":\"s-1\"}\r\n" },
		{ 's', page,
		  "*6\r\n:0\r\n$3\r\ns-2\r\n$3\r\ns-1\r\n$29\r\n7 0 state:active\n{\"id\":\"s-1\"}\r\n"
		  "$3\r\ns-2\r\n$29\r\n7 0 state:active\n{\"id\":\"s-2\"}\r\n"
		  "*4\r\n:1\r\n$3\r\ns-3\r\n$3\r\ns-3\r\n$29\r\n7 0 state:active\n{\"id\":\"s-3\"}\r\n" },
		{ 'r', records,
		  "*2\r\n*2\r\n$3\r\n0-1\r\n*2\r\n$1\r\nr\r\n$7\r\n{\"n\":1}\r\n*2\r\n$3\r\n0-2\r\n*2\r\n$1\r\nr\r\n"
		  "$7\r\n{\"n\":2}\r\n" },
	};
	for (size_t i = 0; i < sizeof errands / sizeof *errands; i++)
		assert_true(failing_alloc_sweep(read_once, &errands[i]) > 10);
}

/* Whether a document has expired is not known then. */
static void test_a_time_that_is_none(void **state)
{
	(void)state;
	static const char *const none[] = { NULL };
	static const char *const times[] = {
		"*2\r\n$3\r\nabc\r\n$1\r\n0\r\n",
		"*2\r\n$19\r\n1764500017645000000\r\n$1\r\n0\r\n",
		"*2\r\n$2\r\n-1\r\n$1\r\n0\r\n",
		"*2\r\n$11\r\n1764500000 \r\n$1\r\n0\r\n",
		"*2\r\n$10\r\n1764500000\r\n$7\r\n1000000\r\n",
		"*2\r\n$10\r\n1764500000\r\n$0\r\n\r\n",
		"*1\r\n$10\r\n1764500000\r\n",
	};
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		char text[128];
		struct rows rows;
		snprintf(text, sizeof text, "%s$19\r\n7 1764500000000 \n{}\r\n", times[i]);
		int rc = read_with(&(struct errand_of){ 'g', none, text }, &rows);
		if (rc == TUNNEL_OK || rc == TUNNEL_NOT_FOUND || !strstr(why, "no time"))
			fail_msg("%s: %d: %s", times[i], rc, why);
	}
}

/* ---- what a server is, and what became of a change ---- */

static bool inspect_once(void *arg)
{
	(void)arg;
	struct words w = { why, sizeof why };
	struct conn *c = NULL;
	char identity[IDENTITY_MAX] = "";
	why[0] = '\0';
	int rc = conn_open(&dial, &server, 0, &c, w);
	if (rc == 0)
		rc = inspect(c, &server, 0, identity, w);
	bool failed = judge(rc);
	assert_true((rc == 0) == (identity[0] != '\0'));
	conn_close(&c);
	return failed;
}

static void test_what_a_server_is(void **state)
{
	(void)state;
	answers = "$139\r\n# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\n"
		  "maxmemory_policy:noeviction\r\nrole:master\r\nmaster_replid:def\r\nloading:0\r\n\r\n";
	assert_true(failing_alloc_sweep(inspect_once, NULL) > 3);
}

/* The answer says that it is done: nothing else may be said of it, but that it is unknown. */
static bool change_once(void *arg)
{
	static const struct owner owner = { .prefix = "t", .instance = "i" };
	static const struct tunnel_record record = { "{}", 2 };
	struct words w = { why, sizeof why };
	redisReply *reply = NULL;
	struct conn *c = NULL;
	(void)arg;
	why[0] = '\0';
	struct change *change = change_new_append(&owner, "audit", &record, 1);
	int rc = change ? conn_open(&dial, &server, 0, &c, w) : words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	if (rc == 0)
		rc = conn_hear(c, 0, &reply, w);
	if (rc == 0) {
		change_take(change, reply);
		rc = change->result;
		snprintf(why, sizeof why, "%s", change->text);
	}
	bool failed = judge(rc);
	assert_true(rc != 0 || change->number == 4);
	freeReplyObject(reply);
	change_free(change);
	conn_close(&c);
	return failed;
}

static void test_what_became_of_a_change(void **state)
{
	(void)state;
	answers = "*2\r\n:0\r\n:4\r\n";
	assert_true(failing_alloc_sweep(change_once, NULL) > 5);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_a_time_that_is_none),
		cmocka_unit_test(test_what_a_server_is),
		cmocka_unit_test(test_what_became_of_a_change),
	};
	return RUN_CASES(tests);
}

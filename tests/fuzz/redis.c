/* What a Redis, or whoever answers in its place, says to the store: its replies behind a wire that is no socket. The
 * first byte says what is asked, the second how many bytes come at once, the rest is what comes:
 *   g document   s page of a collection   r page of a log   i what it is   d how it keeps things   l login   c change
 * All is heard twice, in pieces and at once: the outcome must be the same. */
#include "fuzz.h"

#include "plugins/store-redis/change.h"
#include "plugins/store-redis/reader.h"
#include "plugins/store-redis/scripts.h"
#include "plugins/store-redis/wire.h"

#include <stdio.h>
#include <stdlib.h>

#define LIMIT 5
#define SEEN_MAX 8192

/* ---- the wire ---- */

struct wire {
	int unused;
};

static struct wire the_wire;
static struct fuzz_input coming;
static size_t at_once;

int wire_open(const struct tunnel_host *host, const struct endpoint *to, const struct tls_options *tls, int stop_fd,
	      int64_t until_ms, struct wire **out_wire, struct words w)
{
	(void)host, (void)to, (void)tls, (void)stop_fd, (void)until_ms, (void)w;
	*out_wire = &the_wire;
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
	FUZZ_CHECK(n > 0 && bytes[0] == '*' && bytes[n - 1] == '\n');
	return 0;
}

int wire_receive(struct wire *wire, char *out, size_t size, int64_t until_ms, size_t *out_n, struct words w)
{
	(void)wire, (void)until_ms;
	size_t n = coming.left < at_once ? coming.left : at_once;
	n = n < size ? n : size;
	if (n == 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "the connection was closed by the other side");
	memcpy(out, coming.at, n);
	coming.at += n;
	coming.left -= n;
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

struct seen {
	char text[SEEN_MAX]; /* everything that came of it */
	size_t len;
	unsigned rows;
	char key[KEY_MAX_LEN + 1]; /* of the last row */
	uint64_t version;
};

static struct seen *seen;

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(seen->text + seen->len, sizeof seen->text - seen->len, fmt, ap);
	va_end(ap);
	seen->len += (size_t)n;
	if (seen->len >= sizeof seen->text)
		seen->len = sizeof seen->text - 1;
}

static int64_t now(void *ctx)
{
	(void)ctx;
	return 1000;
}

static void on_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	(void)ctx;
	note("[log %d %s]", (int)level, text);
}

static const struct tunnel_host host = {
	.size = sizeof host, .abi = TUNNEL_ABI, .wall_ms = now, .mono_ms = now, .log = on_log
};
static const struct tls_options no_tls = { .on = false };
static const struct endpoint server = { .name = "redis:6379" };

/* ---- what is asked ---- */

static int on_row(void *arg, const struct tunnel_row *row)
{
	bool is_log = arg;
	FUZZ_CHECK(strlen(row->key) <= KEY_MAX_LEN && ++seen->rows <= LIMIT);
	FUZZ_CHECK(row->expires_ms >= 0);
	/* In order, and none twice. */
	FUZZ_CHECK(seen->rows == 1 || (is_log ? row->version > seen->version : strcmp(row->key, seen->key) > 0));
	snprintf(seen->key, sizeof seen->key, "%s", row->key);
	seen->version = row->version;
	/* Every byte of it is there. */
	unsigned sum = 0;
	for (size_t i = 0; i < row->value_len; i++)
		sum = sum * 31 + (unsigned char)row->value[i];
	note("[row %s %zu %u %llu]", row->key, row->value_len, sum, (unsigned long long)row->version);
	return 0;
}

static int read_some(char what, struct pool *pool, const struct tunnel_call *call)
{
	static const struct tunnel_scan scan = { .size = sizeof scan, .collection = "sessions", .limit = LIMIT };
	char cursor[TUNNEL_CURSOR_MAX] = "";
	int rc;
	if (what == 'g')
		return reader_get(pool, "t", call, "sessions", "s-1", on_row, NULL);
	if (what == 'r')
		return reader_read(pool, "t", call, "audit", 1, LIMIT, on_row, &the_wire);
	rc = reader_scan(pool, "t", call, &scan, on_row, NULL, cursor);
	FUZZ_CHECK(strlen(cursor) < sizeof cursor);
	note("[cursor %s]", cursor);
	return rc;
}

static int with_pool(char what, const struct dial *dial, struct words w)
{
	struct tunnel_call call = { .size = sizeof call, .err = w.text, .err_len = w.size };
	struct master *master = NULL;
	struct pool *pool = NULL;
	FUZZ_CHECK(master_new(&host, &master, w) == 0);
	master_is(master, &server, "it");
	FUZZ_CHECK(pool_new(dial, master, 1, 1000, &pool, w) == 0);
	int rc = read_some(what, pool, &call);
	pool_free(&pool);
	master_free(&master);
	return rc;
}

static int take_change(struct conn *c, struct words w)
{
	static const struct owner owner = { .prefix = "t", .instance = "i" };
	redisReply *reply = NULL;
	int rc = conn_hear(c, 0, &reply, w);
	if (rc != 0)
		return rc;
	struct change *change = change_new_del(&owner, "sessions", "s-1", 3);
	change_take(change, reply);
	note("[change %d %llu %s]", change->result, (unsigned long long)change->number, change->text);
	FUZZ_CHECK(change->result == TUNNEL_OK || change->result == TUNNEL_NOT_FOUND || change->text[0]);
	rc = change->result;
	snprintf(w.text, w.size, "%s", change->text);
	change_free(change);
	freeReplyObject(reply);
	return rc;
}

static int with_connection(char what, const struct dial *dial, struct words w)
{
	struct conn *c = NULL;
	char identity[IDENTITY_MAX] = "";
	int rc = conn_open(dial, &server, 0, &c, w);
	if (rc == 0 && what == 'i')
		rc = inspect(c, &server, 0, identity, w);
	else if (rc == 0 && what == 'd')
		inspect_durability(c, &host, &server, "t", 0);
	else if (rc == 0 && what == 'c')
		rc = take_change(c, w);
	FUZZ_CHECK(strlen(identity) < sizeof identity);
	note("[identity %s]", identity);
	conn_close(&c);
	return rc;
}

static void run(const uint8_t *data, size_t size, bool whole, struct seen *out)
{
	struct account account = { .user = NULL };
	struct dial dial = { .host = &host, .tls = &no_tls, .account = &account, .stop_fd = -1, .connect_ms = 1000 };
	char why[512] = "";
	struct words w = { why, sizeof why };
	memset(out, 0, sizeof *out);
	seen = out;
	coming = (struct fuzz_input){ data, size };
	char what = (char)fuzz_byte(&coming);
	at_once = fuzz_byte(&coming);
	at_once = whole ? 1u << 20 : at_once + 1;
	dial.database = what == 'l' ? 3 : 0;
	account.password_file = what == 'l' ? (char *)(uintptr_t)fuzz_file("secret\n", 7) : NULL;
	int rc =
		what == 'g' || what == 's' || what == 'r' ? with_pool(what, &dial, w) : with_connection(what, &dial, w);
	FUZZ_CHECK(rc == TUNNEL_OK || rc == TUNNEL_NOT_FOUND || rc == TUNNEL_CONFLICT || rc == TUNNEL_UNAVAILABLE ||
		   rc == TUNNEL_TIMEOUT || rc == TUNNEL_CONFIG || rc == TUNNEL_INTERNAL);
	FUZZ_CHECK(rc == TUNNEL_OK || rc == TUNNEL_NOT_FOUND || why[0]);
	note("[%d %s]", rc, why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen pieces, whole;
	run(data, size, false, &pieces);
	run(data, size, true, &whole);
	FUZZ_CHECK(strcmp(pieces.text, whole.text) == 0);
	return 0;
}

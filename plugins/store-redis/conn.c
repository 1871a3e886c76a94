#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (32u * 1024) /* read and parsed at once: the parser moves what it has not used yet */
#define PASSWORD_MAX 512u  /* bytes */
#define REPLY_TEXT_MAX 160 /* bytes of a server's error that are told */
/* What an answer announces, hiredis puts memory aside for. No answer of ours comes near to these. */
#define ELEMENTS_MAX (1 << 20)        /* of one array */
#define REPLY_MAX (64u * 1024 * 1024) /* bytes that are not parsed yet */

#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

struct conn {
	struct wire *wire;
	redisReader *reader;
	redisReplyObjectFunctions making; /* as hiredis has them, but for arrays */
	struct command out;
};

static int read_password(const char *path, char out[PASSWORD_MAX + 1], struct words w)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		int why = errno;
		if (fd >= 0)
			close(fd);
		return words_set(w, TUNNEL_CONFIG, "password file %s: %s", path, strerror(why));
	}
	ssize_t n = S_ISREG(st.st_mode) && (st.st_mode & 077) == 0 ? read(fd, out, PASSWORD_MAX + 1) : 0;
	close(fd);
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0)
		return words_set(w, TUNNEL_CONFIG,
				 "password file %s: mode %04o; allowed: a file that only its owner may read (0600)",
				 path, (unsigned)(st.st_mode & 07777));
	while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r'))
		n--;
	if (n <= 0 || (size_t)n > PASSWORD_MAX)
		return words_set(w, TUNNEL_CONFIG, "password file %s: allowed: one line of 1 to %u bytes", path,
				 PASSWORD_MAX);
	out[n] = '\0';
	return 0;
}

static void wipe(char *text, size_t n)
{
	volatile char *at = text;
	while (n--)
		*at++ = '\0';
}

static int log_in(struct conn *c, const struct account *account, int64_t until_ms, struct words w)
{
	char password[PASSWORD_MAX + 1];
	redisReply *reply = NULL;
	if (!account->password_file)
		return 0;
	int rc = read_password(account->password_file, password, w);
	if (rc != 0)
		return rc;
	command_begin(&c->out, account->user ? 3 : 2);
	command_text(&c->out, "AUTH");
	if (account->user)
		command_text(&c->out, account->user);
	command_text(&c->out, password);
	wipe(password, sizeof password);
	rc = conn_ask(c, until_ms, "login", &reply, w);
	if (c->out.bytes)
		wipe(c->out.bytes, c->out.room);
	freeReplyObject(reply);
	return rc;
}

static int select_database(struct conn *c, long database, int64_t until_ms, struct words w)
{
	redisReply *reply = NULL;
	if (database == 0)
		return 0;
	command_begin(&c->out, 2);
	command_text(&c->out, "SELECT");
	command_format(&c->out, "%ld", database);
	int rc = conn_ask(c, until_ms, "SELECT", &reply, w);
	freeReplyObject(reply);
	return rc == TUNNEL_INTERNAL ? TUNNEL_CONFIG : rc; /* there are not so many */
}

static void *make_array(const redisReadTask *task, element_count n)
{
	const redisReplyObjectFunctions *usual = task->privdata;
	return n <= ELEMENTS_MAX ? usual->createArray(task, n) : NULL;
}

static bool make_reader(struct conn *c)
{
	c->reader = redisReaderCreate();
	if (!c->reader)
		return false;
	c->making = *c->reader->fn;
	c->making.createArray = make_array;
	c->reader->privdata = c->reader->fn;
	c->reader->fn = &c->making;
	return true;
}

int conn_open(const struct dial *dial, const struct endpoint *to, int64_t deadline_ms, struct conn **out_conn,
	      struct words w)
{
	char why[256] = "";
	struct words inner = { why, sizeof why };
	int64_t until_ms = dial->host->mono_ms(dial->host->ctx) + dial->connect_ms;
	if (deadline_ms && deadline_ms < until_ms)
		until_ms = deadline_ms;
	struct conn *c = calloc(1, sizeof *c);
	if (!c || !make_reader(c)) {
		conn_close(&c);
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
	int rc = wire_open(dial->host, to, dial->tls, dial->stop_fd, until_ms, &c->wire, inner);
	if (rc == 0)
		rc = log_in(c, dial->account, until_ms, inner);
	if (rc == 0)
		rc = select_database(c, dial->database, until_ms, inner);
	if (rc != 0) {
		conn_close(&c);
		return words_set(w, rc, "Redis at %s: %s", to->name, why);
	}
	*out_conn = c;
	return 0;
}

void conn_close(struct conn **conn)
{
	struct conn *c = *conn;
	if (!c)
		return;
	wire_close(&c->wire);
	if (c->reader)
		redisReaderFree(c->reader);
	command_free(&c->out);
	free(c);
	*conn = NULL;
}

int conn_fd(const struct conn *c)
{
	return wire_fd(c->wire);
}

bool conn_is_quiet(const struct conn *c)
{
	return wire_is_quiet(c->wire);
}

bool conn_has_more(const struct conn *c)
{
	return c->reader->pos < c->reader->len || wire_has_more(c->wire);
}

struct command *conn_out(struct conn *c)
{
	return &c->out;
}

int conn_flush(struct conn *c, int64_t until_ms, struct words w)
{
	int rc = c->out.failed ? words_set(w, TUNNEL_UNAVAILABLE, "out of memory")
			       : wire_send(c->wire, c->out.bytes, c->out.used, until_ms, w);
	command_clear(&c->out);
	return rc;
}

int conn_hear(struct conn *c, int64_t until_ms, redisReply **out_reply, struct words w)
{
	char piece[PIECE];
	for (;;) {
		void *reply = NULL;
		size_t n = 0;
		if (redisReaderGetReply(c->reader, &reply) != REDIS_OK)
			return words_set(w, TUNNEL_UNAVAILABLE, "what it says is not Redis's protocol: %s",
					 c->reader->errstr);
		if (reply) {
			*out_reply = reply;
			return 0;
		}
		if (c->reader->len - c->reader->pos > REPLY_MAX)
			return words_set(w, TUNNEL_UNAVAILABLE, "an answer is longer than %u MiB", REPLY_MAX >> 20);
		int rc = wire_receive(c->wire, piece, sizeof piece, until_ms, &n, w);
		if (rc != 0)
			return rc;
		if (redisReaderFeed(c->reader, piece, n) != REDIS_OK)
			return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
}

int conn_ask(struct conn *c, int64_t until_ms, const char *doing, redisReply **out_reply, struct words w)
{
	redisReply *reply = NULL;
	int rc = conn_flush(c, until_ms, w);
	if (rc == 0)
		rc = conn_hear(c, until_ms, &reply, w);
	if (rc == 0 && reply->type == REDIS_REPLY_ERROR) {
		rc = reply_words(reply, doing, w);
		freeReplyObject(reply);
	} else if (rc == 0)
		*out_reply = reply;
	return rc;
}

bool reply_is_error(const redisReply *reply, const char *code)
{
	size_t n = strlen(code);
	return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, code, n) == 0 &&
	       (reply->str[n] == ' ' || reply->str[n] == '\0');
}

/* The first that an error begins with says what it means; any other: may work later. Inside a script a missing right
 * has no code of its own in some versions. */
static const struct meaning {
	const char *begins;
	int code;
	const char *hint;
} meanings[] = {
	{ "NOPERM ", TUNNEL_CONFIG, "a right is missing (docs/store-redis.md lists them): " },
	{ "ERR The user executing the script", TUNNEL_CONFIG, "a right is missing (docs/store-redis.md lists them): " },
	{ "ERR ACL failure in script", TUNNEL_CONFIG, "a right is missing (docs/store-redis.md lists them): " },
	{ "NOAUTH ", TUNNEL_CONFIG, "" },
	{ "WRONGPASS ", TUNNEL_CONFIG, "" },
	{ "WRONGTYPE ", TUNNEL_INTERNAL, "somebody else has written a key of this store: " },
	{ "ERR max number of clients", TUNNEL_UNAVAILABLE, "" },
	{ "ERR ", TUNNEL_INTERNAL, "" },
	{ "", TUNNEL_UNAVAILABLE, "" },
};

int reply_words(const redisReply *reply, const char *doing, struct words w)
{
	const struct meaning *m = meanings;
	while (strncmp(reply->str, m->begins, strlen(m->begins)) != 0)
		m++;
	return words_set(w, m->code, "%s: %s%.*s", doing, m->hint, REPLY_TEXT_MAX, reply->str);
}

bool reply_sends_away(const redisReply *reply)
{
	static const char *const codes[] = { "READONLY", "MASTERDOWN", "LOADING", "UNKILLABLE", "NOAUTH", "MOVED" };
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (reply_is_error(reply, codes[i]))
			return true;
	return false;
}

const redisReply *reply_text(const redisReply *reply, size_t i)
{
	if (reply->type != REDIS_REPLY_ARRAY || i >= reply->elements)
		return NULL;
	const redisReply *one = reply->element[i];
	return one->type == REDIS_REPLY_STRING || one->type == REDIS_REPLY_STATUS ? one : NULL;
}

long long reply_number(const redisReply *reply, size_t i)
{
	if (reply->type != REDIS_REPLY_ARRAY || i >= reply->elements || reply->element[i]->type != REDIS_REPLY_INTEGER)
		return -1;
	return reply->element[i]->integer;
}

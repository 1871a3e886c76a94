/* The store's connection for changes, its Sentinels and its subscriber, with whoever answers in their place. Each
 * connection that is made gets the next part of the input, which ends with '~': "!" refuses it, else these bytes come
 * and then it is closed. Before that, one byte: A an address is known, S Sentinels are asked, W as S and a replica must
 * have what was written; and one that says how many bytes come at once.
 *
 * Three changes are made, then messages are listened to. A change counts as done when the server has said so, with the
 * number that it gave; "nothing was written" is said of what was not sent, "unknown" of what was. Changes go where a
 * Sentinel said. What is handed on as a message came as one. */
#include "fuzz.h"

#include "plugins/store-redis/changer.h"
#include "plugins/store-redis/events.h"
#include "plugins/store-redis/wire.h"

#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ANSWER_MS 1000
#define SENTINEL "/sentinel-" /* what their sockets' names begin with */
#define TURNS 20              /* of the subscriber */

/* ---- the wire ---- */

/* One at a time for changes, one for messages. */
struct wire {
	struct fuzz_input coming;
	bool to_sentinel;
	char host[256], name[300];
};

static struct fuzz_input parts;
static size_t at_once;
static bool listening;
static struct fuzz_input heard_all[64]; /* what each connection was given, for the checks */
static size_t connections;
static struct fuzz_input named; /* what the last Sentinel that was asked said */
static char sent[64 * 1024];    /* to servers, the end of it */
static size_t sent_len;

static struct fuzz_input next_part(void)
{
	const uint8_t *start = parts.at;
	free(fuzz_part(&parts, '~'));
	struct fuzz_input part = { start, (size_t)(parts.at - start) };
	part.left -= part.left > 0 && start[part.left - 1] == '~';
	return part;
}

static bool has(const struct fuzz_input *in, const char *text)
{
	return *text && in->left && memmem(in->at, in->left, text, strlen(text));
}

/* Only where the configuration or a Sentinel says. */
static void check_place(const struct endpoint *to, bool to_sentinel)
{
	const char *colon = strrchr(to->name, ':');
	if (to_sentinel || strcmp(to->name, "127.0.0.1:6379") == 0)
		return;
	FUZZ_CHECK(colon && named.at && has(&named, to->host) && has(&named, colon + 1));
}

int wire_open(const struct tunnel_host *host, const struct endpoint *to, const struct tls_options *tls, int stop_fd,
	      int64_t until_ms, struct wire **out_wire, struct words w)
{
	(void)host, (void)tls, (void)stop_fd, (void)until_ms;
	struct fuzz_input part = next_part();
	bool to_sentinel = strncmp(to->name, SENTINEL, strlen(SENTINEL)) == 0 && !strchr(to->name, ':');
	check_place(to, to_sentinel);
	if (part.left == 0 || *part.at == '!' || connections == sizeof heard_all / sizeof *heard_all)
		return words_set(w, TUNNEL_UNAVAILABLE, "connection refused");
	struct wire *wire = calloc(1, sizeof *wire);
	wire->coming = part;
	wire->to_sentinel = to_sentinel;
	heard_all[connections++] = part;
	if (to_sentinel)
		named = part;
	*out_wire = wire;
	return 0;
}

void wire_close(struct wire **wire)
{
	free(*wire);
	*wire = NULL;
}

int wire_fd(const struct wire *wire)
{
	(void)wire;
	return -1;
}

int wire_send(struct wire *wire, const char *bytes, size_t n, int64_t until_ms, struct words w)
{
	(void)until_ms, (void)w;
	FUZZ_CHECK(n > 0 && bytes[0] == '*' && bytes[n - 1] == '\n');
	if (wire->to_sentinel)
		return 0;
	if (sent_len + n > sizeof sent)
		sent_len = 0;
	FUZZ_CHECK(n < sizeof sent);
	memcpy(sent + sent_len, bytes, n);
	sent_len += n;
	return 0;
}

int wire_receive(struct wire *wire, char *out, size_t size, int64_t until_ms, size_t *out_n, struct words w)
{
	(void)until_ms;
	size_t n = wire->coming.left < at_once ? wire->coming.left : at_once;
	n = n < size ? n : size;
	if (n == 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "the connection was closed by the other side");
	memcpy(out, wire->coming.at, n);
	wire->coming.at += n;
	wire->coming.left -= n;
	*out_n = n;
	return 0;
}

/* Answers that are still to come are there already; messages come by themselves. */
bool wire_is_quiet(const struct wire *wire)
{
	return !listening || wire->coming.left == 0;
}

bool wire_has_more(const struct wire *wire)
{
	(void)wire;
	return false;
}

/* ---- threads, which are run a turn at a time, and the time ---- */

struct thread {
	void *(*fn)(void *arg);
	void *arg;
};

static struct thread changer, subscriber;
static unsigned turns; /* left, but for the one that runs */
static int64_t clock_ms;

bool __wrap_thread_start(pthread_t *out_thread, void *(*fn)(void *arg), void *arg);
int __wrap_pthread_join(pthread_t thread, void **out);
bool __wrap_wait_on(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *want, struct addrinfo **out);
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *want, struct addrinfo **out);

bool __wrap_thread_start(pthread_t *out_thread, void *(*fn)(void *arg), void *arg)
{
	memset(out_thread, 0, sizeof *out_thread);
	*(listening ? &subscriber : &changer) = (struct thread){ fn, arg };
	return true;
}

int __wrap_pthread_join(pthread_t thread, void **out)
{
	(void)thread, (void)out;
	return 0;
}

static void run(const struct thread *t, unsigned for_turns)
{
	unsigned before = turns;
	turns = for_turns;
	t->fn(t->arg);
	turns = before;
}

bool __wrap_wait_on(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms)
{
	(void)cond, (void)ms;
	pthread_mutex_unlock(lock);
	clock_ms++;
	if (changer.fn)
		run(&changer, 0);
	pthread_mutex_lock(lock);
	return true;
}

/* Its first descriptor says when to end. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
	clock_ms += ms > 0 ? ms : 1;
	for (nfds_t i = 0; i < n; i++)
		fds[i].revents = 0;
	fds[0].revents = turns ? 0 : POLLIN;
	turns -= turns > 0;
	return 1;
}

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *want, struct addrinfo **out)
{
	struct addrinfo numeric = *want;
	numeric.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
	return __real_getaddrinfo(host, port, &numeric, out);
}

/* ---- the host ---- */

static int64_t now(void *ctx)
{
	(void)ctx;
	return clock_ms;
}

static void on_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	(void)ctx, (void)level;
	FUZZ_CHECK(text[0]);
}

static void on_count(void *ctx, const char *name, uint64_t n)
{
	(void)ctx, (void)n;
	FUZZ_CHECK(name[0]);
}

static const struct tunnel_host host = {
	.size = sizeof host, .abi = TUNNEL_ABI, .wall_ms = now, .mono_ms = now, .log = on_log, .count = on_count
};

/* ---- what must hold ---- */

static size_t count_sent(const char *text)
{
	size_t n = 0;
	const char *at = sent, *end = sent + sent_len;
	while ((at = memmem(at, (size_t)(end - at), text, strlen(text)))) {
		n++;
		at += strlen(text);
	}
	return n;
}

static bool was_heard(const char *text)
{
	bool heard = false;
	for (size_t i = 0; !heard && i < connections; i++)
		heard = has(&heard_all[i], text);
	return heard;
}

/* A reply of two numbers, as the scripts give them. */
static bool was_said(unsigned code, uint64_t number)
{
	char text[64];
	snprintf(text, sizeof text, ":%u\r\n:%llu\r\n", code, (unsigned long long)number);
	return was_heard(text);
}

/* By itself: the words of an answer are told as they are. */
static bool says(const char *why, const char *words)
{
	return strstr(why, words) && !was_heard(words);
}

static void make_change(struct queue *queue, struct master *master, const struct owner *owner, unsigned i)
{
	char why[512] = "", key[32], word[40];
	struct tunnel_call call = {
		.size = sizeof call, .deadline_ms = clock_ms + 30000, .err = why, .err_len = sizeof why
	};
	snprintf(key, sizeof key, "document-%u", i);
	snprintf(word, sizeof word, "\r\n%s\r\n", key);
	const struct tunnel_put put = { .size = sizeof put,
					.collection = "sessions",
					.key = key,
					.value = "{}",
					.value_len = 2,
					.expect_version = i };
	uint64_t number = UINT64_MAX;
	sent_len = 0;
	int rc = queue_submit(queue, master, &call, change_new_put(owner, &put), &number);
	size_t times = count_sent(word);
	FUZZ_CHECK(rc == TUNNEL_OK || rc == TUNNEL_NOT_FOUND || why[0]);
	FUZZ_CHECK(times <= TRIES_MAX);
	if (rc == TUNNEL_OK)
		FUZZ_CHECK(times > 0 && was_said(ANSWER_DONE, number));
	else if (rc == TUNNEL_CONFLICT || rc == TUNNEL_NOT_FOUND)
		FUZZ_CHECK(times > 0);
	else if (says(why, "nothing was written"))
		FUZZ_CHECK(times == 0 || was_heard("NOSCRIPT") || was_heard(":-1\r\n"));
	else if (says(why, "is unknown"))
		FUZZ_CHECK(times > 0);
}

static void on_message(void *arg, const char *channel, const char *message, size_t len)
{
	char text[NAME_MAX_LEN + 2];
	(void)arg;
	int n = snprintf(text, sizeof text, "%s ", channel);
	FUZZ_CHECK(n > 1 && n < (int)sizeof text && was_heard(text));
	char *copy = fuzz_text((const uint8_t *)message, len);
	FUZZ_CHECK(len == 0 || strlen(copy) < len || was_heard(copy));
	free(copy);
}

static void listen_to(const struct dial *dial, const struct redis_options *o, struct master *master)
{
	char why[256] = "";
	struct tunnel_call call = { .size = sizeof call, .err = why, .err_len = sizeof why };
	struct events *events = NULL;
	FUZZ_CHECK(events_new(dial, o, master, &events, words_of(&call)) == 0);
	listening = true;
	FUZZ_CHECK(events_subscribe(events, &call, on_message, NULL) == TUNNEL_OK);
	FUZZ_CHECK(events_subscribe(events, &call, on_message, NULL) == TUNNEL_INVALID && why[0]);
	run(&subscriber, TURNS);
	events_free(&events);
	listening = false;
}

static void serve(struct redis_options *o)
{
	static const struct owner owner = { .prefix = "t", .instance = "i" };
	char why[512] = "";
	struct words w = { why, sizeof why };
	struct queue *queue = NULL;
	struct master *master = NULL;
	struct changer *c = NULL;
	FUZZ_CHECK(queue_new(&host, &queue, w) == 0 && master_new(&host, &master, w) == 0);
	int rc = changer_start(&host, o, &owner, master, queue, -1, &c, w);
	FUZZ_CHECK(rc == 0 || ((rc == TUNNEL_UNAVAILABLE || rc == TUNNEL_CONFIG || rc == TUNNEL_TIMEOUT ||
				rc == TUNNEL_INTERNAL) &&
			       why[0]));
	for (unsigned i = 1; rc == 0 && i <= 3; i++)
		make_change(queue, master, &owner, i);
	const struct dial dial = { .host = &host, .tls = &o->tls, .account = &o->account, .stop_fd = -1 };
	if (rc == 0)
		listen_to(&dial, o, master);
	changer.fn = NULL;
	changer_stop(&c);
	queue_free(&queue);
	master_free(&master);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char address[] = "127.0.0.1:6379", first[] = SENTINEL "1", second[] = SENTINEL "2";
	char name[] = "the-master", prefix[] = "t";
	struct redis_options o = { .master_name = name,
				   .prefix = prefix,
				   .answer_ms = ANSWER_MS,
				   .connect_ms = ANSWER_MS,
				   .purge_ms = 10 * ANSWER_MS,
				   .wait_ms = ANSWER_MS };
	parts = (struct fuzz_input){ data, size };
	char how = (char)fuzz_byte(&parts);
	at_once = (size_t)fuzz_byte(&parts) + 1;
	if (how == 'A') {
		o.address = address;
	} else {
		o.sentinels[0] = first;
		o.sentinels[1] = second;
		o.sentinel_count = 2;
	}
	o.wait_replicas = how == 'W';
	connections = 0;
	named = (struct fuzz_input){ NULL, 0 };
	clock_ms = 1000;
	serve(&o);
	return 0;
}

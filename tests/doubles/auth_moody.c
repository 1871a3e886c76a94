/* An auth plugin whose manners are options: slow, hanging, failing every n-th call, answering what no contract knows.
 * Its option table has a row of every type, and the claims it gives tell the values it got. SERIAL: it notices calls
 * that overlap.
 */
#include "double.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct moody {
	const struct tunnel_host *host;
	int answer, opinion, fail_every, calls;
	long delay_ms;
	int bad_text, late;
	char hold[256];
	atomic_int inside;
	int overlaps;
	char echo[4096];
};

#define ROW(name, kind, ...)                                                                      \
	{                                                                                         \
		.size = sizeof(struct tunnel_option_spec), .key = name, .type = kind, __VA_ARGS__ \
	}
static const struct tunnel_option_spec options[] = {
	ROW("answer", TUNNEL_OPTION_INT, .def = "0", .min = -1000, .max = 1000, .help = "what verify answers"),
	ROW("fail_every", TUNNEL_OPTION_INT, .def = "0", .max = 100, .help = "each n-th call is unavailable"),
	ROW("delay", TUNNEL_OPTION_DURATION, .def = "0ms", .max = 60000, .help = "how long a call takes"),
	ROW("hold", TUNNEL_OPTION_PATH,
	    .help = "a call does not come back while this file is there; it makes FILE.held"),
	ROW("late", TUNNEL_OPTION_BOOL, .def = "false", .help = "a call takes until its deadline is over"),
	ROW("opinion", TUNNEL_OPTION_INT, .def = "4", .min = -1000, .max = 1000, .help = "what authorize answers"),
	ROW("bad_text", TUNNEL_OPTION_BOOL, .def = "false", .help = "texts that do not end"),
	ROW("text", TUNNEL_OPTION_STRING, .min = 2, .max = 8, .help = "a short text"),
	ROW("bytes", TUNNEL_OPTION_SIZE, .min = 1, .max = 1048576, .help = "a size"),
	ROW("file", TUNNEL_OPTION_PATH, .help = "a file"),
	ROW("colour", TUNNEL_OPTION_ENUM, .def = "red", .choices = "red|green|dark-blue", .help = "a colour"),
	ROW("many", TUNNEL_OPTION_STRING, .flags = TUNNEL_OPTION_LIST, .help = "any number of texts"),
	ROW("password", TUNNEL_OPTION_STRING, .flags = TUNNEL_OPTION_SECRET, .max = 4, .help = "a secret"),
	ROW("needed", TUNNEL_OPTION_STRING, .flags = TUNNEL_OPTION_REQUIRED, .help = "must be there"),
	{ .key = NULL },
};

static int moody_open(const struct tunnel_host *host, const struct tunnel_option *o, size_t n, void **out_instance,
		      char *err, size_t err_len)
{
	struct moody *m = calloc(1, sizeof *m);
	size_t used = 0;
	if (!m) {
		snprintf(err, err_len, "out of memory");
		return TUNNEL_UNAVAILABLE;
	}
	m->host = host;
	for (size_t i = 0; i < n && used < sizeof m->echo; i++) {
		used += (size_t)snprintf(m->echo + used, sizeof m->echo - used, "%s=%s@%s ", o[i].key, o[i].value,
					 o[i].where);
		if (strcmp(o[i].key, "answer") == 0)
			m->answer = atoi(o[i].value);
		else if (strcmp(o[i].key, "fail_every") == 0)
			m->fail_every = atoi(o[i].value);
		else if (strcmp(o[i].key, "delay") == 0)
			m->delay_ms = atol(o[i].value);
		else if (strcmp(o[i].key, "hold") == 0)
			snprintf(m->hold, sizeof m->hold, "%s", o[i].value);
		else if (strcmp(o[i].key, "late") == 0)
			m->late = strcmp(o[i].value, "true") == 0;
		else if (strcmp(o[i].key, "opinion") == 0)
			m->opinion = atoi(o[i].value);
		else if (strcmp(o[i].key, "bad_text") == 0)
			m->bad_text = strcmp(o[i].value, "true") == 0;
	}
	host->log(host->ctx, TUNNEL_LOG_DEBUG, "open");
	host->count(host->ctx, "opens", 1);
	host->count(host->ctx, "Bad-Name", 1);
	*out_instance = m;
	return TUNNEL_OK;
}

static void hold(const char *file)
{
	char held[300];
	snprintf(held, sizeof held, "%s.held", file);
	FILE *f = *file && access(file, F_OK) == 0 ? fopen(held, "w") : NULL;
	if (!f)
		return;
	fclose(f);
	while (access(file, F_OK) == 0)
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
}

static void take_time(const struct moody *m, const struct tunnel_call *call)
{
	if (m->delay_ms)
		nanosleep(&(struct timespec){ m->delay_ms / 1000, m->delay_ms % 1000 * 1000000 }, NULL);
	while (m->late && m->host->mono_ms(m->host->ctx) < call->deadline_ms)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static int moody_verify(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
			struct tunnel_identity *out)
{
	struct moody *m = instance;
	(void)request;
	if (atomic_fetch_add(&m->inside, 1) != 0)
		m->overlaps++;
	m->calls++;
	hold(m->hold);
	take_time(m, call);
	int rc = m->fail_every && m->calls % m->fail_every == 0 ? TUNNEL_UNAVAILABLE : m->answer;
	snprintf(out->subject, sizeof out->subject, "calls=%d overlaps=%d", m->calls, m->overlaps);
	snprintf(out->claims, sizeof out->claims, "%s", m->echo);
	if (m->bad_text) {
		memset(call->err, '\n', call->err_len);
		memset(out->subject, 'x', sizeof out->subject);
	}
	atomic_fetch_sub(&m->inside, 1);
	return rc;
}

static int moody_authorize(void *instance, const struct tunnel_call *call, const struct tunnel_identity *identity,
			   const char *action, const char *resource, const char *context)
{
	struct moody *m = instance;
	(void)identity, (void)action, (void)resource, (void)context;
	take_time(m, call);
	return m->opinion;
}

static int moody_reload(void *instance, char *err, size_t err_len)
{
	(void)instance;
	snprintf(err, err_len, "not in the mood");
	return TUNNEL_CONFIG;
}

static const struct tunnel_auth_ops ops = { .size = sizeof ops, .verify = moody_verify, .authorize = moody_authorize };

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_AUTH,
	.threads = TUNNEL_THREADS_SERIAL,
	.name = "auth-moody",
	.version = "9.9",
	.options = options,
	.open = moody_open,
	.close = free,
	.ops = &ops,
	.reload = moody_reload,
};
TUNNEL_PLUGIN_REGISTER(descriptor)

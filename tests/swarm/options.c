#include "swarm.h"

#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "net/url.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"Usage: tunnel-swarm --server URL [--ca FILE] (--key-id ID --secret-file FILE | --token-file FILE) [OPTION]…\n"
	"\n"
	"Plays agents and the clients of their sessions against a server, in one process. Each session carries one "
	"stream\n"
	"to an echo at its target; what comes back is checked byte for byte.\n"
	"\n"
	"  --server URL          the server's API\n"
	"  --ca FILE             PEM file with the CAs to trust; default: the system's\n"
	"  --key-id ID           sign calls with this key (auth-hmac) …\n"
	"  --secret-file FILE    … whose secret is this file's content\n"
	"  --token-file FILE     or: the bearer token to send (auth-jwt)\n"
	"  --agents N            agents to enrol and connect (1)\n"
	"  --sessions N          sessions to start, spread over the agents (1)\n"
	"  --rate N              sessions to start a second; 0: as fast as answers come (0)\n"
	"  --ping-ms N           each session sends 64 bytes so often (1000)\n"
	"  --bulk                instead, each session sends as fast as it goes\n"
	"  --seed N              what the bytes are made from (1)\n"
	"  --prefix TEXT         targets are called TEXT-0, TEXT-1 … (swarm)\n"
	"  --seconds N           quit after so long; else when stdin ends\n"
	"  --report FILE         write the last line of stats there too\n"
	"  --spoil N             change the echo's byte at offset N of session 0, to see that it is noticed\n"
	"  --hold                start sessions at the command go, not when the agents are connected\n"
	"  --no-legs             agents take what they are offered, but do not attach: for sessions that others start\n"
	"  --verbose             log what happens to each session\n"
	"  --help\n"
	"\n"
	"Commands on stdin, one a line; each is answered by one line of JSON on stdout:\n"
	"  stats    numbers: agents, sessions, bytes, and outages since the last mark\n"
	"  mark     outages, round trips and ups count from here\n"
	"  ups      when each session that came back since the mark did so last (Unix milliseconds)\n"
	"  overs    when each session that is over ended at its client (Unix milliseconds)\n"
	"  pause    send nothing new; what is under way comes back and is checked\n"
	"  resume   send again\n"
	"  go       start the sessions that --hold holds back\n"
	"  quit     wait for what is under way, end all sessions, tell the stats\n"
	"\n"
	"Exit code: 0 all well; 1 a byte was wrong, or a session or agent failed; 2 usage.\n";

enum option_key {
	OPTION_SERVER = 256,
	OPTION_CA,
	OPTION_KEY_ID,
	OPTION_SECRET_FILE,
	OPTION_TOKEN_FILE,
	OPTION_AGENTS,
	OPTION_SESSIONS,
	OPTION_RATE,
	OPTION_PING_MS,
	OPTION_BULK,
	OPTION_SEED,
	OPTION_PREFIX,
	OPTION_SECONDS,
	OPTION_REPORT,
	OPTION_SPOIL,
	OPTION_HOLD,
	OPTION_NO_LEGS,
	OPTION_VERBOSE,
	OPTION_HELP,
};

static const struct option rows[] = {
	{ "server", required_argument, NULL, OPTION_SERVER },
	{ "ca", required_argument, NULL, OPTION_CA },
	{ "key-id", required_argument, NULL, OPTION_KEY_ID },
	{ "secret-file", required_argument, NULL, OPTION_SECRET_FILE },
	{ "token-file", required_argument, NULL, OPTION_TOKEN_FILE },
	{ "agents", required_argument, NULL, OPTION_AGENTS },
	{ "sessions", required_argument, NULL, OPTION_SESSIONS },
	{ "rate", required_argument, NULL, OPTION_RATE },
	{ "ping-ms", required_argument, NULL, OPTION_PING_MS },
	{ "bulk", no_argument, NULL, OPTION_BULK },
	{ "seed", required_argument, NULL, OPTION_SEED },
	{ "prefix", required_argument, NULL, OPTION_PREFIX },
	{ "seconds", required_argument, NULL, OPTION_SECONDS },
	{ "report", required_argument, NULL, OPTION_REPORT },
	{ "spoil", required_argument, NULL, OPTION_SPOIL },
	{ "hold", no_argument, NULL, OPTION_HOLD },
	{ "no-legs", no_argument, NULL, OPTION_NO_LEGS },
	{ "verbose", no_argument, NULL, OPTION_VERBOSE },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ NULL, 0, NULL, 0 },
};

struct raw {
	const char *key_id, *secret_file, *token_file;
	int64_t seed, spoil;
};

static int mistake(const char *fmt, ...) PRINTF_LIKE(1, 2);
static int mistake(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("tunnel-swarm: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs("\n", stderr);
	va_end(ap);
	return 2;
}

static bool take_text(struct options *o, struct raw *raw, int key, const char *value)
{
	const char **to = key == OPTION_SERVER        ? &o->server
			  : key == OPTION_CA          ? &o->ca_file
			  : key == OPTION_PREFIX      ? &o->prefix
			  : key == OPTION_REPORT      ? &o->report
			  : key == OPTION_KEY_ID      ? &raw->key_id
			  : key == OPTION_SECRET_FILE ? &raw->secret_file
			  : key == OPTION_TOKEN_FILE  ? &raw->token_file
						      : NULL;
	if (to)
		*to = value;
	return to != NULL;
}

static int take_number(struct options *o, struct raw *raw, int key, const char *value)
{
	const struct {
		int key;
		const char *name;
		int64_t min, max, *to;
	} numbers[] = {
		{ OPTION_AGENTS, "agents", 1, SWARM_AGENTS, &o->agents },
		{ OPTION_SESSIONS, "sessions", 0, SWARM_SESSIONS, &o->sessions },
		{ OPTION_RATE, "rate", 0, 100000, &o->rate },
		{ OPTION_PING_MS, "ping-ms", 1, 3600000, &o->traffic.ping_ms },
		{ OPTION_SEED, "seed", 0, INT64_MAX, &raw->seed },
		{ OPTION_SECONDS, "seconds", 1, 30 * 86400, &o->seconds },
		{ OPTION_SPOIL, "spoil", 1, INT64_MAX, &raw->spoil },
	};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		if (numbers[i].key != key)
			continue;
		if (text_parse_int(value, numbers[i].min, numbers[i].max, numbers[i].to) == 0)
			return 0;
		return mistake("--%s %s: expected a number from %lld to %lld", numbers[i].name, value,
			       (long long)numbers[i].min, (long long)numbers[i].max);
	}
	return 2; /* getopt has told what it does not know */
}

/* "before<content of the file, without what is around it>"; NULL and words on failure. */
static char *read_secret(const char *before, const char *path, struct err *e)
{
	struct buf b;
	char *text = NULL;
	if (secret_read_file(path, &b, e) != 0)
		return NULL;
	const char *from = (const char *)buf_data(&b);
	size_t len = b.len;
	while (len > 0 && strchr(" \t\r\n", from[len - 1]))
		len--;
	if (asprintf(&text, "%s%.*s", before, (int)len, from) < 0)
		text = NULL;
	buf_wipe_free(&b);
	return text;
}

static int take_credential(struct options *o, const struct raw *raw)
{
	struct err e = { .text = "out of memory" };
	char before[300];
	if (raw->token_file && !raw->key_id && !raw->secret_file) {
		o->bearer = read_secret("Authorization: Bearer ", raw->token_file, &e);
		return o->bearer ? 0 : mistake("--token-file: %s", e.text);
	}
	if (!raw->key_id || !raw->secret_file || raw->token_file)
		return mistake("give --key-id and --secret-file, or --token-file");
	snprintf(before, sizeof before, "%s:", raw->key_id);
	o->userpwd = read_secret(before, raw->secret_file, &e);
	return o->userpwd ? 0 : mistake("--secret-file: %s", e.text);
}

static int check(struct options *o, const struct raw *raw)
{
	struct url url;
	struct err e;
	char id[SWARM_ID + 16];
	snprintf(id, sizeof id, "%.60s-%lld", o->prefix, (long long)o->agents);
	if (!o->server)
		return mistake("--server URL is missing; --help tells more");
	if (url_parse(o->server, &url, &e) != 0)
		return mistake("--server: %s", e.text);
	if (strlen(o->prefix) > 50 || !text_is_id(id))
		return mistake("--prefix %s: allowed are letters, digits, '.', '_', '-', at most 50", o->prefix);
	o->traffic.seed = (uint64_t)raw->seed;
	o->spoil = (uint64_t)raw->spoil;
	return take_credential(o, raw);
}

int options_read(int argc, char **argv, struct options *out)
{
	struct raw raw = { .seed = 1 };
	struct options o = { .agents = 1, .sessions = 1, .prefix = "swarm", .traffic = { .ping_ms = 1000 } };
	int key, rc = 0;
	while (rc == 0 && (key = getopt_long(argc, argv, "", rows, NULL)) != -1) {
		if (key == OPTION_HELP) {
			fputs(help, stdout);
			return 1;
		}
		if (key == OPTION_BULK)
			o.traffic.bulk = true;
		else if (key == OPTION_HOLD)
			o.hold = true;
		else if (key == OPTION_NO_LEGS)
			o.no_legs = true;
		else if (key == OPTION_VERBOSE)
			o.verbose = true;
		else if (!take_text(&o, &raw, key, optarg))
			rc = take_number(&o, &raw, key, optarg);
	}
	if (rc == 0 && optind < argc)
		rc = mistake("unexpected: %s", argv[optind]);
	if (rc == 0)
		rc = check(&o, &raw);
	*out = o;
	return rc;
}

void options_free(struct options *o)
{
	secret_free_text(&o->userpwd);
	secret_free_text(&o->bearer);
}

#include "options.h"

#include <stddef.h>
#include <stdlib.h>

#define OPTION(name, kind, flag, standard, low, high, text)                                                           \
	{                                                                                                             \
		.size = sizeof(struct tunnel_option_spec), .key = name, .type = kind, .flags = flag, .def = standard, \
		.min = low, .max = high, .help = text                                                                 \
	}

const struct tunnel_option_spec redis_option_table[] = {
	OPTION("address", TUNNEL_OPTION_STRING, 0, NULL, 1, 256,
	       "the server: host:port, or the path of a unix socket; instead of sentinels"),
	OPTION("sentinels", TUNNEL_OPTION_STRING, TUNNEL_OPTION_LIST, NULL, 1, 256,
	       "a Sentinel that knows which server is the master: host:port; at most 16"),
	OPTION("master_name", TUNNEL_OPTION_STRING, 0, NULL, 1, 128, "what the Sentinels call the master"),
	OPTION("user", TUNNEL_OPTION_STRING, 0, NULL, 1, 128, "ACL user to log in as; without it: the default user"),
	OPTION("password_file", TUNNEL_OPTION_PATH, TUNNEL_OPTION_PRIVATE, NULL, 0, 4000,
	       "a file that holds the password; read for each connection"),
	OPTION("sentinel_user", TUNNEL_OPTION_STRING, 0, NULL, 1, 128, "the same for the Sentinels"),
	OPTION("sentinel_password_file", TUNNEL_OPTION_PATH, TUNNEL_OPTION_PRIVATE, NULL, 0, 4000,
	       "the same for the Sentinels"),
	OPTION("tls", TUNNEL_OPTION_BOOL, 0, "false", 0, 0, "speak TLS with the server, and with the Sentinels"),
	OPTION("tls_ca", TUNNEL_OPTION_PATH, 0, NULL, 0, 4000,
	       "PEM file of who signs their certificates; without it: the system's"),
	OPTION("tls_certificate", TUNNEL_OPTION_PATH, 0, NULL, 0, 4000, "PEM file to show them, with tls_key"),
	OPTION("tls_key", TUNNEL_OPTION_PATH, TUNNEL_OPTION_PRIVATE, NULL, 0, 4000, "its key"),
	OPTION("tls_name", TUNNEL_OPTION_STRING, 0, NULL, 1, 255,
	       "what their certificates must name; without it: the host or address that was dialled"),
	OPTION("database", TUNNEL_OPTION_INT, 0, "0", 0, 65535, "number of the database (SELECT)"),
	OPTION("prefix", TUNNEL_OPTION_STRING, 0, "tunnel", 1, 32,
	       "all keys begin with {prefix}: in braces; a-z, A-Z, 0-9, _, - and ."),
	OPTION("connections", TUNNEL_OPTION_INT, 0, "8", 1, 64,
	       "for reading and publishing at the same time; changes and events have one each besides"),
	OPTION("wait_replicas", TUNNEL_OPTION_INT, 0, "0", 0, 16,
	       "a change counts as done when so many replicas have it, too (WAIT); else it is answered as unavailable"),
	OPTION("wait_time", TUNNEL_OPTION_DURATION, 0, "1s", 10, 60000, "how long the replicas may take for it"),
	OPTION("answer_timeout", TUNNEL_OPTION_DURATION, 0, "3s", 100, 60000,
	       "a connection that does not answer for so long is given up"),
	OPTION("connect_timeout", TUNNEL_OPTION_DURATION, 0, "3s", 100, 60000,
	       "how long connecting and logging in may take"),
	OPTION("purge_interval", TUNNEL_OPTION_DURATION, 0, "30s", 10, 3600000,
	       "how often documents that have expired are removed; they cannot be read before"),
	{ .key = NULL },
};

enum shape { TEXT, NUMBER, MILLISECONDS, COUNT, TRUTH };
#define PLACE(name, shape, member)                                  \
	{                                                           \
		name, shape, offsetof(struct redis_options, member) \
	}
static const struct place {
	const char *key;
	enum shape shape;
	size_t at;
} places[] = {
	PLACE("address", TEXT, address),
	PLACE("master_name", TEXT, master_name),
	PLACE("user", TEXT, account.user),
	PLACE("password_file", TEXT, account.password_file),
	PLACE("sentinel_user", TEXT, sentinel_account.user),
	PLACE("sentinel_password_file", TEXT, sentinel_account.password_file),
	PLACE("tls", TRUTH, tls.on),
	PLACE("tls_ca", TEXT, tls.ca),
	PLACE("tls_certificate", TEXT, tls.certificate),
	PLACE("tls_key", TEXT, tls.key),
	PLACE("tls_name", TEXT, tls.name),
	PLACE("database", NUMBER, database),
	PLACE("prefix", TEXT, prefix),
	PLACE("connections", COUNT, connections),
	PLACE("wait_replicas", NUMBER, wait_replicas),
	PLACE("wait_time", MILLISECONDS, wait_ms),
	PLACE("answer_timeout", MILLISECONDS, answer_ms),
	PLACE("connect_timeout", MILLISECONDS, connect_ms),
	PLACE("purge_interval", MILLISECONDS, purge_ms),
};

static bool put_value(void *to, enum shape shape, const char *value)
{
	switch (shape) {
	case TEXT:
		return (*(char **)to = strdup(value)) != NULL;
	case NUMBER:
		*(long *)to = strtol(value, NULL, 10);
		break;
	case MILLISECONDS:
		*(int64_t *)to = strtoll(value, NULL, 10);
		break;
	case COUNT:
		*(size_t *)to = strtoul(value, NULL, 10);
		break;
	case TRUTH:
		*(bool *)to = strcmp(value, "true") == 0;
		break;
	}
	return true;
}

static int take_sentinel(struct redis_options *o, const struct tunnel_option *option, struct words w)
{
	char why[200] = "";
	if (o->sentinel_count == SENTINELS_MAX)
		return words_set(w, TUNNEL_CONFIG, "%s: sentinels: more than %u", option->where, SENTINELS_MAX);
	if (option->value[0] == '/' || endpoint_check(option->value, (struct words){ why, sizeof why }) != 0)
		return words_set(w, TUNNEL_CONFIG, "%s: sentinels: \"%.100s\"; allowed: host:port", option->where,
				 option->value);
	o->sentinels[o->sentinel_count] = strdup(option->value);
	return o->sentinels[o->sentinel_count++] ? 0 : words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
}

static int take_one(struct redis_options *o, const struct tunnel_option *option, struct words w)
{
	if (strcmp(option->key, "sentinels") == 0)
		return take_sentinel(o, option, w);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (strcmp(places[i].key, option->key) == 0 &&
		    !put_value((char *)o + places[i].at, places[i].shape, option->value))
			return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	return 0;
}

static int check_together(const struct redis_options *o, struct words w)
{
	const char *const tls_alone[] = { o->tls.ca, o->tls.certificate, o->tls.key, o->tls.name };
	if (!o->address == !o->sentinel_count)
		return words_set(w, TUNNEL_CONFIG, "allowed: either address or sentinels; here are %s",
				 o->address ? "both" : "neither");
	if (!o->sentinel_count != !o->master_name)
		return words_set(w, TUNNEL_CONFIG, "sentinels and master_name go together");
	if (o->account.user && !o->account.password_file)
		return words_set(w, TUNNEL_CONFIG, "user needs password_file");
	if (o->sentinel_account.user && !o->sentinel_account.password_file)
		return words_set(w, TUNNEL_CONFIG, "sentinel_user needs sentinel_password_file");
	for (size_t i = 0; i < sizeof tls_alone / sizeof *tls_alone; i++)
		if (tls_alone[i] && !o->tls.on)
			return words_set(w, TUNNEL_CONFIG,
					 "tls_ca, tls_certificate, tls_key and tls_name need tls = true");
	if (!o->tls.certificate != !o->tls.key)
		return words_set(w, TUNNEL_CONFIG, "tls_certificate and tls_key go together");
	if (o->tls.on && o->address && o->address[0] == '/')
		return words_set(w, TUNNEL_CONFIG,
				 "tls over a unix socket is not possible; allowed: address host:port");
	if (strspn(o->prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != strlen(o->prefix))
		return words_set(w, TUNNEL_CONFIG, "prefix: allowed: a-z, A-Z, 0-9, _, - and .");
	return o->address ? endpoint_check(o->address, w) : 0;
}

int redis_options_take(struct redis_options *o, const struct tunnel_option *options, size_t n, struct words w)
{
	int rc = 0;
	memset(o, 0, sizeof *o);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct tunnel_option one;
		COPY_IN(&one, (const struct tunnel_option *)(const void *)((const char *)options + i * options->size));
		rc = take_one(o, &one, w);
	}
	return rc == 0 ? check_together(o, w) : rc;
}

void redis_options_clear(struct redis_options *o)
{
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (places[i].shape == TEXT)
			free(*(char **)((char *)o + places[i].at));
	for (size_t i = 0; i < o->sentinel_count; i++)
		free(o->sentinels[i]);
	memset(o, 0, sizeof *o);
}

#include "cli/policy_about.h"

#include "base/clock.h"
#include "base/text.h"
#include "cli/command.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* A second value of one name makes a list of both. */
static void add_value(json_t *object, const char *key, const char *value)
{
	json_t *before = json_object_get(object, key);
	if (!before)
		json_object_set_new(object, key, json_string(value));
	else if (json_is_array(before))
		json_array_append_new(before, json_string(value));
	else
		json_object_set_new(object, key, json_pack("[O, s]", before, value));
}

static int add_pairs(json_t *context, const char *option, const char *prefix, const struct arg_list *pairs)
{
	for (size_t i = 0; i < pairs->n; i++) {
		const char *equals = strchr(pairs->at[i], '=');
		char key[256];
		int n = snprintf(key, sizeof key, "%s%.*s", prefix, equals ? (int)(equals - pairs->at[i]) : 0,
				 pairs->at[i]);
		if (!equals || equals == pairs->at[i] || (size_t)n >= sizeof key) {
			complain("--%s %s: expected NAME=VALUE, with a name of at most 200 characters", option,
				 pairs->at[i]);
			return EXIT_CODE_USAGE;
		}
		add_value(context, key, equals + 1);
	}
	return EXIT_CODE_OK;
}

int policy_about_context(const struct policy_about *a, json_t **out_context)
{
	const struct {
		const char *key, *value;
	} texts[] = { { "tunnel:Login", a->login },      { "tunnel:Host", a->host },
		      { "tunnel:Path", a->path },        { "tunnel:SourceIp", a->source_ip },
		      { "tunnel:CurrentTime", a->time }, { "tunnel:Provider", a->provider } };
	int64_t port;
	if (a->port && text_parse_int(a->port, 1, 65535, &port) != 0) {
		complain("--port %s: expected a number from 1 to 65535", a->port);
		return EXIT_CODE_USAGE;
	}
	unsigned char address[16];
	if (a->source_ip && inet_pton(AF_INET, a->source_ip, address) != 1 &&
	    inet_pton(AF_INET6, a->source_ip, address) != 1) {
		complain("--source-ip %s: expected an address, such as 192.0.2.7 or 2001:db8::7", a->source_ip);
		return EXIT_CODE_USAGE;
	}
	int64_t at;
	if (a->time && clock_parse(a->time, &at) != 0 && text_parse_int(a->time, 0, INT64_MAX / 1000, &at) != 0) {
		complain("--time %s: expected a time, such as 2026-01-31T09:15:00Z, or seconds since 1970", a->time);
		return EXIT_CODE_USAGE;
	}
	json_t *context = json_object();
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (texts[i].value)
			json_object_set_new(context, texts[i].key, json_string(texts[i].value));
	if (a->port)
		json_object_set_new(context, "tunnel:Port", json_integer(port));
	int code = add_pairs(context, "claim", "tunnel:Claim/", &a->claims);
	if (code == EXIT_CODE_OK)
		code = add_pairs(context, "tag", "target:Tag/", &a->tags);
	if (code == EXIT_CODE_OK)
		*out_context = context;
	else
		json_decref(context);
	return code;
}

json_t *policy_about_action(const char *action)
{
	return strchr(action, ':') ? json_string(action) : json_sprintf("tunnel:%s", action);
}

json_t *policy_about_list(const struct arg_list *list, json_t *make(const char *))
{
	json_t *array = json_array();
	for (size_t i = 0; i < list->n; i++)
		json_array_append_new(array, make(list->at[i]));
	return array;
}

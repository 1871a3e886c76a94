/* revoke, list-revocations, lift-revocation. */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

struct revoke_options {
	struct common_options common;
	const char *principal, *credential, *session, *reason, *duration;
};
#define AT(member) offsetof(struct revoke_options, member)
static const struct arg_row revoke_rows[] = {
	{ "principal", 0, ARG_TEXT, AT(principal), "NAME", "whoever is called so, whatever the credential" },
	{ "credential", 0, ARG_TEXT, AT(credential), "ID", "one credential: a key id, or a token's jti" },
	{ "session", 0, ARG_TEXT, AT(session), "ID", "one session" },
	{ "for", 0, ARG_TEXT, AT(duration), "DURATION", "how long: \"12h\" (default: until it is lifted)" },
	{ "reason", 0, ARG_TEXT, AT(reason), "TEXT", "for the audit log and those it hits" },
	{ .name = NULL },
};

/* NULL: has complained. */
static json_t *make_body(const struct revoke_options *o)
{
	int64_t for_ms = 0;
	if (!!o->principal + !!o->credential + !!o->session != 1) {
		complain("revoke needs one of --principal, --credential and --session");
		return NULL;
	}
	if (o->duration && o->session) {
		complain("--for does not go with --session: a session ends for good");
		return NULL;
	}
	if (o->duration && (text_parse_duration_ms(o->duration, &for_ms) != 0 || for_ms < 1000)) {
		complain("--for %s: expected a duration of at least a second, like \"12h\"", o->duration);
		return NULL;
	}
	json_t *body = json_pack("{s:s*, s:s*, s:s*, s:s*}", "principal", o->principal, "credential", o->credential,
				 "session", o->session, "reason", o->reason);
	if (body && for_ms)
		json_object_set_new(body, "for_s", json_integer(for_ms / 1000));
	if (!body)
		complain("the arguments must be UTF-8");
	return body;
}

static long long number(const json_t *answer, const char *name)
{
	return (long long)json_integer_value(json_object_get(answer, name));
}

static void complain_each(const json_t *names, const char *words)
{
	for (size_t i = 0; i < json_array_size(names); i++) {
		char name[256];
		snprintf(name, sizeof name, "%s", json_string_value(json_array_get(names, i)));
		text_make_plain(name);
		complain("%s %s", name, words);
	}
}

static void tell(const struct revoke_options *o, const json_t *answer)
{
	const char *kind = o->principal ? "principal" : o->credential ? "credential" : "session";
	const char *value = o->principal ? o->principal : o->credential ? o->credential : o->session;
	const char *id = json_string_value(json_object_get(json_object_get(answer, "revocation"), "id"));
	bool everywhere = json_array_size(json_object_get(answer, "unreached")) == 0 &&
			  json_array_size(json_object_get(answer, "unconfirmed")) == 0 &&
			  json_array_size(json_object_get(answer, "silent")) == 0;
	printf("%s %s is revoked; %lld %s ended, %s after %lld ms\n", kind, value, number(answer, "sessions"),
	       number(answer, "sessions") == 1 ? "session" : "sessions",
	       everywhere ? "gone everywhere" : "cut off, but not confirmed by all agents", number(answer, "took_ms"));
	if (id && text_is_id(id))
		printf("lift it with: tunnel-cli lift-revocation %s\n", id);
}

static int revoke(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct revoke_options *o = options;
	json_t *body = argc ? NULL : make_body(o), *answer = NULL;
	if (argc)
		complain("revoke takes no arguments but its options; see --help");
	if (!body)
		return EXIT_CODE_USAGE;
	struct client c;
	int code = client_open(&c, &o->common);
	if (code == EXIT_CODE_OK) {
		code = client_call(&c, "POST", "/v1/revocations", body, &answer);
		client_close(&c);
	}
	json_decref(body);
	if (code != EXIT_CODE_OK)
		return code;
	if (o->common.output == OUTPUT_JSON)
		output_json(answer);
	else
		tell(o, answer);
	complain_each(json_object_get(answer, "unreached"),
		      "has no agent connected that could be told; the relay has cut it off, and its end of the "
		      "session ends when it tries to come back");
	const json_t *unconfirmed = json_object_get(answer, "unconfirmed");
	complain_each(unconfirmed, "is cut off, but its agent has not said that it has ended");
	const json_t *silent = json_object_get(answer, "silent");
	complain_each(silent, "is a node that has not answered: what lives there may live until it hears of this");
	code = json_array_size(unconfirmed) || json_array_size(silent) ? EXIT_CODE_FAILED : EXIT_CODE_OK;
	json_decref(answer);
	return code;
}

const struct command command_revoke = {
	.name = "revoke",
	.usage = "--principal NAME | --credential ID | --session ID",
	.summary = "Shut somebody out and end the sessions; returns when none of them lives",
	.rows = revoke_rows,
	.options_size = sizeof(struct revoke_options),
	.run = revoke,
	.details = "Examples:\n  tunnel-cli revoke --principal alice@example.com --reason \"laptop stolen\"\n"
		   "  tunnel-cli revoke --credential ops-1 --for 12h\n"
		   "describe-session and whoami show the ids of credentials.\n",
};

static const struct column columns[] = {
	{ "REVOCATION", "id" }, { "PRINCIPAL", "principal" },   { "CREDENTIAL", "credential" }, { "AT", "at" },
	{ "BY", "by" },         { "EXPIRES AT", "expires_at" }, { "REASON", "reason" },         { NULL, NULL },
};

static int list_revocations(const void *options, int argc, char **argv)
{
	(void)argv;
	if (argc > 0) {
		complain("list-revocations takes no arguments");
		return EXIT_CODE_USAGE;
	}
	return query_list(options, "/v1/revocations", NULL, "revocations", NULL, columns);
}

const struct command command_list_revocations = {
	.name = "list-revocations",
	.usage = "",
	.summary = "Show who and what is revoked",
	.options_size = sizeof(struct common_options),
	.run = list_revocations,
	.details = "Example:\n"
		   "  tunnel-cli list-revocations\n",
};

static int lift_revocation(const void *options, int argc, char **argv)
{
	return query_one(options, "DELETE", "/v1/revocations/", "REVOCATION", argc, argv);
}

const struct command command_lift_revocation = {
	.name = "lift-revocation",
	.usage = "REVOCATION",
	.summary = "Let a revoked principal or credential in again",
	.options_size = sizeof(struct common_options),
	.run = lift_revocation,
	.details = "Example:\n"
		   "  tunnel-cli lift-revocation principal-aexw3xtzndz4jaufz2imjlo6xr\n",
};

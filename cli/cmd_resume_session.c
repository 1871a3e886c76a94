/* resume-session: a new client takes a port-forward session over. The session is looked at before it is taken, so that
 * a mistake here does not end another client. */
#include "cli/ends.h"
#include "cli/kept.h"
#include "cli/mode.h"

#include "base/limits.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

/* The client that had the session, on this machine, lets go of its ports when it hears of us. */
#define PORT_WAIT_MS 10000

struct resume_options {
	struct common_options common;
	const char *give_up;
	struct forward_texts forwards;
};
#define AT(member) offsetof(struct resume_options, member)
static const struct arg_row rows[] = {
	{ "port-forward", 'L', ARG_LIST, AT(forwards.at[FORWARD_LOCAL]), "[BIND:]PORT:HOST:PORT",
	  "instead of the forwards that the session had here; may be repeated" },
	{ "socks", 'D', ARG_LIST, AT(forwards.at[FORWARD_SOCKS]), "[BIND:]PORT", "the same" },
	{ "reverse", 'R', ARG_LIST, AT(forwards.at[FORWARD_REVERSE]), "[BIND:]PORT:HOST:PORT", "the same" },
	{ "give-up", 0, ARG_TEXT, AT(give_up), "DURATION", "how long to try to come back in an outage; default 15m" },
	{ .name = NULL },
};

struct resume {
	const char *id;
	struct common_options common; /* with the profile that was used before */
	struct kept_session kept;
	struct forward_texts forwards;
	int64_t give_up_ms;
};

static const char *member(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

static void join(const json_t *list, char *out, size_t size)
{
	size_t i, n = 0;
	json_t *item;
	out[0] = '\0';
	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(item);
		if (text && n < size)
			n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", text);
	}
}

/* Names have no case. */
static bool is_in(const json_t *list, const char *text)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *one = json_string_value(json_array_get(list, i));
		if (one && strcasecmp(one, text) == 0)
			return true;
	}
	return false;
}

/* A SOCKS proxy serves whatever the session has. */
static bool allows(const json_t *allow, const struct forward_spec *spec)
{
	char entry[FORWARD_ENTRY];
	forward_allow(spec, entry);
	return spec->way == FORWARD_SOCKS || is_in(allow, entry) || (spec->way == FORWARD_LOCAL && is_in(allow, "*"));
}

static int refuse_ended(const struct resume *r, const json_t *session)
{
	const json_t *end = json_object_get(session, "end");
	struct session_ending ending;
	ending_of_record((unsigned)json_integer_value(json_object_get(end, "code")), member(end, "text"), &ending);
	complain("session %s has ended: %s; start a new one: tunnel-cli start-session --target %s …", r->id,
		 ending.text, member(session, "target"));
	kept_remove(r->id);
	return ending.exit_code;
}

static int check_forward(const struct resume *r, enum forward_way way, const char *text, const json_t *allow)
{
	char allowed[600];
	struct forward_spec spec;
	struct err e = { 0 };
	if (forward_parse(way, text, &spec, &e) != 0) {
		complain("%s", e.text);
		return EXIT_CODE_USAGE;
	}
	if (allows(allow, &spec))
		return EXIT_CODE_OK;
	join(allow, allowed, sizeof allowed);
	complain("%s %s: session %s allows %s only; for more, start a new one", forward_option(way), text, r->id,
		 allowed);
	return EXIT_CODE_USAGE;
}

/* What was asked for must be what the session may; its streams would be refused one by one. */
static int check_forwards(const struct resume *r, const json_t *session)
{
	const json_t *allow = json_object_get(session, "allow");
	char allowed[600];
	if (forward_count(&r->forwards) == 0) {
		join(allow, allowed, sizeof allowed);
		complain("session %s: its forwards are not known here; it allows %s: give --port-forward "
			 "PORT:HOST:PORT, --socks PORT or --reverse PORT:HOST:PORT",
			 r->id, allowed);
		return EXIT_CODE_USAGE;
	}
	int code = EXIT_CODE_OK;
	for (int way = 0; code == EXIT_CODE_OK && way < FORWARD_WAYS; way++)
		for (size_t i = 0; code == EXIT_CODE_OK && i < r->forwards.at[way].n; i++)
			code = check_forward(r, (enum forward_way)way, r->forwards.at[way].at[i], allow);
	return code;
}

static int look_at(const struct resume *r, struct client *c)
{
	char path[LIMIT_ID + 32];
	json_t *session = NULL;
	snprintf(path, sizeof path, "/v1/sessions/%s", r->id);
	int code = client_call(c, "GET", path, NULL, &session);
	if (code == EXIT_CODE_NOT_FOUND) {
		kept_remove(r->id);
		complain("tunnel-cli list-sessions shows the sessions that are yours");
	}
	if (code != EXIT_CODE_OK)
		return code;
	if (strcmp(member(session, "kind"), "tcp") != 0) {
		complain("session %s is an SSH session, which ends with its client; start a new one: tunnel-cli "
			 "start-session --target %s --login %s",
			 r->id, member(session, "target"), member(session, "login"));
		code = EXIT_CODE_FAILED;
	} else if (strcmp(member(session, "state"), "ended") == 0) {
		code = refuse_ended(r, session);
	} else {
		code = check_forwards(r, session);
	}
	json_decref(session);
	return code;
}

static int take_over(struct resume *r, struct client *c)
{
	struct session s = { 0 };
	struct mode_forward m = { .texts = &r->forwards, .common = &r->common };
	mode_forward_init(&m);
	int code = session_resume(&s, c, r->id);
	if (code == EXIT_CODE_OFFLINE)
		complain("session %s stays for now: try again when its target is back", r->id);
	if (code == EXIT_CODE_OK) {
		code = mode_forward_listen(&m, PORT_WAIT_MS);
		if (code != EXIT_CODE_OK)
			complain("session %s goes on without a client; come back with: tunnel-cli resume-session %s",
				 r->id, r->id);
	}
	if (code == EXIT_CODE_OK) {
		s.give_up_ms = r->give_up_ms;
		session_tell(&s, "session %s is resumed; connections of before are gone", r->id);
		code = session_run(&s, &m.mode);
	}
	session_free(&s);
	mode_forward_free(&m);
	return session_leave(&s, code);
}

static int run(struct resume *r)
{
	struct client c;
	int code = client_open(&c, &r->common);
	if (code != EXIT_CODE_OK)
		return code;
	code = look_at(r, &c);
	if (code == EXIT_CODE_OK)
		code = take_over(r, &c);
	client_close(&c);
	return code;
}

static int resume_session(const void *options, int argc, char **argv)
{
	const struct resume_options *o = options;
	struct resume r = { .common = o->common };
	struct err e = { 0 };
	if (argc != 1 || !text_is_id(argv[0])) {
		complain("resume-session: expected one argument: SESSION (list-sessions shows yours)");
		return EXIT_CODE_USAGE;
	}
	if (session_give_up(o->give_up, &r.give_up_ms) != EXIT_CODE_OK)
		return EXIT_CODE_USAGE;
	r.id = argv[0];
	int rc = kept_read(r.id, &r.kept, &e);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		complain("%s", e.text); /* and on without it */
	if (!r.common.profile && !r.common.config) {
		r.common.profile = r.kept.profile;
		r.common.config = r.kept.config;
	}
	r.forwards = forward_count(&o->forwards) > 0 ? o->forwards : r.kept.forwards;
	int code = run(&r);
	kept_free(&r.kept);
	return code;
}

const struct command command_resume_session = {
	.name = "resume-session",
	.usage = "SESSION [OPTIONS]",
	.summary = "Come back to a port-forward session whose client is gone, or take it from another client",
	.rows = rows,
	.options_size = sizeof(struct resume_options),
	.run = resume_session,
	.details = "Connections of the earlier client are gone; new ones work as before. Without --port-forward,\n"
		   "--socks or --reverse the forwards are those that start-session left on this machine.\n\n"
		   "Examples:\n"
		   "  tunnel-cli resume-session s-2f6c9a\n"
		   "  tunnel-cli resume-session s-2f6c9a --port-forward 5433:127.0.0.1:5432\n",
};

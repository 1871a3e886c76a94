#include "cli/session.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/nearest.h"
#include "base/secret.h"
#include "base/text.h"
#include "cli/sshdir.h"
#include "ident/key.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "tag:k=v,k=v" → {"k":"v"}; NULL when it is malformed. */
static json_t *selector_object(const char *text)
{
	json_t *object = json_object();
	char copy[1024];
	if (strlen(text) >= sizeof copy)
		goto bad;
	snprintf(copy, sizeof copy, "%s", text);
	char *save = NULL;
	for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(part, '=');
		if (!equals || equals == part)
			goto bad;
		*equals = '\0';
		json_object_set_new(object, part, json_string(equals + 1));
	}
	if (json_object_size(object) > 0)
		return object;
bad:
	json_decref(object);
	return NULL;
}

static json_t *request_body(const struct session_wish *w, EVP_PKEY *key, struct err *e)
{
	char key_text[KEY_TEXT_MAX], idem[33];
	if (key_public_text(key, key_text, e) != 0)
		return NULL;
	secret_random_id(idem, 32);
	json_t *body = json_pack("{s:s, s:s, s:s}", "kind", w->allow ? "tcp" : "ssh", "client_key", key_text,
				 "idempotency_key", idem);
	if (text_starts(w->target, "tag:")) {
		json_t *selector = selector_object(w->target + 4);
		if (!selector) {
			json_decref(body);
			err_set(e, ERR_INVALID, "--target %s: expected a target id or tag:KEY=VALUE[,KEY=VALUE]",
				w->target);
			return NULL;
		}
		json_object_set_new(body, "selector", selector);
	} else {
		json_object_set_new(body, "target", json_string(w->target));
	}
	if (w->reason)
		json_object_set_new(body, "reason", json_string(w->reason));
	if (w->allow) {
		json_t *allow = json_array();
		for (size_t i = 0; i < w->allow_n; i++)
			json_array_append_new(allow, json_string(w->allow[i]));
		json_object_set_new(body, "allow", allow);
	} else {
		json_object_set_new(body, "login", json_string(w->login));
		json_object_set_new(body, "ssh_public_key", json_string(w->ssh_public_key));
	}
	return body;
}

static int64_t time_of(const json_t *view, const char *key)
{
	const char *text = json_string_value(json_object_get(view, key));
	int64_t at_ms = 0;
	return text && clock_parse(text, &at_ms) == 0 ? at_ms : 0;
}

void session_take_times(struct session *s, const json_t *view)
{
	int64_t identity_ms = time_of(view, "identity_expires_at");
	s->expires_ms = time_of(view, "expires_at");
	/* One that reaches its maximum duration before is beyond help. */
	int64_t end_ms = identity_ms && identity_ms <= s->expires_ms ? s->expires_ms : 0;
	if (end_ms != s->renewal.end_ms)
		renewal_begin(&s->renewal, end_ms, clock_wall_ms());
}

static int check_answer(struct session *s)
{
	json_t *session = NULL;
	const char *text = NULL;
	const struct json_field top[] = {
		{ "session", JSON_FIELD_OBJECT, true, 0, 0, &session },
		{ "token", JSON_FIELD_STRING, true, 16, 512, &text },
		{ "relay_url", JSON_FIELD_STRING, true, 8, 512, &text },
		{ "target_pin", JSON_FIELD_STRING, true, 43, 43, &text },
		{ .name = NULL },
	};
	const struct json_field inner[] = {
		{ "id", JSON_FIELD_STRING, true, 1, LIMIT_ID, &s->id },
		{ "target", JSON_FIELD_STRING, true, 1, LIMIT_ID, &s->target },
		{ .name = NULL },
	};
	struct err e = { 0 };
	if (json_read(s->answer, "answer", false, top, &e) == 0 &&
	    json_read(session, "answer.session", false, inner, &e) == 0 && text_is_id(s->id) && text_is_id(s->target)) {
		session_take_times(s, session);
		return EXIT_CODE_OK;
	}
	complain("the server's answer is malformed: %s", e.text);
	return EXIT_CODE_FAILED;
}

/* Between the call and the loop: a session may be there that nobody would end. */
static volatile sig_atomic_t interrupted_by;

static void on_early_signal(int signum)
{
	static const char again[] = "\ntunnel: ending; the same again ends at once\n";
	if (interrupted_by) {
		sshdir_vanish();
		_exit(128 + signum);
	}
	interrupted_by = signum;
	if (signum == SIGINT && write(STDERR_FILENO, again, sizeof again - 1) < 0)
		return;
}

static void on_idle_signal(int signum)
{
	(void)signum;
}

static void watch_early_signals(void)
{
	static const int signums[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };
	for (size_t i = 0; i < sizeof signums / sizeof *signums; i++) {
		bool ends = signums[i] != SIGUSR1 && signums[i] != SIGUSR2;
		struct sigaction now = { .sa_handler = ends ? on_early_signal : on_idle_signal }, before;
		sigemptyset(&now.sa_mask);
		/* nohup and background jobs have some of them ignored, and mean it */
		if (sigaction(signums[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(signums[i], &now, NULL);
	}
}

int session_interrupted(void)
{
	return interrupted_by;
}

static int call(struct session *s, const char *path, json_t *body)
{
	watch_early_signals();
	s->client->interrupted = session_interrupted;
	int code = client_call(s->client, "POST", path, body, &s->answer);
	s->client->interrupted = NULL;
	return code == EXIT_CODE_OK ? check_answer(s) : code;
}

static int begin(struct session *s, struct client *client, struct err *e)
{
	s->client = client;
	s->exit_code = EXIT_CODE_FAILED;
	s->key = key_generate(e);
	return s->key ? 0 : e->code;
}

int session_give_up(const char *text, int64_t *out_ms)
{
	int64_t ms = 0;
	if (text && (text_parse_duration_ms(text, &ms) != 0 || ms < 1000)) {
		complain("--give-up %s: expected a duration of at least a second, such as 90s, 15m or 12h", text);
		return EXIT_CODE_USAGE;
	}
	*out_ms = ms;
	return EXIT_CODE_OK;
}

/* Best effort: it costs a call of its own, and who asks may not be allowed to see targets. */
static void suggest_target(struct client *client, const char *wanted)
{
	struct nearest nearest = { .wanted = wanted };
	json_t *page = NULL, *row;
	char why[CLIENT_WHY];
	size_t i;
	if (session_interrupted() ||
	    client_try(client, "GET", "/v1/targets?limit=1000", NULL, &page, why) != EXIT_CODE_OK)
		return;
	json_array_foreach(json_object_get(page, "targets"), i, row)
	{
		const char *id = json_string_value(json_object_get(row, "id"));
		if (id && text_is_id(id))
			nearest_offer(&nearest, id);
	}
	const char *words = nearest_words(&nearest);
	complain("%s%sthose that you may see: tunnel-cli list-targets", *words ? words + 1 : "", *words ? " " : "");
	json_decref(page);
}

int session_start(struct session *s, struct client *client, const struct session_wish *wish)
{
	struct err e = { 0 };
	json_t *body = begin(s, client, &e) == 0 ? request_body(wish, s->key, &e) : NULL;
	if (!body) {
		complain("%s", e.text);
		return e.code == ERR_INVALID ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	int code = call(s, "/v1/sessions", body);
	json_decref(body);
	if (code == EXIT_CODE_NOT_FOUND)
		suggest_target(client, wish->target);
	return code;
}

int session_resume(struct session *s, struct client *client, const char *id)
{
	struct err e = { 0 };
	char key_text[KEY_TEXT_MAX], path[LIMIT_ID + 32];
	if (begin(s, client, &e) != 0 || key_public_text(s->key, key_text, &e) != 0) {
		complain("%s", e.text);
		return EXIT_CODE_FAILED;
	}
	snprintf(path, sizeof path, "/v1/sessions/%s/resume", id);
	json_t *body = json_pack("{s:s}", "client_key", key_text);
	int code = call(s, path, body);
	json_decref(body);
	return code;
}

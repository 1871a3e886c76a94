#include "cli/session.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_LIMIT_MS 2000 /* how long a goodbye may take */

void session_tell(const struct session *s, const char *fmt, ...)
{
	if (s->client->common->quiet)
		return;
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	make_plain(text);
	/* ssh may hold the terminal in raw mode: return to column 0 by hand. */
	fprintf(stderr, isatty(STDERR_FILENO) ? "\rtunnel: %s\r\n" : "tunnel: %s\n", text);
}

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
		for (size_t i = 0; i < w->allow->n; i++)
			json_array_append_new(allow, json_string(w->allow->at[i]));
		json_object_set_new(body, "allow", allow);
	} else {
		json_object_set_new(body, "login", json_string(w->login));
		json_object_set_new(body, "ssh_public_key", json_string(w->ssh_public_key));
	}
	return body;
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
	    json_read(session, "answer.session", false, inner, &e) == 0 && text_is_id(s->id) && text_is_id(s->target))
		return EXIT_CODE_OK;
	complain("the server's answer is malformed: %s", e.text);
	return EXIT_CODE_FAILED;
}

int session_start(struct session *s, struct client *client, const struct session_wish *wish)
{
	struct err e = { 0 };
	memset(s, 0, sizeof *s);
	s->client = client;
	s->exit_code = EXIT_CODE_FAILED;
	s->key = key_generate(&e);
	json_t *body = s->key ? request_body(wish, s->key, &e) : NULL;
	if (!body) {
		complain("%s", e.text);
		return e.code == ERR_INVALID ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
	}
	int code = client_call(client, "POST", "/v1/sessions", body, &s->answer);
	json_decref(body);
	return code == EXIT_CODE_OK ? check_answer(s) : code;
}

static void on_state(void *user, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	struct session *s = user;
	if (s->stopping)
		return;
	if (state == ENDPOINT_LOST) {
		log_debug("lost: %s", text);
		session_tell(s, "connection lost, resuming…");
	} else if (state == ENDPOINT_UP && outage_ms > 0) {
		session_tell(s, "resumed after %.1f s", (double)outage_ms / 1000);
	} else if (state == ENDPOINT_UP) {
		log_debug("session %s is up", s->id);
	}
}

static void on_opened(void *user, uint32_t stream)
{
	struct session *s = user;
	if (s->mode->opened)
		s->mode->opened(s->mode, s, stream);
}

static void on_stream_closed(void *user, uint32_t stream, unsigned code, const char *text, uint64_t in, uint64_t out)
{
	struct session *s = user;
	(void)in, (void)out;
	if (s->mode->stream_closed)
		s->mode->stream_closed(s->mode, s, stream, code, text);
}

static void close_handle(uv_handle_t *h)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

static int end_exit_code(const struct endpoint_end *end)
{
	switch (end->close_code ? end->close_code : end->http_status ? 4000u + (unsigned)end->http_status : 0) {
	case 4013:
		return EXIT_CODE_REFUSED;
	case 4401:
		return EXIT_CODE_UNAUTHENTICATED;
	case 4403:
		return EXIT_CODE_FORBIDDEN;
	case 4404:
		return EXIT_CODE_NOT_FOUND;
	case 0:
		return end->link_code == LINK_TIMEOUT ? EXIT_CODE_UNREACHABLE : EXIT_CODE_SESSION_OVER;
	default:
		return EXIT_CODE_SESSION_OVER;
	}
}

static void on_over(void *user, const struct endpoint_end *end)
{
	struct session *s = user;
	if (!s->stopping) {
		complain("session %s is over: %s", s->id, end->text);
		s->exit_code = end_exit_code(end);
	}
	s->over = true;
	endpoint_free(&s->endpoint);
	s->mode->over(s->mode, s);
	close_handle((uv_handle_t *)&s->on_int);
	close_handle((uv_handle_t *)&s->on_term);
	close_handle((uv_handle_t *)&s->on_hup);
	close_handle((uv_handle_t *)&s->stop_timer);
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct session *s = h->data;
	if (s->mode->interrupted)
		s->mode->interrupted(s->mode, s, signum);
	else
		session_stop(s, 128 + signum);
}

static void on_stop_limit(uv_timer_t *t)
{
	struct session *s = t->data;
	const struct endpoint_end end = { .text = "no goodbye in time" };
	on_over(s, &end);
}

void session_stop(struct session *s, int exit_code)
{
	if (s->over || s->stopping)
		return;
	s->stopping = true;
	s->exit_code = exit_code;
	uv_timer_start(&s->stop_timer, on_stop_limit, STOP_LIMIT_MS, 0);
	endpoint_end(s->endpoint, LINK_OK, "ended by its client");
}

static void watch_signal(struct session *s, uv_signal_t *h, int signum)
{
	uv_signal_init(&s->loop, h);
	h->data = s;
	uv_signal_start(h, on_signal, signum);
}

static int start_endpoint(struct session *s, struct err *e)
{
	static const struct endpoint_callbacks callbacks = {
		.state = on_state, .opened = on_opened, .stream_closed = on_stream_closed, .over = on_over
	};
	const struct profile *p = &s->client->profile;
	const char **urls = calloc(p->servers.n + 1, sizeof *urls);
	if (!urls)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < p->servers.n; i++)
		urls[i] = p->servers.at[i];
	struct endpoint_config config = {
		.role = LINK_CLIENT,
		.session = s->id,
		.token = json_string_value(json_object_get(s->answer, "token")),
		.relay_url = json_string_value(json_object_get(s->answer, "relay_url")),
		.server_urls = urls,
		.key = s->key,
		.tls = s->tls,
		.proxy = p->proxy,
	};
	int rc = key_pin_parse(json_string_value(json_object_get(s->answer, "target_pin")), config.peer_pin, e);
	if (rc == 0)
		rc = endpoint_start(&s->loop, &config, &callbacks, s, &s->endpoint, e);
	free(urls);
	return rc;
}

int session_run(struct session *s, struct session_mode *mode)
{
	struct err e = { 0 };
	s->mode = mode;
	if (uv_loop_init(&s->loop) != 0) {
		complain("no event loop: out of descriptors or memory");
		return EXIT_CODE_FAILED;
	}
	s->loop_ready = true;
	watch_signal(s, &s->on_int, SIGINT);
	watch_signal(s, &s->on_term, SIGTERM);
	watch_signal(s, &s->on_hup, SIGHUP);
	uv_timer_init(&s->loop, &s->stop_timer);
	s->stop_timer.data = s;
	int rc = net_tls_new(s->client->profile.ca_file, &s->tls, &e);
	if (rc == 0)
		rc = start_endpoint(s, &e);
	if (rc != 0) {
		complain("%s", e.text);
		s->stopping = true;
		s->exit_code = exit_for_err(&e);
		const struct endpoint_end none = { 0 };
		on_over(s, &none);
	} else {
		int code = mode->begin(mode, s);
		if (code != EXIT_CODE_OK)
			session_stop(s, code);
	}
	uv_run(&s->loop, UV_RUN_DEFAULT);
	return s->exit_code;
}

void session_free(struct session *s)
{
	endpoint_free(&s->endpoint);
	if (s->loop_ready) {
		uv_run(&s->loop, UV_RUN_DEFAULT);
		uv_loop_close(&s->loop);
	}
	net_tls_free(&s->tls);
	EVP_PKEY_free(s->key);
	json_decref(s->answer);
}

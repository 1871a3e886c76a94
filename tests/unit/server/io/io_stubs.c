/* Answers by the request's own words: GET /sleep?ms=300 sleeps, /hold waits for hold_end, a leg's token "client" or
 * "target" is its role, "hold-client" is judged after hold_end, a token "refuse-4404" is refused with that code, an
 * agent's assertion is its target's name. */
#include "io_stubs.h"

#include "base/log.h"
#include "base/text.h"
#include "server/api.h"
#include "server/control.h"
#include "server/leg.h"
#include "server/relay.h"
#include "server/server.h"
#include "server/sessions.h"
#include "server/wsconn.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t say_lock = PTHREAD_MUTEX_INITIALIZER;

void say(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	pthread_mutex_lock(&say_lock);
	vprintf(fmt, args);
	putchar('\n');
	fflush(stdout);
	pthread_mutex_unlock(&say_lock);
	va_end(args);
}

static pthread_mutex_t hold_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hold_over = PTHREAD_COND_INITIALIZER;
static bool hold_ended;

void hold_end(void)
{
	pthread_mutex_lock(&hold_lock);
	hold_ended = true;
	pthread_cond_broadcast(&hold_over);
	pthread_mutex_unlock(&hold_lock);
}

static void hold(void)
{
	pthread_mutex_lock(&hold_lock);
	while (!hold_ended)
		pthread_cond_wait(&hold_over, &hold_lock);
	pthread_mutex_unlock(&hold_lock);
}

static void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

static long number_in(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	return at ? strtol(at + strlen(key), NULL, 10) : 0;
}

void api_problem(struct api_response *r, const char *request_id, int status, const char *code, const char *fmt, ...)
{
	char detail[256];
	va_list args;
	va_start(args, fmt);
	vsnprintf(detail, sizeof detail, fmt, args);
	va_end(args);
	json_t *json = json_pack("{s:i,s:s,s:s,s:s}", "status", status, "code", code, "detail", detail, "request_id",
				 request_id);
	*r = (struct api_response){ .status = status,
				    .body = json_dumps(json, JSON_COMPACT),
				    .content_type = "application/problem+json" };
	r->body_len = strlen(r->body);
	json_decref(json);
}

void api_response_free(struct api_response *r)
{
	free(r->body);
	r->body = NULL;
}

static void echo(const struct api_request *q, struct api_response *out)
{
	json_t *headers = json_array();
	for (size_t i = 0; i < q->header_count; i++)
		json_array_append_new(headers, json_pack("[ss]", q->headers[i].name, q->headers[i].value));
	json_t *json =
		json_pack("{s:s,s:s,s:s,s:s,s:I,s:o,s:s%}", "method", q->method, "path", q->path, "query", q->query,
			  "remote", q->remote_address, "body_len", (json_int_t)q->body_len, "headers", headers, "body",
			  q->body_len ? (const char *)q->body : "", q->body_len > 1000 ? (size_t)0 : q->body_len);
	out->status = 200;
	out->content_type = "application/json";
	out->body = json_dumps(json, JSON_COMPACT);
	out->body_len = strlen(out->body);
	json_decref(json);
}

enum pool_lane api_lane(const char *method, const char *path, bool proof)
{
	(void)method, (void)proof;
	return strcmp(path, "/healthz") == 0 ? POOL_EVENTS : POOL_CALLS;
}

void api_handle_blocking(struct server *server, const struct api_request *request, struct api_response *out)
{
	(void)server;
	memset(out, 0, sizeof *out);
	if (strcmp(request->path, "/sleep") == 0) {
		say("working");
		sleep_ms(number_in(request->query, "ms="));
		say("worked");
	}
	if (strcmp(request->path, "/hold") == 0) {
		say("working");
		hold();
	}
	if (strcmp(request->path, "/big") == 0) {
		size_t n = (size_t)number_in(request->query, "n=");
		*out = (struct api_response){
			.status = 200, .body = malloc(n), .body_len = n, .content_type = "text/plain"
		};
		memset(out->body, 'x', n);
	} else {
		echo(request, out);
	}
}

void sessions_attach_blocking(struct server *server, const struct attach_request *request, struct attach_decision *out)
{
	(void)server;
	const char *token = request->token;
	*out = (struct attach_decision){ 0 };
	if (text_starts(token, "slow-")) {
		sleep_ms(300);
		token += 5;
	}
	if (text_starts(token, "hold-")) {
		say("judging");
		hold();
		token += 5;
	}
	if (text_starts(token, "refuse-")) {
		out->close_code = (unsigned)atoi(token + 7);
		snprintf(out->text, sizeof out->text, "refused by the test");
		if (out->close_code == 4009)
			snprintf(out->relay_url, sizeof out->relay_url, "https://other:1");
	}
	/* "client", "target"; "client-2": of the second generation */
	out->role = text_starts(token, "target") ? LEG_TARGET : LEG_CLIENT;
	out->generation = strchr(token, '-') ? atoi(strchr(token, '-') + 1) : 1;
	snprintf(out->session, sizeof out->session, "%s", request->session);
	say("attach %s %s dpop=%s host=%s", request->session, token, request->dpop, request->host);
}

static const char *role_name(enum leg_role role)
{
	return role == LEG_CLIENT ? "client" : "target";
}

struct leg *__real_leg_attach(struct relay *relay, const struct leg_init *init);
struct leg *__wrap_leg_attach(struct relay *relay, const struct leg_init *init);

struct leg *__wrap_leg_attach(struct relay *relay, const struct leg_init *init)
{
	say("reactor %s %s %d", init->session, role_name(init->role), conn_reactor_of(init->id));
	return __real_leg_attach(relay, init);
}

void sessions_on_attached_blocking(struct server *server, const char *session, enum leg_role role, int64_t generation,
				   const char *remote_address)
{
	(void)server, (void)generation;
	say("attached %s %s %s", session, role_name(role), remote_address);
}

void sessions_on_detached_blocking(struct server *server, const char *session, enum leg_role role, const char *why)
{
	(void)server;
	say("detached %s %s %s", session, role_name(role), why);
}

void sessions_on_paired_blocking(struct server *server, const char *session, int64_t generation, uint64_t epoch)
{
	(void)server, (void)generation;
	say("paired %s %llu", session, (unsigned long long)epoch);
}

void sessions_on_client_bye_blocking(struct server *server, const char *session, int64_t generation)
{
	(void)generation;
	say("bye %s", session);
	relay_end_anythread(server->relay, session, 4000, "the session was ended by its client");
}

void control_authorize_blocking(struct server *server, const char *assertion, const char *remote_address,
				struct control_decision *out)
{
	(void)server, (void)remote_address;
	*out = (struct control_decision){ 0 };
	if (text_starts(assertion, "refuse-")) {
		out->close_code = (unsigned)atoi(assertion + 7);
		snprintf(out->text, sizeof out->text, "refused by the test");
	}
	snprintf(out->target, sizeof out->target, "%.64s", assertion);
}

static atomic_bool released; /* by "release", which overtakes what waits */

bool control_on_answer_anythread(struct server *server, wsconn_id conn, const char *target, const char *text,
				 size_t len)
{
	(void)server, (void)conn, (void)target;
	bool release = len == 7 && memcmp(text, "release", 7) == 0;
	if (release)
		atomic_store(&released, true);
	return release;
}

bool control_is_report(const char *text, size_t len)
{
	return len >= 7 && memcmp(text, "report ", 7) == 0;
}

bool control_same_session(const char *a, size_t a_len, const char *b, size_t b_len)
{
	(void)a, (void)a_len, (void)b, (void)b_len;
	return true;
}

/* Reports are answered together, with how many they are. */
static void answer_reports(struct server *server, wsconn_id conn, const struct control_text *texts, size_t n)
{
	char text[2048];
	int len = snprintf(text, sizeof text, "%zu:", n);
	for (size_t i = 0; i < n && (size_t)len < sizeof text; i++)
		len += snprintf(text + len, sizeof text - (size_t)len, " %.*s", (int)texts[i].len - 7, texts[i].at + 7);
	wsconn_send_text_anythread(server, conn, text);
}

static void take_text(struct server *server, wsconn_id conn, const char *target, const char *text, size_t len)
{
	if (text_starts(text, "sleep "))
		sleep_ms(atol(text + 6));
	while (strcmp(text, "hold") == 0 && !atomic_load(&released))
		sleep_ms(1);
	if (text_starts(text, "close "))
		wsconn_close_anythread(server, conn, (unsigned)atoi(text + 6), "closed by the test");
	else if (len > 1000)
		say("text %s len=%zu", target, len);
	else
		wsconn_send_text_anythread(server, conn, text);
}

void control_on_texts_blocking(struct server *server, wsconn_id conn, const char *target, const char *identity,
			       const struct control_text *texts, size_t n)
{
	(void)identity;
	if (control_is_report(texts[0].at, texts[0].len)) {
		answer_reports(server, conn, texts, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		char *text = strndup(texts[i].at, texts[i].len);
		take_text(server, conn, target, text, texts[i].len);
		free(text);
	}
}

void control_on_closed_blocking(struct server *server, wsconn_id conn, const char *target, const char *why)
{
	(void)server, (void)conn;
	say("agent-closed %s %s", target, why);
}

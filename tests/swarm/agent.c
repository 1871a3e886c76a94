/* An agent as PROTOCOL.md, section 2, has it: enrolled with keys of its own, one control connection that comes back,
 * reports that are repeated until they are acknowledged. They are kept in memory: this agent does not outlive its
 * process. */
#include "swarm.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "ident/key.h"
#include "ident/proof.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_MS 5000
#define DEAD_MS 15000
#define RETRY_MOST_MS 300

static void enrol(struct agent *a);
static void dial(struct agent *a);

static void on_retry(uv_timer_t *timer)
{
	struct agent *a = timer->data;
	if (a->enrolled)
		dial(a);
	else
		enrol(a);
}

/* 50, 100, 200, 300 ms …, each times a random factor of 0.5 to 1. */
static void retry_soon(struct agent *a, int64_t least_ms)
{
	uint16_t random;
	secret_random(&random, sizeof random);
	int64_t full = a->attempts < 3 ? 50 << a->attempts : RETRY_MOST_MS;
	int64_t wait = full / 2 + full * random / 131072;
	a->attempts++;
	a->state = AGENT_DOWN;
	if (!a->swarm->stopping)
		uv_timer_start(&a->retry, on_retry, (uint64_t)(wait > least_ms ? wait : least_ms), 0);
}

/* ---- enrolment ---- */

static void enrolment_failed(struct agent *a, const struct http_response *answer, const char *why_not)
{
	int64_t wait = api_retry_ms(a->swarm, answer);
	secret_free_text(&a->token); /* it may be used up */
	if (wait >= 0)
		retry_soon(a, wait);
	else if (!a->swarm->stopping)
		stats_error(a->swarm, "agent %s: enrolment: %s", a->id, why_not);
}

static void on_registered(void *user, const struct http_response *answer, const char *why_not)
{
	struct agent *a = user;
	secret_free_text(&a->token);
	if (!answer || answer->status != 201) {
		enrolment_failed(a, answer, why_not);
		return;
	}
	a->enrolled = true;
	a->attempts = 0;
	if (!a->swarm->stopping)
		dial(a);
}

static void on_token(void *user, const struct http_response *answer, const char *why_not)
{
	struct agent *a = user;
	char identity[KEY_TEXT_MAX], link[KEY_TEXT_MAX];
	struct err e;
	const char *token = answer ? json_string_value(json_object_get(answer->json, "token")) : NULL;
	if (!token || answer->status != 201 || !(a->token = strdup(token))) {
		enrolment_failed(a, answer, why_not);
		return;
	}
	if (key_public_text(a->identity, identity, &e) != 0 || key_public_text(a->link, link, &e) != 0) {
		stats_error(a->swarm, "agent %s: %s", a->id, e.text);
		return;
	}
	json_auto_t *body =
		json_pack("{s:s, s:s, s:s}", "identity_key", identity, "link_key", link, "version", TUNNEL_VERSION);
	api_call(a->swarm, &(struct api_request){ "POST", "/v1/targets", a->token, body }, on_registered, a);
}

static void enrol(struct agent *a)
{
	json_auto_t *body = json_pack("{s:s, s:{s:s}}", "target", a->id, "tags", "swarm", a->swarm->options.prefix);
	a->state = AGENT_ENROLLING;
	api_call(a->swarm, &(struct api_request){ "POST", "/v1/enrollments", NULL, body }, on_token, a);
}

/* ---- what it says ---- */

void agent_tell(struct agent *a, json_t *message)
{
	char *text = message ? json_text(message) : NULL;
	/* Without a connection it is dropped: the server repeats its offers. */
	if (text && a->ws && a->state >= AGENT_GREETING && ws_client_send_text(a->ws, text) != 0)
		log_debug("agent %s: the control connection takes no more", a->id);
	free(text);
	json_decref(message);
}

void agent_report(struct agent *a, json_t *message)
{
	json_object_set_new(message, "seq", json_integer((json_int_t)++a->seq));
	json_array_append(a->reports, message);
	if (a->state == AGENT_UP)
		agent_tell(a, message);
	else
		json_decref(message);
}

static void say_hello(void *user)
{
	struct agent *a = user;
	json_t *sessions = json_array();
	LIST_EACH(node, &a->targets)
	{
		struct target *t = LIST_ENTRY(node, struct target, node);
		json_array_append_new(
			sessions, json_pack("{s:s, s:I}", "id", t->session, "generation", (json_int_t)t->generation));
	}
	a->state = AGENT_GREETING;
	agent_tell(a, json_pack("{s:s, s:s, s:[], s:o}", "type", "hello", "version", TUNNEL_VERSION, "ssh_host_keys",
				"sessions", sessions));
}

/* ---- what it hears ---- */

static void on_welcome(struct agent *a, json_t *message)
{
	size_t i;
	json_t *report;
	(void)message;
	a->state = AGENT_UP;
	a->attempts = 0;
	a->swarm->totals.agent_connects++;
	json_array_foreach(a->reports, i, report) agent_tell(a, json_incref(report));
}

static void on_ack(struct agent *a, json_t *message)
{
	json_int_t seq = json_integer_value(json_object_get(message, "seq"));
	while (json_array_size(a->reports) > 0 &&
	       json_integer_value(json_object_get(json_array_get(a->reports, 0), "seq")) <= seq)
		json_array_remove(a->reports, 0);
}

static void on_drain(struct agent *a, json_t *message)
{
	(void)message;
	a->draining = true;
	ws_client_close(a->ws, 1000, "drain");
}

/* `grant` is not among them: what these sessions do is allowed by each of their grants. */
static const struct {
	const char *type;
	void (*take)(struct agent *a, json_t *message);
} messages[] = {
	{ "welcome", on_welcome }, { "offer", target_offer }, { "terminate", target_terminate },
	{ "ack", on_ack },         { "drain", on_drain },
};

static void on_text(void *user, const char *text, size_t len)
{
	struct agent *a = user;
	json_t *message = NULL;
	struct err e;
	if (json_parse(text, len, &message, &e) != 0) {
		stats_error(a->swarm, "agent %s: the server's message: %s", a->id, e.text);
		return;
	}
	const char *type = json_string_value(json_object_get(message, "type"));
	for (size_t i = 0; type && i < sizeof messages / sizeof *messages; i++)
		if (strcmp(type, messages[i].type) == 0)
			messages[i].take(a, message);
	json_decref(message);
}

static void on_binary(void *user, const uint8_t *data, size_t len)
{
	struct agent *a = user;
	(void)data, (void)len;
	stats_error(a->swarm, "agent %s: the server sent a binary message", a->id);
}

static void on_closed(void *user, int status, const char *body, unsigned code, const char *reason)
{
	struct agent *a = user;
	(void)body;
	log_debug("agent %s: control connection: %d %u %s", a->id, status, code, reason);
	if (code == 4001 || code == 4008 || code == 4401 || code == 4403)
		stats_error(a->swarm, "agent %s: the server closed its connection (%u): %s", a->id, code, reason);
	ws_client_free(&a->ws);
	if (a->draining)
		a->attempts = 0;
	a->draining = false;
	retry_soon(a, 0);
}

/* ---- life ---- */

static void dial(struct agent *a)
{
	static const struct ws_callbacks callbacks = {
		.open = say_hello, .text = on_text, .binary = on_binary, .closed = on_closed
	};
	char url[700], assertion[PROOF_TEXT_MAX], bearer[PROOF_TEXT_MAX + 16];
	struct err e;
	int rc = url_join(a->swarm->options.server, "/v1/agent", url, sizeof url, &e);
	if (rc == 0)
		rc = proof_make_assertion(a->identity, a->id, "tunnel-server", clock_wall_ms(), assertion, &e);
	if (rc == 0) {
		snprintf(bearer, sizeof bearer, "Bearer %s", assertion);
		const struct ws_header headers[] = { { "Authorization", bearer }, { NULL, NULL } };
		const struct ws_options options = { .url = url,
						    .subprotocol = "tunnel.control.v1",
						    .headers = headers,
						    .tls = a->tls,
						    .proxy = "",
						    .ping_ms = HEARTBEAT_MS,
						    .dead_ms = DEAD_MS,
						    .max_text = LIMIT_WS_MESSAGE_TEXT };
		a->state = AGENT_DIALING;
		rc = ws_client_open(&a->swarm->loop, &options, &callbacks, a, &a->ws, &e);
	}
	if (rc != 0) {
		stats_error(a->swarm, "agent %s: %s", a->id, e.text);
		a->state = AGENT_DOWN;
	}
}

void agent_start(struct swarm *s, size_t number)
{
	struct agent *a = &s->agents[number];
	struct err e = { 0 };
	a->swarm = s;
	a->number = number;
	snprintf(a->id, sizeof a->id, "%s-%zu", s->options.prefix, number);
	list_init(&a->targets);
	uv_timer_init(&s->loop, &a->retry);
	a->retry.data = a;
	a->reports = json_array();
	a->identity = key_generate(&e);
	a->link = key_generate(&e);
	if (a->identity && a->link && net_tls_new(s->options.ca_file, &a->tls, &e) == 0)
		enrol(a);
	else
		stats_error(s, "agent %s: %s", a->id, e.text);
}

void agent_stop(struct agent *a)
{
	uv_timer_stop(&a->retry);
	if (a->ws)
		ws_client_close(a->ws, 1000, "");
}

void agent_free(struct agent *a)
{
	LIST_EACH_SAFE(node, after, &a->targets)
	{
		struct target *t = LIST_ENTRY(node, struct target, node);
		target_free(&t);
	}
	ws_client_free(&a->ws);
	uv_close((uv_handle_t *)&a->retry, NULL);
	json_decref(a->reports);
	secret_free_text(&a->token);
	EVP_PKEY_free(a->identity);
	EVP_PKEY_free(a->link);
}

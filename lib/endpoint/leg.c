/* One leg: a WebSocket with the session's credentials, and the relay's text messages. It tells path.c what happens and
 * decides nothing. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTACH_TIMEOUT_MS 20000 /* from the dial to `attached` */
#define LEG_PING_MS 10000
#define LEG_DEAD_MS 25000
#define LEG_CHUNK (64u * 1024) /* bytes of link output a message */

struct leg {
	struct endpoint *ep;
	struct ws_client *ws;
	uv_timer_t timer;
	enum leg_phase phase;
	int64_t phase_at;
	bool paired;
	int64_t epoch;
	unsigned closing_code; /* of `closing`; 0: none came */
	char closing_reason[256], closing_url[512];
	int64_t closing_now_ms;
};

static _Thread_local uint8_t output_bytes[LEG_CHUNK];

static const struct {
	unsigned code;
	bool final;
	const char *text;
} codes[] = {
	{ 1000, true, "the session is over" },
	{ 4000, true, "the session was ended by its client" },
	{ 4001, true, "a newer connection took this one's place" },
	{ 4002, false, "the relay is going away" },
	{ 4003, true, "an operator ended the session" },
	{ 4004, true, "the session reached its maximum duration" },
	{ 4005, true, "the session was idle too long" },
	{ 4006, true, "nobody came back within the detach grace" },
	{ 4007, true, "policy no longer allows the session" },
	{ 4008, true, "malformed or illegal message" },
	{ 4009, false, "the session lives on another node now" },
	{ 4010, false, "server error" },
	{ 4011, true, "the target was deregistered" },
	{ 4012, false, "this leg did not read or answer in time" },
	{ 4013, true, "the target's agent refused the session" },
	{ 4401, true, "token or proof is wrong" },
	{ 4402, false, "the proof's time is not the server's" },
	{ 4403, true, "policy says no" },
	{ 4404, true, "no such session" },
	{ 4503, false, "server overloaded, or its store is away" },
};

bool leg_code_is_final(unsigned code)
{
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].code == code)
			return codes[i].final;
	return false;
}

const char *leg_code_text(unsigned code)
{
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].code == code)
			return codes[i].text;
	return NULL;
}

static void enter(struct leg *leg, enum leg_phase phase)
{
	leg->phase = phase;
	leg->phase_at = clock_mono_ms();
}

/* The peer or the clock broke the leg. The callback may free it. */
static void give_up(struct leg *leg, const char *text)
{
	struct leg_end end = { .code = 1006, .relay_url = "", .text = text };
	path_leg_callbacks.closed(leg->ep, leg, &end);
}

static void on_attached(struct leg *leg, json_t *message)
{
	(void)message;
	if (leg->phase == LEG_ATTACHED) {
		give_up(leg, "the relay said \"attached\" twice");
		return;
	}
	enter(leg, LEG_ATTACHED);
	uv_timer_stop(&leg->timer);
	path_leg_callbacks.attached(leg->ep, leg);
}

static void on_paired(struct leg *leg, json_t *message)
{
	int64_t epoch = 0;
	struct err e;
	const struct json_field fields[] = {
		{ .name = "epoch",
		  .type = JSON_FIELD_INT,
		  .required = true,
		  .min = 1,
		  .max = INT64_MAX,
		  .out = &epoch },
		{ .name = NULL },
	};
	if (json_read(message, "paired", false, fields, &e) != 0) {
		give_up(leg, e.text);
		return;
	}
	leg->epoch = epoch;
	leg->paired = true;
	path_leg_callbacks.paired(leg->ep, leg);
}

static void on_unpaired(struct leg *leg, json_t *message)
{
	(void)message;
	leg->paired = false;
	path_leg_callbacks.unpaired(leg->ep, leg);
}

static void on_closing(struct leg *leg, json_t *message)
{
	int64_t code = 0, now_ms = 0;
	const char *reason = "", *url = "";
	struct err e;
	const struct json_field fields[] = {
		{ .name = "code", .type = JSON_FIELD_INT, .required = true, .min = 1000, .max = 4999, .out = &code },
		{ .name = "reason", .type = JSON_FIELD_STRING, .out = &reason },
		{ .name = "relay_url", .type = JSON_FIELD_STRING, .out = &url },
		{ .name = "now_ms", .type = JSON_FIELD_INT, .min = 0, .max = CLOCK_WALL_MAX_MS, .out = &now_ms },
		{ .name = NULL },
	};
	if (json_read(message, "closing", false, fields, &e) != 0) {
		give_up(leg, e.text);
		return;
	}
	leg->closing_code = (unsigned)code;
	leg->closing_now_ms = code == 4402 ? now_ms : 0;
	text_print(leg->closing_reason, sizeof leg->closing_reason, "%s", reason);
	snprintf(leg->closing_url, sizeof leg->closing_url, "%s", url);
}

static void on_notice(struct leg *leg, json_t *message)
{
	int64_t code = 0, at_ms = 0;
	const char *reason = "";
	struct err e;
	const struct json_field fields[] = {
		{ .name = "code", .type = JSON_FIELD_INT, .required = true, .min = 1000, .max = 4999, .out = &code },
		{ .name = "at_ms",
		  .type = JSON_FIELD_INT,
		  .required = true,
		  .min = 0,
		  .max = INT64_MAX,
		  .out = &at_ms },
		{ .name = "reason", .type = JSON_FIELD_STRING, .out = &reason },
		{ .name = NULL },
	};
	if (json_read(message, "notice", false, fields, &e) != 0)
		give_up(leg, e.text);
	else
		path_leg_callbacks.notice(leg->ep, leg, (unsigned)code, at_ms, reason);
}

static const struct {
	const char *type;
	bool early; /* legal before `attached` */
	void (*take)(struct leg *leg, json_t *message);
} messages[] = {
	{ "attached", true, on_attached }, { "paired", false, on_paired }, { "unpaired", false, on_unpaired },
	{ "closing", true, on_closing },   { "notice", false, on_notice },
};

static void on_ws_text(void *user, const char *text, size_t len)
{
	struct leg *leg = user;
	struct err e;
	json_t *message = NULL;
	if (json_parse(text, len, &message, &e) != 0) {
		give_up(leg, "the relay sent a message that is not JSON");
		return;
	}
	const char *type = json_string_value(json_object_get(message, "type"));
	size_t n = sizeof messages / sizeof messages[0], i = 0;
	while (type && i < n && strcmp(messages[i].type, type) != 0)
		i++;
	if (!type)
		give_up(leg, "the relay sent a message without a type");
	else if (i < n && !messages[i].early && leg->phase != LEG_ATTACHED)
		give_up(leg, "the relay sent a message before \"attached\"");
	else if (i < n)
		messages[i].take(leg, message);
	json_decref(message);
}

static void on_ws_binary(void *user, const uint8_t *data, size_t len)
{
	struct leg *leg = user;
	if (leg->paired)
		path_leg_callbacks.bytes(leg->ep, leg, data, len);
}

static void on_ws_writable(void *user)
{
	endpoint_turn_soon(((struct leg *)user)->ep);
}

static void on_ws_closed(void *user, int status, const char *body, unsigned code, const char *reason)
{
	struct leg *leg = user;
	(void)body;
	bool told = leg->closing_code != 0 && (code == leg->closing_code || code == 1006 || code == 1005);
	const char *sentence = leg_code_text(told ? leg->closing_code : code);
	const char *text = told && leg->closing_reason[0] ? leg->closing_reason
			   : reason[0]                    ? reason
			   : sentence                     ? sentence
							  : "the relay closed the connection";
	struct leg_end end = {
		.code = told ? leg->closing_code : code,
		.http_status = status,
		.relay_url = leg->closing_url,
		.now_ms = leg->closing_now_ms,
		.text = text,
	};
	path_leg_callbacks.closed(leg->ep, leg, &end);
}

static void on_ws_progress(void *user, enum ws_step step)
{
	struct leg *leg = user;
	enter(leg, step == WS_STEP_CONNECTED ? LEG_CONNECTED : LEG_HELD);
	path_leg_callbacks.progress(leg->ep, leg);
}

static const struct ws_callbacks ws_callbacks = { .text = on_ws_text,
						  .binary = on_ws_binary,
						  .writable = on_ws_writable,
						  .closed = on_ws_closed,
						  .progress = on_ws_progress };

static void on_late(uv_timer_t *timer)
{
	give_up(timer->data, "the relay did not attach the leg in time");
}

static int connect_leg(struct leg *leg, const char *relay_url, struct err *e)
{
	struct endpoint *ep = leg->ep;
	char path[LIMIT_ID + 32], url[900], proof[PROOF_TEXT_MAX], bearer[LIMIT_TOKEN + 8];
	snprintf(path, sizeof path, "/v1/sessions/%s/leg", ep->session);
	int rc = url_join(relay_url, path, url, sizeof url, e);
	if (rc == 0)
		rc = proving_make(ep, "GET", url, proof, e);
	if (rc != 0)
		return rc;
	snprintf(bearer, sizeof bearer, "Bearer %s", ep->token);
	const struct ws_header headers[] = { { "Authorization", bearer }, { "DPoP", proof }, { NULL, NULL } };
	struct ws_options options = {
		.url = url,
		.subprotocol = "tunnel.leg.v1",
		.headers = headers,
		.tls = ep->tls,
		.proxy = ep->proxy,
		.ping_ms = LEG_PING_MS,
		.dead_ms = LEG_DEAD_MS,
		.max_text = LIMIT_LEG_TEXT,
		.hold = true,
	};
	rc = ws_client_open(ep->loop, &options, &ws_callbacks, leg, &leg->ws, e);
	secret_wipe(bearer, sizeof bearer);
	return rc;
}

static void on_timer_closed(uv_handle_t *h)
{
	free(h->data);
}

int leg_open(struct endpoint *ep, const char *relay_url, struct leg **out_leg, struct err *e)
{
	struct leg *leg = calloc(1, sizeof *leg);
	if (!leg)
		return err_set(e, ERR_NOMEM, "out of memory");
	leg->ep = ep;
	enter(leg, LEG_DIALING);
	uv_timer_init(ep->loop, &leg->timer);
	leg->timer.data = leg;
	int rc = connect_leg(leg, relay_url, e);
	if (rc != 0) {
		leg_free(&leg);
		return rc;
	}
	/* The client has its own limit for connecting; this one also covers the wait behind it. */
	uv_timer_start(&leg->timer, on_late, ATTACH_TIMEOUT_MS, 0);
	*out_leg = leg;
	return 0;
}

void leg_free(struct leg **leg)
{
	if (!leg || !*leg)
		return;
	ws_client_free(&(*leg)->ws);
	uv_close((uv_handle_t *)&(*leg)->timer, on_timer_closed);
	*leg = NULL;
}

bool leg_is_paired(const struct leg *leg)
{
	return leg && leg->paired;
}

enum leg_phase leg_phase(const struct leg *leg)
{
	return leg->phase;
}

int64_t leg_phase_ms(const struct leg *leg)
{
	return clock_mono_ms() - leg->phase_at;
}

void leg_go(struct leg *leg)
{
	enter(leg, LEG_ASKED);
	ws_client_go(leg->ws);
}

bool leg_is_misrouted(const struct leg *leg)
{
	return ws_client_is_misrouted(leg->ws);
}

int leg_ready(struct leg *leg)
{
	char text[64];
	snprintf(text, sizeof text, "{\"type\":\"ready\",\"epoch\":%lld}", (long long)leg->epoch);
	return ws_client_send_text(leg->ws, text);
}

void leg_fill(struct leg *leg, int64_t now_ms)
{
	size_t room;
	while ((room = ws_client_room(leg->ws)) > 0) {
		size_t n = link_output(leg->ep->link, output_bytes, room < LEG_CHUNK ? room : LEG_CHUNK, now_ms);
		if (n == 0 || ws_client_send_binary(leg->ws, output_bytes, n) != 0)
			return;
	}
}

void leg_close(struct leg *leg, unsigned code, const char *reason)
{
	ws_client_close(leg->ws, code, reason);
}

void leg_probe(struct leg *leg)
{
	ws_client_probe(leg->ws);
}

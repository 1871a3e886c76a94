#include "swarm.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "ident/key.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct link_dest dest = { .kind = LINK_KIND_TCP, .host = "127.0.0.1", .port = 7 };

static void ask(struct session *one);

static void fail(struct session *one, const char *text)
{
	if (one->step == SESSION_FAILED)
		return;
	one->step = SESSION_FAILED;
	stats_error(one->swarm, "session %s%zu: %s", one->id, one->number, text);
}

/* ---- the stream ---- */

static void on_round_trip(void *user, int64_t us)
{
	struct session *one = user;
	histogram_add(&one->swarm->round_trips, us);
}

static void on_traffic_failed(void *user, const char *text)
{
	struct session *one = user;
	if (one->ending || one->step != SESSION_LIVE)
		return; /* the end of the session is told by its end */
	if (traffic_numbers(one->traffic).mismatch)
		one->swarm->totals.mismatches++;
	stats_error(one->swarm, "session %s: its stream: %s", one->id, text);
}

static int open_stream(struct session *one, struct err *e)
{
	static const struct traffic_callbacks callbacks = { on_round_trip, on_traffic_failed };
	struct traffic_config config = one->swarm->options.traffic;
	uint32_t stream;
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
		return err_set_errno(e, ERR_IO, errno, "socketpair");
	config.seed += one->number * 0x10001;
	int rc = endpoint_open_stream(one->ep, &dest, fds[0], fds[0], &stream, e);
	if (rc == 0)
		return traffic_new(&one->swarm->loop, fds[1], &config, &callbacks, one, &one->traffic, e);
	close(fds[1]);
	return rc;
}

static void on_opened(void *user, uint32_t stream)
{
	struct session *one = user;
	(void)stream;
	if (one->traffic && !one->ending)
		traffic_pause(one->traffic, false);
}

static void on_stream_closed(void *user, uint32_t stream, unsigned code, const char *text, uint64_t in, uint64_t out)
{
	struct session *one = user;
	(void)stream, (void)in, (void)out;
	if (!one->ending && endpoint_get_state(one->ep) != ENDPOINT_OVER)
		stats_error(one->swarm, "session %s: its stream ended: %s (%s)", one->id, text, link_code_name(code));
}

/* ---- the end ---- */

static void on_state(void *user, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	struct session *one = user;
	struct totals *totals = &one->swarm->totals;
	(void)outage_ms;
	log_debug("session %s: state %d: %s", one->id, (int)state, text);
	if (state == ENDPOINT_LOST) {
		totals->losses++;
		one->lost = true;
		one->lost_mono_ms = clock_mono_ms();
	} else if (state == ENDPOINT_UP) {
		totals->ups++;
		if (one->lost) {
			histogram_add(&one->swarm->outages, clock_mono_ms() - one->lost_mono_ms);
			one->up_wall_ms = clock_wall_ms();
		}
		one->lost = false;
		one->was_up = true;
	}
}

static void on_over(void *user, const struct endpoint_end *end)
{
	struct session *one = user;
	unsigned code = end->close_code    ? end->close_code
			: end->http_status ? (unsigned)end->http_status
					   : end->link_code;
	struct link_stats stats;
	endpoint_get_stats(one->ep, &stats);
	one->epochs = stats.epochs;
	one->step = SESSION_OVER;
	one->over_wall_ms = clock_wall_ms();
	stats_end(one->swarm, code);
	if (!one->ending)
		stats_error(one->swarm, "session %s is over (%u): %s", one->id, code, end->text);
	endpoint_free(&one->ep);
}

/* ---- the start ---- */

static int begin(struct session *one, const json_t *answer, struct err *e)
{
	static const struct endpoint_callbacks callbacks = {
		.state = on_state, .opened = on_opened, .stream_closed = on_stream_closed, .over = on_over
	};
	const struct options *o = &one->swarm->options;
	const char *const urls[] = { o->server, NULL };
	const char *id = json_string_value(json_object_get(json_object_get(answer, "session"), "id"));
	const char *pin = json_string_value(json_object_get(answer, "target_pin"));
	struct endpoint_config config = { .role = LINK_CLIENT,
					  .session = id,
					  .token = json_string_value(json_object_get(answer, "token")),
					  .relay_url = json_string_value(json_object_get(answer, "relay_url")),
					  .server_urls = urls,
					  .proxy = "",
					  .key = one->key };
	if (!id || strlen(id) >= sizeof one->id || !pin)
		return err_set(e, ERR_PROTOCOL, "the answer has no session id or no target_pin");
	strcpy(one->id, id);
	int rc = key_pin_parse(pin, config.peer_pin, e);
	if (rc == 0)
		rc = net_tls_new(o->ca_file, &one->tls, e);
	config.tls = one->tls;
	if (rc == 0)
		rc = endpoint_start(&one->swarm->loop, &config, &callbacks, one, &one->ep, e);
	return rc ? rc : open_stream(one, e);
}

static void on_retry(uv_timer_t *timer)
{
	ask(timer->data);
}

static void on_answer(void *user, const struct http_response *answer, const char *why_not)
{
	struct session *one = user;
	struct err e = { 0 };
	if (answer && answer->status == 201 && answer->json) {
		one->step = SESSION_LIVE;
		if (begin(one, answer->json, &e) != 0)
			fail(one, e.text);
		else if (one->swarm->stopping)
			session_end(one);
		return;
	}
	int64_t wait = api_retry_ms(one->swarm, answer);
	one->step = SESSION_WAITING;
	if (wait >= 0)
		uv_timer_start(&one->retry, on_retry, (uint64_t)wait, 0);
	else if (!one->swarm->stopping)
		fail(one, why_not && *why_not ? why_not : "POST /v1/sessions failed");
}

static void ask(struct session *one)
{
	char key[KEY_TEXT_MAX];
	struct err e;
	const struct swarm *s = one->swarm;
	if (key_public_text(one->key, key, &e) != 0) {
		fail(one, e.text);
		return;
	}
	json_auto_t *body = json_pack("{s:s, s:s, s:[s], s:s, s:s}", "target",
				      s->agents[one->number % (size_t)s->options.agents].id, "kind", "tcp", "allow",
				      "127.0.0.1:7", "client_key", key, "idempotency_key", one->idempotency_key);
	one->step = SESSION_STARTING;
	api_call(one->swarm, &(struct api_request){ "POST", "/v1/sessions", NULL, body }, on_answer, one);
}

void session_start(struct swarm *s, size_t number)
{
	struct session *one = &s->sessions[number];
	struct err e = { 0 };
	one->swarm = s;
	one->number = number;
	uv_timer_init(&s->loop, &one->retry);
	one->retry.data = one;
	secret_random_id(one->idempotency_key, sizeof one->idempotency_key - 1);
	one->key = key_generate(&e);
	if (one->key)
		ask(one);
	else
		fail(one, e.text);
}

void session_end(struct session *one)
{
	uv_timer_stop(&one->retry);
	if (one->ending || one->step != SESSION_LIVE)
		return;
	one->ending = true;
	endpoint_end(one->ep, LINK_OK, "the swarm is done");
}

void session_free(struct session *one)
{
	one->ending = true;
	endpoint_free(&one->ep);
	traffic_free(&one->traffic);
	uv_close((uv_handle_t *)&one->retry, NULL);
	EVP_PKEY_free(one->key);
	one->key = NULL;
}

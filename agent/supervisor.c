/* The control connection (PROTOCOL.md, section 2) and its coming back.
 *
 * Reports take one way: worker → spool → disk → server, and the acknowledgements come back the same way. At the end of
 * a turn of the loop (on_turn) what arrived is synced to disk once, then acknowledged to the workers and sent; while
 * many come, not each turn. After a reconnect everything that is not acknowledged is sent again, in order. */
#include "agent/supervisor.h"

#include "agent/hostkeys.h"
#include "agent/rotation.h"
#include "agent/sessions.h"
#include "agent/spool.h"
#include "agent/state.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/secret.h"
#include "ident/proof.h"
#include "net/backoff.h"
#include "net/tls.h"
#include "net/url.h"
#include "net/ws_client.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEARTBEAT_MS 5000    /* until the server says another one */
#define DEAD_BEATS 3         /* so many without a word */
#define SETTLED_MS 10000     /* a connection that was up so long: the next outage is a new one */
#define DRAIN_SPREAD_MS 1000 /* agents of a node that goes away do not all come at once */
#define SLOW_RETRY_MS 15000  /* after a refusal that only people can mend */
#define ROTATION_LOOK_MS 60000
#define SEND_AHEAD (256u * 1024)
#define GATHER_MS 50 /* between two syncs of reports: nobody who reads the audit log minds */

enum link_state { CONTROL_DOWN, CONTROL_DIALING, CONTROL_GREETING, CONTROL_UP };

struct supervisor {
	uv_loop_t loop;
	uv_timer_t retry, look, alive, gather;
	uv_prepare_t turn;
	uv_signal_t signals[3];
	struct settings *settings;
	const char *config, *state_dir;
	struct state state;
	struct rotation rotation;
	struct net_tls *tls, *fresh_tls; /* fresh: for the next connection */
	struct ws_client *ws;
	enum link_state control;
	struct backoff backoff;
	struct spool *spool;
	struct sessions *sessions;
	json_t *host_keys, *urls; /* urls: configured ones first, then those of the last welcome */
	size_t url_at, configured_urls;
	int64_t up_since_ms;
	int64_t clock_ahead_ms; /* the server's clock, of ours: for the next assertion */
	uint64_t sent;          /* highest seq sent on this connection */
	uint64_t kept_ms;       /* when reports were last synced, by the loop's clock */
	bool started, draining, stopping, sync_failed;
	bool refused;           /* for a reason that only people can mend, and nothing else since */
	char last_problem[256]; /* so that an outage is logged once */
};

static void dial(struct supervisor *s);

static const char *url_now(const struct supervisor *s)
{
	return json_string_value(json_array_get(s->urls, s->url_at % json_array_size(s->urls)));
}

static void send_message(struct supervisor *s, json_t *message)
{
	char *text = message ? json_text(message) : NULL;
	/* Without a connection it is dropped: the server repeats its offers to an agent that comes back. */
	if (text && s->ws && s->control >= CONTROL_GREETING && ws_client_send_text(s->ws, text))
		log_warn("the control connection takes no more");
	free(text);
	json_decref(message);
}

static void on_retry(uv_timer_t *timer)
{
	dial(timer->data);
}

static int64_t drain_spread_ms(void)
{
	uint32_t random;
	secret_random(&random, sizeof random);
	return (int64_t)(random % DRAIN_SPREAD_MS);
}

static void lost(struct supervisor *s, int64_t least_ms, const char *why)
{
	bool was_up = s->control == CONTROL_UP;
	s->control = CONTROL_DOWN;
	rotation_gone(&s->rotation);
	if (s->sessions)
		sessions_control(s->sessions, false, 0);
	notify_ready_file(settings_text(s->settings->ready_file), 0);
	if (s->stopping)
		return;
	if (was_up || strcmp(s->last_problem, why) != 0) {
		log_with(LOG_LEVEL_WARN, FIELDS({ "server", url_now(s) }), "control connection: %s", why);
		snprintf(s->last_problem, sizeof s->last_problem, "%s", why);
		notify_send("STATUS=not connected, trying again");
	}
	s->url_at++;
	if (was_up && clock_mono_ms() - s->up_since_ms >= SETTLED_MS)
		backoff_reset(&s->backoff);
	int64_t wait = backoff_next_ms(&s->backoff);
	int64_t spread = s->draining ? drain_spread_ms() : 0;
	if (wait < spread)
		wait = spread;
	s->draining = false;
	uv_timer_start(&s->retry, on_retry, (uint64_t)(wait > least_ms ? wait : least_ms), 0);
}

static void say_hello(void *user)
{
	struct supervisor *s = user;
	s->control = CONTROL_GREETING;
	s->sent = 0;
	send_message(s, json_pack("{s:s, s:s, s:O, s:b, s:[sss], s:o}", "type", "hello", "version", TUNNEL_VERSION,
				  "ssh_host_keys", s->host_keys, "ssh_loopback", settings_ssh_is_loopback(s->settings),
				  "features", "any-endpoint", "unix", "listen", "sessions",
				  sessions_running(s->sessions)));
}

static void on_closed(void *user, int status, const char *body, unsigned code, const char *reason)
{
	struct supervisor *s = user;
	char why[256];
	int64_t least_ms = 0;
	(void)body;
	if (status)
		snprintf(why, sizeof why, "the server answered %d: %s", status, reason);
	else if (code == 4001)
		snprintf(why, sizeof why, "another agent connected as target %s", s->state.target);
	else if (code == 4401 || code == 4403)
		snprintf(why, sizeof why, "the server refuses target %s: %s", s->state.target, reason);
	else
		snprintf(why, sizeof why, "%s (%u)", reason, code);
	/* A server that holds up who was refused too often says 4503: no reason to come sooner than before. */
	s->refused = code == 4001 || code == 4401 || code == 4403 || code == 4011 || (code == 4503 && s->refused);
	if ((code == 4401 || code == 4403) && rotation_refused(&s->rotation))
		s->refused = false;
	if (s->refused)
		least_ms = SLOW_RETRY_MS;
	ws_client_free(&s->ws);
	lost(s, least_ms, why);
}

/* --- messages of the server */

/* Also a part of the welcome. A server of before the list has one key. */
static int on_ssh_ca(struct supervisor *s, json_t *message, struct err *e)
{
	const char *ca = NULL;
	json_t *cas = NULL, *certificates = NULL;
	const struct json_field fields[] = {
		{ "ssh_ca", JSON_FIELD_STRING, false, 0, 2048, (void *)&ca },
		{ "ssh_cas", JSON_FIELD_STRINGS, false, 0, LIMIT_SSH_CAS, (void *)&cas },
		{ "host_certificates", JSON_FIELD_STRINGS, false, 0, LIMIT_HOST_KEYS, (void *)&certificates },
		{ .name = NULL },
	};
	struct err file = { 0 };
	int rc = json_read(message, "ssh", false, fields, e);
	if (rc || !ca || !*ca)
		return rc;
	json_auto_t *one = json_pack("[s]", ca);
	if (hostkeys_take(s->settings, cas ? cas : one, certificates, &file))
		log_error("cannot take the SSH certificates: %s", file.text);
	return 0;
}

static int on_welcome(struct supervisor *s, json_t *message, struct err *e)
{
	const char *node = "", *nonce = NULL;
	json_t *urls = NULL;
	int64_t heartbeat_s = HEARTBEAT_MS / 1000;
	const struct json_field fields[] = {
		{ "node", JSON_FIELD_STRING, false, 0, 256, (void *)&node },
		{ "heartbeat_s", JSON_FIELD_INT, false, 1, 3600, &heartbeat_s },
		{ "nonce", JSON_FIELD_STRING, false, 0, sizeof s->rotation.nonce - 1, (void *)&nonce },
		{ "server_urls", JSON_FIELD_STRINGS, false, 0, 1024, (void *)&urls },
		{ .name = NULL },
	};
	struct err file = { 0 };
	int rc = json_read(message, "welcome", false, fields, e);
	if (!rc)
		rc = on_ssh_ca(s, message, e);
	if (rc)
		return rc;
	while (json_array_size(s->urls) > s->configured_urls)
		json_array_remove(s->urls, s->configured_urls);
	for (size_t i = 0; i < json_array_size(urls) && json_array_size(s->urls) < LIMIT_SERVER_URLS; i++) {
		struct url parsed;
		if (url_parse_secure(json_string_value(json_array_get(urls, i)), &parsed, &file) == 0)
			json_array_append(s->urls, json_array_get(urls, i));
	}
	s->control = CONTROL_UP;
	s->refused = false;
	s->up_since_ms = clock_mono_ms();
	sessions_control(s->sessions, true, clock_wall_ms() + s->clock_ahead_ms - s->up_since_ms);
	ws_client_set_heartbeat(s->ws, heartbeat_s * 1000, heartbeat_s * 1000 * DEAD_BEATS);
	s->last_problem[0] = '\0';
	log_with(LOG_LEVEL_INFO, FIELDS({ "server", url_now(s) }, { "node", node }, { "target", s->state.target }),
		 "connected");
	notify_send("STATUS=connected");
	notify_ready_file(settings_text(s->settings->ready_file), 1);
	send_message(s, rotation_welcome(&s->rotation, nonce, s->clock_ahead_ms));
	return 0;
}

static int on_rotated(struct supervisor *s, json_t *message, struct err *e)
{
	const char *key = NULL;
	const struct json_field fields[] = {
		{ "identity_key", JSON_FIELD_STRING, true, 1, 0, (void *)&key },
		{ .name = NULL },
	};
	int rc = json_read(message, "rotated", false, fields, e);
	if (!rc && rotation_stored(&s->rotation, key)) {
		log_info("the server has the new key, connecting with it");
		ws_client_close(s->ws, 1000, "new key");
	}
	return rc;
}

static int on_rotate_refused(struct supervisor *s, json_t *message, struct err *e)
{
	const char *text = "";
	const struct json_field fields[] = {
		{ "text", JSON_FIELD_STRING, false, 0, 1024, (void *)&text },
		{ .name = NULL },
	};
	(void)s;
	int rc = json_read(message, "rotate-refused", false, fields, e);
	log_warn("the server does not take the new key, trying again later: %s", text);
	return rc;
}

static void on_look(uv_timer_t *timer)
{
	struct supervisor *s = timer->data;
	if (s->control == CONTROL_UP)
		send_message(s, rotation_look(&s->rotation, s->clock_ahead_ms));
}

static int on_offer(struct supervisor *s, json_t *message, struct err *e)
{
	struct offer offer;
	int rc = offer_parse(message, &offer, e);
	if (!rc)
		sessions_offer(s->sessions, &offer, s->urls);
	return rc;
}

static int on_grant(struct supervisor *s, json_t *message, struct err *e)
{
	const char *session = NULL;
	json_t *grant = NULL;
	const struct json_field fields[] = {
		{ "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, (void *)&session },
		{ "grant", JSON_FIELD_OBJECT, true, 0, 0, (void *)&grant },
		{ .name = NULL },
	};
	int rc = json_read(message, "grant", false, fields, e);
	if (!rc)
		sessions_grant(s->sessions, session, grant);
	return rc;
}

static int on_terminate(struct supervisor *s, json_t *message, struct err *e)
{
	const char *session = NULL, *text = "";
	int64_t code = 0;
	const struct json_field fields[] = {
		{ "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, (void *)&session },
		{ "code", JSON_FIELD_INT, true, 0, 65535, &code },
		{ "text", JSON_FIELD_STRING, false, 0, 1024, (void *)&text },
		{ .name = NULL },
	};
	int rc = json_read(message, "terminate", false, fields, e);
	/* Whatever is wrong with the rest: the session must not run on, and a server that said so will say it again
	 * after each hello that names it. */
	if (session)
		sessions_terminate(s->sessions, session, code, text);
	return rc;
}

static int on_drain(struct supervisor *s, json_t *message, struct err *e)
{
	(void)message, (void)e;
	log_info("the server is going away, connecting elsewhere");
	s->draining = true;
	ws_client_close(s->ws, 1000, "drain");
	return 0;
}

static int on_ack(struct supervisor *s, json_t *message, struct err *e)
{
	int64_t seq = 0;
	const struct json_field fields[] = {
		{ "seq", JSON_FIELD_INT, true, 0, INT64_MAX, &seq },
		{ .name = NULL },
	};
	int rc = json_read(message, "ack", false, fields, e);
	if (!rc)
		spool_ack(s->spool, (uint64_t)seq);
	return rc;
}

static int on_clock(struct supervisor *s, json_t *message, struct err *e)
{
	int64_t now_ms = 0;
	const struct json_field fields[] = {
		{ "now_ms", JSON_FIELD_INT, true, 0, CLOCK_WALL_MAX_MS, &now_ms },
		{ .name = NULL },
	};
	int rc = json_read(message, "clock", false, fields, e);
	if (!rc)
		s->clock_ahead_ms = now_ms - clock_wall_ms();
	return rc;
}

static const struct {
	const char *type;
	bool before_welcome, after_welcome;
	int (*take)(struct supervisor *, json_t *, struct err *);
} legal[] = {
	{ "welcome", true, false, on_welcome }, { "offer", false, true, on_offer },
	{ "grant", false, true, on_grant },     { "terminate", false, true, on_terminate },
	{ "drain", true, true, on_drain },      { "ack", false, true, on_ack },
	{ "clock", true, false, on_clock },     { "ssh-ca", false, true, on_ssh_ca },
	{ "rotated", false, true, on_rotated }, { "rotate-refused", false, true, on_rotate_refused },
};

static int judge_message(struct supervisor *s, const char *text, size_t len, struct err *e)
{
	json_t *message = NULL;
	int rc = json_parse(text, len, &message, e);
	const char *type = rc ? NULL : json_string_value(json_object_get(message, "type"));
	if (!rc && !type)
		rc = err_set(e, ERR_PROTOCOL, "a message without type");
	for (size_t i = 0; !rc && i < sizeof legal / sizeof legal[0]; i++) {
		if (strcmp(legal[i].type, type) != 0)
			continue;
		if (!(s->control == CONTROL_UP ? legal[i].after_welcome : legal[i].before_welcome))
			rc = err_set(e, ERR_PROTOCOL, "%s is not legal now", type);
		else
			rc = legal[i].take(s, message, e);
	}
	json_decref(message);
	return rc;
}

static void on_text(void *user, const char *text, size_t len)
{
	struct supervisor *s = user;
	struct err e = { 0 };
	if (s->draining || !judge_message(s, text, len, &e))
		return;
	log_error("control connection: the server broke the protocol: %s", e.text);
	ws_client_close(s->ws, 4008, "protocol");
}

static void on_binary(void *user, const uint8_t *data, size_t len)
{
	struct supervisor *s = user;
	(void)data, (void)len;
	ws_client_close(s->ws, 4008, "no binary messages here");
}

/* --- dialling */

static void dial(struct supervisor *s)
{
	static const struct ws_callbacks callbacks = {
		.open = say_hello, .text = on_text, .binary = on_binary, .closed = on_closed
	};
	char url[1024], assertion[PROOF_TEXT_MAX], bearer[PROOF_TEXT_MAX + 16];
	struct err e = { 0 };
	if (s->fresh_tls) {
		net_tls_free(&s->tls);
		s->tls = s->fresh_tls;
		s->fresh_tls = NULL;
	}
	int rc = url_join(url_now(s), "/v1/agent", url, sizeof url, &e);
	if (!rc)
		rc = proof_make_assertion(rotation_key(&s->rotation), s->state.target, "tunnel-server",
					  clock_wall_ms() + s->clock_ahead_ms, assertion, &e);
	if (!rc) {
		snprintf(bearer, sizeof bearer, "Bearer %s", assertion);
		const struct ws_header headers[] = { { "Authorization", bearer }, { NULL, NULL } };
		const struct ws_options options = { .url = url,
						    .subprotocol = "tunnel.control.v1",
						    .headers = headers,
						    .tls = s->tls,
						    .proxy = s->settings->proxy,
						    .ping_ms = HEARTBEAT_MS,
						    .dead_ms = HEARTBEAT_MS * DEAD_BEATS,
						    .max_text = LIMIT_WS_MESSAGE_TEXT };
		s->control = CONTROL_DIALING;
		rc = ws_client_open(&s->loop, &options, &callbacks, s, &s->ws, &e);
	}
	if (rc)
		lost(s, SLOW_RETRY_MS, e.text);
}

/* --- reports */

static void send_reports(struct supervisor *s)
{
	uint64_t seq = 0;
	const char *text;
	while (s->control == CONTROL_UP && ws_client_unsent(s->ws) < SEND_AHEAD &&
	       (text = spool_next(s->spool, s->sent, &seq)) != NULL) {
		if (ws_client_send_text(s->ws, text))
			return;
		s->sent = seq;
	}
}

static void on_gather(uv_timer_t *timer)
{
	(void)timer; /* the turn that it begins looks after the reports */
}

/* Reports of streams that come soon behind others wait for more of them: a sync of the disk, a message and the server's
 * writing cost the same for one as for many. Until then their workers keep them. Who ends a session is waited for. */
static bool gathers(struct supervisor *s)
{
	uint64_t now = uv_now(&s->loop), until = s->kept_ms + GATHER_MS;
	bool hurry = false;
	if (!spool_waits(s->spool, &hurry))
		return false;
	if (hurry || now >= until) {
		s->kept_ms = now;
		return false;
	}
	if (!uv_is_active((uv_handle_t *)&s->gather))
		uv_timer_start(&s->gather, on_gather, until - now, 0);
	return true;
}

static void on_turn(uv_prepare_t *turn)
{
	struct supervisor *s = turn->data;
	struct err e = { 0 };
	if (gathers(s)) {
		send_reports(s);
		return;
	}
	int rc = spool_sync(s->spool, &e);
	if (rc && !s->sync_failed)
		log_error("reports cannot be kept: %s", e.text);
	s->sync_failed = rc != 0;
	if (rc)
		return;
	sessions_acknowledge(s->sessions);
	send_reports(s);
}

static void on_accepted(void *user, const char *session, int64_t generation)
{
	send_message(user, json_pack("{s:s, s:s, s:I}", "type", "accepted", "session", session, "generation",
				     (json_int_t)generation));
}

static void on_refused(void *user, const char *session, int64_t generation, unsigned code, const char *text)
{
	send_message(user, json_pack("{s:s, s:s, s:I, s:i, s:s}", "type", "refused", "session", session, "generation",
				     (json_int_t)generation, "code", (int)code, "text", text));
}

static void on_terminated(void *user, const char *session)
{
	send_message(user, json_pack("{s:s, s:s}", "type", "terminated", "session", session));
}

/* --- life */

static int collect_urls(const struct settings *settings, const char *enrolled_at, json_t **out_urls, struct err *e)
{
	struct url url;
	if (settings->servers.n == 0 && url_parse_secure(enrolled_at, &url, e))
		return err_wrap(e, "where this target was enrolled");
	json_t *urls = json_array();
	for (size_t i = 0; urls && i < settings->servers.n && i < LIMIT_SERVER_URLS; i++)
		json_array_append_new(urls, json_string(settings->servers.at[i]));
	if (json_array_size(urls) == 0)
		json_array_append_new(urls, json_string(enrolled_at));
	if (json_array_size(urls) == 0) {
		json_decref(urls);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	*out_urls = urls;
	return 0;
}

static void stop(struct supervisor *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	notify_send("STOPPING=1");
	uv_stop(&s->loop);
}

/* Those that a server told are of the control plane that is configured, and go on with it. */
static void keep_told_urls(const struct supervisor *s, json_t *urls)
{
	size_t n = json_array_size(urls);
	if (n != s->configured_urls)
		return;
	for (size_t i = 0; i < n; i++)
		if (!json_equal(json_array_get(urls, i), json_array_get(s->urls, i)))
			return;
	for (size_t i = n; i < json_array_size(s->urls); i++)
		json_array_append(urls, json_array_get(s->urls, i));
}

static int take_settings(struct supervisor *s, struct settings *fresh, char *out_left, size_t size, struct err *e)
{
	struct net_tls *tls = NULL;
	json_t *urls = NULL, *host_keys = NULL;
	const struct settings sshd = { .ssh = fresh->ssh, .state_dir = s->settings->state_dir };
	int rc = net_tls_new(settings_text(fresh->ca_file), &tls, e);
	if (!rc)
		rc = hostkeys_list(&sshd, &host_keys, e);
	if (!rc)
		rc = collect_urls(fresh, s->state.server, &urls, e);
	if (rc) {
		net_tls_free(&tls);
		json_decref(host_keys);
		return rc;
	}
	bool loopback = settings_ssh_is_loopback(s->settings), same_keys = json_equal(s->host_keys, host_keys);
	settings_take(s->settings, fresh, out_left, size);
	json_decref(s->host_keys);
	s->host_keys = host_keys;
	if ((settings_ssh_is_loopback(s->settings) != loopback || !same_keys) && s->ws) /* a hello is said once */
		ws_client_close(s->ws, 1000, "settings");
	net_tls_free(&s->fresh_tls);
	s->fresh_tls = tls;
	size_t configured = json_array_size(urls);
	keep_told_urls(s, urls);
	json_decref(s->urls);
	s->urls = urls;
	s->configured_urls = configured;
	return sessions_reload(s->sessions, e);
}

static void reload(struct supervisor *s)
{
	struct settings fresh = { .ssh = NULL };
	struct err e = { 0 };
	char left[256] = "";
	notify_send("RELOADING=1");
	int rc = settings_load(s->config, s->state_dir, &fresh, &e);
	if (!rc)
		rc = take_settings(s, &fresh, left, sizeof left, &e);
	if (rc) {
		log_error("the settings stay as they are: %s", e.text);
	} else {
		log_set_level((enum log_level)s->settings->log_level);
		log_info("settings read again");
		if (*left)
			log_warn("changed, but needs a restart (sessions go on over it): %s", left);
	}
	settings_free(&fresh);
	notify_send("READY=1");
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct supervisor *s = handle->data;
	if (number == SIGHUP) {
		reload(s);
		on_look(&s->look);
		return;
	}
	log_info("stopping; sessions go on without the agent's supervisor");
	stop(s);
}

static int open_parts(struct supervisor *s, struct err *e)
{
	static const struct sessions_callbacks callbacks = { .accepted = on_accepted,
							     .refused = on_refused,
							     .terminated = on_terminated };
	char path[STATE_PATH];
	EVP_PKEY *link = NULL;
	int rc = state_load(s->settings->state_dir, &s->state, e);
	rotation_init(&s->rotation, s->settings, &s->state);
	if (!rc)
		rc = state_load_link_key(s->settings->state_dir, &link, e); /* workers need it: say now if it is bad */
	EVP_PKEY_free(link);
	if (!rc)
		rc = collect_urls(s->settings, s->state.server, &s->urls, e);
	s->configured_urls = json_array_size(s->urls);
	if (!rc)
		rc = net_tls_new(settings_text(s->settings->ca_file), &s->tls, e);
	if (!rc)
		rc = hostkeys_list(s->settings, &s->host_keys, e);
	if (!rc)
		rc = state_path(s->settings->state_dir, "reports", path, e);
	if (!rc)
		rc = spool_open(path, &s->spool, e);
	if (!rc)
		rc = sessions_new(&s->loop, s->settings, s->state.target, s->spool, &callbacks, s, &s->sessions, e);
	return rc;
}

static void on_alive(uv_timer_t *timer)
{
	(void)timer;
	notify_send("WATCHDOG=1"); /* from the loop that does the work: one that hangs is found out */
}

static void start(struct supervisor *s)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	uv_timer_init(&s->loop, &s->retry);
	uv_timer_init(&s->loop, &s->look);
	uv_timer_start(&s->look, on_look, ROTATION_LOOK_MS, ROTATION_LOOK_MS);
	uv_prepare_init(&s->loop, &s->turn);
	uv_timer_init(&s->loop, &s->alive);
	uv_timer_init(&s->loop, &s->gather);
	s->retry.data = s->look.data = s->turn.data = s;
	uint64_t alive_ms = (uint64_t)notify_watchdog_ms();
	if (alive_ms)
		uv_timer_start(&s->alive, on_alive, alive_ms, alive_ms);
	uv_prepare_start(&s->turn, on_turn);
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		uv_signal_init(&s->loop, &s->signals[i]);
		s->signals[i].data = s;
		uv_signal_start(&s->signals[i], on_signal, numbers[i]);
	}
	s->started = true;
	notify_send("READY=1\nSTATUS=connecting");
	log_with(LOG_LEVEL_INFO, FIELDS({ "target", s->state.target }, { "version", TUNNEL_VERSION }), "agent started");
	dial(s);
}

static void on_patience_over(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

static void close_loop(struct supervisor *s)
{
	uv_timer_t patience; /* a worker that does not read must not keep us */
	uv_timer_init(&s->loop, &patience);
	uv_timer_start(&patience, on_patience_over, 2000, 0);
	uv_unref((uv_handle_t *)&patience);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&patience, NULL);
	uv_run(&s->loop, UV_RUN_NOWAIT);
	uv_loop_close(&s->loop);
}

static void close_parts(struct supervisor *s)
{
	struct err e = { 0 };
	if (s->spool && spool_sync(s->spool, &e))
		log_error("reports may be lost: %s", e.text);
	ws_client_free(&s->ws);
	sessions_free(&s->sessions);
	if (s->started) {
		uv_close((uv_handle_t *)&s->retry, NULL);
		uv_close((uv_handle_t *)&s->look, NULL);
		uv_close((uv_handle_t *)&s->alive, NULL);
		uv_close((uv_handle_t *)&s->gather, NULL);
		uv_close((uv_handle_t *)&s->turn, NULL);
		for (size_t i = 0; i < sizeof s->signals / sizeof s->signals[0]; i++)
			uv_close((uv_handle_t *)&s->signals[i], NULL);
	}
	close_loop(s);
	spool_close(&s->spool);
	net_tls_free(&s->tls);
	net_tls_free(&s->fresh_tls);
	json_decref(s->host_keys);
	json_decref(s->urls);
	state_free(&s->state);
}

int supervisor_run(struct settings *settings, const char *config, const char *state_dir, struct err *e)
{
	struct supervisor *s = calloc(1, sizeof *s);
	int lock = -1, rc;
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	s->settings = settings, s->config = config, s->state_dir = state_dir;
	signal(SIGPIPE, SIG_IGN);
	rc = state_lock(settings->state_dir, &lock, e);
	if (!rc && uv_loop_init(&s->loop) != 0)
		rc = err_set(e, ERR_INTERNAL, "cannot make an event loop");
	if (rc) {
		if (lock >= 0)
			close(lock);
		free(s);
		return rc;
	}
	rc = open_parts(s, e);
	if (!rc) {
		start(s);
		rc = state_announce(lock, e); /* whoever finds us out sends signals: they are watched by now */
	}
	if (!rc) {
		uv_run(&s->loop, UV_RUN_DEFAULT);
		notify_ready_file(settings_text(settings->ready_file), 0);
	}
	close_parts(s);
	close(lock);
	free(s);
	return rc;
}

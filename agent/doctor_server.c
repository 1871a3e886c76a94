/* One connection to each server, by the agent's own client, shows how far it gets: the socket, TLS, and whether the
 * server takes the identity. It says `check` instead of `hello`, so an agent that is connected keeps its place. */
#include "agent/doctor_checks.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "ident/proof.h"
#include "net/proxy.h"
#include "net/tls.h"
#include "net/url.h"
#include "net/ws_client.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_WARN_MS 5000
#define CLOCK_FAIL_MS 60000 /* what an assertion may be off */
#define ANSWER_MS 10000

enum stage { STAGE_NONE, STAGE_TCP, STAGE_TLS, STAGE_OPEN, STAGE_TAKEN };

struct
try {
	uv_loop_t loop;
	uv_timer_t patience;
	struct ws_client *ws;
	enum stage stage;
	bool told_time;
	int64_t ahead_ms; /* the server's clock, of ours */
	unsigned code;
	char why[256];
};

static void end_try(struct try *t)
{
	ws_client_free(&t->ws);
	if (!uv_is_closing((uv_handle_t *)&t->patience))
		uv_close((uv_handle_t *)&t->patience, NULL);
}

static void on_progress(void *user, enum ws_step step)
{
	struct try *t = user;
	t->stage = step == WS_STEP_CONNECTED ? STAGE_TCP : STAGE_TLS;
}

static void on_open(void *user)
{
	struct try *t = user;
	t->stage = STAGE_OPEN;
	ws_client_send_text(t->ws, "{\"type\":\"check\"}");
}

static void on_text(void *user, const char *text, size_t len)
{
	struct try *t = user;
	struct err e;
	int64_t now_ms = 0;
	json_auto_t *json = NULL;
	const struct json_field fields[] = { { "now_ms", JSON_FIELD_INT, true, 0, CLOCK_WALL_MAX_MS, &now_ms },
					     { .name = NULL } };
	if (json_parse(text, len, &json, &e) || json_read(json, "clock", false, fields, &e))
		return;
	t->told_time = true;
	t->ahead_ms = now_ms - clock_wall_ms();
	/* When the time is what is wrong a close follows, and says so. */
	if (llabs(t->ahead_ms) < CLOCK_FAIL_MS) {
		t->stage = STAGE_TAKEN;
		end_try(t);
	}
}

static void on_closed(void *user, int status, const char *body, unsigned code, const char *reason)
{
	struct try *t = user;
	(void)body;
	t->code = code;
	snprintf(t->why, sizeof t->why, "%s%s", status ? "the server answered: " : "", reason);
	end_try(t);
}

static void on_impatience(uv_timer_t *timer)
{
	struct try *t = timer->data;
	snprintf(t->why, sizeof t->why, "no answer within %d s", ANSWER_MS / 1000);
	end_try(t);
}

static int make_bearer(const struct doctor *d, char out[PROOF_TEXT_MAX + 16], struct err *e)
{
	char assertion[PROOF_TEXT_MAX];
	int rc = proof_make_assertion(d->state.identity, d->state.target, "tunnel-server", clock_wall_ms(), assertion,
				      e);
	if (!rc)
		snprintf(out, PROOF_TEXT_MAX + 16, "Bearer %s", assertion);
	return rc;
}

/* Without an identity the way is tried all the same; the server refuses at its end. */
static void run_try(const struct doctor *d, const char *base, struct net_tls *tls, struct try *t)
{
	static const struct ws_callbacks callbacks = {
		.open = on_open, .text = on_text, .closed = on_closed, .progress = on_progress
	};
	char url[1024], bearer[PROOF_TEXT_MAX + 16] = "Bearer none";
	struct err e = { 0 };
	uv_loop_init(&t->loop);
	uv_timer_init(&t->loop, &t->patience);
	t->patience.data = t;
	int rc = url_join(base, "/v1/agent", url, sizeof url, &e);
	if (!rc && d->state.identity)
		rc = make_bearer(d, bearer, &e);
	const struct ws_header headers[] = { { "Authorization", bearer }, { NULL, NULL } };
	const struct ws_options options = { .url = url,
					    .subprotocol = "tunnel.control.v1",
					    .headers = headers,
					    .tls = tls,
					    .proxy = d->settings->proxy,
					    .connect_timeout_ms = ANSWER_MS };
	if (!rc)
		rc = ws_client_open(&t->loop, &options, &callbacks, t, &t->ws, &e);
	if (rc) {
		snprintf(t->why, sizeof t->why, "%s", e.text);
		end_try(t);
	} else {
		uv_timer_start(&t->patience, on_impatience, 2 * ANSWER_MS, 0);
	}
	uv_run(&t->loop, UV_RUN_DEFAULT);
	uv_loop_close(&t->loop);
}

static void check_dns(struct doctor *d, const struct url *url)
{
	struct addrinfo *list = NULL;
	int rc = getaddrinfo(url->host, NULL, &(const struct addrinfo){ .ai_socktype = SOCK_STREAM }, &list);
	size_t n = 0;
	for (const struct addrinfo *a = list; a; a = a->ai_next)
		n++;
	if (rc)
		doctor_say(d, "dns", VERDICT_FAIL, "is the name in server right? does this machine's resolver know it?",
			   "%s: %s", url->host, gai_strerror(rc));
	else
		doctor_say(d, "dns", VERDICT_OK, NULL, "%s has %zu address%s", url->host, n, n == 1 ? "" : "es");
	if (list)
		freeaddrinfo(list);
}

/* false: nothing more can be tried. */
static bool check_way(struct doctor *d, const char *base)
{
	struct url url;
	struct proxy proxy = { .used = false };
	struct err e = { 0 };
	int rc = url_parse_secure(base, &url, &e);
	if (!rc)
		rc = proxy_choose(d->settings->proxy, &url, &proxy, &e);
	if (rc)
		doctor_say(d, "proxy", VERDICT_FAIL, "mend server or proxy in the settings, or https_proxy", "%s",
			   e.text);
	else if (proxy.used)
		doctor_say(d, "proxy", VERDICT_OK, NULL, "%s is reached through %s:%u", url.host, proxy.host,
			   proxy.port);
	else
		doctor_say(d, "proxy", VERDICT_SKIP, NULL, "%s is reached without one", url.host);
	if (!rc && !proxy.used) /* else the name need be known to the proxy alone */
		check_dns(d, &url);
	proxy_free(&proxy);
	return rc == 0;
}

static void say_identity(struct doctor *d, const char *base, const struct try *t)
{
	if (t->stage == STAGE_TAKEN)
		doctor_say(d, "identity", VERDICT_OK, NULL, "%s knows this machine as %s", base, d->state.target);
	else if (!d->state.identity)
		doctor_say(d, "identity", VERDICT_SKIP, NULL, "the machine is not enrolled");
	else if (t->code == 4402)
		doctor_say(d, "identity", VERDICT_WARN, "set the clock right", "%s takes no proof of another time",
			   base);
	else if (t->code == 4401 || t->code == 4403)
		doctor_say(
			d, "identity", VERDICT_FAIL,
			"was it deregistered, enrolled elsewhere, or restored from an old copy? enrol it again, while "
			"the agent is stopped (systemctl stop tunnel-agent)",
			"%s refuses target %s: %s", base, d->state.target, t->why);
	else if (t->code == 4008)
		doctor_say(d, "identity", VERDICT_OK, NULL, "%s reads what target %s says (it is an older server)",
			   base, d->state.target);
	else
		doctor_say(d, "identity", VERDICT_FAIL, "try again; else look into the server's log", "%s: %s", base,
			   t->why);
}

static void say_clock(struct doctor *d, const struct try *t)
{
	if (!t->told_time)
		doctor_say(d, "clock", VERDICT_SKIP, NULL, "the server did not say its time");
	else if (llabs(t->ahead_ms) >= CLOCK_WARN_MS)
		doctor_say(d, "clock", llabs(t->ahead_ms) < CLOCK_FAIL_MS ? VERDICT_WARN : VERDICT_FAIL,
			   "timedatectl set-ntp true", "this machine's clock is %lld s %s the server's",
			   llabs(t->ahead_ms) / 1000, t->ahead_ms > 0 ? "behind" : "ahead of");
	else
		doctor_say(d, "clock", VERDICT_OK, NULL, "within %d s of the server's", CLOCK_WARN_MS / 1000);
}

static void check_server(struct doctor *d, const char *base)
{
	struct try t = { .stage = STAGE_NONE };
	struct net_tls *tls = NULL;
	struct err e = { 0 };
	if (!check_way(d, base))
		return;
	if (net_tls_new(settings_text(d->settings->ca_file), &tls, &e)) {
		doctor_say(d, "tls", VERDICT_FAIL, "ca_file has to be a PEM file of CA certificates", "%s", e.text);
		return;
	}
	run_try(d, base, tls, &t);
	net_tls_free(&tls);
	if (t.stage < STAGE_TCP) {
		doctor_say(d, "tcp", VERDICT_FAIL, "does the server run? does a firewall forbid the way out?", "%s: %s",
			   base, t.why);
		return;
	}
	doctor_say(d, "tcp", VERDICT_OK, NULL, "%s takes connections", base);
	if (t.stage < STAGE_TLS) {
		doctor_say(d, "tls", VERDICT_FAIL,
			   "set ca_file when the server's certificate is of a CA of your own; its name must be that of "
			   "the URL",
			   "%s", t.why);
		return;
	}
	doctor_say(d, "tls", VERDICT_OK, NULL, "its certificate is of %s",
		   settings_text(d->settings->ca_file) ? d->settings->ca_file : "a CA of the system's");
	say_identity(d, base, &t);
	say_clock(d, &t);
}

void doctor_check_servers(struct doctor *d)
{
	const struct settings *s = d->settings;
	for (size_t i = 0; i < s->servers.n && i < LIMIT_SERVER_URLS; i++)
		check_server(d, s->servers.at[i]);
	if (s->servers.n == 0 && d->state.server[0])
		check_server(d, d->state.server);
	else if (s->servers.n == 0)
		doctor_say(d, "tcp", VERDICT_SKIP, "set server, or enrol", "no server is known");
}

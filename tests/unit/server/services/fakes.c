#include "fakes.h"

#include "base/clock.h"
#include "server/plugin_host.h"
#include "server/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- relay ---- */

static json_t *ends, *infos, *sent, *closed, *renewed, *notices;
static struct relay_info info_of[64];

void fake_io_reset(void)
{
	fake_auth_answers(TUNNEL_NOT_MINE);
	json_t **all[] = { &ends, &infos, &sent, &closed, &renewed, &notices };
	for (size_t i = 0; i < 6; i++) {
		json_decref(*all[i]);
		*all[i] = i == 2 || i == 5 ? json_array() : json_object();
	}
}

void relay_end_anythread(struct relay *relay, const char *session, unsigned close_code, const char *reason)
{
	(void)relay, (void)reason;
	json_object_set_new(ends, session, json_integer(close_code));
}

void relay_move_anythread(struct relay *relay, const char *session, const char *relay_url)
{
	(void)relay, (void)relay_url;
	json_object_set_new(ends, session, json_integer(4009));
}

void relay_renew_anythread(struct relay *relay, const char *session, int64_t generation)
{
	(void)relay;
	json_object_set_new(renewed, session, json_integer(generation));
}

void relay_notice_anythread(struct relay *relay, const char *session, const struct relay_notice *notice)
{
	(void)relay;
	json_array_append_new(notices, json_pack("{s:s, s:i, s:I}", "session", session, "code", (int)notice->code,
						 "at_ms", (json_int_t)notice->at_ms));
}

int64_t fake_relay_notice(const char *session, unsigned code)
{
	for (size_t i = json_array_size(notices); i-- > 0;) {
		const json_t *one = json_array_get(notices, i);
		if (strcmp(json_string_value(json_object_get(one, "session")), session) == 0 &&
		    json_integer_value(json_object_get(one, "code")) == (json_int_t)code)
			return json_integer_value(json_object_get(one, "at_ms"));
	}
	return 0;
}

int64_t fake_relay_generation(const char *session)
{
	return json_integer_value(json_object_get(renewed, session));
}

void fake_relay_reset_ends(void)
{
	json_object_clear(ends);
}

unsigned fake_relay_ended(const char *session)
{
	return (unsigned)json_integer_value(json_object_get(ends, session));
}

void fake_relay_set(const char *session, const struct relay_info *info)
{
	if (!info) {
		json_object_del(infos, session);
		return;
	}
	if (!json_object_get(infos, session))
		json_object_set_new(infos, session, json_integer((json_int_t)json_object_size(infos)));
	info_of[json_integer_value(json_object_get(infos, session))] = *info;
}

bool relay_info_anythread(struct relay *relay, const char *session, struct relay_info *out)
{
	(void)relay;
	json_t *at = json_object_get(infos, session);
	if (at)
		*out = info_of[json_integer_value(at)];
	return at != NULL;
}

void relay_forget_anythread(struct relay *relay, const char *session)
{
	(void)relay, (void)session;
}

/* ---- connections ---- */

static wsconn_id then_conn;
static void (*then_call)(void *arg);
static void *then_arg;

void fake_ws_then(wsconn_id conn, void (*then)(void *arg), void *arg)
{
	then_conn = conn, then_call = then, then_arg = arg;
}

void wsconn_send_text_anythread(struct server *server, wsconn_id conn, const char *text)
{
	void (*then)(void *arg) = conn == then_conn ? then_call : NULL;
	(void)server;
	if (then) {
		then_call = NULL;
		then(then_arg);
	}
	json_array_append_new(sent,
			      json_pack("{s:I, s:o}", "conn", (json_int_t)conn, "message", json_loads(text, 0, NULL)));
}

void wsconn_close_anythread(struct server *server, wsconn_id conn, unsigned code, const char *reason)
{
	(void)server, (void)reason;
	char key[32];
	snprintf(key, sizeof key, "%llu", (unsigned long long)conn);
	if (!json_object_get(closed, key))
		json_object_set_new(closed, key, json_integer(code));
}

static json_t *message_of(const json_t *entry, wsconn_id conn)
{
	bool is = json_integer_value(json_object_get(entry, "conn")) == (json_int_t)conn;
	return is ? json_object_get(entry, "message") : NULL;
}

static bool is_type(const json_t *message, const char *type)
{
	return message && strcmp(json_string_value(json_object_get(message, "type")), type) == 0;
}

json_t *fake_ws_last(wsconn_id conn, const char *type)
{
	for (size_t i = json_array_size(sent); i-- > 0;) {
		json_t *message = message_of(json_array_get(sent, i), conn);
		if (is_type(message, type))
			return json_incref(message);
	}
	return NULL;
}

size_t fake_ws_count(wsconn_id conn, const char *type)
{
	size_t n = 0;
	for (size_t i = 0; i < json_array_size(sent); i++)
		n += is_type(message_of(json_array_get(sent, i), conn), type);
	return n;
}

const char *fake_ws_first(wsconn_id conn)
{
	for (size_t i = 0; i < json_array_size(sent); i++) {
		json_t *message = message_of(json_array_get(sent, i), conn);
		if (message)
			return json_string_value(json_object_get(message, "type"));
	}
	return "";
}

unsigned fake_ws_closed(wsconn_id conn)
{
	char key[32];
	snprintf(key, sizeof key, "%llu", (unsigned long long)conn);
	return (unsigned)json_integer_value(json_object_get(closed, key));
}

/* ---- the pool: jobs run at once ---- */

int pool_submit_anythread(struct pool *pool, const struct pool_job *job)
{
	(void)pool;
	job->run_blocking(job->arg);
	if (job->done)
		job->done(job->arg);
	return 0;
}

/* ---- an auth provider: "Authorization: Test <subject> [<group>]" ---- */

static struct plugin {
	int unused;
} provider;

int plugin_open(const char *plugin_dir, const struct conf_section *section, enum tunnel_kind kind,
		struct metrics *metrics, struct plugin **out_plugin, struct err *e)
{
	(void)plugin_dir, (void)section, (void)kind, (void)metrics, (void)e;
	*out_plugin = &provider;
	return 0;
}

void plugin_close(struct plugin **plugin)
{
	*plugin = NULL;
}

const char *plugin_name(const struct plugin *p)
{
	(void)p;
	return "auth-test";
}

void plugin_limit_calls(struct plugin *p, unsigned places)
{
	(void)p, (void)places;
}

int plugin_reload(struct plugin *p, struct err *e)
{
	(void)p, (void)e;
	return 0;
}

/* The first word behind "Test ". */
int plugin_auth_claim_blocking(struct plugin *p, const struct tunnel_call *call,
			       const struct tunnel_auth_request *request, char *out)
{
	(void)p, (void)call;
	for (size_t i = 0; i < request->header_count; i++)
		if (strcmp(request->headers[i].name, "authorization") == 0 &&
		    sscanf(request->headers[i].value, "Test %255s", out) == 1)
			return TUNNEL_OK;
	return TUNNEL_NOT_MINE;
}

/* None for what is no text. */
static void set_group(struct tunnel_identity *out, const char *group)
{
	json_auto_t *list = json_pack("[s]", group);
	char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
	snprintf(out->groups, sizeof out->groups, "%s", text ? text : "");
	free(text);
}

int plugin_auth_verify_blocking(struct plugin *p, const struct tunnel_call *call,
				const struct tunnel_auth_request *request, struct tunnel_identity *out)
{
	(void)p;
	char group[64] = "", credential[64] = "";
	long long left_s = 0;
	for (size_t i = 0; i < request->header_count; i++) {
		const char *value = request->headers[i].value;
		if (strcmp(request->headers[i].name, "authorization") != 0 || strncmp(value, "Test ", 5) != 0)
			continue;
		if (strcmp(value + 5, "wrong") == 0 || strstr(value, " guessed")) {
			snprintf(call->err, call->err_len, "the password is wrong");
			return TUNNEL_DENIED;
		}
		if (strcmp(value + 5, "away") == 0)
			return TUNNEL_UNAVAILABLE;
		sscanf(value + 5, "%255s %63s %63s %lld", out->subject, group, credential, &left_s);
		snprintf(out->credential, sizeof out->credential, "%s%.200s", *credential ? "" : "key-",
			 *credential ? credential : out->subject);
		out->expires_ms = left_s ? clock_wall_ms() + left_s * 1000 : 0;
		if (*group && strcmp(group, "-") != 0)
			set_group(out, group);
		return TUNNEL_OK;
	}
	return TUNNEL_NOT_MINE;
}

static void (*auth_call)(void *arg);
static void *auth_arg;

void fake_auth_then(void (*then)(void *arg), void *arg)
{
	auth_call = then;
	auth_arg = arg;
}

bool plugin_auth_authorizes(const struct plugin *p)
{
	(void)p;
	return true;
}

static int auth_answer = TUNNEL_NOT_MINE;
static bool auth_refuses;
static size_t auth_asked;

void fake_auth_refuses_once(void)
{
	auth_refuses = true;
}

void fake_auth_answers(int result)
{
	auth_answer = result;
	auth_asked = 0;
}

size_t fake_auth_asked(void)
{
	return auth_asked;
}

int plugin_auth_authorize_blocking(struct plugin *p, const struct tunnel_call *call,
				   const struct tunnel_identity *identity, const char *action, const char *resource,
				   const char *context)
{
	(void)p, (void)call, (void)identity, (void)resource, (void)context;
	auth_asked++;
	if (auth_call && strcmp(action, "tunnel:OpenTcp") == 0) {
		void (*call_now)(void *arg) = auth_call;
		auth_call = NULL;
		call_now(auth_arg);
	}
	bool refuses = auth_refuses;
	auth_refuses = false;
	return refuses ? TUNNEL_DENIED : auth_answer;
}

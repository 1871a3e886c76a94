#include "world.h"

#include "base/clock.h"
#include "base/log.h"
#include "ident/key.h"
#include "ident/sshcert.h"
#include "server/api.h"
#include "server/audit.h"
#include "server/auth.h"
#include "server/metrics.h"
#include "server/policies.h"
#include "server/revocations.h"
#include "server/session_record.h"
#include "server/session_state.h"
#include "server/sshca.h"

static const char allow_alice[] = "{'Sid':'alice','Effect':'Allow','Principal':{'User':['alice']},'Action':['*'],"
				  "'Resource':['*']}";

#define OK(expression)                                        \
	do {                                                  \
		struct err e = { 0 };                         \
		if ((expression) != 0)                        \
			fail_msg(#expression ": %s", e.text); \
	} while (0)

static void services_up(struct world *w)
{
	struct server *s = &w->server;
	const struct conf_sections sections = { &w->provider, 1 };
	s->metrics = metrics_new();
	OK(auth_open(w->folder, &sections, s->metrics, &s->auth, &e));
	OK(audit_open_blocking(s, &s->audit, &e));
	OK(policies_open_blocking(s, &s->policies, &e));
	OK(revocations_open_blocking(s, &s->revocations, &e));
	OK(sshca_open(&(struct sshca_files){ w->ca_path, w->ca_trusted }, &s->sshca, &e));
	OK(sessions_new(s, &s->sessions, &e));
	OK(control_new(s, &s->control, &e));
	OK(session_load_blocking(s->sessions, clock_mono_ms(), clock_wall_ms(), &e));
}

static void services_down(struct world *w)
{
	struct server *s = &w->server;
	sessions_stop(&s->sessions);
	control_free(&s->control);
	sshca_close(&s->sshca);
	revocations_close(&s->revocations);
	policies_close(&s->policies);
	audit_close(&s->audit);
	auth_close(&s->auth);
	metrics_free(&s->metrics);
}

struct world *world_up(void)
{
	struct world *w = calloc(1, sizeof *w);
	struct err e;
	log_set_level(LOG_LEVEL_ERROR);
	fake_store_reset();
	fake_io_reset();
	case_folder(w->folder);
	snprintf(w->ca_path, sizeof w->ca_path, "%s/ca", w->folder);
	w->ca_trusted = "";
	w->from = "192.0.2.7";
	w->settings = (struct settings){ .policy_dir = strdup(""),
					 .ssh_certificate_ms = 300000,
					 .session_max_ms = 3600000,
					 .session_idle_ms = 1800000,
					 .session_warn_ms = 300000,
					 .detach_grace_ms = 900000 };
	w->server.settings = &w->settings;
	w->server.store = (struct store *)(void *)w; /* never looked into: the fake needs none */
	w->server.node = "node-1";
	w->server.public_url = "https://" HOST;
	w->client = key_generate(&e);
	w->identity = key_generate(&e);
	w->link = key_generate(&e);
	assert_int_equal(key_public_text(w->client, w->client_key, &e), 0);
	EVP_PKEY *ssh = sshkey_generate(&e);
	assert_int_equal(sshkey_public_text(ssh, w->ssh_key, &e), 0);
	EVP_PKEY_free(ssh);
	services_up(w);
	put_policy(w, "base", allow_alice);
	return w;
}

void world_restart(struct world *w)
{
	services_down(w);
	fake_io_reset();
	services_up(w);
}

void world_renew(struct world *w)
{
	services_down(w);
	fake_io_reset();
	fake_store_reset();
	services_up(w);
	put_policy(w, "base", allow_alice);
}

void world_down(struct world *w)
{
	services_down(w);
	EVP_PKEY_free(w->client);
	EVP_PKEY_free(w->identity);
	EVP_PKEY_free(w->link);
	free(w->settings.policy_dir);
	case_folder_remove(w->folder);
	fake_store_reset();
	fake_io_reset();
	free(w);
}

/* ---- calls ---- */

static char *with_quotes(const char *text)
{
	char *copy = strdup(text);
	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	return copy;
}

static struct answer run(struct world *w, struct api_request *request)
{
	struct answer a = { .status = 0 };
	request->remote_address = w->from;
	snprintf(request->request_id, sizeof request->request_id, "r-1");
	api_handle_blocking(&w->server, request, &a.raw);
	a.status = a.raw.status;
	if (a.raw.body)
		a.json = json_loadb(a.raw.body, a.raw.body_len, 0, NULL);
	return a;
}

struct answer call(struct world *w, const char *method, const char *path, const char *query, const char *who,
		   const char *body)
{
	char credential[300];
	struct tunnel_header headers[] = { { "host", HOST }, { "content-type", "application/json" }, { NULL, NULL } };
	size_t n = 2;
	if (who) {
		snprintf(credential, sizeof credential, strncmp(who, "Bearer ", 7) == 0 ? "%s" : "Test %s", who);
		headers[n++] = (struct tunnel_header){ "authorization", credential };
	}
	char *text = with_quotes(body ? body : "");
	struct api_request request = { .method = method,
				       .path = path,
				       .query = query,
				       .headers = headers,
				       .header_count = n,
				       .body = (const unsigned char *)text,
				       .body_len = strlen(text) };
	struct answer a = run(w, &request);
	free(text);
	return a;
}

struct answer call_with_token_at(struct world *w, const char *method, const char *path, const char *token,
				 EVP_PKEY *key, int64_t at_ms)
{
	char url[512], proof[PROOF_TEXT_MAX], bearer[128];
	snprintf(url, sizeof url, "https://" HOST "%s", path);
	snprintf(bearer, sizeof bearer, "Bearer %s", token);
	make_proof(key, method, url, token, at_ms, proof);
	const struct tunnel_header headers[] = { { "host", HOST }, { "authorization", bearer }, { "dpop", proof } };
	struct api_request request = {
		.method = method, .path = path, .query = "", .headers = headers, .header_count = 3
	};
	return run(w, &request);
}

struct answer call_with_token(struct world *w, const char *method, const char *path, const char *token, EVP_PKEY *key)
{
	return call_with_token_at(w, method, path, token, key, clock_wall_ms());
}

void answer_free(struct answer *a)
{
	json_decref(a->json);
	a->json = NULL;
	api_response_free(&a->raw);
}

const char *text_at(const json_t *json, const char *path)
{
	char part[64];
	while (json && *path) {
		size_t n = strcspn(path, ".");
		snprintf(part, sizeof part, "%.*s", (int)n, path);
		json = json_object_get(json, part);
		path += n + (path[n] == '.');
	}
	return json_is_string(json) ? json_string_value(json) : "";
}

void put_policy(struct world *w, const char *name, const char *statements)
{
	char text[4096];
	snprintf(text, sizeof text, "{'Version':'2026-01-01','Statement':[%s]}", statements);
	char *quoted = with_quotes(text);
	json_t *document = json_loads(quoted, 0, NULL);
	assert_non_null(document);
	OK(policies_put_blocking(w->server.policies, name, document, &e));
	json_decref(document);
	free(quoted);
}

/* ---- targets ---- */

void enrol(struct world *w, const char *target, const char *tags)
{
	char body[1024], identity[256], link[256], bearer[128];
	struct err e;
	snprintf(body, sizeof body, "{'target':'%s','tags':{%s}}", target, tags);
	struct answer a = call(w, "POST", "/v1/enrollments", "", "alice", body);
	assert_int_equal(a.status, 201);
	snprintf(bearer, sizeof bearer, "Bearer %s", text_at(a.json, "token"));
	answer_free(&a);
	assert_int_equal(key_public_text(w->identity, identity, &e), 0);
	assert_int_equal(key_public_text(w->link, link, &e), 0);
	snprintf(body, sizeof body, "{'identity_key':'%s','link_key':'%s','version':'0.1'}", identity, link);
	a = call(w, "POST", "/v1/targets", "", bearer, body);
	if (a.status != 201)
		fail_msg("%d %s", a.status, a.raw.body);
	answer_free(&a);
}

void say(struct world *w, const char *target, wsconn_id conn, const char *message)
{
	say_by(w, w->identity, target, conn, message);
}

static void tell(struct world *w, EVP_PKEY *key, const char *target, wsconn_id conn, const char *const *messages,
		 size_t n)
{
	struct control_text *texts = calloc(n, sizeof *texts);
	unsigned char pin[32];
	char identity[KEY_PIN_TEXT];
	struct err e;
	assert_non_null(texts);
	assert_int_equal(key_pin(key, pin, &e), 0);
	key_pin_text(pin, identity);
	for (size_t i = 0; i < n; i++) {
		texts[i].at = with_quotes(messages[i]);
		texts[i].len = strlen(texts[i].at);
	}
	control_on_texts_blocking(&w->server, conn, target, identity, texts, n);
	for (size_t i = 0; i < n; i++)
		free((char *)(uintptr_t)texts[i].at);
	free(texts);
}

void say_by(struct world *w, EVP_PKEY *key, const char *target, wsconn_id conn, const char *message)
{
	tell(w, key, target, conn, &message, 1);
}

void say_many(struct world *w, const char *target, wsconn_id conn, const char *const *messages, size_t n)
{
	tell(w, w->identity, target, conn, messages, n);
}

void hello(struct world *w, const char *target, wsconn_id conn, const char *running)
{
	char text[2048], sessions[512] = "";
	snprintf(sessions, sizeof sessions, *running ? "{'id':%s}" : "%s", running);
	snprintf(text, sizeof text, "{'type':'hello','version':'0.1','ssh_host_keys':['%s'],'sessions':[%s]}",
		 w->ssh_key, sessions);
	say(w, target, conn, text);
}

/* ---- sessions ---- */

struct answer start_tcp(struct world *w, const char *target, const char *allow)
{
	char body[1024];
	snprintf(body, sizeof body, "{'target':'%s','kind':'tcp','allow':[%s],'client_key':'%s'}", target, allow,
		 w->client_key);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	if (a.status != 201)
		fail_msg("%d %s", a.status, a.raw.body);
	return a;
}

char *make_proof(EVP_PKEY *key, const char *method, const char *url, const char *token, int64_t at_ms,
		 char out[PROOF_TEXT_MAX])
{
	OK(proof_make_dpop(key, method, url, token, at_ms, out, &e));
	return out;
}

unsigned attach_with(struct world *w, const char *session, const char *token, const char *proof,
		     struct attach_decision *out)
{
	const struct attach_request request = { .session = session,
						.token = token,
						.dpop = proof,
						.host = HOST,
						.remote_address = w->from,
						.request_id = "r-2" };
	sessions_attach_blocking(&w->server, &request, out);

	return out->close_code;
}

unsigned attach(struct world *w, const char *session, const char *token, EVP_PKEY *key, struct attach_decision *out)
{
	char url[512], proof[PROOF_TEXT_MAX];
	snprintf(url, sizeof url, "https://" HOST "/v1/sessions/%s/leg", session);
	return attach_with(w, session, token, make_proof(key, "GET", url, token, clock_wall_ms(), proof), out);
}

json_t *audit_last(struct world *w, const char *event)
{
	json_t *records = NULL, *found = NULL;
	uint64_t next;
	OK(audit_read_blocking(w->server.audit, 1, 1000, &records, &next, &e));
	for (size_t i = 0; i < json_array_size(records); i++)
		if (strcmp(text_at(json_array_get(records, i), "event"), event) == 0)
			found = json_array_get(records, i);
	json_incref(found);
	json_decref(records);
	return found;
}

size_t audited(struct world *w, const char *event, const char *key, const char *value)
{
	json_t *records = NULL;
	uint64_t next;
	size_t n = 0;
	OK(audit_read_blocking(w->server.audit, 1, 1000, &records, &next, &e));
	for (size_t i = 0; i < json_array_size(records); i++) {
		json_t *one = json_array_get(records, i);
		n += strcmp(text_at(one, "event"), event) == 0 && (!key || strcmp(text_at(one, key), value) == 0);
	}
	json_decref(records);
	return n;
}

void sweep_in(struct world *w, int64_t ms)
{
	session_sweep_blocking(w->server.sessions, clock_mono_ms() + ms, clock_wall_ms() + ms);
}

json_t *record_of(struct world *w, const char *session)
{
	json_t *doc = NULL;
	struct err e;
	return record_get_blocking(&w->server, session, &doc, NULL, &e) ? NULL : doc;
}

#include "agent/job.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"

#include <string.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof(a)[0])

int offer_parse(json_t *message, struct offer *out, struct err *e)
{
	struct offer o = { .principal = "", .generation = 1 };
	unsigned char pin[32];
	const struct json_field fields[] = {
		{ "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, (void *)&o.session },
		{ "generation", JSON_FIELD_INT, false, 1, LIMIT_GENERATION, &o.generation },
		{ "kind", JSON_FIELD_STRING, true, 1, 8, (void *)&o.kind },
		{ "relay_url", JSON_FIELD_STRING, true, 1, 1024, (void *)&o.relay_url },
		{ "token", JSON_FIELD_STRING, true, 16, 256, (void *)&o.token },
		{ "client_pin", JSON_FIELD_STRING, true, KEY_PIN_TEXT - 1, KEY_PIN_TEXT - 1, (void *)&o.client_pin },
		{ "principal", JSON_FIELD_STRING, false, 0, LIMIT_SUBJECT, (void *)&o.principal },
		{ "grant", JSON_FIELD_OBJECT, true, 0, 0, (void *)&o.grant },
		{ "expires_at_ms", JSON_FIELD_INT, true, 0, INT64_MAX, &o.expires_at_ms },
		{ "detach_grace_s", JSON_FIELD_INT, false, 0, INT32_MAX, &o.detach_grace_s },
		{ "lease_s", JSON_FIELD_INT, false, 0, INT32_MAX, &o.lease_s },
		{ .name = NULL },
	};
	int rc = json_read(message, "offer", false, fields, e);
	if (rc)
		return rc;
	if (!text_is_id(o.session)) /* it becomes a file's name */
		return err_set(e, ERR_INVALID, "offer.session: not a session id");
	if (strcmp(o.kind, "ssh") != 0 && strcmp(o.kind, "tcp") != 0)
		return err_set(e, ERR_INVALID, "offer.kind: expected ssh or tcp");
	if (key_pin_parse(o.client_pin, pin, e))
		return err_wrap(e, "offer.client_pin");
	*out = o;
	return 0;
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *job_settings(const struct settings *s)
{
	json_t *allow = json_array();
	for (size_t i = 0; i < s->allow.n; i++)
		json_array_append_new(allow, json_string(s->allow.at[i]));
	return json_pack("{s:o, s:o, s:s, s:s, s:s, s:s, s:b, s:I, s:i, s:i, s:o}", "ca_file",
			 text_or_null(settings_text(s->ca_file)), "proxy", text_or_null(s->proxy), "state_dir",
			 s->state_dir, "runtime_dir", s->runtime_dir, "ssh", s->ssh, "sshd_path", s->sshd_path,
			 "ssh_forwarding", (int)s->ssh_forwarding, "connect_timeout_ms",
			 (json_int_t)s->connect_timeout_ms, "log_level", s->log_level, "log_format", s->log_format,
			 "allow", allow);
}

char *job_make(const struct offer *o, const struct settings *s, const char *target, json_t *server_urls)
{
	json_t *settings = job_settings(s);
	json_auto_t *json =
		json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:O, s:I, s:I, s:I, s:I, s:s, s:O, s:o}", "session",
			  o->session, "generation", (json_int_t)o->generation, "kind", o->kind, "relay_url",
			  o->relay_url, "token", o->token, "client_pin", o->client_pin, "principal", o->principal,
			  "grant", o->grant, "expires_at_ms", (json_int_t)o->expires_at_ms, "server_clock_ms",
			  (json_int_t)o->server_clock_ms, "detach_grace_s", (json_int_t)o->detach_grace_s, "lease_s",
			  (json_int_t)o->lease_s, "target", target, "server_urls", server_urls, "settings", settings);
	char *text = json ? json_text(json) : NULL;
	if (json) {
		char *copy = (char *)(uintptr_t)json_string_value(json_object_get(json, "token"));
		secret_wipe(copy, strlen(copy));
	}
	if (!text)
		return NULL;
	size_t len = strlen(text);
	char *line = malloc(len + 2);
	if (line) {
		memcpy(line, text, len);
		memcpy(line + len, "\n", 2);
	}
	secret_free_text(&text);
	return line;
}

static int take_list(const json_t *list, size_t max, const char **out, struct err *e, const char *what)
{
	if (json_array_size(list) > max)
		return err_set(e, ERR_LIMIT, "job: %s: more than %zu", what, max);
	for (size_t i = 0; i < json_array_size(list); i++)
		out[i] = json_string_value(json_array_get(list, i));
	return 0;
}

static int parse_settings(json_t *json, struct job *job, struct err *e)
{
	struct settings *s = &job->settings;
	const char *ca = NULL, *proxy = NULL, *state = NULL, *runtime = NULL, *ssh = NULL, *sshd = NULL;
	json_t *allow = NULL;
	int64_t level = 0, format = 0;
	const struct json_field fields[] = {
		{ "ca_file", JSON_FIELD_STRING, false, 0, 0, (void *)&ca },
		{ "proxy", JSON_FIELD_STRING, false, 0, 0, (void *)&proxy },
		{ "state_dir", JSON_FIELD_STRING, true, 0, 0, (void *)&state },
		{ "runtime_dir", JSON_FIELD_STRING, true, 0, 0, (void *)&runtime },
		{ "ssh", JSON_FIELD_STRING, true, 0, 0, (void *)&ssh },
		{ "sshd_path", JSON_FIELD_STRING, true, 0, 0, (void *)&sshd },
		{ "ssh_forwarding", JSON_FIELD_BOOL, true, 0, 0, &s->ssh_forwarding },
		{ "connect_timeout_ms", JSON_FIELD_INT, true, 1, INT32_MAX, &s->connect_timeout_ms },
		{ "log_level", JSON_FIELD_INT, true, 0, 3, &level },
		{ "log_format", JSON_FIELD_INT, true, 0, 2, &format },
		{ "allow", JSON_FIELD_STRINGS, true, 0, ARRAY_LEN(job->allow), (void *)&allow },
		{ .name = NULL },
	};
	int rc = json_read(json, "job.settings", false, fields, e);
	if (rc)
		return rc;
	s->ca_file = (char *)(uintptr_t)ca, s->proxy = (char *)(uintptr_t)proxy;
	s->state_dir = (char *)(uintptr_t)state, s->runtime_dir = (char *)(uintptr_t)runtime;
	s->ssh = (char *)(uintptr_t)ssh, s->sshd_path = (char *)(uintptr_t)sshd;
	s->log_level = (int)level, s->log_format = (int)format;
	s->allow.at = job->allow, s->allow.n = json_array_size(allow);
	return take_list(allow, ARRAY_LEN(job->allow), (const char **)(uintptr_t)job->allow, e, "allow");
}

int job_parse(const char *text, size_t len, struct job *out, struct err *e)
{
	json_t *urls = NULL, *settings = NULL;
	memset(out, 0, sizeof *out);
	int rc = json_parse(text, len, &out->json, e);
	const struct json_field fields[] = {
		{ "target", JSON_FIELD_STRING, true, 1, LIMIT_ID, (void *)&out->target },
		{ "server_urls", JSON_FIELD_STRINGS, true, 0, LIMIT_SERVER_URLS, (void *)&urls },
		{ "settings", JSON_FIELD_OBJECT, true, 0, 0, (void *)&settings },
		{ "server_clock_ms", JSON_FIELD_INT, true, -CLOCK_WALL_MAX_MS, CLOCK_WALL_MAX_MS,
		  &out->offer.server_clock_ms },
		{ .name = NULL },
	};
	if (!rc)
		rc = offer_parse(out->json, &out->offer, e);
	if (!rc)
		rc = json_read(out->json, "job", false, fields, e);
	if (!rc)
		rc = take_list(urls, LIMIT_SERVER_URLS, out->server_urls, e, "server_urls");
	if (!rc)
		rc = parse_settings(settings, out, e);
	if (rc)
		job_free(out);
	return rc;
}

int job_take_settings(struct job *job, json_t *settings, struct err *e)
{
	static struct job fresh; /* its list is long */
	memset(&fresh, 0, sizeof fresh);
	int rc = parse_settings(settings, &fresh, e);
	if (rc)
		return rc;
	struct settings *s = &job->settings;
	s->ssh = fresh.settings.ssh, s->sshd_path = fresh.settings.sshd_path;
	s->ssh_forwarding = fresh.settings.ssh_forwarding;
	s->connect_timeout_ms = fresh.settings.connect_timeout_ms;
	s->log_level = fresh.settings.log_level;
	memcpy(job->allow, fresh.allow, sizeof job->allow);
	s->allow.n = fresh.settings.allow.n;
	json_decref(job->fresh);
	job->fresh = json_incref(settings);
	return 0;
}

void job_wipe_token(struct job *job)
{
	if (job->offer.token) {
		char *token = (char *)(uintptr_t)job->offer.token;
		secret_wipe(token, strlen(token));
	}
	job->offer.token = NULL;
}

void job_free(struct job *job)
{
	job_wipe_token(job);
	json_decref(job->json);
	json_decref(job->fresh);
	memset(job, 0, sizeof *job);
}

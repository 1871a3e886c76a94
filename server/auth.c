/* Providers are asked in configured order. "Not mine" passes the question on; everything else ends it: a credential
 * that its own provider finds wrong, or could not judge, must not get a second opinion. What a provider answers is
 * checked here before anybody believes it. */
#include "server/auth.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/metrics.h"

#include <stdlib.h>
#include <string.h>

#define AUTH_DEADLINE_MS 5000

struct provider {
	struct plugin *plugin;
	char name[65]; /* its section's, or the plugin's with "#2" behind it for a second section of the same plugin */
};

struct auth_chain {
	struct metrics *metrics;
	size_t n;
	struct provider at[];
};

void identity_free(struct identity *id)
{
	json_decref(id->groups);
	json_decref(id->claims);
	secret_wipe(&id->raw, sizeof id->raw);
	*id = (struct identity){ .groups = NULL };
}

/* "none" is whom nobody knew, in metrics. */
static bool is_provider_name(const char *name)
{
	size_t n = strlen(name);
	return n > 0 && n <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n &&
	       strcmp(name, "none") != 0;
}

/* All sections of a plugin are counted, so that naming one does not give its place to another. */
static int name_provider(const struct auth_chain *chain, struct provider *p, const struct conf_section *section,
			 struct err *e)
{
	unsigned same = 1;
	const struct conf_pair *given;
	int rc = conf_section_key(section, "provider", &given, e);
	if (rc)
		return rc;
	if (given && !is_provider_name(given->value))
		return err_set(e, ERR_INVALID,
			       "%s: provider: \"%.64s\"; allowed: 1 to 64 of a-z 0-9 . _ -, and not \"none\"",
			       given->where, given->value);
	for (size_t i = 0; i < chain->n; i++)
		same += strcmp(plugin_name(chain->at[i].plugin), plugin_name(p->plugin)) == 0;
	if (given)
		snprintf(p->name, sizeof p->name, "%s", given->value);
	else if (same > 1)
		snprintf(p->name, sizeof p->name, "%.50s#%u", plugin_name(p->plugin), same);
	else
		snprintf(p->name, sizeof p->name, "%.64s", plugin_name(p->plugin));
	for (size_t i = 0; i < chain->n; i++)
		if (strcmp(chain->at[i].name, p->name) == 0)
			return err_set(e, ERR_INVALID,
				       "%s: provider: another section is called \"%s\"; allowed: one of each name",
				       given ? given->where : section->where, p->name);
	return 0;
}

int auth_open(const char *plugin_dir, const struct conf_sections *sections, struct metrics *metrics,
	      struct auth_chain **out_chain, struct err *e)
{
	if (sections->n == 0)
		return err_set(e, ERR_INVALID,
			       "auth: no provider is configured, so nobody could sign in; add an auth "
			       "section");
	struct auth_chain *chain = calloc(1, sizeof *chain + sections->n * sizeof chain->at[0]);
	if (!chain)
		return err_set(e, ERR_NOMEM, "out of memory");
	chain->metrics = metrics;
	for (size_t i = 0; i < sections->n; i++) {
		struct provider *p = &chain->at[i];
		int rc = plugin_open(plugin_dir, &sections->at[i], TUNNEL_KIND_AUTH, metrics, &p->plugin, e);
		if (rc == 0) {
			rc = name_provider(chain, p, &sections->at[i], e);
			chain->n++;
		}
		if (rc) {
			auth_close(&chain);
			return rc;
		}
	}
	*out_chain = chain;
	return 0;
}

void auth_close(struct auth_chain **chain)
{
	if (!*chain)
		return;
	for (size_t i = 0; i < (*chain)->n; i++)
		plugin_close(&(*chain)->at[i].plugin);
	free(*chain);
	*chain = NULL;
}

void auth_limit_calls(struct auth_chain *chain, size_t calls)
{
	for (size_t i = 0; i < chain->n; i++)
		plugin_limit_calls(chain->at[i].plugin, (unsigned)calls);
}

int auth_reload(struct auth_chain *chain, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < chain->n; i++) {
		struct err why;
		int one = plugin_reload(chain->at[i].plugin, &why);
		if (one && rc == 0) {
			rc = one;
			err_set(e, one, "%s: %s", chain->at[i].name, why.text);
		}
	}
	return rc;
}

/* Text from a plugin goes to logs, JSON and index values: UTF-8 without control characters, terminated, not empty
 * where it names somebody. */
static bool clean_text(const char *s, size_t size, bool may_be_empty)
{
	size_t len = strnlen(s, size);
	if (len == size || (len == 0 && !may_be_empty) || !text_is_utf8(s, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return false;
	return true;
}

static int take_groups(const struct tunnel_identity *raw, json_t **out, struct err *e)
{
	size_t len = strnlen(raw->groups, sizeof raw->groups);
	if (len == 0) {
		*out = json_array();
		return 0;
	}
	json_auto_t *groups = NULL;
	int rc = len == sizeof raw->groups ? ERR_INVALID : json_parse(raw->groups, len, &groups, e);
	if (rc == 0 && !json_is_array(groups))
		rc = ERR_INVALID;
	for (size_t i = 0; rc == 0 && i < json_array_size(groups); i++)
		if (!json_is_string(json_array_get(groups, i)))
			rc = ERR_INVALID;
	if (rc)
		return err_set(e, ERR_INTERNAL, "its groups are not a JSON array of strings");
	*out = json_incref(groups);
	return 0;
}

static int take_claims(const struct tunnel_identity *raw, json_t **out, struct err *e)
{
	size_t len = strnlen(raw->claims, sizeof raw->claims);
	if (len == 0) {
		*out = json_object();
		return 0;
	}
	json_auto_t *claims = NULL;
	if (len == sizeof raw->claims || json_parse(raw->claims, len, &claims, e) || !json_is_object(claims))
		return err_set(e, ERR_INTERNAL, "its claims are not a JSON object");
	*out = json_incref(claims);
	return 0;
}

static int take_identity(const struct provider *p, const struct tunnel_identity *raw, struct identity *out,
			 struct err *e)
{
	struct identity id = { .raw = *raw, .expires_ms = raw->expires_ms };
	if (!clean_text(raw->subject, sizeof raw->subject, false) ||
	    !clean_text(raw->credential, sizeof raw->credential, true))
		return err_set(e, ERR_INTERNAL, "%s: it named the caller with an empty or unprintable text", p->name);
	if (raw->expires_ms && raw->expires_ms <= clock_wall_ms())
		return err_set(e, ERR_DENIED, "%s: the credential has expired", p->name);
	int rc = take_groups(raw, &id.groups, e);
	if (rc == 0)
		rc = take_claims(raw, &id.claims, e);
	if (rc) {
		identity_free(&id);
		return err_wrap(e, "%s", p->name);
	}
	memcpy(id.subject, raw->subject, sizeof id.subject);
	memcpy(id.credential, raw->credential, sizeof id.credential);
	memcpy(id.provider, p->name, sizeof id.provider);
	*out = id;
	return 0;
}

/* said: why each provider passed it on, as far as they told. */
static int nobody(const struct auth_chain *chain, const struct api_request *request, struct buf *said, struct err *e)
{
	struct buf names = BUF_INIT(160);
	for (size_t i = 0; i < chain->n; i++)
		buf_printf(&names, "%s%s", i ? ", " : "", chain->at[i].name);
	char *list = buf_take_text(&names), *why = buf_take_text(said);
	bool carries = api_header(request, "authorization") != NULL;
	if (!carries)
		err_set(e, ERR_NOT_FOUND, "the request carries no credential; this server accepts: %s",
			list ? list : "");
	else
		err_set(e, ERR_DENIED, "no provider recognises this credential; this server accepts: %s%s%s",
			list ? list : "", why && *why ? "; " : "", why ? why : "");
	free(list);
	free(why);
	return carries ? ERR_DENIED : ERR_NOT_FOUND;
}

static void count(const struct auth_chain *chain, const char *provider, int rc)
{
	char labels[120];
	snprintf(labels, sizeof labels, "provider=\"%s\",outcome=\"%s\"", provider,
		 rc == 0            ? "accepted"
		 : rc == ERR_DENIED ? "denied"
				    : "failed");
	if (chain->metrics)
		metrics_count(chain->metrics, FAMILY_AUTH, labels);
}

static struct tunnel_auth_request as_asked(const struct api_request *request, unsigned char hash[32])
{
	secret_sha256(request->body_len ? request->body : (const unsigned char *)"", request->body_len, hash);
	return (struct tunnel_auth_request){ .size = sizeof(struct tunnel_auth_request),
					     .method = request->method,
					     .path = request->path,
					     .query = request->query,
					     .headers = request->headers,
					     .header_count = request->header_count,
					     .body = request->body,
					     .body_len = request->body_len,
					     .body_sha256 = hash,
					     .remote_address = request->remote_address };
}

void auth_claim_blocking(struct auth_chain *chain, const struct api_request *request, struct guess *out,
			 char **out_name)
{
	unsigned char hash[32];
	const struct tunnel_auth_request asked = as_asked(request, hash);
	char *name = NULL, claimed[TUNNEL_CREDENTIAL_MAX];
	*out = (struct guess){ .kind = GUESS_IDENTITY, .address = request->remote_address };
	for (size_t i = 0; i < chain->n && !name; i++) {
		const struct provider *p = &chain->at[i];
		const struct tunnel_call call = { .size = sizeof call,
						  .deadline_ms = clock_mono_ms() + AUTH_DEADLINE_MS,
						  .request_id = request->request_id };
		if (plugin_auth_claim_blocking(p->plugin, &call, &asked, claimed) == TUNNEL_OK &&
		    clean_text(claimed, sizeof claimed, false) && asprintf(&name, "%s/%s", p->name, claimed) < 0)
			name = NULL;
	}
	const char *header = api_header(request, "authorization");
	out->secret = !name;
	if (!name && header)
		name = strdup(header);
	out->credential = *out_name = name;
}

int auth_verify_blocking(struct auth_chain *chain, const struct api_request *request, struct identity *out,
			 struct err *e)
{
	unsigned char hash[32];
	const struct tunnel_auth_request asked = as_asked(request, hash);
	struct buf said = BUF_INIT(256);
	for (size_t i = 0; i < chain->n; i++) {
		const struct provider *p = &chain->at[i];
		char words[200] = "";
		struct tunnel_identity raw = { .size = sizeof raw };
		const struct tunnel_call call = { .size = sizeof call,
						  .deadline_ms = clock_mono_ms() + AUTH_DEADLINE_MS,
						  .request_id = request->request_id,
						  .err = words,
						  .err_len = sizeof words };
		int result = plugin_auth_verify_blocking(p->plugin, &call, &asked, &raw);
		if (result == TUNNEL_NOT_MINE) {
			if (*words)
				buf_printf(&said, "%s%s: %s", said.len ? ", " : "", p->name, words);
			continue;
		}
		int rc;
		if (result == TUNNEL_OK)
			rc = take_identity(p, &raw, out, e);
		else if (result > 0)
			rc = err_set(e, ERR_DENIED, "%s: %s", p->name, *words ? words : "the credential is wrong");
		else
			rc = err_set(e, ERR_UNAVAILABLE, "%s: %s", p->name, *words ? words : "it could not answer");
		secret_wipe(&raw, sizeof raw);
		count(chain, p->name, rc);
		buf_free(&said);
		return rc;
	}
	count(chain, "none", ERR_DENIED);
	return nobody(chain, request, &said, e);
}

static struct plugin *provider_plugin(const struct auth_chain *chain, const char *name)
{
	for (size_t i = 0; i < chain->n; i++)
		if (strcmp(chain->at[i].name, name) == 0)
			return chain->at[i].plugin;
	return NULL;
}

bool auth_is_asked_anythread(const struct auth_chain *chain, const char *provider)
{
	struct plugin *plugin = chain ? provider_plugin(chain, provider) : NULL;
	return plugin && plugin_auth_authorizes(plugin);
}

int auth_authorize_blocking(struct auth_chain *chain, const struct identity *id, const char *action,
			    const char *resource, const json_t *context, struct err *e)
{
	struct plugin *plugin = provider_plugin(chain, id->provider);
	if (!plugin) {
		err_set(e, ERR_DENIED, "the identity came from provider '%s', which is no longer configured",
			id->provider);
		return -1;
	}
	char words[200] = "";
	const struct tunnel_call call = { .size = sizeof call,
					  .deadline_ms = clock_mono_ms() + AUTH_DEADLINE_MS,
					  .err = words,
					  .err_len = sizeof words };
	char *text = context ? json_text(context) : NULL;
	int result = plugin_auth_authorize_blocking(plugin, &call, &id->raw, action, resource, text ? text : "{}");
	free(text);
	if (result == TUNNEL_OK)
		return 1;
	if (result == TUNNEL_NOT_MINE)
		return 0;
	err_set(e, result > 0 ? ERR_DENIED : ERR_UNAVAILABLE, "%s %s %s on %s%s%s", id->provider,
		result > 0 ? "vetoes" : "could not judge", action, resource, *words ? ": " : "", words);
	return -1;
}

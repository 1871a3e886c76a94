/* auth-jwt: bearer tokens in JWT form (RFC 7519), verified with libjwt, or OpenSSL where the installed one cannot. The
 * steps of one verification: form → remembered? → header → of our issuer? → keys (keyset.h, follow.h) → signature
 * (token.h) → claims (claims.h) → remember (cache.h). */
#include "cache.h"
#include "claims.h"
#include "fetch.h"
#include "follow.h"
#include "keyset.h"
#include "text.h"
#include "token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>
#include <tunnel/auth.h>

struct auth_jwt {
	const struct tunnel_host *host;
	struct claim_rules rules;
	struct keystore *keys;
	struct follow *follow; /* NULL: nothing is fetched */
	struct cache *cache;
};

#define OPTION(name, kind, flag, standard, low, high, text)                                                           \
	{                                                                                                             \
		.size = sizeof(struct tunnel_option_spec), .key = name, .type = kind, .flags = flag, .def = standard, \
		.min = low, .max = high, .help = text                                                                 \
	}

static const struct tunnel_option_spec options[] = {
	OPTION("issuer", TUNNEL_OPTION_STRING, TUNNEL_OPTION_REQUIRED, NULL, 1, 1024,
	       "what the claim iss must be, to the letter"),
	OPTION("audience", TUNNEL_OPTION_STRING, TUNNEL_OPTION_REQUIRED, NULL, 1, 1024,
	       "what the claim aud must be or hold, to the letter"),
	OPTION("key", TUNNEL_OPTION_STRING, TUNNEL_OPTION_LIST, NULL, 1, 4096,
	       "a key: \"ALG:/path\" or \"ALG:kid=ID:/path\". A PEM public key or certificate for RS256, RS384, RS512, "
	       "PS256, PS384, PS512, ES256, ES384, ES512; a secret file of mode 0600 for HS256, "
	       "HS384, HS512. The key verifies that algorithm alone"),
	OPTION("jwks", TUNNEL_OPTION_PATH, 0, NULL, 0, 0,
	       "a JWKS file, or a folder of them (*.json, *.jwks); read again within a second of a change"),
	OPTION("jwks_url", TUNNEL_OPTION_STRING, 0, NULL, 9, FETCH_URL_MAX,
	       "https URL of a JWKS that the issuer publishes: fetched, kept fresh, and looked at again for an unknown "
	       "kid; "
	       "what was fetched last stays in force while the issuer is away"),
	OPTION("follow_issuer", TUNNEL_OPTION_BOOL, 0, "false", 0, 0,
	       "find that URL, too: in the issuer's /.well-known/openid-configuration"),
	OPTION("ca_file", TUNNEL_OPTION_PATH, 0, NULL, 0, 0,
	       "PEM file of CAs to trust for fetching instead of the system's"),
	OPTION("refresh", TUNNEL_OPTION_DURATION, 0, "10m", 1000, 86400000, "how often the published keys are fetched"),
	OPTION("jwks_cache", TUNNEL_OPTION_PATH, 0, NULL, 0, 0,
	       "file (mode 0600) that keeps the published keys, for a start while the issuer is away"),
	OPTION("prefix", TUNNEL_OPTION_STRING, 0, NULL, 1, 64,
	       "put before the subject and each group, so that two issuers cannot name the same person or group"),
	OPTION("leeway", TUNNEL_OPTION_DURATION, 0, "30s", 0, 300000,
	       "how far the clocks may differ, for exp, and for nbf and iat where a token has them"),
	OPTION("require_nbf", TUNNEL_OPTION_BOOL, 0, "false", 0, 0,
	       "refuse a token that does not say from when it is good (nbf); many issuers leave that out"),
	OPTION("subject_claim", TUNNEL_OPTION_STRING, 0, "sub", 1, 256,
	       "the claim that names the caller; not empty, unique for each"),
	OPTION("groups_claim", TUNNEL_OPTION_STRING, 0, "groups", 1, 256,
	       "the claim that lists the caller's groups: an array of texts, or one text; may be missing"),
	{ .key = NULL },
};

static void auth_jwt_close(void *instance)
{
	struct auth_jwt *a = instance;
	if (!a)
		return;
	cache_free(&a->cache);
	follow_close(&a->follow); /* before what it puts keys into */
	keystore_close(&a->keys);
	free(a->rules.issuer);
	free(a->rules.audience);
	free(a->rules.groups_claim);
	free(a->rules.subject_claim);
	free(a->rules.prefix);
	free(a);
}

struct settings {
	struct key_source *sources;
	size_t n;
	char *jwks;
	struct follow_settings follow;
	int follow_issuer;
};

static void settings_clear(struct settings *s)
{
	for (size_t i = 0; i < s->n; i++)
		key_source_clear(&s->sources[i]);
	free(s->sources);
	free(s->jwks);
	follow_settings_clear(&s->follow);
	memset(s, 0, sizeof *s);
}

static int add_source(struct settings *s, const struct tunnel_option *o, char *err, size_t err_len)
{
	if (s->n == KEYSET_SOURCES_MAX)
		return say(TUNNEL_CONFIG, err, err_len, "%s: key: more than %u keys", o->where, KEYSET_SOURCES_MAX);
	struct key_source *more = realloc(s->sources, (s->n + 1) * sizeof *more);
	if (!more)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	s->sources = more;
	if (key_source_parse(o->value, o->where, &s->sources[s->n], err, err_len) != 0)
		return TUNNEL_CONFIG;
	s->n++;
	return 0;
}

/* Where a text goes; NULL: it is none. */
static char **text_option(struct auth_jwt *a, struct settings *s, const char *key)
{
	const struct {
		const char *key;
		char **to;
	} texts[] = {
		{ "issuer", &a->rules.issuer },
		{ "audience", &a->rules.audience },
		{ "subject_claim", &a->rules.subject_claim },
		{ "groups_claim", &a->rules.groups_claim },
		{ "prefix", &a->rules.prefix },
		{ "jwks", &s->jwks },
		{ "jwks_url", &s->follow.jwks_url },
		{ "ca_file", &s->follow.ca_file },
		{ "jwks_cache", &s->follow.cache_path },
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (strcmp(key, texts[i].key) == 0)
			return texts[i].to;
	return NULL;
}

static int take_option(struct auth_jwt *a, struct settings *s, const struct tunnel_option *o, char *err, size_t err_len)
{
	char **to = text_option(a, s, o->key);
	if (strcmp(o->key, "key") == 0)
		return add_source(s, o, err, err_len);
	if (strcmp(o->key, "leeway") == 0)
		a->rules.leeway_ms = strtoll(o->value, NULL, 10);
	if (strcmp(o->key, "refresh") == 0)
		s->follow.refresh_ms = strtoll(o->value, NULL, 10);
	if (strcmp(o->key, "require_nbf") == 0)
		a->rules.require_nbf = strcmp(o->value, "true") == 0;
	if (strcmp(o->key, "follow_issuer") == 0)
		s->follow_issuer = strcmp(o->value, "true") == 0;
	if (!to)
		return 0;
	free(*to);
	*to = strdup(o->value);
	return *to ? 0 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
}

/* Do the options go together? */
static int check_settings(const struct auth_jwt *a, const struct settings *s, char *err, size_t err_len)
{
	const struct follow_settings *f = &s->follow;
	int follows = f->jwks_url || s->follow_issuer;
	if (!a->rules.issuer || !a->rules.audience || !a->rules.subject_claim || !a->rules.groups_claim)
		return say(TUNNEL_CONFIG, err, err_len, "issuer or audience is missing");
	if (s->n == 0 && !s->jwks && !follows)
		return say(TUNNEL_CONFIG, err, err_len, "no key: give key, jwks, jwks_url or follow_issuer");
	if (f->jwks_url && s->follow_issuer)
		return say(TUNNEL_CONFIG, err, err_len, "jwks_url and follow_issuer: give one of them");
	if (f->jwks_url && !fetch_url_is_fit(f->jwks_url))
		return say(TUNNEL_CONFIG, err, err_len, "jwks_url: not a URL that begins with https://");
	if (s->follow_issuer && !fetch_url_is_fit(a->rules.issuer))
		return say(TUNNEL_CONFIG, err, err_len,
			   "follow_issuer: the issuer is not a URL that begins with https://");
	if (!follows && (f->ca_file || f->cache_path))
		return say(TUNNEL_CONFIG, err, err_len, "%s is for jwks_url and follow_issuer; none of them is given",
			   f->ca_file ? "ca_file" : "jwks_cache");
	return 0;
}

static int start_following(struct auth_jwt *a, struct settings *s, char *err, size_t err_len)
{
	if (!s->follow.jwks_url && !s->follow_issuer)
		return 0;
	s->follow.issuer = strdup(a->rules.issuer);
	if (!s->follow.issuer)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	return follow_open(a->host, &s->follow, a->keys, &a->follow, err, err_len);
}

static int open_instance(struct auth_jwt *a, struct settings *s, char *err, size_t err_len)
{
	int rc = check_settings(a, s, err, err_len);
	if (rc != 0)
		return rc;
	a->cache = cache_new();
	if (!a->cache)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	rc = keystore_open(a->host, s->sources, s->n, s->jwks, &a->keys, err, err_len);
	if (rc != 0)
		return rc;
	s->sources = NULL; /* the store's now */
	s->n = 0;
	s->jwks = NULL;
	return start_following(a, s, err, err_len);
}

static int auth_jwt_open(const struct tunnel_host *host, const struct tunnel_option *given, size_t n,
			 void **out_instance, char *err, size_t err_len)
{
	struct settings s = { 0 };
	struct auth_jwt *a = calloc(1, sizeof *a);
	int rc = a ? 0 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	const char *at = (const char *)given;
	if (a)
		a->host = host;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		const struct tunnel_option *o = (const struct tunnel_option *)(const void *)at;
		rc = take_option(a, &s, o, err, err_len);
		at += o->size; /* the host's struct may be longer than ours */
	}
	if (rc == 0)
		rc = open_instance(a, &s, err, err_len);
	settings_clear(&s);
	if (rc != 0)
		auth_jwt_close(a);
	else
		*out_instance = a;
	return rc;
}

static int auth_jwt_reload(void *instance, char *err, size_t err_len)
{
	struct auth_jwt *a = instance;
	return keystore_reload(a->keys, err, err_len);
}

/* The token of "Authorization: Bearer …"; NULL when there is none. *out_count: Authorization headers. */
static const char *bearer_of(const struct tunnel_auth_request *request, size_t *out_count)
{
	const char *token = NULL;
	*out_count = 0;
	for (size_t i = 0; i < request->header_count; i++) {
		const char *value = request->headers[i].value;
		if (strcmp(request->headers[i].name, "authorization") != 0)
			continue;
		++*out_count;
		if (strncasecmp(value, "Bearer ", 7) == 0 && token_has_form(value + 7 + strspn(value + 7, " ")))
			token = value + 7 + strspn(value + 7, " ");
	}
	return token;
}

struct answer {
	const struct auth_jwt *a;
	const struct tunnel_call *call;
	int64_t now_ms;
	struct tunnel_identity *out;
};

/* One verdict becomes the identity, if it is its time. */
static int give(void *arg, const struct verdict *v)
{
	struct answer *to = arg;
	struct tunnel_identity *out = to->out;
	int rc = claims_check_time(&to->a->rules, v, to->now_ms, to->call->err, to->call->err_len);
	if (rc != 0)
		return rc;
	if (out->size < sizeof *out)
		return say(TUNNEL_INVALID, to->call->err, to->call->err_len, "the identity's size is %zu, needed %zu",
			   out->size, sizeof *out);
	/* It all fits: claims_judge saw to it. */
	snprintf(out->subject, sizeof out->subject, "%s", v->subject);
	snprintf(out->credential, sizeof out->credential, "%s", v->credential);
	snprintf(out->groups, sizeof out->groups, "%s", v->groups);
	snprintf(out->claims, sizeof out->claims, "%s", v->claims);
	out->expires_ms = v->expires_ms + to->a->rules.leeway_ms; /* as long as it is taken here */
	return 0;
}

#define LOOK_WAIT_MS 4000  /* for the issuer's keys at most */
#define LOOK_MARGIN_MS 500 /* before the caller's deadline */

/* The keys for a token that names this kid; the issuer is asked when they have none. *set is replaced. */
static void look_for_key(const struct answer *to, const char *kid, struct keyset **set)
{
	const struct tunnel_host *host = to->a->host;
	int64_t wait_ms = LOOK_WAIT_MS, left_ms;
	if (!to->a->follow || keyset_has(*set, kid))
		return;
	if (to->call->deadline_ms) {
		left_ms = to->call->deadline_ms - host->mono_ms(host->ctx) - LOOK_MARGIN_MS;
		wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
	}
	if (wait_ms <= 0 || !follow_look(to->a->follow, wait_ms))
		return;
	keyset_unref(*set);
	*set = keystore_get(to->a->keys);
}

/* There is none. That is a no, unless the issuer that may have one could not be asked. */
static int refuse_unknown(const struct answer *to, const struct keyset *set, const char *kid)
{
	char why[256];
	const struct tunnel_call *call = to->call;
	if (!to->a->follow || keyset_has(set, kid) || !follow_failed(to->a->follow, why, sizeof why))
		return TUNNEL_DENIED;
	return say(TUNNEL_UNAVAILABLE, call->err, call->err_len, "the issuer's keys are not to be had: %s", why);
}

static int verify_signature(const struct answer *to, struct token *token, struct keyset **set)
{
	const struct tunnel_call *call = to->call;
	const struct key *keys[KEYSET_CANDIDATES_MAX];
	look_for_key(to, token->kid, set);
	size_t n = keyset_select(*set, token->kid, token->alg, keys, call->err, call->err_len);
	if (n == 0)
		return refuse_unknown(to, *set, token->kid);
	for (size_t i = 0; i < n; i++)
		if (token_verify(token, keys[i]) == 0)
			return 0;
	return say(TUNNEL_DENIED, call->err, call->err_len, "the token's signature is wrong");
}

/* A token that says it is another issuer's is for another provider to judge. */
static int is_ours(const struct answer *to, const struct token *token)
{
	char a[SHOWN_MAX], b[SHOWN_MAX];
	const char *issuer = token_claimed_issuer(token);
	if (!issuer || strcmp(issuer, to->a->rules.issuer) == 0)
		return 1;
	return say(0, to->call->err, to->call->err_len, "issuer is \"%s\", expected \"%s\"", shown(issuer, a),
		   shown(to->a->rules.issuer, b));
}

static int verify_fresh(struct answer *to, struct keyset **set, const char *text, struct cache_key *key)
{
	const struct tunnel_call *call = to->call;
	const struct auth_jwt *a = to->a;
	struct token token;
	struct verdict verdict = { 0 };
	if (token_read(text, &token, call->err, call->err_len) != 0)
		return TUNNEL_DENIED;
	int rc = is_ours(to, &token) ? verify_signature(to, &token, set) : TUNNEL_NOT_MINE;
	if (rc == 0)
		rc = claims_judge(&a->rules, &token, to->now_ms, &verdict, call->err, call->err_len);
	if (rc == 0)
		rc = give(to, &verdict);
	key->generation = (*set)->generation;
	if (rc == 0)
		cache_put(a->cache, key, &verdict);
	verdict_clear(&verdict);
	token_clear(&token);
	return rc;
}

static int auth_jwt_verify(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
			   struct tunnel_identity *out)
{
	struct auth_jwt *a = instance;
	struct cache_key key;
	size_t count = 0;
	const char *text = bearer_of(request, &count);
	if (!text)
		return say(TUNNEL_NOT_MINE, call->err, call->err_len, "no bearer token in JWT form");
	if (count > 1)
		return say(TUNNEL_DENIED, call->err, call->err_len, "more than one Authorization header");
	size_t len = strlen(text);
	if (len > TOKEN_MAX)
		return say(TUNNEL_DENIED, call->err, call->err_len, "the token has %zu bytes; allowed: up to %u", len,
			   TOKEN_MAX);
	if (EVP_Digest(text, len, key.hash, NULL, EVP_sha256(), NULL) != 1)
		return say(TUNNEL_INTERNAL, call->err, call->err_len, "cannot hash the token");

	struct keyset *set = keystore_get(a->keys);
	struct answer to = { .a = a, .call = call, .now_ms = a->host->wall_ms(a->host->ctx), .out = out };
	key.generation = set->generation;
	int rc = cache_use(a->cache, &key, give, &to);
	if (rc >= 0)
		a->host->count(a->host->ctx, "cache_hits", 1);
	else
		rc = verify_fresh(&to, &set, text, &key);
	keyset_unref(set);
	if (rc != TUNNEL_NOT_MINE)
		a->host->count(a->host->ctx, rc == 0 ? "verified" : "refused", 1);
	return rc;
}

static const struct tunnel_auth_ops ops = { .size = sizeof ops, .verify = auth_jwt_verify };

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_AUTH,
	.threads = TUNNEL_THREADS_PARALLEL,
	.name = "auth-jwt",
	.version = TUNNEL_VERSION,
	.options = options,
	.open = auth_jwt_open,
	.close = auth_jwt_close,
	.ops = &ops,
	.reload = auth_jwt_reload,
};
TUNNEL_PLUGIN_REGISTER(descriptor)

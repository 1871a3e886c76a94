/* auth-jwt: bearer tokens in JWT form (RFC 7519), verified with libjwt. The steps of one verification:
 * form → remembered? → header → keys (keyset.h) → signature (token.h) → claims (claims.h) → remember (cache.h). */
#include "cache.h"
#include "claims.h"
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
	       "ES256, ES384, ES512 (PS256, PS384, PS512 if libjwt has them); a secret file of mode 0600 for HS256, "
	       "HS384, HS512. The key verifies that algorithm alone"),
	OPTION("jwks", TUNNEL_OPTION_PATH, 0, NULL, 0, 0,
	       "a JWKS file, or a folder of them (*.json, *.jwks); read again within a second of a change"),
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
	keystore_close(&a->keys);
	free(a->rules.issuer);
	free(a->rules.audience);
	free(a->rules.groups_claim);
	free(a->rules.subject_claim);
	free(a);
}

struct settings {
	struct key_source *sources;
	size_t n;
	char *jwks;
};

static void settings_clear(struct settings *s)
{
	for (size_t i = 0; i < s->n; i++)
		key_source_clear(&s->sources[i]);
	free(s->sources);
	free(s->jwks);
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

static int take_option(struct auth_jwt *a, struct settings *s, const struct tunnel_option *o, char *err, size_t err_len)
{
	char **to = strcmp(o->key, "issuer") == 0          ? &a->rules.issuer
		    : strcmp(o->key, "audience") == 0      ? &a->rules.audience
		    : strcmp(o->key, "subject_claim") == 0 ? &a->rules.subject_claim
		    : strcmp(o->key, "groups_claim") == 0  ? &a->rules.groups_claim
		    : strcmp(o->key, "jwks") == 0          ? &s->jwks
							   : NULL;
	if (strcmp(o->key, "key") == 0)
		return add_source(s, o, err, err_len);
	if (strcmp(o->key, "leeway") == 0)
		a->rules.leeway_ms = strtoll(o->value, NULL, 10);
	if (strcmp(o->key, "require_nbf") == 0)
		a->rules.require_nbf = strcmp(o->value, "true") == 0;
	if (!to)
		return 0;
	free(*to);
	*to = strdup(o->value);
	return *to ? 0 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
}

static int open_instance(struct auth_jwt *a, struct settings *s, char *err, size_t err_len)
{
	if (!a->rules.issuer || !a->rules.audience || !a->rules.subject_claim || !a->rules.groups_claim)
		return say(TUNNEL_CONFIG, err, err_len, "issuer or audience is missing");
	if (s->n == 0 && !s->jwks)
		return say(TUNNEL_CONFIG, err, err_len, "no key: give key, jwks or both");
	a->cache = cache_new();
	if (!a->cache)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	int rc = keystore_open(a->host, s->sources, s->n, s->jwks, &a->keys, err, err_len);
	if (rc == 0)
		memset(s, 0, sizeof *s); /* the store's now */
	return rc;
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

static int verify_signature(const struct keyset *set, struct token *token, const struct tunnel_call *call)
{
	const struct key *keys[KEYSET_CANDIDATES_MAX];
	size_t n = keyset_select(set, token->kid, token->alg, keys, call->err, call->err_len);
	if (n == 0)
		return TUNNEL_DENIED;
	for (size_t i = 0; i < n; i++)
		if (token_verify(token, keys[i]) == 0)
			return 0;
	return say(TUNNEL_DENIED, call->err, call->err_len, "the token's signature is wrong");
}

static int verify_fresh(struct answer *to, const struct keyset *set, const char *text, const struct cache_key *key)
{
	const struct tunnel_call *call = to->call;
	const struct auth_jwt *a = to->a;
	struct token token;
	struct verdict verdict = { 0 };
	if (token_read(text, &token, call->err, call->err_len) != 0)
		return TUNNEL_DENIED;
	int rc = verify_signature(set, &token, call);
	if (rc == 0)
		rc = claims_judge(&a->rules, &token, to->now_ms, &verdict, call->err, call->err_len);
	if (rc == 0)
		rc = give(to, &verdict);
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
		rc = verify_fresh(&to, set, text, &key);
	keyset_unref(set);
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

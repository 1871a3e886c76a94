/* auth-hmac: requests signed with a shared secret the way AWS's clients sign (Signature Version 4), so that curl
 * --aws-sigv4 and every SDK can call. Steps: what does the request claim (sigv4_read) → whose key (credentials) →
 * is the signature right (sigv4_check) → was it used before (used)? The scheme has no nonce, so a signature that
 * changes something is good once in this process: a captured POST cannot be repeated here. One that only reads can,
 * within the clock window or until the presigned URL expires. */
#include "credentials.h"
#include "sigv4.h"
#include "text.h"
#include "used.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <tunnel/auth.h>

struct auth_hmac {
	const struct tunnel_host *host;
	struct sigv4_rules rules;
	struct credential_store *store;
	struct used *used;
	char nobody[41]; /* a random secret: unknown key ids are checked too, and take as long */
};

#define OPTION(name, kind, flag, standard, low, high, text)                                                           \
	{                                                                                                             \
		.size = sizeof(struct tunnel_option_spec), .key = name, .type = kind, .flags = flag, .def = standard, \
		.min = low, .max = high, .help = text                                                                 \
	}

static const struct tunnel_option_spec options[] = {
	OPTION("credentials", TUNNEL_OPTION_PATH, TUNNEL_OPTION_REQUIRED, NULL, 0, 0,
	       "file of key ids, secrets, subjects and groups (see hmac-credentials.example); mode 0600; read again "
	       "within "
	       "a second of a change"),
	OPTION("service", TUNNEL_OPTION_STRING, 0, "tunnel", 1, 64, "service name that clients sign for"),
	OPTION("region", TUNNEL_OPTION_STRING, 0, "default", 1, 64, "region name that clients sign for"),
	OPTION("clock_window", TUNNEL_OPTION_DURATION, 0, "5m", 1000, 900000,
	       "how far a request's time may be from the server's, either way; a signature of another method than GET "
	       "and "
	       "HEAD is good once"),
	OPTION("presigned_max", TUNNEL_OPTION_DURATION, 0, "5m", 0, SIGV4_EXPIRES_MAX_S * 1000LL,
	       "the longest X-Amz-Expires of a presigned URL that is taken; one for GET can be used again for that "
	       "long; 0: "
	       "no presigned URLs"),
	{ .key = NULL },
};

static void auth_hmac_close(void *instance)
{
	struct auth_hmac *a = instance;
	if (!a)
		return;
	credential_store_close(&a->store);
	used_free(&a->used);
	free(a->rules.service);
	free(a->rules.region);
	OPENSSL_cleanse(a->nobody, sizeof a->nobody);
	free(a);
}

static int take_scope_part(const struct tunnel_option *o, char **to, char *err, size_t err_len)
{
	if (!key_id_is_valid(o->value, strlen(o->value)))
		return say(TUNNEL_CONFIG, err, err_len, "%s: %s: allowed: letters, digits, \"-\", \"_\", \".\"",
			   o->where, o->key);
	free(*to);
	*to = strdup(o->value);
	return *to ? 0 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
}

static int take_option(struct auth_hmac *a, const struct tunnel_option *o, char *err, size_t err_len)
{
	if (strcmp(o->key, "service") == 0)
		return take_scope_part(o, &a->rules.service, err, err_len);
	if (strcmp(o->key, "region") == 0)
		return take_scope_part(o, &a->rules.region, err, err_len);
	if (strcmp(o->key, "clock_window") == 0)
		a->rules.clock_window_ms = strtoll(o->value, NULL, 10);
	if (strcmp(o->key, "presigned_max") == 0)
		a->rules.presigned_max_ms = strtoll(o->value, NULL, 10);
	if (strcmp(o->key, "credentials") == 0 && !a->store) {
		char why[512];
		int rc = credential_store_open(a->host, o->value, &a->store, why, sizeof why);
		return rc == 0 ? 0 : say(rc, err, err_len, "%s: credentials: %s", o->where, why);
	}
	return 0;
}

static int auth_hmac_open(const struct tunnel_host *host, const struct tunnel_option *given, size_t n,
			  void **out_instance, char *err, size_t err_len)
{
	unsigned char noise[20];
	const char *at = (const char *)given;
	struct auth_hmac *a = calloc(1, sizeof *a);
	int rc = a ? 0 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	if (a)
		a->host = host;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		const struct tunnel_option *o = (const struct tunnel_option *)(const void *)at;
		rc = take_option(a, o, err, err_len);
		at += o->size; /* the host's struct may be longer than ours */
	}
	if (rc == 0 && (!a->store || !a->rules.service || !a->rules.region))
		rc = say(TUNNEL_CONFIG, err, err_len, "credentials is missing");
	if (rc == 0 && !(a->used = used_new(host, USED_MAX, USED_SHARE)))
		rc = say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	if (rc != 0) {
		auth_hmac_close(a);
		return rc;
	}
	host->random(host->ctx, noise, sizeof noise);
	hex_of(noise, sizeof noise, a->nobody);
	*out_instance = a;
	return 0;
}

static int auth_hmac_reload(void *instance, char *err, size_t err_len)
{
	struct auth_hmac *a = instance;
	return credential_store_reload(a->store, err, err_len);
}

static int identify(const struct credential *c, const struct sigv4 *claim, const struct tunnel_call *call,
		    struct tunnel_identity *out)
{
	if (out->size < sizeof *out)
		return say(TUNNEL_INVALID, call->err, call->err_len, "the identity's size is %zu, needed %zu",
			   out->size, sizeof *out);
	/* It all fits: the credentials file was read with these bounds. */
	snprintf(out->subject, sizeof out->subject, "%s", c->subject);
	snprintf(out->credential, sizeof out->credential, "%s", c->key_id);
	snprintf(out->groups, sizeof out->groups, "%s", c->groups);
	out->claims[0] = '\0';
	out->expires_ms = claim->expires_ms;
	return 0;
}

/* A right signature of a request that changes something: is it the first time? */
static int use_once(struct auth_hmac *a, const struct sigv4 *claim, const char *method, int64_t now_ms,
		    const struct tunnel_call *call)
{
	int64_t until_ms = claim->presigned ? claim->expires_ms : claim->time_ms + a->rules.clock_window_ms;
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return 0;
	switch (used_take(a->used, claim->key_id, claim->signature, until_ms, now_ms)) {
	case USED_NEW:
		return 0;
	case USED_BEFORE:
		a->host->count(a->host->ctx, "replays", 1);
		return say(TUNNEL_DENIED, call->err, call->err_len,
			   "this signature was used before, and one of a %s is good once: wait a second and sign "
			   "again, since its time counts seconds, or sign a header of another value",
			   method);
	case USED_FULL:
		break;
	}
	return say(TUNNEL_UNAVAILABLE, call->err, call->err_len,
		   "too many signed requests that change something (%u of one key id within the clock window)",
		   USED_SHARE);
}

static int judge(struct auth_hmac *a, const struct tunnel_call *call, const struct tunnel_auth_request *request,
		 struct tunnel_identity *out)
{
	struct sigv4 claim;
	int matches = 0;
	int64_t now_ms = a->host->wall_ms(a->host->ctx);
	int rc = sigv4_read(request, &a->rules, now_ms, &claim, call->err, call->err_len);
	if (rc != 0)
		return rc;
	struct credentials *set = credential_store_get(a->store);
	const struct credential *c = credentials_find(set, claim.key_id);
	rc = sigv4_check(request, &claim, c ? c->secret : a->nobody, &matches, call->err, call->err_len);
	if (rc == 0 && c && matches) {
		rc = use_once(a, &claim, request->method, now_ms, call);
		if (rc == 0)
			rc = identify(c, &claim, call, out);
	} else if (rc == 0) /* the same words for an unknown key id */
		rc = say(TUNNEL_DENIED, call->err, call->err_len,
			 "key id or secret is wrong, or the request was changed after it was signed");
	credentials_unref(set);
	return rc;
}

static int auth_hmac_verify(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
			    struct tunnel_identity *out)
{
	struct auth_hmac *a = instance;
	int rc = judge(a, call, request, out);
	if (rc != TUNNEL_NOT_MINE)
		a->host->count(a->host->ctx, rc == 0 ? "verified" : "refused", 1);
	return rc;
}

/* Only what would be compared with a secret is a guess at it: a clock that is wrong holds up nobody who has the same
 * key.
 */
static int auth_hmac_claim(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
			   char *out, size_t size)
{
	struct auth_hmac *a = instance;
	struct sigv4 claim;
	(void)call;
	if (sigv4_read(request, &a->rules, a->host->wall_ms(a->host->ctx), &claim, NULL, 0) != 0)
		return TUNNEL_NOT_MINE;
	snprintf(out, size, "%s", claim.key_id);
	return TUNNEL_OK;
}

static const struct tunnel_auth_ops ops = { .size = sizeof ops, .verify = auth_hmac_verify, .claim = auth_hmac_claim };

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_AUTH,
	.threads = TUNNEL_THREADS_PARALLEL,
	.name = "auth-hmac",
	.version = TUNNEL_VERSION,
	.options = options,
	.open = auth_hmac_open,
	.close = auth_hmac_close,
	.ops = &ops,
	.reload = auth_hmac_reload,
};
TUNNEL_PLUGIN_REGISTER(descriptor)

/* The signature: HMAC with a key derived from secret, day, region and service over the hash of the canonical request.
 * All forms of the request are computed and compared, whether or not an earlier one matched. */
#include "sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

static int mac(const unsigned char *key, size_t key_len, const char *text, size_t n, unsigned char out[32])
{
	unsigned len = 0;
	return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, n, out, &len) && len == 32 ? 0 : -1;
}

/* AWS4<secret> → day → region → service → "aws4_request" */
static int derive(const char *secret, const char *scope, unsigned char out[32])
{
	unsigned char first[4 + SECRET_MAX] = "AWS4";
	size_t n = strlen(secret);
	int rc = n <= SECRET_MAX ? 0 : -1;
	if (rc == 0)
		memcpy(first + 4, secret, n);
	const unsigned char *key = first;
	size_t key_len = 4 + n;
	for (const char *p = scope; rc == 0 && *p;) {
		size_t part = strcspn(p, "/");
		unsigned char next[32];
		rc = mac(key, key_len, p, part, next);
		memcpy(out, next, sizeof next);
		OPENSSL_cleanse(next, sizeof next);
		key = out;
		key_len = 32;
		p += part + (p[part] == '/');
	}
	OPENSSL_cleanse(first, sizeof first);
	return rc;
}

/* The payload's line: always the hash of the body that came. A client that names one must name the same. */
static int payload_hash(const struct tunnel_auth_request *r, char out[65], char *err, size_t err_len)
{
	hex_of(r->body_sha256, 32, out);
	for (size_t i = 0; i < r->header_count; i++) {
		const char *value = r->headers[i].value;
		if (strcmp(r->headers[i].name, "x-amz-content-sha256") != 0 || strcmp(value, out) == 0)
			continue;
		if (strcmp(value, "UNSIGNED-PAYLOAD") == 0 || strncmp(value, "STREAMING-", 10) == 0)
			return say(TUNNEL_DENIED, err, err_len,
				   "x-amz-content-sha256: the body must be signed; expected its SHA-256");
		return say(TUNNEL_DENIED, err, err_len, "x-amz-content-sha256 is not the SHA-256 of the body");
	}
	return 0;
}

static int hash_request(const struct tunnel_auth_request *r, const struct canonical *c, size_t path, size_t query,
			const struct sigv4 *claim, const char *payload, char out[65])
{
	unsigned char hash[32];
	const char *const parts[] = { r->method,
				      "\n",
				      c->paths[path].at,
				      "\n",
				      c->queries[query].at,
				      "\n",
				      c->headers.at,
				      "\n",
				      claim->signed_headers,
				      "\n",
				      payload };
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
	for (size_t i = 0; ok && i < sizeof parts / sizeof *parts; i++)
		ok = EVP_DigestUpdate(md, parts[i], strlen(parts[i])) == 1;
	ok = ok && EVP_DigestFinal_ex(md, hash, NULL) == 1;
	EVP_MD_CTX_free(md);
	if (ok)
		hex_of(hash, sizeof hash, out);
	return ok ? 0 : -1;
}

/* 0: compared, *matches grew if it was the one. */
static int try_form(const struct sigv4 *claim, const unsigned char key[32], const char *request_hash, int *matches)
{
	char text[512];
	unsigned char expected[32];
	int n = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", claim->timestamp, claim->scope,
			 request_hash);
	if (n < 0 || (size_t)n >= sizeof text || mac(key, 32, text, (size_t)n, expected) != 0)
		return -1;
	*matches += CRYPTO_memcmp(expected, claim->signature, sizeof expected) == 0;
	OPENSSL_cleanse(expected, sizeof expected);
	return 0;
}

int sigv4_check(const struct tunnel_auth_request *request, const struct sigv4 *claim, const char *secret,
		int *out_matches, char *err, size_t err_len)
{
	char payload[65], hash[65];
	unsigned char key[32] = { 0 };
	struct canonical c;
	int matches = 0, failed;
	int rc = payload_hash(request, payload, err, err_len);
	if (rc == 0)
		rc = canonical_make(request, claim->signed_headers, claim->presigned, &c, err, err_len);
	if (rc != 0)
		return rc;
	failed = derive(secret, claim->scope, key);
	for (size_t p = 0; p < c.path_count; p++)
		for (size_t q = 0; q < c.query_count; q++)
			failed |= hash_request(request, &c, p, q, claim, payload, hash) != 0 ||
				  try_form(claim, key, hash, &matches) != 0;
	OPENSSL_cleanse(key, sizeof key);
	canonical_free(&c);
	if (failed)
		return say(TUNNEL_INTERNAL, err, err_len, "cannot compute the signature");
	*out_matches = matches != 0;
	return 0;
}

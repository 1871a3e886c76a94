/* Requests signed the way of AWS: "method\npath\nquery\nbody\nname: value\n…". Whatever is claimed is read without
 * harm; what is taken for signed is not taken any more when it is changed. */
#include "fuzz.h"

#include "plugins/auth-hmac/sigv4.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The example of AWS's published tests, with which the seeds are signed. */
#define NOW_MS INT64_C(1440938160000)
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define HEADERS_MAX 64

static const struct sigv4_rules rules = {
	.service = (char *)(uintptr_t) "service",
	.region = (char *)(uintptr_t) "us-east-1",
	.clock_window_ms = 300000,
	.presigned_max_ms = SIGV4_EXPIRES_MAX_S * 1000LL,
};

struct call {
	char *method, *path, *query, *body, *lines[HEADERS_MAX];
	struct tunnel_header headers[HEADERS_MAX];
	unsigned char hash[32];
	struct tunnel_auth_request request;
};

/* As the host gives headers: names in lower case, values without blanks around them. */
static struct tunnel_header split(char *line)
{
	char *value = line + strcspn(line, ":");
	if (*value)
		*value++ = '\0';
	for (char *c = line; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	value += strspn(value, " \t");
	for (size_t n = strlen(value); n && strchr(" \t", value[n - 1]); n--)
		value[n - 1] = '\0';
	return (struct tunnel_header){ line, value };
}

static void read_call(const uint8_t *data, size_t size, struct call *c)
{
	struct fuzz_input in = { data, size };
	size_t n = 0;
	c->method = fuzz_part(&in, '\n');
	c->path = fuzz_part(&in, '\n');
	c->query = fuzz_part(&in, '\n');
	c->body = fuzz_part(&in, '\n');
	for (; n < HEADERS_MAX && in.left; n++) {
		c->lines[n] = fuzz_part(&in, '\n');
		c->headers[n] = split(c->lines[n]);
	}
	EVP_Digest(c->body, strlen(c->body), c->hash, NULL, EVP_sha256(), NULL);
	c->request = (struct tunnel_auth_request){ .size = sizeof c->request,
						   .method = c->method,
						   .path = c->path,
						   .query = c->query,
						   .headers = c->headers,
						   .header_count = n,
						   .body = (const unsigned char *)c->body,
						   .body_len = strlen(c->body),
						   .body_sha256 = c->hash,
						   .remote_address = "192.0.2.7" };
}

static void free_call(struct call *c)
{
	for (size_t i = 0; i < c->request.header_count; i++)
		free(c->lines[i]);
	free(c->method);
	free(c->path);
	free(c->query);
	free(c->body);
}

static bool is_signed(const struct tunnel_auth_request *r, const struct sigv4 *claim)
{
	char err[256] = "";
	int matches = 0;
	int rc = sigv4_check(r, claim, SECRET, &matches, err, sizeof err);
	FUZZ_CHECK(rc == 0 || (rc == TUNNEL_DENIED && err[0] && !matches));
	return matches;
}

static void check_claim(const struct tunnel_auth_request *r)
{
	struct sigv4 claim;
	char err[256] = "", path[8192];
	fuzz_fill(&claim, sizeof claim);
	int rc = sigv4_read(r, &rules, NOW_MS, &claim, err, sizeof err);
	if (rc != 0) {
		FUZZ_CHECK((rc == TUNNEL_NOT_MINE || rc == TUNNEL_DENIED) && err[0]);
		FUZZ_CHECK(fuzz_is_untouched(&claim, sizeof claim));
		return;
	}
	FUZZ_CHECK(key_id_is_valid(claim.key_id, strlen(claim.key_id)) && strstr(claim.signed_headers, "host"));
	FUZZ_CHECK(strncmp(claim.scope, claim.timestamp, 8) == 0 && claim.time_ms <= NOW_MS + rules.clock_window_ms);
	if (!is_signed(r, &claim))
		return;
	struct tunnel_auth_request changed = *r;
	changed.method = strcmp(r->method, "GET") == 0 ? "PUT" : "GET";
	FUZZ_CHECK(!is_signed(&changed, &claim));
	changed = *r;
	snprintf(path, sizeof path, "%sx", r->path);
	changed.path = path;
	FUZZ_CHECK(strlen(path) + 1 == sizeof path || !is_signed(&changed, &claim));
}

/* The canonical query is its own canonical form. */
static void check_query(const struct tunnel_auth_request *r)
{
	static const struct tunnel_header host = { "host", "x" };
	struct tunnel_auth_request plain = *r;
	struct canonical once, twice;
	char err[256] = "";
	plain.headers = &host;
	plain.header_count = 1;
	fuzz_fill(&once, sizeof once);
	int rc = canonical_make(&plain, "host", 0, &once, err, sizeof err);
	if (rc != 0) {
		FUZZ_CHECK(rc == TUNNEL_DENIED && err[0] && fuzz_is_untouched(&once, sizeof once));
		return;
	}
	FUZZ_CHECK(strcmp(once.headers.at, "host:x\n") == 0);
	FUZZ_CHECK(once.paths[0].at[0] == '/' && !strstr(once.paths[0].at, "//") && !strstr(once.paths[0].at, "/../"));
	plain.query = once.queries[0].at;
	FUZZ_CHECK(canonical_make(&plain, "host", 0, &twice, err, sizeof err) == 0);
	FUZZ_CHECK(strcmp(once.queries[0].at, twice.queries[0].at) == 0 && twice.query_count == 1);
	canonical_free(&once);
	canonical_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct call call = { .method = NULL };
	read_call(data, size, &call);
	check_claim(&call.request);
	check_query(&call.request);
	free_call(&call);
	return 0;
}

/* Rules of tunnel/auth.h that hold for every auth provider, whatever its credentials are: strangers are NOT_MINE,
 * nothing malformed is ever accepted, nobody writes outside what was given. With --accept the positive side is checked
 * too.
 *
 * Cases that look below the plugin host call the operations themselves. */
#include "suite.h"

#include "base/clock.h"
#include "base/secret.h"
#include "server/plugin_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char empty_sha256[32] = { 0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
						0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
						0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55 };

static struct tunnel_auth_request request_of(const struct tunnel_header *headers, size_t n)
{
	return (struct tunnel_auth_request){ .size = sizeof(struct tunnel_auth_request),
					     .method = "GET",
					     .path = "/v1/whoami",
					     .query = "",
					     .headers = headers,
					     .header_count = n,
					     .body_sha256 = empty_sha256,
					     .remote_address = "192.0.2.7" };
}

static int verify(struct plugin *p, const struct tunnel_header *headers, size_t n, struct tunnel_identity *out)
{
	char words[256];
	struct tunnel_call call = suite_call(words, sizeof words);
	struct tunnel_auth_request q = request_of(headers, n);
	return plugin_auth_verify_blocking(p, &call, &q, out);
}

static void no_credential_is_not_mine(void)
{
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	const struct tunnel_header plain[] = { { "host", "node-1:8443" }, { "user-agent", "curl" }, { "x-other", "" } };
	EXPECT(verify(p, NULL, 0, &id) == TUNNEL_NOT_MINE);
	EXPECT(verify(p, plain, 3, &id) == TUNNEL_NOT_MINE);
	plugin_close(&p);
}

static void other_schemes_are_not_mine(void)
{
	static const char *const values[] = { "Basic YWxhZGRpbjpvcGVuc2VzYW1l", "Digest username=\"x\"",
					      "Negotiate YII=", "Unheard-Of abc" };
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		struct tunnel_header h = { "authorization", values[i] };
		int rc = verify(p, &h, 1, &id);
		if (rc != TUNNEL_NOT_MINE)
			suite_fail(__FILE__, __LINE__, "%s answered %s; expected NOT_MINE", values[i],
				   suite_result(rc));
	}
	plugin_close(&p);
}

/* Whatever looks a little like a credential: never accepted, never "could not find out", never a crash. */
static void malformed_is_never_accepted(void)
{
	static const char *const values[] = {
		"",
		" ",
		"Bearer",
		"Bearer ",
		"Bearer  ",
		"bearer x",
		"Bearer .",
		"Bearer ..",
		"Bearer a.b.c",
		"Bearer a.b.c.d",
		"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
		"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb290In0.AAAA",
		"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.AAAA",
		"Bearer %s%s%n",
		"Bearer \xff\xfe\xfd",
		"Bearer \xc3\xa9",
		"AWS4-HMAC-SHA256",
		"AWS4-HMAC-SHA256 ",
		"AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
		"AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=AKID/20260101/r/tunnel/aws4_request, SignedHeaders=host;;, Signature=xyz",
		"AWS4-HMAC-SHA256 Credential=////////, SignedHeaders=;;;;, Signature=%",
		"AWS4-HMAC-SHA256 Signature=1,Signature=2,Signature=3",
	};
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		struct tunnel_header h[] = { { "authorization", values[i] }, { "host", "h" }, { "x-amz-date", "x" } };
		int rc = verify(p, h, 3, &id);
		if (rc != TUNNEL_NOT_MINE && rc != TUNNEL_DENIED)
			suite_fail(__FILE__, __LINE__, "<%s> answered %s; expected NOT_MINE or DENIED", values[i],
				   suite_result(rc));
		EXPECT(id.subject[0] == '\0');
	}
	plugin_close(&p);
}

static void long_and_random_is_never_accepted(void)
{
	static const char *const schemes[] = { "Bearer ", "AWS4-HMAC-SHA256 Credential=", "" };
	static const size_t lengths[] = { 1, 63, 64, 65, 255, 256, 257, 4096, 16000 };
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	char *value = malloc(17000);
	EXPECT(value != NULL);
	for (size_t s = 0; s < 3; s++)
		for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
			size_t at = strlen(schemes[s]);
			memcpy(value, schemes[s], at);
			secret_random_id(value + at, lengths[i]);
			for (size_t k = at + 20; k < at + lengths[i]; k += 37)
				value[k] = ".=/,; "[k % 6];
			struct tunnel_header h = { "authorization", value };
			int rc = verify(p, &h, 1, &id);
			EXPECT(rc == TUNNEL_NOT_MINE || rc == TUNNEL_DENIED);
		}
	free(value);
	plugin_close(&p);
}

/* What --accept gave, changed in one character, must not be accepted. The last ones are left out: the unused bits of a
 * base64 tail carry nothing. */
static void changed_credential_is_refused(void)
{
	const struct tunnel_header *good = suite_accept();
	if (!good)
		suite_skip("no --accept");
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	size_t len = strlen(good->value);
	char *value = strdup(good->value);
	EXPECT(value != NULL);
	for (size_t i = 0; i + 2 < len; i++) {
		struct tunnel_header h = { good->name, value };
		char kept = value[i];
		value[i] = kept == 'A' ? 'B' : 'A';
		if (strncasecmp(value, good->value, len) != 0 && verify(p, &h, 1, &id) == TUNNEL_OK)
			suite_fail(__FILE__, __LINE__, "accepted with another character at %zu", i);
		value[i] = kept;
	}
	free(value);
	plugin_close(&p);
}

static void good_credential_is_accepted(void)
{
	const struct tunnel_header *good = suite_accept();
	if (!good)
		suite_skip("no --accept");
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	EXPECT(verify(p, good, 1, &id) == TUNNEL_OK);
	EXPECT(id.subject[0] != '\0');
	EXPECT(id.expires_ms == 0 || id.expires_ms > clock_wall_ms());
	printf("  %s is \"%s\", groups %s\n", good->name, id.subject, id.groups[0] ? id.groups : "[]");
	plugin_close(&p);
}

/* An error buffer of any size: the text ends inside it, nothing outside is touched. Also without a buffer. */
static void words_fit_any_buffer(void)
{
	struct plugin *p = suite_open(NULL);
	const struct tunnel_header bad[] = { { "authorization", "Bearer a.b.c" },
					     { "authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e" } };
	for (size_t size = 0; size < 40; size++)
		for (size_t i = 0; i < 2; i++) {
			char words[64];
			struct tunnel_identity id = { .size = sizeof id };
			memset(words, 'Z', sizeof words);
			struct tunnel_call call = suite_call(size ? words : NULL, size);
			struct tunnel_auth_request q = request_of(&bad[i], 1);
			int rc = p->ops.auth.verify(p->instance, &call, &q, &id);
			EXPECT(rc == TUNNEL_DENIED || rc == TUNNEL_NOT_MINE);
			bool untouched = words[0] == 'Z';
			EXPECT(size == 0 || untouched || memchr(words, '\0', size) != NULL);
			for (size_t k = size; k < sizeof words; k++)
				EXPECT(words[k] == 'Z');
		}
	plugin_close(&p);
}

static void denied_says_why(void)
{
	struct plugin *p = suite_open(NULL);
	char words[256] = "";
	struct tunnel_identity id;
	struct tunnel_call call = suite_call(words, sizeof words);
	const struct tunnel_header bad[] = { { "authorization", "Bearer a.b.c" },
					     { "authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e" } };
	for (size_t i = 0; i < 2; i++) {
		struct tunnel_auth_request q = request_of(&bad[i], 1);
		EXPECT(plugin_auth_verify_blocking(p, &call, &q, &id) != TUNNEL_DENIED || words[0] != '\0');
	}
	plugin_close(&p);
}

/* An older host has shorter structs: nothing behind their size is read or written. */
static void older_host_structs(void)
{
	struct plugin *p = suite_open(NULL);
	const struct tunnel_header *good = suite_accept();
	struct tunnel_header other = { "authorization", "Bearer a.b.c" };
	size_t room = offsetof(struct tunnel_identity, claims); /* an identity without claims and expires_ms */
	struct tunnel_identity *id = malloc(sizeof *id);
	char words[128];
	EXPECT(id != NULL);
	memset(id, 0, room);
	memset((char *)id + room, 'Z', sizeof *id - room);
	id->size = room;
	struct tunnel_call call = suite_call(words, sizeof words);
	struct tunnel_auth_request q = request_of(good ? good : &other, 1);
	q.size = offsetof(struct tunnel_auth_request, tls_peer);
	q.tls_peer = (const char *)(uintptr_t)1; /* not theirs to look at */
	int rc = p->ops.auth.verify(p->instance, &call, &q, id);
	EXPECT(rc < 0 || (good ? rc == TUNNEL_OK : rc != TUNNEL_OK)); /* it may refuse such a host */
	for (size_t i = room; i < sizeof *id; i++)
		EXPECT(((const char *)id)[i] == 'Z');
	free(id);
	plugin_close(&p);
}

struct crowd {
	struct plugin *p;
	const struct tunnel_header *good;
};

static void verify_many(void *arg, size_t i)
{
	const struct crowd *c = arg;
	struct tunnel_identity *id = malloc(sizeof *id);
	EXPECT(id != NULL);
	struct tunnel_header bad = { "authorization", i % 2 ? "Bearer a.b.c" : "AWS4-HMAC-SHA256 Credential=a" };
	for (int n = 0; n < 50; n++) {
		int rc = verify(c->p, &bad, 1, id);
		EXPECT(rc == TUNNEL_DENIED || rc == TUNNEL_NOT_MINE);
		if (c->good)
			EXPECT(verify(c->p, c->good, 1, id) == TUNNEL_OK && id->subject[0]);
	}
	free(id);
}

static void reload_often(struct crowd *c)
{
	for (int n = 0; n < 20; n++) {
		struct err e = { 0 };
		if (plugin_reload(c->p, &e) != 0)
			suite_fail(__FILE__, __LINE__, "%s", e.text);
	}
}

static void verify_or_reload(void *arg, size_t i)
{
	if (i == 0)
		reload_often(arg);
	else
		verify_many(arg, i);
}

static void parallel_calls_and_reload(void)
{
	struct crowd c = { suite_open(NULL), suite_accept() };
	suite_threads(6, verify_or_reload, &c);
	plugin_close(&c.p);
}

static void two_instances(void)
{
	struct plugin *a = suite_open(NULL), *b = suite_open(NULL);
	struct tunnel_identity id;
	EXPECT(verify(a, NULL, 0, &id) == TUNNEL_NOT_MINE);
	plugin_close(&a);
	EXPECT(verify(b, NULL, 0, &id) == TUNNEL_NOT_MINE);
	plugin_close(&b);
}

static void body_and_odd_requests(void)
{
	struct plugin *p = suite_open(NULL);
	struct tunnel_identity id;
	char words[128];
	struct tunnel_call call = suite_call(words, sizeof words);
	struct tunnel_header headers[64];
	for (size_t i = 0; i < 64; i++)
		headers[i] = (struct tunnel_header){ i % 2 ? "authorization" : "x-amz-date", "AWS4-HMAC-SHA256 x" };
	struct tunnel_auth_request q = request_of(headers, 64);
	q.method = "";
	q.path = "/%2e%2e/%00/%zz?";
	q.query = "a=%&&==&X-Amz-Signature=1";
	q.body = (const unsigned char *)"{}";
	q.body_len = 2;
	q.remote_address = "2001:db8::7";
	int rc = plugin_auth_verify_blocking(p, &call, &q, &id);
	EXPECT(rc == TUNNEL_DENIED || rc == TUNNEL_NOT_MINE);
	plugin_close(&p);
}

/* What a request claims is read, not checked: a good credential claims what it is accepted as, whichever that is. */
static void claim_is_read_only(void)
{
	struct plugin *p = suite_open(NULL);
	const struct tunnel_header *good = suite_accept();
	const struct tunnel_header odd[] = { { "authorization", "Bearer \xff" },
					     { "authorization", "AWS4-HMAC-SHA256 Credential=" },
					     { "authorization", "" },
					     { "x-amz-date", "x" } };
	char words[128], claimed[TUNNEL_CREDENTIAL_MAX];
	struct tunnel_call call = suite_call(words, sizeof words);
	struct tunnel_identity id;
	for (size_t i = 0; i <= sizeof odd / sizeof *odd; i++) {
		struct tunnel_auth_request q = request_of(odd, i);
		int rc = plugin_auth_claim_blocking(p, &call, &q, claimed);
		EXPECT(rc == TUNNEL_NOT_MINE || (rc == TUNNEL_OK && p->ops.auth.claim));
	}
	struct tunnel_auth_request q = request_of(good ? good : odd, 1);
	if (good && plugin_auth_claim_blocking(p, &call, &q, claimed) == TUNNEL_OK) {
		EXPECT(plugin_auth_verify_blocking(p, &call, &q, &id) == TUNNEL_OK);
		EXPECT(strcmp(claimed, id.credential) == 0);
	}
	plugin_close(&p);
}

const struct suite_case auth_cases[] = {
	CASE(no_credential_is_not_mine),
	CASE(other_schemes_are_not_mine),
	CASE(malformed_is_never_accepted),
	CASE(long_and_random_is_never_accepted),
	CASE(good_credential_is_accepted),
	CASE(changed_credential_is_refused),
	CASE(words_fit_any_buffer),
	CASE(denied_says_why),
	CASE(older_host_structs),
	CASE(parallel_calls_and_reload),
	CASE(two_instances),
	CASE(body_and_odd_requests),
	CASE(claim_is_read_only),
	CASES_END,
};

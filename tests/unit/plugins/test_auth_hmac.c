/* auth-hmac as the server uses it: the built plugin, loaded. The signatures of the first two cases are those that AWS
 * publishes with its Signature Version 4 test suite; the other cases sign with a signer of this file or with curl. */
#include "support/case.h"

#include "base/file.h"
#include "support/fake_host.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXAMPLE_ID "AKIDEXAMPLE"
#define EXAMPLE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define EXAMPLE_DATE "20150830T123600Z"
#define EXAMPLE_MS INT64_C(1440938160000)
#define EXAMPLE_FILE                                                                \
	"credentials = ( { key_id = \"" EXAMPLE_ID "\"; secret = \"" EXAMPLE_SECRET \
	"\"; subject = \"alice\"; groups = [\"dev\", \"ops\"]; },\n"                \
	" { key_id = \"BOB\"; secret = \"bobs-secret-of-24-letter\"; subject = \"bob\"; } );\n"

struct fixture {
	char folder[64], file[128];
	struct fake_plugin p;
};

static void write_credentials(struct fixture *f, const char *text, mode_t mode)
{
	struct err e = { 0 };
	assert_int_equal(file_write(f->file, text, strlen(text), mode, &e), 0);
}

static void begin(struct fixture *f)
{
	case_folder(f->folder);
	snprintf(f->file, sizeof f->file, "%s/credentials", f->folder);
	fake_plugin_load(&f->p, PLUGIN_DIR "/auth-hmac.so");
	f->p.host.wall_ms = EXAMPLE_MS;
	f->p.host.mono_ms = 5000;
	write_credentials(f, EXAMPLE_FILE, 0600);
}

static void begin_open(struct fixture *f)
{
	begin(f);
	const char *pairs[] = { "credentials", f->file, "service", "service", "region", "us-east-1", NULL };
	if (fake_plugin_open(&f->p, pairs) != 0)
		fail_msg("open: %s", f->p.err);
}

static void end(struct fixture *f)
{
	fake_plugin_unload(&f->p);
	case_folder_remove(f->folder);
}

/* A request that owns nothing. */
struct call {
	const char *method, *path, *query, *body;
	struct tunnel_header headers[16]; /* ends with name NULL */
};

static int send_call(struct fixture *f, const struct call *c, struct tunnel_identity *out, char *err)
{
	unsigned char hash[32];
	size_t n = 0;
	const char *body = c->body ? c->body : "";
	while (c->headers[n].name)
		n++;
	EVP_Digest(body, strlen(body), hash, NULL, EVP_sha256(), NULL);
	struct tunnel_auth_request r = { .size = sizeof r,
					 .method = c->method,
					 .path = c->path,
					 .query = c->query ? c->query : "",
					 .headers = c->headers,
					 .header_count = n,
					 .body = (const unsigned char *)body,
					 .body_len = strlen(body),
					 .body_sha256 = hash,
					 .remote_address = "192.0.2.7" };
	return fake_verify(&f->p, &r, out, err);
}

static void assert_call(struct fixture *f, const struct call *c, const char *why, const char *name)
{
	struct tunnel_identity id;
	int rc = send_call(f, c, &id, NULL);
	if (!why && rc != 0)
		fail_msg("%s: refused (%d): %s", name, rc, f->p.err);
	if (why && (rc != TUNNEL_DENIED || !strstr(f->p.err, why)))
		fail_msg("%s: expected a denial with \"%s\", got %d: %s", name, why, rc, f->p.err);
	assert_string_equal(id.subject, why ? "" : "alice");
	assert_null(strstr(f->p.err, EXAMPLE_SECRET));
}

#define SCOPE EXAMPLE_ID "/20150830/us-east-1/service/aws4_request"
#define AUTH(signed_headers, signature)                                                                 \
	{                                                                                               \
		"authorization", "AWS4-HMAC-SHA256 Credential=" SCOPE ", SignedHeaders=" signed_headers \
				 ", Signature=" signature                                               \
	}
#define HOST                                    \
	{                                       \
		"host", "example.amazonaws.com" \
	}
#define DATE                               \
	{                                  \
		"x-amz-date", EXAMPLE_DATE \
	}
#define PLAIN(signature)                                       \
	{                                                      \
		HOST, DATE, AUTH("host;x-amz-date", signature) \
	}
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define STS "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
#define FORM "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"

static const struct {
	const char *name;
	struct call call;
} published[] = {
	{ "get-vanilla",
	  { "GET", "/", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") } },
	{ "get-vanilla-empty-query-key",
	  { "GET", "/", "Param1=value1", "",
	    PLAIN("a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb") } },
	{ "get-vanilla-query-order-key-case",
	  { "GET", "/", "Param2=value2&Param1=value1", "",
	    PLAIN("b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500") } },
	{ "get-vanilla-query-order-encoded",
	  { "GET", "/", "Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "",
	    PLAIN("371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac") } },
	{ "get-vanilla-query-unreserved",
	  { "GET", "/", UNRESERVED "=" UNRESERVED, "",
	    PLAIN("9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197") } },
	{ "get-vanilla-utf8-query",
	  { "GET", "/", "ሴ=bar", "", PLAIN("2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04") } },
	{ "get-utf8",
	  { "GET", "/ሴ", "", "", PLAIN("8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85") } },
	{ "get-unreserved",
	  { "GET", "/" UNRESERVED, "", "",
	    PLAIN("07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f") } },
	{ "get-space",
	  { "GET", "/example space/", "", "",
	    PLAIN("652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741") } },
	{ "get-relative-normalized",
	  { "GET", "/example/..", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") } },
	{ "get-relative-relative-normalized",
	  { "GET", "/example1/example2/../..", "", "",
	    PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") } },
	{ "get-relative-relative-unnormalized",
	  { "GET", "/example1/example2/../..", "", "",
	    PLAIN("dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b") } },
	{ "get-slash-dot-slash-normalized",
	  { "GET", "/./", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") } },
	{ "get-slash-pointless-dot-normalized",
	  { "GET", "/./example", "", "", PLAIN("ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5") } },
	{ "get-slash-normalized",
	  { "GET", "//", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") } },
	{ "get-slashes-normalized",
	  { "GET", "//example//", "", "", PLAIN("9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84") } },
	{ "get-slashes-unnormalized",
	  { "GET", "//example//", "", "", PLAIN("87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5") } },
	{ "get-header-key-duplicate",
	  { "GET",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "value2" },
	      { "my-header1", "value2" },
	      { "my-header1", "value1" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea") } } },
	{ "get-header-value-order",
	  { "GET",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "value4" },
	      { "my-header1", "value1" },
	      { "my-header1", "value3" },
	      { "my-header1", "value2" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01") } } },
	{ "get-header-value-trim",
	  { "GET",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", " value1" },
	      { "my-header2", " \"a   b   c\"" },
	      DATE,
	      AUTH("host;my-header1;my-header2;x-amz-date",
		   "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736") } } },
	{ "get-vanilla-with-session-token",
	  { "GET",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "x-amz-security-token", STS },
	      DATE,
	      AUTH("host;x-amz-date;x-amz-security-token",
		   "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8") } } },
	{ "post-vanilla",
	  { "POST", "/", "", "", PLAIN("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b") } },
	{ "post-header-key-sort",
	  { "POST",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "value1" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c") } } },
	{ "post-header-value-case",
	  { "POST",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "VALUE1" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d") } } },
	{ "post-vanilla-query",
	  { "POST", "/", "Param1=value1", "",
	    PLAIN("28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11") } },
	{ "post-x-www-form-urlencoded",
	  { "POST",
	    "/",
	    "",
	    "Param1=value1",
	    { { "content-type", "application/x-www-form-urlencoded" },
	      HOST,
	      { "content-length", "13" },
	      DATE,
	      { "x-amz-content-sha256", FORM },
	      AUTH("content-length;content-type;host;x-amz-content-sha256;x-amz-date",
		   "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b") } } },
};

static void test_hmac_published_signatures_verify(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		struct call c = published[i].call;
		char turned[512];
		size_t n = 0, k;
		assert_call(&f, &c, NULL, published[i].name);
		assert_call(&f, &c, NULL, "the same again");
		while (c.headers[n].name)
			n++;
		/* the last digit of the signature turned */
		snprintf(turned, sizeof turned, "%s", c.headers[n - 1].value);
		k = strlen(turned) - 1;
		turned[k] = turned[k] == '0' ? '1' : '0';
		c.headers[n - 1].value = turned;
		assert_call(&f, &c, "was changed after it was signed", published[i].name);
	}
	struct tunnel_identity id;
	assert_int_equal(send_call(&f, &published[0].call, &id, NULL), 0);
	assert_string_equal(id.credential, EXAMPLE_ID);
	assert_string_equal(id.groups, "[\"dev\",\"ops\"]");
	assert_string_equal(id.claims, "");
	assert_true(id.expires_ms == 0);
	end(&f);
}

#define PRESIGNED(signed_headers, signature)                                                                     \
	"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_" \
	"request"                                                                                                \
	"&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=" signed_headers                                       \
	"&X-Amz-Expires=3600&X-Amz-Signature=" signature
#define VANILLA_PRESIGNED PRESIGNED("host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d")

static void test_hmac_published_presigned_urls_verify(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	struct call c = { "GET", "/", VANILLA_PRESIGNED, "", { HOST } };
	assert_call(&f, &c, NULL, "get-vanilla");
	assert_int_equal(send_call(&f, &c, &id, NULL), 0);
	assert_true(id.expires_ms == EXAMPLE_MS + 3600000);
	struct call trim = { "GET",
			     "/",
			     PRESIGNED("host%3Bmy-header1%3Bmy-header2",
				       "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4"),
			     "",
			     { HOST, { "my-header1", "value1" }, { "my-header2", "\"a   b   c\"" } } };
	assert_call(&f, &trim, NULL, "get-header-value-trim");

	f.p.host.wall_ms = EXAMPLE_MS + 3599999;
	assert_call(&f, &c, NULL, "just before its end");
	f.p.host.wall_ms = EXAMPLE_MS + 3600000;
	assert_call(&f, &c, "presigned URL expired 0 s ago", "its end");
	f.p.host.wall_ms = EXAMPLE_MS - 300000;
	assert_call(&f, &c, NULL, "clock behind");
	f.p.host.wall_ms = EXAMPLE_MS - 300001;
	assert_call(&f, &c, "in the future", "clock too far behind");
	f.p.host.wall_ms = EXAMPLE_MS;

	c.method = "DELETE";
	assert_call(&f, &c, "was changed", "method");
	c.method = "GET";
	c.path = "/other";
	assert_call(&f, &c, "was changed", "path");
	c.path = "/";
	c.body = "x";
	assert_call(&f, &c, "was changed", "body");
	c.body = "";
	c.query = VANILLA_PRESIGNED "&more=1";
	assert_call(&f, &c, "was changed", "parameter added");
	c.query = VANILLA_PRESIGNED "&X-Amz-Expires=604800";
	assert_call(&f, &c, "expected the query parameter X-Amz-Expires once, found it 2 times", "twice");
	c.query = VANILLA_PRESIGNED;
	c.headers[0].value = "elsewhere";
	assert_call(&f, &c, "was changed", "host");
	end(&f);
}

/* A signer of its own, so that any request can be made. The canonical request is given. */
static void sign(const char *secret, const char *date, const char *scope, const char *canonical, char out[65])
{
	unsigned char hash[32], key[32];
	char first[160], text[512], hex[65];
	unsigned len = 0;
	EVP_Digest(canonical, strlen(canonical), hash, NULL, EVP_sha256(), NULL);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hex);
	snprintf(first, sizeof first, "AWS4%s", secret);
	HMAC(EVP_sha256(), first, (int)strlen(first), (const unsigned char *)scope, 8, key, &len);
	for (const char *p = scope + 9; *p;) {
		size_t n = strcspn(p, "/");
		unsigned char next[32];
		HMAC(EVP_sha256(), key, 32, (const unsigned char *)p, n, next, &len);
		memcpy(key, next, 32);
		p += n + (p[n] == '/');
	}
	HMAC(EVP_sha256(), key, 32, (const unsigned char *)text, strlen(text), hash, &len);
	for (int i = 0; i < 32; i++)
		snprintf(out + 2 * i, 3, "%02x", hash[i]);
}

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define EXAMPLE_SCOPE "20150830/us-east-1/service/aws4_request"

/* Signs the canonical text and puts the header into value. */
static void authorize(char value[512], const char *id, const char *scope, const char *names, const char *canonical)
{
	char signature[65];
	sign(EXAMPLE_SECRET, EXAMPLE_DATE, scope, canonical, signature);
	snprintf(value, 512, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", id, scope, names,
		 signature);
}

static void test_hmac_what_was_signed_cannot_be_changed(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date;x-reason",
		  "POST\n/v1/sessions\na=1&b=2\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
		  "\nx-reason:why\n\n"
		  "host;x-amz-date;x-reason\n" FORM);
	const struct call good = {
		"POST",
		"/v1/sessions",
		"b=2&a=1",
		"Param1=value1",
		{ HOST, DATE, { "x-reason", "why" }, { "x-other", "1" }, { "authorization", value } }
	};
	struct call c = good;
	assert_call(&f, &c, NULL, "as signed");
	c.headers[3].value = "2";
	assert_call(&f, &c, NULL, "an unsigned header");
#define CHANGED "key id or secret is wrong, or the request was changed after it was signed"
	c = good, c.method = "PUT";
	assert_call(&f, &c, CHANGED, "method");
	c = good, c.path = "/v1/session";
	assert_call(&f, &c, CHANGED, "path");
	c = good, c.path = "/v1/Sessions";
	assert_call(&f, &c, CHANGED, "case of the path");
	c = good, c.query = "b=2&a=2";
	assert_call(&f, &c, CHANGED, "query");
	c = good, c.query = "b=2&a=1&a=1";
	assert_call(&f, &c, CHANGED, "query, longer");
	c = good, c.query = "";
	assert_call(&f, &c, CHANGED, "no query");
	c = good, c.query = "b=2&a=%zz";
	assert_call(&f, &c, "percent sign without two hex digits", "broken query");
	c = good, c.query = "b=2&a=%00";
	assert_call(&f, &c, "percent sign", "NUL in the query");
	c = good, c.body = "Param1=value2";
	assert_call(&f, &c, CHANGED, "body");
	c = good, c.headers[2].value = "other";
	assert_call(&f, &c, CHANGED, "signed header");
	c = good, c.headers[3] = (struct tunnel_header){ "x-reason", "more" };
	assert_call(&f, &c, CHANGED, "signed header twice");
	c = good, c.headers[2].name = "x-renamed";
	assert_call(&f, &c, "the signed header \"x-reason\" is not in the request", "header gone");
	c = good, c.headers[1].value = "20150830T123601Z";
	assert_call(&f, &c, CHANGED, "time");
	c = good, c.headers[3] = (struct tunnel_header){ "x-amz-date", EXAMPLE_DATE };
	assert_call(&f, &c, "expected one x-amz-date or date header, found 2", "time twice");
	c = good, c.headers[3] = (struct tunnel_header){ "x-amz-content-sha256", "UNSIGNED-PAYLOAD" };
	assert_call(&f, &c, "the body must be signed", "unsigned payload");
	c.headers[3].value = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
	assert_call(&f, &c, "the body must be signed", "streamed payload");
	c.headers[3].value = EMPTY;
	assert_call(&f, &c, "is not the SHA-256 of the body", "another body's hash");
	c.headers[3].value = FORM;
	assert_call(&f, &c, NULL, "the body's hash, unsigned but right");
	c = good, c.headers[3] = (struct tunnel_header){ "authorization", "Bearer a.b.c" };
	assert_call(&f, &c, "more than one Authorization header", "two credentials");
	c = good, c.query = "b=2&a=1&X-Amz-Signature=1";
	assert_call(&f, &c, "signed twice", "both forms");
	end(&f);
}

/* "As sent" is not read where it could be the encoding of another path. */
static void test_hmac_an_encoded_path_stands_for_itself(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date",
		  "GET\n/a%2520b\n\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
		  "\n\nhost;x-amz-date\n" EMPTY);
	struct call c = { "GET", "/a%20b", "", "", { HOST, DATE, { "authorization", value } } };
	assert_call(&f, &c, NULL, "encoded as AWS does");
	c.path = "/a%2520b";
	assert_call(&f, &c, CHANGED, "another resource");
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "host;x-amz-date",
		  "GET\n/a%20b:c\n\nhost:example.amazonaws.com\nx-amz-date:" EXAMPLE_DATE
		  "\n\nhost;x-amz-date\n" EMPTY);
	c.path = "/a%20b:c";
	assert_call(&f, &c, NULL, "as sent");
	end(&f);
}

static void test_hmac_scope_time_and_form_are_judged(void **state)
{
	(void)state;
	static const struct {
		const char *authorization, *why;
	} cases[] = {
#define SIG "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
#define START "AWS4-HMAC-SHA256 Credential="
#define REST ", SignedHeaders=host;x-amz-date, Signature=" SIG
		{ START SCOPE REST, NULL },
		{ START SCOPE ",SignedHeaders=host;x-amz-date,Signature=" SIG, NULL },
		{ START "AKIDEXAMPLE/20150830/us-west-1/service/aws4_request" REST,
		  "signed for the scope \"20150830/us-west-1/service/aws4_request\"; expected \"" EXAMPLE_SCOPE "\"" },
		{ START "AKIDEXAMPLE/20150830/us-east-1/s3/aws4_request" REST, "signed for the scope" },
		{ START "AKIDEXAMPLE/20150829/us-east-1/service/aws4_request" REST, "signed for the scope" },
		{ START "AKIDEXAMPLE/20150830/us-east-1/service/aws5_request" REST, "signed for the scope" },
		{ START "AKIDEXAMPLE/us-east-1/service/aws4_request" REST, "Credential: expected" },
		{ START "/20150830/us-east-1/service/aws4_request" REST, "Credential: expected" },
		{ START "AK ID/20150830/us-east-1/service/aws4_request" REST, "Credential: expected" },
		{ START "NOBODY/20150830/us-east-1/service/aws4_request" REST, CHANGED },
		{ START "BOB/20150830/us-east-1/service/aws4_request" REST, CHANGED },
		{ START SCOPE ", SignedHeaders=host, Signature=" SIG, "the header x-amz-date must be signed" },
		{ START SCOPE ", SignedHeaders=x-amz-date, Signature=" SIG, "the header host must be signed" },
		{ START SCOPE ", SignedHeaders=x-amz-date;host, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=host;host;x-amz-date, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=Host;x-amz-date, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date;, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=, Signature=" SIG, "SignedHeaders: expected" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date, Signature=5fa0", "Signature: expected 64 hex digits" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date, "
			      "Signature=5FA00FA31553B73EBF1942676E86291E8372FF2A2260956D9B8AAE1D763FBF31",
		  "Signature: expected 64 hex digits" },
		{ START SCOPE ", SignedHeaders=host;x-amz-date", "each once" },
		{ START SCOPE REST ", Signature=" SIG, "each once" },
		{ START SCOPE REST ", X=1", "each once" },
		{ "AWS4-HMAC-SHA256", "of the AWS4 schemes" },
		{ "AWS4-HMAC-SHA256 ", "each once" },
		{ "AWS4-ECDSA-P256-SHA256 Credential=" SCOPE REST, "of the AWS4 schemes, AWS4-HMAC-SHA256 is allowed" },
	};
	struct fixture f;
	begin_open(&f);
	struct call c = { "GET", "/", "", "", { HOST, DATE, { "authorization", "" } } };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		c.headers[2].value = cases[i].authorization;
		assert_call(&f, &c, cases[i].why, cases[i].authorization);
	}
	c = published[0].call;
	f.p.host.wall_ms = EXAMPLE_MS + 300000;
	assert_call(&f, &c, NULL, "at the edge");
	f.p.host.wall_ms = EXAMPLE_MS + 300001;
	assert_call(&f, &c, "signed 300 s ago; allowed: 300 s", "too old");
	f.p.host.wall_ms = EXAMPLE_MS - 300000;
	assert_call(&f, &c, NULL, "at the other edge");
	f.p.host.wall_ms = EXAMPLE_MS - 301000;
	assert_call(&f, &c, "signed 301 s in the future; allowed: 300 s", "too early");
	f.p.host.wall_ms = EXAMPLE_MS;
	static const char *const times[] = { "20150830123600Z",
					     "20150830T123600",
					     "20150231T123600Z",
					     "2015083aT123600Z",
					     "20150830T246000Z",
					     "",
					     "Sun, 30 Aug 2015 12:36:00 GMT" };
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		c.headers[1].value = times[i];
		assert_call(&f, &c, "x-amz-date: expected a time like 20150830T123600Z", times[i]);
	}
	end(&f);
}

static void test_hmac_a_date_header_will_do(void **state)
{
	(void)state;
	struct fixture f;
	char value[512];
	begin_open(&f);
	authorize(value, EXAMPLE_ID, EXAMPLE_SCOPE, "date;host",
		  "GET\n/\n\ndate:Sun, 30 Aug 2015 12:36:00 GMT\nhost:example.amazonaws.com\n\ndate;host\n" EMPTY);
	struct call c = {
		"GET", "/", "", "", { HOST, { "date", "Sun, 30 Aug 2015 12:36:00 GMT" }, { "authorization", value } }
	};
	assert_call(&f, &c, NULL, "HTTP date");
	c.headers[1].value = "Sun, 30 Foo 2015 12:36:00 GMT";
	assert_call(&f, &c, "date: expected a time", "no month");
	end(&f);
}

static void test_hmac_other_credentials_are_not_mine(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	struct call c = { "GET", "/", "a=1", "", { HOST } };
	assert_int_equal(send_call(&f, &c, &id, NULL), TUNNEL_NOT_MINE);
	static const char *const values[] = { "Bearer a.b.c", "Basic YTpi", "", "AWS AKID:sig" };
	for (size_t i = 0; i < 4; i++) {
		c.headers[1] = (struct tunnel_header){ "authorization", values[i] };
		assert_int_equal(send_call(&f, &c, &id, NULL), TUNNEL_NOT_MINE);
	}
	end(&f);
}

static void test_hmac_credentials_files_are_checked(void **state)
{
	(void)state;
#define ENTRY "key_id = \"A\"; secret = \"0123456789abcdef\"; subject = \"a\";"
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "credentials = ( { " ENTRY " } );", NULL },
		{ "credentials = ();", NULL },
		{ "credentials = (\n { " ENTRY " },\n { " ENTRY " } );", "key_id A is there twice" },
		{ "credentials = ( {\n " ENTRY "\n admin = true; } );", "credentials:3: admin: unknown setting" },
		{ "credentials = (\n { secret = \"0123456789abcdef\"; subject = \"a\"; } );",
		  "credentials:2: key_id: expected" },
		{ "credentials = ( { key_id = \"A/B\"; secret = \"0123456789abcdef\"; subject = \"a\"; } );",
		  "key_id: expected" },
		{ "credentials = ( { key_id = \"A\"; secret = \"short\"; subject = \"a\"; } );",
		  "secret of A: expected a text of 16 to 256 characters" },
		{ "credentials = ( { key_id = \"A\"; secret = \"0123456789abcdef\"; } );", "subject of A: expected" },
		{ "credentials = ( { key_id = \"A\"; secret = \"0123456789abcdef\"; subject = \"\\xff\"; } );",
		  "subject of A" },
		{ "credentials = ( { " ENTRY " groups = \"a\"; } );", "groups: expected an array" },
		{ "credentials = ( { " ENTRY " groups = [\"a\\\"b\"]; } );", "groups: expected texts" },
		{ "credentials = ( { " ENTRY " groups = [1]; } );", "groups: expected texts" },
		{ "credentials = [ 1 ];", "expected credentials = (" },
		{ "credentials = ( 1 );", "expected { key_id" },
		{ "credentials = (); more = 1;", "and nothing else" },
		{ "", "expected credentials = (" },
		{ "credentials = ( {\n", "credentials:2: syntax error" },
		{ "@include \"/etc/passwd\"\n", "@include is not allowed" },
	};
	struct fixture f;
	begin(&f);
	const char *pairs[] = { "credentials", f.file, NULL };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_credentials(&f, cases[i].text, 0600);
		int rc = fake_plugin_open(&f.p, pairs);
		fake_plugin_close(&f.p);
		if (rc != (cases[i].why ? TUNNEL_CONFIG : 0) || (cases[i].why && !strstr(f.p.err, cases[i].why)))
			fail_msg("case %zu: %d: %s", i, rc, f.p.err);
		assert_null(strstr(f.p.err, "0123456789abcdef"));
	}
	write_credentials(&f, EXAMPLE_FILE, 0640);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "has mode 0640, others could read it; allowed: 0600"));
	assert_non_null(strstr(f.p.err, "test.conf:1: credentials: "));
	unlink(f.file);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "No such file"));
	mkdir(f.file, 0700);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "not a regular file"));
	const char *odd[] = { "credentials", f.file, "service", "a/b", NULL };
	assert_int_equal(fake_plugin_open(&f.p, odd), TUNNEL_CONFIG);
	end(&f);
}

static void test_hmac_the_sample_file_loads(void **state)
{
	(void)state;
	struct fixture f;
	struct buf text;
	struct err e = { 0 };
	begin(&f);
	assert_int_equal(file_read(SAMPLE_FILE, 65536, &text, &e), 0);
	assert_int_equal(file_write(f.file, buf_data(&text), text.len, 0600, &e), 0);
	buf_free(&text);
	const char *pairs[] = { "credentials", f.file, NULL };
	if (fake_plugin_open(&f.p, pairs) != 0)
		fail_msg("%s", f.p.err);
	end(&f);
}

static void test_hmac_a_changed_file_is_read_again(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	const struct call *c = &published[0].call;
	assert_call(&f, c, NULL, "at first");
	write_credentials(&f, "credentials = ();", 0600);
	assert_call(&f, c, NULL, "not looked at yet");
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, CHANGED, "gone");
	write_credentials(&f, EXAMPLE_FILE, 0600);
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, NULL, "back");

	fake_host_expect_errors(&f.p.host, 1); /* once, however often it is looked at */
	write_credentials(&f, "credentials = (", 0600);
	for (int i = 0; i < 3; i++) {
		f.p.host.mono_ms += 1000;
		assert_call(&f, c, NULL, "a broken file changes nothing");
	}
	assert_non_null(strstr(f.p.host.log, "the earlier ones stay: credentials:1: syntax error"));
	assert_int_equal(fake_plugin_reload(&f.p), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "syntax error"));
	assert_call(&f, c, NULL, "nor does a failed reload");
	fake_host_expect_errors(&f.p.host, 2);
	unlink(f.file);
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, NULL, "no file");
	write_credentials(&f, EXAMPLE_FILE, 0644);
	f.p.host.mono_ms += 1000;
	assert_call(&f, c, NULL, "wrong mode");
	write_credentials(&f, "credentials = ();", 0600);
	assert_int_equal(fake_plugin_reload(&f.p), 0);
	assert_call(&f, c, CHANGED, "reload does not wait");
	end(&f);
}

struct worker {
	struct fixture *f;
	atomic_bool *stop;
	unsigned wrong, calls;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct tunnel_identity id;
	char err[512];
	while (!*w->stop || w->calls < 20) {
		const struct call *c = &published[w->calls++ % (sizeof published / sizeof *published)].call;
		w->wrong += send_call(w->f, c, &id, err) != 0;
		w->f->p.host.mono_ms += 500; /* the file is looked at again and again */
	}
	return NULL;
}

static void test_hmac_threads_share_an_instance(void **state)
{
	(void)state;
	struct fixture f;
	pthread_t threads[4];
	struct worker workers[4];
	atomic_bool stop = false;
	begin_open(&f);
	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .f = &f, .stop = &stop };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 50; i++) {
		write_credentials(&f, EXAMPLE_FILE, 0600);
		assert_int_equal(fake_plugin_reload(&f.p), 0);
	}
	stop = true;
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].wrong, 0);
	}
	end(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hmac_published_signatures_verify),
		cmocka_unit_test(test_hmac_published_presigned_urls_verify),
		cmocka_unit_test(test_hmac_what_was_signed_cannot_be_changed),
		cmocka_unit_test(test_hmac_an_encoded_path_stands_for_itself),
		cmocka_unit_test(test_hmac_scope_time_and_form_are_judged),
		cmocka_unit_test(test_hmac_a_date_header_will_do),
		cmocka_unit_test(test_hmac_other_credentials_are_not_mine),
		cmocka_unit_test(test_hmac_credentials_files_are_checked),
		cmocka_unit_test(test_hmac_the_sample_file_loads),
		cmocka_unit_test(test_hmac_a_changed_file_is_read_again),
		cmocka_unit_test(test_hmac_threads_share_an_instance),
	};
	return RUN_CASES(tests);
}

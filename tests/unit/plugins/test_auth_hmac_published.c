/* auth-hmac against the signatures that AWS publishes with its Signature Version 4 test suite. */
#include "hmac_case.h"

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

static void test_published_signatures_verify(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		struct call c = published[i].call;
		char turned[512];
		size_t n = 0, k;
		assert_call(&f, &c, NULL, published[i].name);
		assert_call(&f, &c, strcmp(c.method, "GET") == 0 ? NULL : USED, "the same again");
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

static void test_published_presigned_urls_verify(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin(&f);
	open_with(&f, "presigned_max", "3600000");
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

static void test_a_presigned_url_is_not_good_for_long(void **state)
{
	(void)state;
	struct fixture f;
	struct call c = { "GET", "/", VANILLA_PRESIGNED, "", { HOST } };
	begin_open(&f);
	assert_call(&f, &c, "X-Amz-Expires is 3600; this server allows up to 300 s (presigned_max)", "by default");
	end(&f);
	begin(&f);
	open_with(&f, "presigned_max", "3599000");
	assert_call(&f, &c, "X-Amz-Expires is 3600; this server allows up to 3599 s", "a second too long");
	end(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published_signatures_verify),
		cmocka_unit_test(test_published_presigned_urls_verify),
		cmocka_unit_test(test_a_presigned_url_is_not_good_for_long),
	};
	return RUN_CASES(tests);
}

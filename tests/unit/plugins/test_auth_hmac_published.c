/* auth-hmac against the signatures that AWS publishes with its Signature Version 4 test suite: each request signed in
 * its Authorization header, and the same one as a presigned URL. */
#include "hmac_case.h"

#define STS_LONG                                                                                     \
	"AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfp" \
	"SPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQ" \
	"DYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+s" \
	"cqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
#define STS_LONG_ENCODED                                                                             \
	"AQoDYXdzEPT%2F%2F%2F%2F%2F%2F%2F%2F%2F%2FwEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWs" \
	"KWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI%2FqkPpKPi%2FkMcGdQrmGdeehM4IC1NtBmUpp2w" \
	"UE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d%2Bxo0rKwT38xV" \
	"qr7ZD0u0iPPkUL64lIZbqBAz%2BscqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR%2Fo" \
	"LxBA%3D%3D"

static const struct published {
	const char *name;
	struct call call;
	struct {
		const char *signed_headers, *signature, *token; /* as the URL has them */
	} url;                                                  /* NULL: a token that is not signed with the rest */
} published[] = {
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
		   "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea") } },
	  { "host%3Bmy-header1", "3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97", NULL } },
	{ "get-header-value-multiline",
	  { "GET",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "value1     value2        value3" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd") } },
	  { "host%3Bmy-header1", "e6f5def831211aca02987a44b96826706278c7bc078112ae0263659c5b2f2d56", NULL } },
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
		   "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01") } },
	  { "host%3Bmy-header1", "313720e71ca6202fdcfa9b20f88de01a4eb0638a83c833b1c184359a4eda864e", NULL } },
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
		   "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736") } },
	  { "host%3Bmy-header1%3Bmy-header2", "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4",
	    NULL } },
	{ "get-relative-normalized",
	  { "GET", "/example/..", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") },
	  { "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d", NULL } },
	{ "get-relative-relative-normalized",
	  { "GET", "/example1/example2/../..", "", "",
	    PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") },
	  { "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d", NULL } },
	{ "get-relative-relative-unnormalized",
	  { "GET", "/example1/example2/../..", "", "",
	    PLAIN("dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b") },
	  { "host", "b45db0bfd1cf15003493b733e33aa208dd981bd0e63037a6ed953f71d2118a16", NULL } },
	{ "get-relative-unnormalized",
	  { "GET", "/example/..", "", "", PLAIN("eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282") },
	  { "host", "cbcb213b928a077e43275df47b500f1dfaa864ab3f5a18f6b95f4ff0938167ee", NULL } },
	{ "get-slash-dot-slash-normalized",
	  { "GET", "/./", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") },
	  { "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d", NULL } },
	{ "get-slash-dot-slash-unnormalized",
	  { "GET", "/./", "", "", PLAIN("68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145") },
	  { "host", "a9b13e8f3484d9505bf1a6f347219f8f35b0fe8f128ceea597efc146a3dfe90c", NULL } },
	{ "get-slash-normalized",
	  { "GET", "//", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") },
	  { "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d", NULL } },
	{ "get-slash-pointless-dot-normalized",
	  { "GET", "/./example", "", "", PLAIN("ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5") },
	  { "host", "35034b1a0bdd969f346975386daf8aedfd4976573b8348cf4f67eaa41c5857de", NULL } },
	{ "get-slash-pointless-dot-unnormalized",
	  { "GET", "/./example", "", "", PLAIN("beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff") },
	  { "host", "72b11f16d9530b18204bfb71f2d6ab085894c0ed8d352730a6e76234c58b5e10", NULL } },
	{ "get-slash-unnormalized",
	  { "GET", "//", "", "", PLAIN("c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e") },
	  { "host", "b2a9542809db687769200f56a844a03f2bd0291d6eb90232d5101c6a579446cd", NULL } },
	{ "get-slashes-normalized",
	  { "GET", "//example//", "", "", PLAIN("9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84") },
	  { "host", "c1834e8fb0307243711f0f907f6ab7311ed300d87f13792d7ee4da89ab93e082", NULL } },
	{ "get-slashes-unnormalized",
	  { "GET", "//example//", "", "", PLAIN("87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5") },
	  { "host", "822a5a9ba28072c5ab2bb4a6307d0c88276d40e49fec6b724c03fb4d4ba60fc2", NULL } },
	{ "get-space-normalized",
	  { "GET", "/example space/", "", "",
	    PLAIN("652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741") },
	  { "host", "7a1f416954786484c9824d93c1f26ef64acb9b1b6c9154d08c9f07d0e394abf6", NULL } },
	{ "get-space-unnormalized",
	  { "GET", "/example space/", "", "",
	    PLAIN("652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741") },
	  { "host", "7a1f416954786484c9824d93c1f26ef64acb9b1b6c9154d08c9f07d0e394abf6", NULL } },
	{ "get-unreserved",
	  { "GET", "/" UNRESERVED, "", "", PLAIN("07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f") },
	  { "host", "95968482db1b9e0fadef6efc1bd24689f77c77d9ef56919c96a28cc92e0d6005", NULL } },
	{ "get-utf8",
	  { "GET", "/ሴ", "", "", PLAIN("8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85") },
	  { "host", "10eae3f14a260bd3911cc6d008d3c576d143b05b62f09782a7a4b37f52178e44", NULL } },
	{ "get-vanilla-empty-query-key",
	  { "GET", "/", "Param1=value1", "",
	    PLAIN("a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb") },
	  { "host", "49096700cbbaa5753443850f40df10f904fc2fdb544dc9512203cc77c471a9de", NULL } },
	{ "get-vanilla-query-order-encoded",
	  { "GET", "/", "Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "",
	    PLAIN("371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac") },
	  { "host", "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787", NULL } },
	{ "get-vanilla-query-order-key-case",
	  { "GET", "/", "Param2=value2&Param1=value1", "",
	    PLAIN("b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500") },
	  { "host", "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5", NULL } },
	{ "get-vanilla-query-unreserved",
	  { "GET", "/", UNRESERVED "=" UNRESERVED, "",
	    PLAIN("9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197") },
	  { "host", "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf", NULL } },
	{ "get-vanilla-query",
	  { "GET", "/", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") },
	  { "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d", NULL } },
	{ "get-vanilla-utf8-query",
	  { "GET", "/", "ሴ=bar", "", PLAIN("2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04") },
	  { "host", "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600", NULL } },
	{ "get-vanilla-with-session-token",
	  { "GET",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "x-amz-security-token", STS },
	      DATE,
	      AUTH("host;x-amz-date;x-amz-security-token",
		   "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8") } },
	  { "host", "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c", STS } },
	{ "get-vanilla",
	  { "GET", "/", "", "", PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") },
	  { "host", "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d", NULL } },
	{ "post-header-key-case",
	  { "POST", "/", "", "", PLAIN("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b") },
	  { "host", "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b", NULL } },
	{ "post-header-key-sort",
	  { "POST",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "value1" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c") } },
	  { "host%3Bmy-header1", "c09d07e0d55871f10f2a6d350d994acf6825a3cae70673d7def55616e6119dd7", NULL } },
	{ "post-header-value-case",
	  { "POST",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "my-header1", "VALUE1" },
	      DATE,
	      AUTH("host;my-header1;x-amz-date",
		   "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d") } },
	  { "host%3Bmy-header1", "0698bc9e4f7f9139065ba2909c0e99da257e8e2a42492a097bcd46d792391fed", NULL } },
	{ "post-sts-header-after",
	  { "POST",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "x-amz-security-token", STS_LONG },
	      DATE,
	      AUTH("host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b") } },
	  { NULL, NULL, NULL } },
	{ "post-sts-header-before",
	  { "POST",
	    "/",
	    "",
	    "",
	    { HOST,
	      { "x-amz-security-token", STS_LONG },
	      DATE,
	      AUTH("host;x-amz-date;x-amz-security-token",
		   "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead") } },
	  { "host", "46c2e3c63c1dbe7d39f8ada16fe7f001c1f56c5791441565323677f96308871c", STS_LONG_ENCODED } },
	{ "post-vanilla-empty-query-value",
	  { "POST", "/", "Param1=value1", "",
	    PLAIN("28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11") },
	  { "host", "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682", NULL } },
	{ "post-vanilla-query",
	  { "POST", "/", "Param1=value1", "",
	    PLAIN("28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11") },
	  { "host", "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682", NULL } },
	{ "post-vanilla",
	  { "POST", "/", "", "", PLAIN("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b") },
	  { "host", "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b", NULL } },
	{ "post-x-www-form-urlencoded-parameters",
	  { "POST",
	    "/",
	    "",
	    "Param1=value1",
	    { { "content-type", "application/x-www-form-urlencoded; charset=utf-8" },
	      HOST,
	      { "content-length", "13" },
	      DATE,
	      { "x-amz-content-sha256", FORM },
	      AUTH("content-length;content-type;host;x-amz-content-sha256;x-amz-date",
		   "328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422") } },
	  { "content-length%3Bcontent-type%3Bhost", "0dbeb9b026c7b6675f266b8427efec9b4fa8b1f6ef1477d717aea231106eab4d",
	    NULL } },
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
		   "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b") } },
	  { "content-length%3Bcontent-type%3Bhost", "89a40deed0f26f9461242825a082d2222717248abc7ab41f552ad84a94ad46e9",
	    NULL } },
};

#define WHO_AND_WHEN                                                                                             \
	"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_" \
	"request"                                                                                                \
	"&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders="
#define VANILLA_PRESIGNED                                       \
	WHO_AND_WHEN "host&X-Amz-Expires=3600&X-Amz-Signature=" \
		     "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"

static const struct call vanilla = { "GET", "/", "", "",
				     PLAIN("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31") };

static void begin_published(struct fixture *f)
{
	begin(f);
	open_with(f, "presigned_max", "3600000");
}

/* Taken, and when it changes something once; not with its signature's last digit, which is text's, turned. */
static void assert_published(struct fixture *f, const struct call *c, char *text, const char *name)
{
	char *last = text + strlen(text) - 1, kept = *last;
	assert_call(f, c, NULL, name);
	assert_call(f, c, strcmp(c->method, "GET") == 0 ? NULL : USED, "the same again");
	*last = kept == '0' ? '1' : '0';
	assert_call(f, c, CHANGED, name);
	*last = kept;
}

static void test_published_signatures_verify(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		struct call c = published[i].call;
		char value[512];
		size_t n = 0;
		begin_published(&f); /* some cases are the same request */
		while (c.headers[n].name)
			n++;
		snprintf(value, sizeof value, "%s", c.headers[n - 1].value);
		c.headers[n - 1].value = value;
		assert_published(&f, &c, value, published[i].name);
		end(&f);
	}
	begin_published(&f);
	assert_int_equal(send_call(&f, &vanilla, &id, NULL), 0);
	assert_string_equal(id.credential, EXAMPLE_ID);
	assert_string_equal(id.groups, "[\"dev\",\"ops\"]");
	assert_string_equal(id.claims, "");
	assert_true(id.expires_ms == 0);
	end(&f);
}

/* The call as a presigned URL: what the header had is in the query, and its own headers are the client's alone. */
static struct call presigned(const struct published *p, char *query, size_t size)
{
	static const char *const left_out[] = { "x-amz-date", "x-amz-content-sha256", "x-amz-security-token",
						"authorization" };
	struct call c = p->call;
	size_t kept = 0;
	for (size_t i = 0; c.headers[i].name; i++) {
		int out = 0;
		for (size_t k = 0; k < sizeof left_out / sizeof *left_out; k++)
			out |= strcmp(c.headers[i].name, left_out[k]) == 0;
		if (!out)
			c.headers[kept++] = c.headers[i];
	}
	c.headers[kept].name = NULL;
	snprintf(query, size, "%s%s%s%s&X-Amz-Expires=3600%s%s&X-Amz-Signature=%s", c.query, *c.query ? "&" : "",
		 WHO_AND_WHEN, p->url.signed_headers, p->url.token ? "&X-Amz-Security-Token=" : "",
		 p->url.token ? p->url.token : "", p->url.signature);
	c.query = query;
	return c;
}

static void test_published_presigned_urls_verify(void **state)
{
	(void)state;
	struct fixture f;
	size_t urls = 0;
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		char query[2048];
		if (!published[i].url.signature)
			continue;
		struct call c = presigned(&published[i], query, sizeof query);
		begin_published(&f);
		assert_published(&f, &c, query, published[i].name);
		end(&f);
		urls++;
	}
	assert_int_equal(urls, sizeof published / sizeof *published - 1);
}

static void test_a_presigned_url_is_good_as_it_was_signed(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin_published(&f);
	struct call c = { "GET", "/", VANILLA_PRESIGNED, "", { HOST } };
	assert_call(&f, &c, NULL, "get-vanilla");
	assert_int_equal(send_call(&f, &c, &id, NULL), 0);
	assert_true(id.expires_ms == EXAMPLE_MS + 3600000);
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
		cmocka_unit_test(test_a_presigned_url_is_good_as_it_was_signed),
		cmocka_unit_test(test_a_presigned_url_is_not_good_for_long),
	};
	return RUN_CASES(tests);
}

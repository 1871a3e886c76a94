/* What the tests of auth-hmac share: an instance, a request sent to it, what it must say, a signer. */
#ifndef TESTS_UNIT_PLUGINS_HMAC_CASE_H
#define TESTS_UNIT_PLUGINS_HMAC_CASE_H

#include "support/case.h"

#include "support/fake_host.h"

#include <sys/types.h>

#define EXAMPLE_ID "AKIDEXAMPLE"
#define EXAMPLE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define EXAMPLE_DATE "20150830T123600Z"
#define EXAMPLE_MS INT64_C(1440938160000)
#define EXAMPLE_FILE                                                                \
	"credentials = ( { key_id = \"" EXAMPLE_ID "\"; secret = \"" EXAMPLE_SECRET \
	"\"; subject = \"alice\"; groups = [\"dev\", \"ops\"]; },\n"                \
	" { key_id = \"BOB\"; secret = \"bobs-secret-of-24-letter\"; subject = \"bob\"; } );\n"

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
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define EXAMPLE_SCOPE "20150830/us-east-1/service/aws4_request"
#define USED "this signature was used before, and one of a"
#define CHANGED "key id or secret is wrong, or the request was changed after it was signed"

struct fixture {
	char folder[64], file[128];
	struct fake_plugin p;
};

/* A request that owns nothing. */
struct call {
	const char *method, *path, *query, *body;
	struct tunnel_header headers[16]; /* ends with name NULL */
};

/* The plugin loaded, its clock at EXAMPLE_MS, EXAMPLE_FILE written; not opened. */
void begin(struct fixture *f);
void open_with(struct fixture *f, const char *key, const char *value); /* for us-east-1/service, and one option */
void begin_open(struct fixture *f);
void end(struct fixture *f);
void write_credentials(struct fixture *f, const char *text, mode_t mode);
int send_call(struct fixture *f, const struct call *c, struct tunnel_identity *out, char *err);
/* why NULL: it must be accepted, as alice. */
void assert_call(struct fixture *f, const struct call *c, const char *why, const char *name);
/* Signs a canonical request that was written by hand, and puts the Authorization header into value. */
void authorize(char value[512], const char *id, const char *scope, const char *names, const char *canonical);

#endif

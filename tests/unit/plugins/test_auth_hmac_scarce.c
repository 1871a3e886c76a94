/* Each single allocation of auth-hmac fails once while a signed request is judged and while credentials are read. Then
 * the outcome is the right one, or a refusal in words; a request that was changed is never taken for signed. */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "plugins/auth-hmac/sigv4.h"

#include <openssl/evp.h>
#include <sys/stat.h>

/* An example of AWS's published tests. */
#define NOW_MS INT64_C(1440938160000)
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define SIGNATURE "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

static const struct sigv4_rules rules = {
	.service = (char *)(uintptr_t) "service",
	.region = (char *)(uintptr_t) "us-east-1",
	.clock_window_ms = 300000,
	.presigned_max_ms = SIGV4_EXPIRES_MAX_S * 1000LL,
};

static const struct tunnel_header headers[] = {
	{ "host", "example.amazonaws.com" },
	{ "x-amz-date", "20150830T123600Z" },
	{ "authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
			   "SignedHeaders=host;x-amz-date, Signature=" SIGNATURE },
};

/* 0: signed. Else it says why not, or is positive. */
static int judge(const struct tunnel_auth_request *r, char *err, size_t err_len)
{
	struct sigv4 claim;
	int matches = 0;
	int rc = sigv4_read(r, &rules, NOW_MS, &claim, err, err_len);
	if (rc == 0)
		rc = sigv4_check(r, &claim, SECRET, &matches, err, err_len);
	assert_true(rc == 0 || !matches);
	if (rc == 0 && !matches)
		rc = TUNNEL_DENIED;
	return rc;
}

static bool judge_both(void *arg)
{
	struct tunnel_auth_request good = *(struct tunnel_auth_request *)arg, changed = good;
	char err[2][256] = { "", "" };
	changed.query = "x=1&y=%20";
	int rc[] = { judge(&good, err[0], sizeof err[0]), judge(&changed, err[1], sizeof err[1]) };
	bool failed = failing_alloc_over();
	assert_true(rc[0] == 0 || (failed && err[0][0]));
	assert_true(rc[1] != 0);
	return failed;
}

static void test_requests(void **state)
{
	(void)state;
	unsigned char hash[32];
	EVP_Digest("", 0, hash, NULL, EVP_sha256(), NULL);
	struct tunnel_auth_request r = { .size = sizeof r,
					 .method = "GET",
					 .path = "/",
					 .query = "",
					 .headers = headers,
					 .header_count = sizeof headers / sizeof *headers,
					 .body = (const unsigned char *)"",
					 .body_sha256 = hash,
					 .remote_address = "192.0.2.7" };
	assert_true(failing_alloc_sweep(judge_both, &r) > 3);
}

static bool read_credentials(void *arg)
{
	struct credentials *set = calloc(1, sizeof *set);
	char err[512] = "";
	int rc = -1;
	if (set) {
		atomic_init(&set->refs, 1);
		rc = credentials_read_file(arg, set, err, sizeof err);
	}
	bool failed = failing_alloc_over();
	assert_true(rc == 0 ? set->n == 2 : failed && (!set || err[0]));
	for (size_t i = 0; rc == 0 && i < set->n; i++)
		assert_true(set->at[i].key_id && set->at[i].subject && set->at[i].secret && set->at[i].groups);
	credentials_unref(set);
	return failed;
}

static void test_credentials(void **state)
{
	(void)state;
	char folder[64], path[96];
	snprintf(path, sizeof path, "%s/credentials", case_folder(folder));
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs("credentials = ( { key_id = \"AKIA1\"; secret = \"0123456789abcdef01\"; subject = \"alice\"; "
	      "groups = [ \"dev\", \"ops\" ]; }, { key_id = \"AKIA2\"; secret = \"0123456789abcdef02\"; subject = "
	      "\"bob\"; } "
	      ");\n",
	      f);
	fclose(f);
	chmod(path, 0600);
	assert_true(failing_alloc_sweep(read_credentials, path) > 3);
	case_folder_remove(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_credentials),
	};
	return RUN_CASES(tests);
}

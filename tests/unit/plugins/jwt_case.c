#include "jwt_case.h"

void begin(struct fixture *f)
{
	case_folder(f->folder);
	fake_plugin_load(&f->p, PLUGIN_DIR "/auth-jwt.so");
	f->p.host.wall_ms = NOW_S * INT64_C(1000);
	f->p.host.mono_ms = 5000;
	f->key = make_ec("P-256");
	write_pem(f->folder, "key.pem", f->key, 0);
	snprintf(f->spec, sizeof f->spec, "ES256:%s/key.pem", f->folder);
}

void open_with(struct fixture *f, const char *k1, const char *v1, const char *k2, const char *v2)
{
	const char *pairs[] = { "issuer", ISS, "audience", AUD, k1, v1, k2, v2, NULL };
	int rc = fake_plugin_open(&f->p, pairs);
	if (rc != 0)
		fail_msg("open: %s", f->p.err);
}

void begin_open(struct fixture *f)
{
	begin(f);
	open_with(f, "key", f->spec, NULL, NULL);
}

void end(struct fixture *f)
{
	fake_plugin_unload(&f->p);
	EVP_PKEY_free(f->key);
	case_folder_remove(f->folder);
}

int verify_header(struct fixture *f, const char *value, struct tunnel_identity *out, char *err)
{
	struct tunnel_header headers[] = { { "host", "x" }, { "authorization", value } };
	unsigned char hash[32] = { 0 };
	struct tunnel_auth_request r = { .size = sizeof r,
					 .method = "GET",
					 .path = "/v1/whoami",
					 .query = "",
					 .headers = headers,
					 .header_count = value ? 2 : 1,
					 .body_sha256 = hash,
					 .remote_address = "192.0.2.7" };
	return fake_verify(&f->p, &r, out, err);
}

int verify(struct fixture *f, const char *token, struct tunnel_identity *out)
{
	char *value = NULL;
	assert_true(asprintf(&value, "Bearer %s", token) > 0);
	int rc = verify_header(f, value, out, NULL);
	free(value);
	return rc;
}

/* No refusal repeats the token or a part of it. */
static void assert_no_echo(const struct fixture *f, const char *token)
{
	for (const char *p = token; *p;) {
		char part[24];
		size_t n = strcspn(p, ".");
		snprintf(part, sizeof part, "%.*s", (int)(n < 20 ? n : 20), p);
		if (n >= 12 && strstr(f->p.err, part))
			fail_msg("the refusal repeats the token: %s", f->p.err);
		p += n + (p[n] == '.');
	}
}

void assert_denied(struct fixture *f, char *token, const char *why)
{
	struct tunnel_identity id;
	int rc = verify(f, token, &id);
	if (rc != TUNNEL_DENIED || !strstr(f->p.err, why))
		fail_msg("expected a denial with \"%s\", got %d: %s", why, rc, f->p.err);
	assert_string_equal(id.subject, "");
	assert_no_echo(f, token);
	free(token);
}

void assert_accepted(struct fixture *f, char *token)
{
	struct tunnel_identity id;
	int rc = verify(f, token, &id);
	if (rc != 0)
		fail_msg("refused (%d): %s", rc, f->p.err);
	assert_string_equal(id.subject, "alice");
	free(token);
}

char *es256(struct fixture *f, const char *claims)
{
	return make_token("ES256", f->key, NULL, HEADER("ES256"), claims);
}

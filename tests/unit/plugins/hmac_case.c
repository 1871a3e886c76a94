#include "hmac_case.h"

#include "base/file.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

void write_credentials(struct fixture *f, const char *text, mode_t mode)
{
	struct err e = { 0 };
	assert_int_equal(file_write(f->file, text, strlen(text), mode, &e), 0);
}

void begin(struct fixture *f)
{
	case_folder(f->folder);
	snprintf(f->file, sizeof f->file, "%s/credentials", f->folder);
	fake_plugin_load(&f->p, PLUGIN_DIR "/auth-hmac.so");
	f->p.host.wall_ms = EXAMPLE_MS;
	f->p.host.mono_ms = 5000;
	write_credentials(f, EXAMPLE_FILE, 0600);
}

void open_with(struct fixture *f, const char *key, const char *value)
{
	const char *pairs[] = { "credentials", f->file, "service", "service", "region", "us-east-1", key, value, NULL };
	if (fake_plugin_open(&f->p, pairs) != 0)
		fail_msg("open: %s", f->p.err);
}

void begin_open(struct fixture *f)
{
	begin(f);
	open_with(f, NULL, NULL);
}

void end(struct fixture *f)
{
	fake_plugin_unload(&f->p);
	case_folder_remove(f->folder);
}

int send_call(struct fixture *f, const struct call *c, struct tunnel_identity *out, char *err)
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

void assert_call(struct fixture *f, const struct call *c, const char *why, const char *name)
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

/* Signs the canonical text and puts the header into value. */
void authorize(char value[512], const char *id, const char *scope, const char *names, const char *canonical)
{
	char signature[65];
	sign(EXAMPLE_SECRET, EXAMPLE_DATE, scope, canonical, signature);
	snprintf(value, 512, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", id, scope, names,
		 signature);
}

/* SSH certificates: whatever stands in one is what a decoder of its own, written from PROTOCOL.certkeys, reads, and
 * nothing else. The input is flags (a byte: host, ECDSA or RSA key, options, extensions), serial and times (8 bytes
 * each), and lines: key id, command, source address, principals. */
#include "authority.h"
#include "fuzz.h"

#include "base/text.h"
#include "ident/sshcert.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define PRINCIPALS_MAX 70 /* more than may be */

enum { HOST = 1, ECDSA_KEY = 2, RSA_KEY = 4, COMMAND = 8, ADDRESS = 16, PORTS = 32, AGENT = 64, X11 = 128 };

/* ---- what is certified ---- */

static const char ecdsa_line[] = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNqvmu"
				 "Cdeo2hnPMElqsjV+AW6PJ2f5H+tdFDS3dMIsR5voUA2qVmuJKZWOm7lyBfcsI1VGi1U/bx6mJOof8OOmo=";

static void add(uint8_t *blob, size_t *len, const void *bytes, size_t n)
{
	const uint8_t head[4] = { 0, 0, (uint8_t)(n >> 8), (uint8_t)n };
	memcpy(blob + *len, head, 4);
	memcpy(blob + *len + 4, bytes, n);
	*len += 4 + n;
}

static const char *rsa_line(void)
{
	static char line[SSHCERT_KEY_TEXT];
	uint8_t blob[512], n[257] = { 0, 0xc3 };
	size_t len = 0;
	memset(n + 2, 0x5b, sizeof n - 2);
	add(blob, &len, "ssh-rsa", 7);
	add(blob, &len, "\1\0\1", 3);
	add(blob, &len, n, sizeof n);
	memcpy(line, "ssh-rsa ", 8);
	text_b64(blob, len, line + 8, sizeof line - 8);
	return line;
}

static const char *key_line(unsigned flags)
{
	static char ed25519[SSHCERT_KEY_TEXT];
	struct err e;
	if (flags & ECDSA_KEY)
		return ecdsa_line;
	if (flags & RSA_KEY)
		return rsa_line();
	FUZZ_CHECK(sshkey_public_text(authority(), ed25519, &e) == 0);
	return ed25519;
}

/* ---- the decoder ---- */

struct reader {
	const uint8_t *at;
	size_t left;
};

static const uint8_t *take(struct reader *r, size_t n)
{
	const uint8_t *at = r->at;
	FUZZ_CHECK(n <= r->left);
	r->at += n;
	r->left -= n;
	return at;
}

static uint64_t number(struct reader *r, size_t bytes)
{
	uint64_t n = 0;
	for (const uint8_t *at = take(r, bytes), *end = at + bytes; at < end; at++)
		n = n << 8 | *at;
	return n;
}

static struct reader string(struct reader *r)
{
	size_t n = (size_t)number(r, 4);
	return (struct reader){ take(r, n), n };
}

static void expect(struct reader *r, const char *text)
{
	struct reader s = string(r);
	FUZZ_CHECK(s.left == strlen(text) && memcmp(s.at, text, s.left) == 0);
}

static size_t decode(const char *base64, uint8_t *out)
{
	size_t len = strlen(base64);
	int n = EVP_DecodeBlock(out, (const unsigned char *)base64, (int)len);
	FUZZ_CHECK(n > 0 && len % 4 == 0);
	return (size_t)n - (base64[len - 1] == '=') - (base64[len - 2] == '=');
}

/* The fields of the key itself, which stand in the certificate as in its own blob. */
static void expect_key(struct reader *r, const char *line, const char *type)
{
	uint8_t blob[SSHCERT_KEY_TEXT];
	size_t len = decode(strchr(line, ' ') + 1, blob), skip = 4 + strlen(type);
	FUZZ_CHECK(memcmp(take(r, len - skip), blob + skip, len - skip) == 0);
}

static void expect_options(struct reader *r, const struct sshcert *c)
{
	struct reader list = string(r), value;
	if (c->force_command) {
		expect(&list, "force-command");
		value = string(&list);
		expect(&value, c->force_command);
		FUZZ_CHECK(value.left == 0);
	}
	if (c->source_address) {
		expect(&list, "source-address");
		value = string(&list);
		expect(&value, c->source_address);
		FUZZ_CHECK(value.left == 0);
	}
	FUZZ_CHECK(list.left == 0);
}

static void expect_extensions(struct reader *r, const struct sshcert *c)
{
	const struct {
		const char *name;
		int on;
	} all[] = { { "permit-X11-forwarding", c->permit_x11_forwarding },
		    { "permit-agent-forwarding", c->permit_agent_forwarding },
		    { "permit-port-forwarding", c->permit_port_forwarding },
		    { "permit-pty", 1 },
		    { "permit-user-rc", c->permit_user_rc } };
	struct reader list = string(r);
	for (size_t i = 0; c->type == SSHCERT_USER && i < sizeof all / sizeof *all; i++)
		if (all[i].on) {
			expect(&list, all[i].name);
			FUZZ_CHECK(string(&list).left == 0);
		}
	FUZZ_CHECK(list.left == 0);
}

static void expect_signature(struct reader *r, const uint8_t *statement, size_t len)
{
	struct reader signature = string(r);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	expect(&signature, "ssh-ed25519");
	struct reader bytes = string(&signature);
	FUZZ_CHECK(signature.left == 0 && r->left == 0);
	FUZZ_CHECK(EVP_DigestVerifyInit(md, NULL, NULL, NULL, authority()) == 1);
	FUZZ_CHECK(EVP_DigestVerify(md, bytes.at, bytes.left, statement, len) == 1);
	EVP_MD_CTX_free(md);
}

static void check_content(const char *text, const struct sshcert *c, const char *line)
{
	static uint8_t blob[SSHCERT_TEXT];
	char type[64], cert_type[100], ca[SSHCERT_KEY_TEXT];
	struct err e;
	snprintf(type, sizeof type, "%.*s", (int)strcspn(line, " "), line);
	snprintf(cert_type, sizeof cert_type, "%s-cert-v01@openssh.com", type);
	FUZZ_CHECK(strncmp(text, cert_type, strlen(cert_type)) == 0 && text[strlen(cert_type)] == ' ');
	struct reader r = { blob, decode(text + strlen(cert_type) + 1, blob) };
	expect(&r, cert_type);
	FUZZ_CHECK(string(&r).left == 32);
	expect_key(&r, line, type);
	FUZZ_CHECK(number(&r, 8) == c->serial && number(&r, 4) == (uint64_t)c->type);
	expect(&r, c->key_id);
	struct reader principals = string(&r);
	for (size_t i = 0; i < c->principal_count; i++)
		expect(&principals, c->principals[i]);
	FUZZ_CHECK(principals.left == 0);
	FUZZ_CHECK(number(&r, 8) == (uint64_t)c->valid_after_s && number(&r, 8) == (uint64_t)c->valid_before_s);
	expect_options(&r, c);
	expect_extensions(&r, c);
	FUZZ_CHECK(string(&r).left == 0);
	FUZZ_CHECK(sshkey_public_text(authority(), ca, &e) == 0);
	uint8_t ca_blob[SSHCERT_KEY_TEXT];
	size_t ca_len = decode(strchr(ca, ' ') + 1, ca_blob);
	struct reader signer = string(&r);
	FUZZ_CHECK(signer.left == ca_len && memcmp(signer.at, ca_blob, ca_len) == 0);
	expect_signature(&r, blob, (size_t)(r.at - blob));
}

/* ---- what must be refused ---- */

static bool is_name(const char *s)
{
	for (const char *c = s; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			return false;
	return *s != '\0';
}

static bool may_be(const struct sshcert *c, unsigned flags)
{
	bool ok = is_name(c->key_id) && c->principal_count >= 1 && c->principal_count <= 64;
	for (size_t i = 0; i < c->principal_count; i++)
		ok = ok && is_name(c->principals[i]);
	ok = ok && c->valid_after_s >= 0 && c->valid_after_s < c->valid_before_s;
	if (c->type == SSHCERT_USER)
		return ok && (flags & ECDSA_KEY || !(flags & RSA_KEY));
	return ok && !c->source_address && !c->force_command;
}

static size_t size_of(const struct sshcert *c)
{
	size_t n = strlen(c->key_id) + 1000;
	for (size_t i = 0; i < c->principal_count; i++)
		n += 4 + strlen(c->principals[i]);
	n += c->force_command ? strlen(c->force_command) : 0;
	return n + (c->source_address ? strlen(c->source_address) : 0);
}

static void sign(const struct sshcert *c, unsigned flags)
{
	static char out[SSHCERT_TEXT];
	struct err e;
	fuzz_fill(out, sizeof out);
	int rc = sshcert_sign(authority(), c, key_line(flags), out, &e);
	if (rc == 0) {
		FUZZ_CHECK(may_be(c, flags));
		check_content(out, c, key_line(flags));
		return;
	}
	FUZZ_CHECK(e.code == rc && e.text[0] && fuzz_is_untouched(out, sizeof out));
	FUZZ_CHECK(rc == ERR_INVALID ? !may_be(c, flags) : rc == ERR_LIMIT && size_of(c) > 5000);
}

static uint64_t eight_bytes(struct fuzz_input *in)
{
	uint64_t n = 0;
	for (int i = 0; i < 8; i++)
		n = n << 8 | fuzz_byte(in);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	unsigned flags = fuzz_byte(&in);
	char *names[PRINCIPALS_MAX], *key_id, *command, *address;
	struct sshcert c = { .type = flags & HOST ? SSHCERT_HOST : SSHCERT_USER, .serial = eight_bytes(&in) };
	c.valid_after_s = (int64_t)eight_bytes(&in);
	c.valid_before_s = (int64_t)eight_bytes(&in);
	c.key_id = key_id = fuzz_part(&in, '\n');
	command = fuzz_part(&in, '\n');
	address = fuzz_part(&in, '\n');
	c.force_command = flags & COMMAND ? command : NULL;
	c.source_address = flags & ADDRESS ? address : NULL;
	c.permit_port_forwarding = flags & PORTS;
	c.permit_agent_forwarding = flags & AGENT;
	c.permit_x11_forwarding = c.permit_user_rc = flags & X11;
	c.principals = (const char *const *)names;
	while (in.left && c.principal_count < PRINCIPALS_MAX)
		names[c.principal_count++] = fuzz_part(&in, '\n');
	sign(&c, flags);
	for (size_t i = 0; i < c.principal_count; i++)
		free(names[i]);
	free(key_id);
	free(command);
	free(address);
	return 0;
}

/* A config file: what is loaded and printed loads again, and prints the same. */
#include "fuzz.h"

#include "base/conf.h"

#include <stdlib.h>
#include <string.h>

struct settings {
	char *listen, *cert, *secret;
	int64_t reactors, offset, grace_ms, size;
	bool bind;
	int format;
	struct conf_strings urls;
	struct conf_section store;
	struct conf_sections auth;
};

#define AT(member) offsetof(struct settings, member)
static const struct conf_row rows[] = {
	{ "listen", CONF_STRING, AT(listen), CONF_REQUIRED, NULL, 0, 64, NULL, "where to listen" },
	{ "reactors", CONF_INT, AT(reactors), 0, "2", 1, 64, NULL, "threads" },
	{ "offset", CONF_INT, AT(offset), 0, "0", INT64_MIN, INT64_MAX, NULL, "any number" },
	{ "urls", CONF_STRINGS, AT(urls), 0, NULL, 0, 0, NULL, "servers" },
	{ "tls.certificate", CONF_PATH, AT(cert), 0, NULL, 0, 0, NULL, "PEM file" },
	{ "tls.secret", CONF_STRING, AT(secret), CONF_SECRET, NULL, 0, 0, NULL, "a secret" },
	{ "session.detach_grace", CONF_DURATION_MS, AT(grace_ms), 0, "15m", 0, INT64_MAX, NULL, "how long" },
	{ "session.bind", CONF_BOOL, AT(bind), 0, "false", 0, 0, NULL, "end with the identity" },
	{ "log.format", CONF_ENUM, AT(format), 0, "logfmt", 0, 0, "logfmt|json", "how lines look" },
	{ "log.size", CONF_SIZE, AT(size), 0, "64k", 0, INT64_MAX, NULL, "bytes" },
	{ "store", CONF_SECTION, AT(store), 0, NULL, 0, 0, NULL, "store plugin" },
	{ "auth", CONF_SECTIONS, AT(auth), 0, NULL, 0, 0, NULL, "auth plugins" },
	{ .key = NULL },
};

static int load(const void *text, size_t len, struct settings *s)
{
	struct err e;
	memset(s, 0, sizeof *s);
	int rc = conf_load(fuzz_file(text, len), rows, s, &e);
	FUZZ_CHECK(rc == 0 || (e.code == rc && e.text[0]));
	FUZZ_CHECK(rc == 0 || (!s->listen && !s->cert && !s->secret && !s->urls.at && !s->store.pairs && !s->auth.at));
	return rc;
}

static char *print(const struct settings *s, size_t *out_len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, out_len);
	conf_print(f, rows, s, NULL);
	fclose(f);
	return text;
}

static void check(const struct settings *s)
{
	struct settings back;
	size_t len = 0, again_len = 0;
	FUZZ_CHECK(s->listen && s->listen[0] && strlen(s->listen) <= 64 && s->reactors >= 1 && s->reactors <= 64);
	FUZZ_CHECK(s->grace_ms >= 0 && s->size >= 0 && s->format >= 0 && s->format <= 1);
	char *text = print(s, &len);
	FUZZ_CHECK(load(text, len, &back) == 0);
	char *again = print(&back, &again_len);
	FUZZ_CHECK(len == again_len && memcmp(text, again, len) == 0);
	free(text);
	free(again);
	conf_free(rows, &back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings s;
	/* Other files are no input; and a text of over 4095 bytes is none for a value. */
	if (size > 2048 || memmem(data, size, "@include", 8))
		return 0;
	if (load(data, size, &s) == 0)
		check(&s);
	conf_free(rows, &s);
	return 0;
}

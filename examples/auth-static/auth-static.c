/* An example of an auth plugin outside tunnel's tree: callers are named by tokens in a file.
 *
 * Each line of the file is "<token> <subject>"; lines that begin with "#" are comments. A request carries
 * "Authorization: Static <token>". Tokens in a file are fine for a try; real deployments use auth-jwt or auth-hmac.
 *
 * Build: make. Needs the headers alone (pkg-config tunnel-plugin). Check it:
 * tunnel-plugin-check --accept 'Authorization: Static s3cret-token-of-alice' ./auth-static.so file=$PWD/tokens */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tunnel/auth.h>

#define ENTRIES_MAX 256
#define TOKEN_MIN 16
#define TOKEN_MAX 128

struct entry {
	char token[TOKEN_MAX + 1];
	char subject[TUNNEL_SUBJECT_MAX];
};

struct instance {
	struct entry entries[ENTRIES_MAX];
	size_t count;
};

static const struct tunnel_option_spec options[] = {
	{ .size = sizeof(struct tunnel_option_spec),
	  .key = "file",
	  .type = TUNNEL_OPTION_PATH,
	  .flags = TUNNEL_OPTION_REQUIRED,
	  .help = "the tokens: a line each, \"<token> <subject>\"; mode 0600" },
	{ .key = NULL }, /* ends the table */
};

static int read_line(struct instance *s, const char *path, int number, char *line, char *err, size_t err_len)
{
	struct entry *e = &s->entries[s->count];
	char extra;
	if (line[0] == '#' || line[strspn(line, " \t\n")] == '\0')
		return TUNNEL_OK;
	if (s->count == ENTRIES_MAX || sscanf(line, "%128s %255s %c", e->token, e->subject, &extra) != 2 ||
	    strlen(e->token) < TOKEN_MIN || strlen(e->token) == TOKEN_MAX) {
		memset(e, 0, sizeof *e);
		snprintf(err, err_len,
			 "file: %s:%d: expected \"<token of %d to %d characters> <subject>\", at most %d lines", path,
			 number, TOKEN_MIN, TOKEN_MAX - 1, ENTRIES_MAX);
		return TUNNEL_CONFIG;
	}
	s->count++;
	return TUNNEL_OK;
}

static int read_tokens(struct instance *s, const char *path, char *err, size_t err_len)
{
	char line[1024];
	struct stat st;
	FILE *f = fopen(path, "re");
	if (!f || fstat(fileno(f), &st) != 0 || (st.st_mode & 077)) {
		snprintf(err, err_len, "file: %s: %s", path,
			 f ? "others can read it; expected mode 0600" : "cannot be read");
		if (f)
			fclose(f);
		return TUNNEL_CONFIG;
	}
	int rc = TUNNEL_OK;
	for (int number = 1; rc == TUNNEL_OK && fgets(line, sizeof line, f); number++)
		rc = read_line(s, path, number, line, err, err_len);
	fclose(f);
	explicit_bzero(line, sizeof line);
	return rc;
}

static void close_instance(void *instance)
{
	if (instance)
		explicit_bzero(instance, sizeof(struct instance));
	free(instance);
}

static int open_instance(const struct tunnel_host *host, const struct tunnel_option *o, size_t n, void **out_instance,
			 char *err, size_t err_len)
{
	struct instance *s = calloc(1, sizeof *s);
	if (!s) {
		snprintf(err, err_len, "out of memory");
		return TUNNEL_UNAVAILABLE;
	}
	/* The host has checked the options: "file" is there, once, and absolute. */
	int rc = n == 1 ? read_tokens(s, o[0].value, err, err_len) : TUNNEL_CONFIG;
	if (rc != TUNNEL_OK) {
		close_instance(s);
		return rc;
	}
	char text[64];
	snprintf(text, sizeof text, "%zu tokens", s->count);
	host->log(host->ctx, TUNNEL_LOG_INFO, text);
	*out_instance = s;
	return TUNNEL_OK;
}

/* Compares without telling by its time where they differ. */
static int same_token(const char *known, const char *given)
{
	unsigned char a[TOKEN_MAX + 1] = { 0 }, b[TOKEN_MAX + 1] = { 0 }, different = 0;
	memcpy(a, known, strlen(known));
	memcpy(b, given, strlen(given) < sizeof b ? strlen(given) : sizeof b);
	for (size_t i = 0; i < sizeof a; i++)
		different |= (unsigned char)(a[i] ^ b[i]);
	return !different;
}

static int verify(void *instance, const struct tunnel_call *call, const struct tunnel_auth_request *request,
		  struct tunnel_identity *out)
{
	const struct instance *s = instance;
	const char *given = NULL;
	for (size_t i = 0; i < request->header_count; i++)
		if (strcmp(request->headers[i].name, "authorization") == 0 &&
		    strncmp(request->headers[i].value, "Static ", 7) == 0)
			given = request->headers[i].value + 7;
	if (!given)
		return TUNNEL_NOT_MINE;
	const struct entry *found = NULL;
	for (size_t i = 0; i < s->count; i++)
		if (same_token(s->entries[i].token, given))
			found = &s->entries[i];
	if (!found) {
		if (call->err && call->err_len)
			snprintf(call->err, call->err_len, "unknown token");
		return TUNNEL_DENIED;
	}
	/* All members of ABI 1.0 up to groups are surely there; a later one would need a look at out->size. */
	snprintf(out->subject, sizeof out->subject, "%s", found->subject);
	snprintf(out->credential, sizeof out->credential, "static-%zu", (size_t)(found - s->entries));
	return TUNNEL_OK;
}

static const struct tunnel_auth_ops ops = {
	.size = sizeof ops,
	.verify = verify,
};

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_AUTH,
	.threads = TUNNEL_THREADS_PARALLEL, /* an instance never changes after open */
	.name = "auth-static",
	.version = "1.0",
	.options = options,
	.open = open_instance,
	.close = close_instance,
	.ops = &ops,
};
TUNNEL_PLUGIN_REGISTER(descriptor)

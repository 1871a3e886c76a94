/* Clients differ in how they write the path and the query down before they sign them:
 *
 *  path   AWS SDKs: dot segments and double slashes resolved, then each byte percent-encoded, "%" too.
 *         curl 8: encoded the same way, but not resolved. curl 7: as it was sent.
 *  query  AWS SDKs, curl 8: parameters decoded, encoded in one way, sorted. curl 7: as it was sent.
 *
 * Each form is tried. That lets nobody turn a signed request into another one: a form that equals what was signed
 * under a different form names the same resource and parameters. The exception would be a path with an encoded
 * percent sign, where "as sent" could be read as the encoding of another path, so that form is left out there. */
#include "canonical.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
	       c == '_' || c == '~';
}

static void add_encoded(struct string *to, const char *text, size_t n, int keep_slash)
{
	static const char digits[] = "0123456789ABCDEF";
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		char triple[3] = { '%', digits[c >> 4], digits[c & 15] };
		if (is_unreserved(c) || (keep_slash && c == '/'))
			string_add_n(to, text + i, 1);
		else
			string_add_n(to, triple, 3);
	}
}

/* Without ".", ".." and empty segments; a slash at the end stays. */
static void add_resolved(struct string *to, const char *path)
{
	const char *p = path;
	while (*p && !to->failed) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			const char *slash = to->at ? strrchr(to->at, '/') : NULL;
			to->len = slash ? (size_t)(slash - to->at) : 0;
			if (to->at)
				to->at[to->len] = '\0';
		} else if (n != 0 && !(n == 1 && p[0] == '.')) {
			string_add(to, "/");
			string_add_n(to, p, n);
		}
		p += n + (p[n] == '/');
	}
	if (to->len == 0 || path[strlen(path) - 1] == '/')
		string_add(to, "/");
}

static void make_paths(const char *path, struct canonical *c)
{
	struct string resolved = { .max = CANONICAL_MAX };
	add_resolved(&resolved, path);
	if (resolved.at)
		add_encoded(&c->paths[0], resolved.at, resolved.len, 1);
	c->paths[0].failed |= resolved.failed;
	string_free(&resolved);
	string_add(&c->paths[1], "");
	add_encoded(&c->paths[1], path, strlen(path), 1);
	c->path_count = 2;
	if (!strstr(path, "%25")) {
		string_add(&c->paths[2], path);
		c->path_count = 3;
	}
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

/* malloc'd; NULL: a "%" without two digits, an encoded NUL, or no memory. "+" is a plus sign. */
static char *decode(const char *text, size_t n)
{
	size_t len = 0;
	char *out = malloc(n + 1);
	for (size_t i = 0; out && i < n; i++) {
		int high = text[i] == '%' && i + 2 < n ? hex_digit(text[i + 1]) : -1;
		int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
		if (text[i] != '%') {
			out[len++] = text[i];
		} else if (low >= 0 && (high || low)) {
			out[len++] = (char)(high << 4 | low);
			i += 2;
		} else {
			free(out);
			return NULL;
		}
	}
	if (out)
		out[len] = '\0';
	return out;
}

int params_read(const char *query, struct params *out, char *err, size_t err_len)
{
	out->n = 0;
	for (const char *p = query; *p;) {
		size_t n = strcspn(p, "&"), name = strcspn(p, "=&");
		if (n) {
			if (out->n == CANONICAL_PARAMS) {
				params_free(out);
				return say(-1, err, err_len, "more than %d query parameters", CANONICAL_PARAMS);
			}
			struct param *to = &out->at[out->n++];
			to->name = decode(p, name);
			to->value = name < n ? decode(p + name + 1, n - name - 1) : decode("", 0);
			if (!to->name || !to->value) {
				params_free(out);
				return say(-1, err, err_len, "the query has a percent sign without two hex digits");
			}
		}
		p += n + (p[n] == '&');
	}
	return 0;
}

void params_free(struct params *params)
{
	for (size_t i = 0; i < params->n; i++) {
		free(params->at[i].name);
		free(params->at[i].value);
	}
	params->n = 0;
}

static int is_signature(const char *name)
{
	return strcmp(name, "X-Amz-Signature") == 0;
}

/* By encoded name, then encoded value: that order, since encoding changes it. */
static int compare_encoded(const void *a, const void *b)
{
	const struct param *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	return order ? order : strcmp(x->value, y->value);
}

static int encode_params(struct params *params, int presigned)
{
	size_t kept = 0;
	int failed = 0;
	for (size_t i = 0; i < params->n; i++) {
		struct param *p = &params->at[i];
		struct string name = { .max = CANONICAL_MAX }, value = { .max = CANONICAL_MAX };
		int leave_out = presigned && is_signature(p->name);
		string_add(&name, "");
		string_add(&value, "");
		add_encoded(&name, p->name, strlen(p->name), 0);
		add_encoded(&value, p->value, strlen(p->value), 0);
		failed |= name.failed | value.failed;
		free(p->name);
		free(p->value);
		if (leave_out || name.failed || value.failed) {
			string_free(&name);
			string_free(&value);
		} else {
			params->at[kept++] = (struct param){ name.at, value.at };
		}
	}
	params->n = kept;
	return failed ? -1 : 0;
}

static void add_as_sent(struct string *to, const char *query, int presigned)
{
	int first = 1;
	string_add(to, "");
	for (const char *p = query; *p;) {
		size_t n = strcspn(p, "&");
		if (!presigned || strncmp(p, "X-Amz-Signature=", 16) != 0) {
			if (!first)
				string_add(to, "&");
			string_add_n(to, p, n);
			first = 0;
		}
		p += n + (p[n] == '&');
	}
}

static int make_queries(const char *query, int presigned, struct canonical *c, char *err, size_t err_len)
{
	struct params *params = malloc(sizeof *params);
	if (!params)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	if (params_read(query, params, err, err_len) != 0) {
		free(params);
		return TUNNEL_DENIED;
	}
	string_add(&c->queries[0], "");
	c->queries[0].failed |= encode_params(params, presigned) != 0;
	qsort(params->at, params->n, sizeof *params->at, compare_encoded);
	for (size_t i = 0; i < params->n; i++) {
		string_add(&c->queries[0], i ? "&" : "");
		string_add(&c->queries[0], params->at[i].name);
		string_add(&c->queries[0], "=");
		string_add(&c->queries[0], params->at[i].value);
	}
	params_free(params);
	free(params);
	add_as_sent(&c->queries[1], query, presigned);
	c->query_count =
		c->queries[1].failed || strcmp(c->queries[1].at, c->queries[0].failed ? "" : c->queries[0].at) != 0 ? 2
														    : 1;
	return 0;
}

/* Blanks at the ends gone, runs of them one space. */
static void add_value(struct string *to, const char *value)
{
	int blank = 0, begun = 0;
	for (const char *p = value; *p; p++) {
		if (*p == ' ' || *p == '\t') {
			blank = begun;
			continue;
		}
		if (blank)
			string_add(to, " ");
		string_add_n(to, p, 1);
		blank = 0;
		begun = 1;
	}
}

static int make_headers(const struct tunnel_auth_request *request, const char *names, struct canonical *c, char *err,
			size_t err_len)
{
	char name[128], a[SHOWN_MAX];
	for (const char *p = names; *p;) {
		size_t n = strcspn(p, ";"), found = 0;
		snprintf(name, sizeof name, "%.*s", (int)n, p);
		for (size_t i = 0; i < request->header_count; i++) {
			if (strcmp(request->headers[i].name, name) != 0)
				continue;
			if (found++ == 0)
				string_add(&c->headers, name);
			string_add(&c->headers, found == 1 ? ":" : ",");
			add_value(&c->headers, request->headers[i].value);
		}
		if (!found)
			return say(TUNNEL_DENIED, err, err_len, "the signed header \"%s\" is not in the request",
				   shown(name, a));
		string_add(&c->headers, "\n");
		p += n + (p[n] == ';');
	}
	return 0;
}

int canonical_make(const struct tunnel_auth_request *request, const char *signed_headers, int presigned,
		   struct canonical *out, char *err, size_t err_len)
{
	struct canonical c = { .headers = { .max = CANONICAL_MAX } };
	for (size_t i = 0; i < CANONICAL_PATHS; i++)
		c.paths[i].max = CANONICAL_MAX;
	for (size_t i = 0; i < CANONICAL_QUERIES; i++)
		c.queries[i].max = CANONICAL_MAX;
	make_paths(request->path, &c);
	int rc = make_queries(request->query, presigned, &c, err, err_len);
	if (rc == 0)
		rc = make_headers(request, signed_headers, &c, err, err_len);
	int failed = c.headers.failed;
	for (size_t i = 0; i < c.path_count; i++)
		failed |= c.paths[i].failed;
	for (size_t i = 0; i < c.query_count; i++)
		failed |= c.queries[i].failed;
	if (rc == 0 && failed)
		rc = say(TUNNEL_DENIED, err, err_len, "the request is too large to be checked");
	if (rc != 0)
		canonical_free(&c);
	else
		*out = c;
	return rc;
}

void canonical_free(struct canonical *c)
{
	for (size_t i = 0; i < CANONICAL_PATHS; i++)
		string_free(&c->paths[i]);
	for (size_t i = 0; i < CANONICAL_QUERIES; i++)
		string_free(&c->queries[i]);
	string_free(&c->headers);
}

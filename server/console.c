/* The page is at "/", what it loads below "/console/". Everything comes from this very server, and the headers say so:
 * no other source of code, style or data, no frame around it, no text of the server's that turns into markup
 * (trusted-types). */
#include "server/console.h"

#include "server/console_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE "index.html"
#define FOLDER "/console/"
#define METHODS "GET, HEAD"

static const char headers[] =
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
	"require-trusted-types-for 'script'; trusted-types 'none'\r\n"
	"X-Content-Type-Options: nosniff\r\n"
	"Referrer-Policy: no-referrer\r\n"
	"Cross-Origin-Opener-Policy: same-origin\r\n"
	"Cross-Origin-Resource-Policy: same-origin\r\n"
	"X-Frame-Options: DENY\r\n";

static const struct {
	const char *ending, *type;
} types[] = {
	{ ".html", "text/html; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" },
	{ ".js", "text/javascript; charset=utf-8" },
	{ ".svg", "image/svg+xml" },
};

static const struct console_file *find(const char *path)
{
	const char *name = NULL;
	if (strcmp(path, "/") == 0)
		name = PAGE;
	else if (strncmp(path, FOLDER, sizeof FOLDER - 1) == 0)
		name = path + sizeof FOLDER - 1;
	for (const struct console_file *f = console_files; name && f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

bool console_has(const char *path)
{
	return find(path) != NULL;
}

static const char *type_of(const char *name)
{
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].ending, dot) == 0)
			return types[i].type;
	return "application/octet-stream";
}

void console_answer(const char *method, const char *path, const char *request_id, struct api_response *out)
{
	const struct console_file *f = find(path);
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		api_problem(out, request_id, 405, "method-not-allowed", "%.16s is not possible here; allowed: " METHODS,
			    method);
		snprintf(out->allow, sizeof out->allow, METHODS);
		return;
	}
	snprintf(out->request_id, sizeof out->request_id, "%s", request_id);
	out->body = f ? malloc(f->size) : NULL;
	if (!out->body) {
		api_problem(out, request_id, 500, "internal", "out of memory");
		return;
	}
	memcpy(out->body, f->data, f->size);
	out->body_len = f->size;
	out->status = 200;
	out->content_type = type_of(f->name);
	out->headers = headers;
}

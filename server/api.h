/* The control API: HTTP in, HTTP out, on worker threads. api.c routes by a table; api_*.c hold the handlers. */
#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/pool.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tunnel/auth.h>

struct server;

struct api_request {
	const char *method, *path, *query; /* as sent, percent-encoded; query without "?", "" if none */
	const struct tunnel_header *headers;
	size_t header_count;
	const unsigned char *body;
	size_t body_len;
	const char *remote_address;
	char request_id[24];
};

struct api_response {
	int status;
	char *body; /* malloc'd; NULL: none */
	size_t body_len;
	const char *content_type; /* static */
	int64_t retry_after_s;    /* 0: no header */
	bool known;               /* the caller has shown a credential that was accepted */
	char allow[64];           /* Allow of a 405 */
	char request_id[24];      /* X-Request-Id: what the log's lines about it have; "": no header */
	const char *headers;      /* static: further header lines, each with its line end; NULL: none */
};

/* Where it is to run. proof: it carries one, so a session's token and not an identity. Any thread. */
enum pool_lane api_lane(const char *method, const char *path, bool proof);
/* Never fails: what goes wrong is a problem+json answer. */
void api_handle_blocking(struct server *server, const struct api_request *request, struct api_response *out);
void api_response_free(struct api_response *r);
/* A problem+json answer, also for the transport's own refusals (411, 413, 503). Any thread. */
void api_problem(struct api_response *r, const char *request_id, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
const char *api_header(const struct api_request *q, const char *lower_case_name); /* NULL: absent */

#endif

/* REST calls through libcurl. Blocking: for command-line programs and uv_queue_work threads. */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

struct http_request {
	const char *method, *url;
	const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
	const char *body;           /* text or NULL */
	const char *content_type;   /* of the body; NULL: application/json */
	const char *ca_file;        /* NULL: the system's */
	const char *ca_setting;     /* which setting that is, for words; NULL: "ca_file" */
	const char *proxy;          /* as struct ws_options.proxy */
	/* AWS SigV4: "provider1[:provider2]:region:service" and "key:secret"; NULL: none (CURLOPT_AWS_SIGV4). No two
	 * calls have the same signature. */
	const char *sigv4, *userpwd;
	int64_t timeout_ms;  /* 0: 15 s */
	size_t max_response; /* bytes of the answer, at most LIMIT_HTTP_RESPONSE; 0: that */
};

struct http_response {
	int status;
	char *body; /* NUL-terminated; wiped when freed */
	size_t body_len;
	json_t *json;           /* parsed when the content type is JSON and it parses; else NULL */
	char code[64];          /* problem+json "code"; "" if none */
	char detail[256];       /* problem+json "detail", or words about the status */
	char request_id[32];    /* problem+json "request_id"; "" if none */
	int64_t retry_after_ms; /* from Retry-After; 0: none */
};

/* 0 when an HTTP answer came, whatever its status; negative when none came, with words that name host and cause. Any
 * thread. */
int http_call_blocking(const struct http_request *request, struct http_response *out, struct err *e);
void http_response_free(struct http_response *r);

#endif

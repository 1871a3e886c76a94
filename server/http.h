/* HTTP requests on a connection: collected, handed to the API on a worker, answered with keep-alive; and the judgement
 * of upgrade requests. Knows nothing of lws. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "server/api.h"
#include "server/conn.h"

#include <stdbool.h>

#define HTTP_BODY_NONE (-1)
#define HTTP_BODY_INVALID (-2)

/* A parsed request head. Texts belong to one block. */
struct http_head {
	char *block; /* malloc'd; holds all texts */
	size_t block_size;
	const char *method, *path, *query;
	struct tunnel_header *headers; /* in block */
	size_t header_count;
	size_t size;            /* bytes of all names and values */
	int64_t content_length; /* or HTTP_BODY_NONE, HTTP_BODY_INVALID */
	bool chunked, expect_continue, keep_alive;
};
void http_head_free(struct http_head *head);
const char *http_head_get(const struct http_head *head, const char *lower_case_name);

struct http *http_new(struct conn *c);
void http_free(struct http **http);

/* The head is there; it is taken. Reading goes on while a body is to come. */
enum conn_result http_on_head(struct conn *c, struct http_head *head);
enum conn_result http_on_body(struct conn *c, const uint8_t *data, size_t len);
enum conn_result http_on_body_end(struct conn *c);
/* There is no memory to read a request, or to answer it: says so, from none. The connection ends. */
enum conn_result http_no_memory(struct conn *c);
enum http_write { HTTP_WRITE_MORE, HTTP_WRITE_NEXT_REQUEST, HTTP_WRITE_CLOSE };
enum http_write http_on_writable(struct conn *c);
/* CONN_CLOSE: its time is over; an answer was written where one is due. */
enum conn_result http_on_tick(struct conn *c, int64_t now_mono_ms, bool can_write);

/* Judges a WebSocket upgrade. CONN_OK: c->ops and c->state are set and the upgrade may go on. CONN_CLOSE: *out_answer
 * is a whole HTTP answer to be sent (malloc'd), and then the connection closes. */
enum conn_result http_judge_upgrade(struct conn *c, const struct http_head *head, char **out_answer, size_t *out_len);

/* The answer to an upgrade request that is not even one: malloc'd; NULL when out of memory. */
char *http_refuse_upgrade(struct conn *c, int status, const char *code, const char *text, size_t *out_len);

/* Milliseconds; set before the reactors start. Tests make them short. */
struct http_times {
	int64_t header_ms, body_ms, keep_alive_ms;
	int64_t work_ms; /* for an answer, and for the judgement of a leg */
};
extern struct http_times http_times;

#endif

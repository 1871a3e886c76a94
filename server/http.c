/* A request passes through: head (whole, from the transport) → body (collected up to its declared length) → a job on
 * the pool, which owns copies of everything → the answer, written back in pieces. While the job runs nothing is read,
 * so a client that sends requests ahead waits in its own socket. The job names the connection by its id: when the
 * client has gone meanwhile, or was told that it takes too long, the answer is dropped. What breaks a rule of the
 * transport itself is answered here and ends the connection, since where the next request would begin is then not
 * known. */
#include "server/http.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/console.h"
#include "server/http_status.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/upgrade.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NO_MEMORY_TOLD_MS 10000 /* from one line in the log to the next */
#define LINGER_MS 2000          /* a refused body is read and dropped so long, so that the refusal gets through */

struct http_times http_times = { LIMIT_HTTP_HEADER_TIME_MS, LIMIT_HTTP_BODY_TIME_MS, 75000, LIMIT_WORK_MS };

enum http_state { HTTP_HEAD, HTTP_BODY, HTTP_WORKING, HTTP_ANSWERING, HTTP_ANSWERED, HTTP_LINGERING };

struct http {
	enum http_state state;
	bool first; /* no request was here yet */
	bool close_after;
	bool body_follows; /* bytes of it may still come, and the transport reads them */
	bool body_ended;
	bool head_only;
	struct http_head head;
	uint8_t *body;
	size_t body_len, body_size;
	uint8_t *out;
	size_t out_len, out_sent;
};

struct job {
	struct server *server;
	wsconn_id conn;
	struct http_head head;
	uint8_t *body;
	struct api_request request;
	struct api_response response;
	char remote[64];
};

struct http *http_new(struct conn *c)
{
	struct http *h = calloc(1, sizeof *h);
	if (h) {
		h->first = true;
		c->deadline_ms = clock_mono_ms() + http_times.header_ms;
	}
	return h;
}

static void drop_request(struct http *h)
{
	http_head_free(&h->head);
	free(h->body);
	h->body = NULL;
	h->body_len = h->body_size = 0;
}

void http_free(struct http **http)
{
	struct http *h = *http;
	if (!h)
		return;
	drop_request(h);
	free(h->out);
	free(h);
	*http = NULL;
}

static void new_request_id(char out[24])
{
	memcpy(out, "r-", 2);
	secret_random_id(out + 2, 16);
}

/* The answer as bytes; NULL when out of memory. */
static char *render(const struct api_response *r, bool close, bool head_only, size_t *out_len)
{
	struct buf b = BUF_INIT(r->body_len + 1024);
	int rc = buf_printf(&b, "HTTP/1.1 %d %s\r\n", r->status, http_status_text(r->status));
	if (r->content_type && r->body)
		rc |= buf_printf(&b, "Content-Type: %s\r\n", r->content_type);
	if (r->status != 204)
		rc |= buf_printf(&b, "Content-Length: %zu\r\n", r->body_len);
	if (r->retry_after_s > 0)
		rc |= buf_printf(&b, "Retry-After: %lld\r\n", (long long)r->retry_after_s);
	if (r->allow[0])
		rc |= buf_printf(&b, "Allow: %s\r\n", r->allow);
	if (r->request_id[0])
		rc |= buf_printf(&b, "X-Request-Id: %s\r\n", r->request_id);
	rc |= buf_printf(&b, "Cache-Control: no-store\r\n%s%s\r\n", r->headers ? r->headers : "",
			 close ? "Connection: close\r\n" : "");
	if (!head_only && r->status != 204 && r->body_len)
		rc |= buf_add(&b, r->body, r->body_len);
	if (rc != 0) {
		buf_free(&b);
		return NULL;
	}
	*out_len = b.len;
	return buf_take_text(&b);
}

/* Of several threads one tells it. */
static void tell_no_memory(const char *id)
{
	static _Atomic(int64_t) told_ms = -NO_MEMORY_TOLD_MS;
	int64_t now = clock_mono_ms(), then = atomic_load(&told_ms);
	if (now - then >= NO_MEMORY_TOLD_MS && atomic_compare_exchange_strong(&told_ms, &then, now))
		log_with(LOG_LEVEL_ERROR, FIELDS({ "request_id", id }), "out of memory: requests are refused");
}

enum conn_result http_no_memory(struct conn *c)
{
	char id[24], body[256], text[640];
	new_request_id(id);
	tell_no_memory(id);
	int len =
		snprintf(body, sizeof body,
			 "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":503,\"code\":\"busy\",\"detail\":\"the "
			 "server is out of memory; it may have done what was asked for\",\"request_id\":\"%s\"}",
			 http_status_text(503), id);
	len = snprintf(text, sizeof text,
		       "HTTP/1.1 503 %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"
		       "Retry-After: 1\r\nX-Request-Id: %s\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%s",
		       http_status_text(503), len, id, body);
	metrics_add(c->server->metrics, METRIC_HTTP_ERRORS, 1);
	(void)conn_write_http(c, (const uint8_t *)text, (size_t)len, true);
	return CONN_CLOSE;
}

static enum conn_result answer(struct conn *c, const struct api_response *r)
{
	struct http *h = c->http;
	if (atomic_load(&c->server->draining))
		h->close_after = true;
	h->out = (uint8_t *)render(r, h->close_after, h->head_only, &h->out_len);
	h->out_sent = 0;
	metrics_add(c->server->metrics, METRIC_HTTP_REQUESTS, 1);
	if (r->status >= 500)
		metrics_add(c->server->metrics, METRIC_HTTP_ERRORS, 1);
	if (!h->out)
		return http_no_memory(c);
	drop_request(h);
	h->state = HTTP_ANSWERING;
	/* A client that does not read its answer does not keep it here for ever. */
	c->deadline_ms = clock_mono_ms() + http_times.body_ms;
	/* Written at once as far as the socket takes it: the transport says that it could be written to only while it
	 * reads, and a request sent ahead may then end the connection before the answer is out. */
	enum http_write wrote = HTTP_WRITE_MORE;
	while (wrote == HTTP_WRITE_MORE && h->state == HTTP_ANSWERING && conn_can_write(c))
		wrote = http_on_writable(c);
	if (wrote == HTTP_WRITE_NEXT_REQUEST)
		return conn_next_request(c);
	if (wrote == HTTP_WRITE_CLOSE && h->out)
		return CONN_CLOSE; /* it cannot be written to any more, and will not be told that it can */
	if (wrote == HTTP_WRITE_CLOSE)
		h->state = HTTP_ANSWERED;
	conn_resume(c);
	conn_want_write(c);
	return CONN_OK;
}

/* The console lies in memory, so it needs no worker. */
static enum conn_result answer_console(struct conn *c, const char *method, const char *path)
{
	struct api_response r = { .status = 0 };
	char id[24];
	new_request_id(id);
	console_answer(method, path, id, &r);
	enum conn_result rc = answer(c, &r);
	api_response_free(&r);
	return rc;
}

/* An answer of the transport's own. It ends the connection unless the request was read to its end. */
static enum conn_result refuse(struct conn *c, int status, const char *code, bool close, const char *text)
{
	struct api_response r = { .status = 0 };
	char id[24];
	new_request_id(id);
	api_problem(&r, id, status, code, "%s", text);
	if (status == 503)
		r.retry_after_s = 1;
	if (close)
		c->http->close_after = true;
	enum conn_result rc = answer(c, &r);
	api_response_free(&r);
	return rc;
}

static void job_free(struct job *j)
{
	http_head_free(&j->head);
	if (j->body)
		secret_wipe(j->body, j->request.body_len);
	free(j->body);
	api_response_free(&j->response);
	free(j);
}

static void job_run(void *arg)
{
	struct job *j = arg;
	api_handle_blocking(j->server, &j->request, &j->response);
}

static void job_done(void *arg)
{
	struct job *j = arg;
	struct conn *c = conn_find(j->server, j->conn);
	if (c && j->response.known)
		conn_is_known(c);
	if (c && c->http && c->http->state == HTTP_WORKING && answer(c, &j->response) != CONN_OK)
		conn_kill(c);
	job_free(j);
}

static enum conn_result submit(struct conn *c)
{
	struct http *h = c->http;
	struct job *j = calloc(1, sizeof *j);
	if (!j)
		return http_no_memory(c);
	j->server = c->server;
	j->conn = c->id;
	snprintf(j->remote, sizeof j->remote, "%s", c->remote);
	j->request = (struct api_request){ .method = h->head.method,
					   .path = h->head.path,
					   .query = h->head.query,
					   .headers = h->head.headers,
					   .header_count = h->head.header_count,
					   .body = h->body,
					   .body_len = h->body_len,
					   .remote_address = j->remote };
	new_request_id(j->request.request_id);
	struct pool_job job = { .run_blocking = job_run,
				.done = job_done,
				.arg = j,
				.reactor = c->reactor,
				.lane = api_lane(h->head.method, h->head.path,
						 http_head_get(&h->head, "dpop") != NULL) };
	conn_pause(c);
	c->deadline_ms = clock_mono_ms() + http_times.work_ms;
	h->state = HTTP_WORKING;
	/* The job owns the request from here on. */
	j->head = h->head;
	j->body = h->body;
	memset(&h->head, 0, sizeof h->head);
	h->body = NULL;
	if (pool_submit_anythread(c->server->pool, &job) == 0)
		return CONN_OK;
	metrics_add(c->server->metrics, METRIC_POOL_REJECTED, 1);
	job_free(j);
	return refuse(c, 503, "busy", false, "the server has more requests waiting than it takes on; try again");
}

static enum conn_result serve(struct conn *c)
{
	const struct http_head *head = &c->http->head;
	if (c->from == LISTENER_ADMIN && console_has(head->path))
		return answer_console(c, head->method, head->path);
	return submit(c);
}

static bool is_websocket_path(const char *path)
{
	char session[LIMIT_ID + 1];
	return strcmp(path, UPGRADE_AGENT_PATH) == 0 || upgrade_leg_path(path, session);
}

enum conn_result http_on_head(struct conn *c, struct http_head *head)
{
	struct http *h = c->http;
	drop_request(h);
	h->head = *head;
	memset(head, 0, sizeof *head);
	head = &h->head;
	h->first = false;
	h->close_after = !head->keep_alive;
	h->body_ended = false;
	h->head_only = strcmp(head->method, "HEAD") == 0;
	h->body_follows = head->content_length > 0 || (head->chunked && head->method[0] == 'P');
	conn_pause(c);
	if (head->size > LIMIT_HTTP_HEADERS)
		return refuse(c, 431, "too-large", true, "the request's headers are over 16384 bytes");
	if (head->header_count > LIMIT_HTTP_HEADER_COUNT)
		return refuse(c, 431, "too-large", true, "the request has more than 64 headers");
	if (head->chunked)
		return refuse(c, 411, "length-required", true, "chunked bodies are not taken; send Content-Length");
	if (head->content_length == HTTP_BODY_INVALID)
		return refuse(c, 400, "invalid-request", true, "Content-Length is not one number");
	if (head->content_length > (int64_t)LIMIT_HTTP_BODY)
		return refuse(c, 413, "too-large", true, "the body is over 256 KiB");
	if (strcmp(head->method, "GET") == 0 && is_websocket_path(head->path))
		return refuse(c, 400, "invalid-request", h->body_follows,
			      "this is a WebSocket endpoint; send Upgrade: websocket");
	if (head->content_length <= 0)
		return serve(c);
	h->body_size = (size_t)head->content_length;
	h->body = malloc(h->body_size);
	if (!h->body)
		return http_no_memory(c);
	h->state = HTTP_BODY;
	c->deadline_ms = clock_mono_ms() + http_times.body_ms;
	static const uint8_t go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	if (head->expect_continue && conn_write_http(c, go_on, sizeof go_on - 1, false) != 0)
		return CONN_CLOSE;
	conn_resume(c);
	return CONN_OK;
}

enum conn_result http_on_body(struct conn *c, const uint8_t *data, size_t len)
{
	struct http *h = c->http;
	if (h->state != HTTP_BODY || len == 0)
		return len == 0 || h->close_after ? CONN_OK : CONN_CLOSE; /* the rest of a refused body */
	if (len > h->body_size - h->body_len)
		return CONN_CLOSE;
	memcpy(h->body + h->body_len, data, len);
	h->body_len += len;
	return CONN_OK;
}

enum conn_result http_on_body_end(struct conn *c)
{
	struct http *h = c->http;
	/* A second end of one body: the parser took bytes behind it for more of it (lws, requests sent ahead). */
	if (h->body_ended || h->state == HTTP_LINGERING)
		return CONN_CLOSE;
	h->body_ended = true;
	if (h->state != HTTP_BODY)
		return CONN_OK; /* empty, and submitted with its head; or refused */
	return h->body_len == h->body_size ? serve(c) : CONN_CLOSE;
}

enum http_write http_on_writable(struct conn *c)
{
	struct http *h = c->http;
	if (h->state == HTTP_ANSWERED)
		return HTTP_WRITE_CLOSE;
	if (h->state != HTTP_ANSWERING)
		return HTTP_WRITE_MORE;
	size_t n = h->out_len - h->out_sent;
	if (n > CONN_CHUNK)
		n = CONN_CHUNK;
	bool last = h->out_sent + n == h->out_len;
	if (conn_write_http(c, h->out + h->out_sent, n, last) != 0)
		return HTTP_WRITE_CLOSE;
	h->out_sent += n;
	if (!last) {
		c->deadline_ms = clock_mono_ms() + http_times.body_ms;
		conn_want_write(c);
		return HTTP_WRITE_MORE;
	}
	free(h->out);
	h->out = NULL;
	if (h->close_after && !h->body_follows)
		return HTTP_WRITE_CLOSE;
	if (h->close_after) {
		h->state = HTTP_LINGERING;
		c->deadline_ms = clock_mono_ms() + LINGER_MS;
		conn_resume(c);
		return HTTP_WRITE_MORE;
	}
	h->state = HTTP_HEAD;
	h->body_size = h->body_len = 0;
	c->deadline_ms = clock_mono_ms() + http_times.keep_alive_ms;
	return HTTP_WRITE_NEXT_REQUEST;
}

enum conn_result http_on_tick(struct conn *c, int64_t now_mono_ms, bool can_write)
{
	struct http *h = c->http;
	/* Bytes that come while an answer waits to be read stay unread in the socket and keep the loop turning. */
	if (h->state == HTTP_ANSWERING && !h->body_follows && conn_has_unread(c))
		return CONN_CLOSE;
	/* A server that goes away does not wait for requests that nobody has begun. */
	if (h->state == HTTP_HEAD && !h->first && atomic_load(&c->server->draining) && !conn_has_unread(c))
		return CONN_CLOSE;
	if (c->deadline_ms == 0 || now_mono_ms < c->deadline_ms)
		return CONN_OK;
	/* The connection ends, so that the late answer cannot become that of its next request. */
	if (h->state == HTTP_WORKING)
		return refuse(c, 503, "busy", true,
			      "the server found no answer in time; it may have done what was asked for");
	bool in_head = h->state == HTTP_HEAD && h->first;
	if ((in_head && can_write) || h->state == HTTP_BODY) {
		struct api_response r = { .status = 0 };
		char id[24];
		size_t len = 0;
		new_request_id(id);
		api_problem(&r, id, 408, "invalid-request", "the request's %s did not arrive in time",
			    in_head ? "head" : "body");
		char *text = render(&r, true, false, &len);
		if (text)
			(void)conn_write_http(c, (const uint8_t *)text, len, true);
		free(text);
		api_response_free(&r);
	}
	return CONN_CLOSE;
}

char *http_refuse_upgrade(struct conn *c, int status, const char *code, const char *text, size_t *out_len)
{
	struct api_response r = { .status = 0 };
	char id[24];
	new_request_id(id);
	api_problem(&r, id, status, code, "%s", text);
	char *answer = render(&r, true, false, out_len);
	api_response_free(&r);
	metrics_add(c->server->metrics, METRIC_HTTP_REQUESTS, 1);
	return answer;
}

enum conn_result http_judge_upgrade(struct conn *c, const struct http_head *head, char **out_answer, size_t *out_len)
{
	struct upgrade_refusal no = { 0 };
	*out_answer = NULL;
	if (upgrade_judge(c, head, &no) == CONN_OK) {
		c->deadline_ms = 0;
		http_free(&c->http);
		return CONN_OK;
	}
	*out_answer = http_refuse_upgrade(c, no.status, no.code, no.text, out_len);
	return CONN_CLOSE;
}

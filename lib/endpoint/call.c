/* REST calls of the session's own token (POST …/attach, DELETE) on libuv's pool. A call carries copies, so an endpoint
 * that goes away leaves it to end by itself. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"
#include "net/http.h"
#include "net/pool.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct target {
	char url[900], dpop[PROOF_TEXT_MAX + 8];
};

struct call {
	uv_work_t work;
	struct endpoint *ep; /* NULL: cancelled */
	call_done done;
	const char *method;
	int64_t limit_ms;
	struct target *targets;
	size_t count;
	char *proxy, *ca_file;
	char authorization[LIMIT_TOKEN + 32];
	int rc;
	struct http_response response;
	struct err e;
};

static void free_call(struct call *call)
{
	secret_wipe(call->authorization, sizeof call->authorization);
	http_response_free(&call->response);
	free(call->targets);
	free(call->proxy);
	free(call->ca_file);
	free(call);
}

static void ask_blocking(struct call *call, const struct target *t, int64_t limit_ms)
{
	const char *const headers[] = { call->authorization, t->dpop, NULL };
	struct http_request request = {
		.method = call->method,
		.url = t->url,
		.headers = headers,
		.ca_file = call->ca_file,
		.proxy = call->proxy,
		.timeout_ms = limit_ms,
	};
	http_response_free(&call->response);
	call->rc = http_call_blocking(&request, &call->response, &call->e);
}

/* What stands in front of a server answers with statuses of its own, but with no problem of ours. */
static bool decides(const struct http_response *r)
{
	return r->status < 300 || (r->status < 500 && r->code[0]);
}

/* One server after the other until one decides; each may use its share of the time that is left. */
static void work_blocking(uv_work_t *work)
{
	struct call *call = work->data;
	int64_t by = clock_mono_ms() + call->limit_ms;
	for (size_t i = 0; i < call->count; i++) {
		int64_t left = (by - clock_mono_ms()) / (int64_t)(call->count - i);
		if (i > 0 && left <= 0)
			return;
		ask_blocking(call, &call->targets[i], left > 0 ? left : 1);
		if (call->rc == 0 && decides(&call->response))
			return;
	}
}

/* A leg would have been closed with it. */
static unsigned end_code_of(const struct http_response *r)
{
	json_int_t code = json_integer_value(json_object_get(json_object_get(r->json, "end"), "code"));
	return r->status == 410 && code > 0 && code < 5000 && leg_code_is_final((unsigned)code) ? (unsigned)code : 0;
}

static int64_t now_of(const struct http_response *r)
{
	json_int_t now_ms = json_integer_value(json_object_get(r->json, "now_ms"));
	bool told = strcmp(r->code, "clock") == 0 && now_ms > 0 && now_ms <= CLOCK_WALL_MAX_MS;
	return told ? now_ms : 0;
}

static void on_worked(uv_work_t *work, int status)
{
	struct call *call = work->data;
	struct endpoint *ep = call->ep;
	if (ep) {
		struct call_answer answer = { .code = "", .text = call->e.text };
		if (status == 0 && call->rc == 0) {
			answer.status = call->response.status;
			answer.code = call->response.code;
			answer.relay_url = json_string_value(json_object_get(call->response.json, "relay_url"));
			answer.text = call->response.detail;
			answer.end_code = end_code_of(&call->response);
			answer.retry_after_ms = call->response.retry_after_ms;
			answer.now_ms = now_of(&call->response);
		}
		ep->call = NULL;
		call->done(ep, &answer);
	}
	free_call(call);
}

static int prepare_target(struct target *t, const struct call *call, const struct endpoint *ep, const char *server_url,
			  const char *suffix, struct err *e)
{
	char path[LIMIT_ID + 32], proof[PROOF_TEXT_MAX];
	snprintf(path, sizeof path, "/v1/sessions/%s%s", ep->session, suffix);
	int rc = url_join(server_url, path, t->url, sizeof t->url, e);
	if (rc == 0)
		rc = proving_make(ep, call->method, t->url, proof, e);
	if (rc == 0)
		snprintf(t->dpop, sizeof t->dpop, "DPoP: %s", proof);
	return rc;
}

static int prepare(struct call *call, const struct endpoint *ep, const struct call_request *request, struct err *e)
{
	const char *ca = ep->tls ? net_tls_ca_file(ep->tls) : NULL;
	while (request->server_urls[call->count])
		call->count++;
	call->targets = calloc(call->count, sizeof *call->targets);
	call->ca_file = ca ? strdup(ca) : NULL;
	call->proxy = ep->proxy ? strdup(ep->proxy) : NULL;
	if (!call->targets || (ca && !call->ca_file) || (ep->proxy && !call->proxy))
		return err_set(e, ERR_NOMEM, "out of memory");
	snprintf(call->authorization, sizeof call->authorization, "Authorization: Bearer %s", ep->token);
	for (size_t i = 0; i < call->count; i++) {
		int rc = prepare_target(&call->targets[i], call, ep, request->server_urls[i], request->suffix, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int call_start(struct endpoint *ep, const struct call_request *request, call_done done, struct err *e)
{
	struct call *call = calloc(1, sizeof *call);
	if (!call)
		return err_set(e, ERR_NOMEM, "out of memory");
	call->work.data = call;
	call->ep = ep;
	call->done = done;
	call->method = request->method;
	call->limit_ms = request->limit_ms;
	int rc = prepare(call, ep, request, e);
	if (rc == 0)
		rc = net_pool_ready(e);
	if (rc == 0 && uv_queue_work(ep->loop, &call->work, work_blocking, on_worked) != 0)
		rc = err_set(e, ERR_INTERNAL, "no worker");
	if (rc != 0)
		free_call(call);
	else
		ep->call = call;
	return rc;
}

void call_cancel(struct endpoint *ep)
{
	if (!ep->call)
		return;
	ep->call->ep = NULL;
	(void)uv_cancel((uv_req_t *)&ep->call->work); /* it may run already: then it ends unheard */
	ep->call = NULL;
}

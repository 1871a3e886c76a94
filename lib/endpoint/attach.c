/* POST /v1/sessions/{id}/attach on libuv's pool. A job carries copies, so an endpoint that goes away leaves it to end
 * by itself. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"
#include "ident/proof.h"
#include "net/http.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTACH_CALL_MS 5000

struct attach_job {
	uv_work_t work;
	struct endpoint *ep; /* NULL: cancelled */
	void (*done)(struct endpoint *ep, const struct attach_answer *answer);
	char url[900];
	char *proxy, *ca_file;
	char authorization[LIMIT_TOKEN + 32], dpop[PROOF_TEXT_MAX + 8];
	int rc;
	struct http_response response;
	struct err e;
};

static void free_job(struct attach_job *job)
{
	secret_wipe(job->authorization, sizeof job->authorization);
	http_response_free(&job->response);
	free(job->proxy);
	free(job->ca_file);
	free(job);
}

static void work_blocking(uv_work_t *work)
{
	struct attach_job *job = work->data;
	const char *const headers[] = { job->authorization, job->dpop, NULL };
	struct http_request request = {
		.method = "POST",
		.url = job->url,
		.headers = headers,
		.ca_file = job->ca_file,
		.proxy = job->proxy,
		.timeout_ms = ATTACH_CALL_MS,
	};
	job->rc = http_call_blocking(&request, &job->response, &job->e);
}

static void on_worked(uv_work_t *work, int status)
{
	struct attach_job *job = work->data;
	struct endpoint *ep = job->ep;
	if (ep) {
		struct attach_answer answer = { .text = job->e.text };
		if (status == 0 && job->rc == 0) {
			answer.status = job->response.status;
			answer.relay_url = json_string_value(json_object_get(job->response.json, "relay_url"));
			answer.text = job->response.detail;
			answer.retry_after_ms = job->response.retry_after_ms;
		}
		ep->job = NULL;
		job->done(ep, &answer);
	}
	free_job(job);
}

static int prepare(struct attach_job *job, struct endpoint *ep, const char *server_url, struct err *e)
{
	char path[LIMIT_ID + 32], proof[PROOF_TEXT_MAX];
	snprintf(path, sizeof path, "/v1/sessions/%s/attach", ep->session);
	int rc = url_join(server_url, path, job->url, sizeof job->url, e);
	if (rc == 0)
		rc = proof_make_dpop(ep->key, "POST", job->url, ep->token, clock_wall_ms(), proof, e);
	if (rc != 0)
		return rc;
	snprintf(job->authorization, sizeof job->authorization, "Authorization: Bearer %s", ep->token);
	snprintf(job->dpop, sizeof job->dpop, "DPoP: %s", proof);
	const char *ca = ep->tls ? net_tls_ca_file(ep->tls) : NULL;
	job->ca_file = ca ? strdup(ca) : NULL;
	job->proxy = ep->proxy ? strdup(ep->proxy) : NULL;
	if ((ca && !job->ca_file) || (ep->proxy && !job->proxy))
		return err_set(e, ERR_NOMEM, "out of memory");
	return 0;
}

int attach_start(struct endpoint *ep, const char *server_url,
		 void (*done)(struct endpoint *ep, const struct attach_answer *answer), struct attach_job **out_job,
		 struct err *e)
{
	struct attach_job *job = calloc(1, sizeof *job);
	if (!job)
		return err_set(e, ERR_NOMEM, "out of memory");
	job->work.data = job;
	job->ep = ep;
	job->done = done;
	int rc = prepare(job, ep, server_url, e);
	if (rc == 0 && uv_queue_work(ep->loop, &job->work, work_blocking, on_worked) != 0)
		rc = err_set(e, ERR_INTERNAL, "no worker");
	if (rc != 0)
		free_job(job);
	else
		*out_job = job;
	return rc;
}

void attach_cancel(struct attach_job **job)
{
	if (!job || !*job)
		return;
	(*job)->ep = NULL;
	(void)uv_cancel((uv_req_t *)&(*job)->work); /* it may run already: then it ends unheard */
	*job = NULL;
}

/* A call carries copies of all it needs, so it may outlast who asked; the program waits for all of them at its end. */
#include "swarm.h"

#include "base/json.h"
#include "base/secret.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define SIGV4_SCOPE "aws:amz:default:tunnel" /* the CLI's defaults */

struct call {
	uv_work_t work;
	struct swarm *swarm;
	char method[8], url[700];
	char *body, *authorization;
	api_done done;
	void *user;
	int rc;
	struct http_response answer;
	struct err e;
};

static void work_blocking(uv_work_t *work)
{
	struct call *c = work->data;
	const struct options *o = &c->swarm->options;
	const char *const headers[] = { c->authorization ? c->authorization : o->bearer, NULL };
	bool sign = !headers[0];
	const struct http_request request = {
		.method = c->method,
		.url = c->url,
		.headers = headers,
		.body = c->body,
		.ca_file = o->ca_file,
		.proxy = "",
		.sigv4 = sign ? SIGV4_SCOPE : NULL,
		.userpwd = sign ? o->userpwd : NULL,
	};
	c->rc = http_call_blocking(&request, &c->answer, &c->e);
}

static void on_worked(uv_work_t *work, int status)
{
	struct call *c = work->data;
	c->swarm->calls--;
	if (status == 0 && c->rc == 0)
		c->done(c->user, &c->answer, c->answer.detail);
	else
		c->done(c->user, NULL, status ? uv_strerror(status) : c->e.text);
	http_response_free(&c->answer);
	free(c->body);
	secret_free_text(&c->authorization);
	free(c);
}

static char *bearer_header(const char *token)
{
	char *header = malloc(strlen(token) + 32);
	if (header)
		sprintf(header, "Authorization: Bearer %s", token);
	return header;
}

void api_call(struct swarm *s, const struct api_request *request, api_done done, void *user)
{
	struct call *c = calloc(1, sizeof *c);
	struct err e;
	if (!c) {
		done(user, NULL, "out of memory");
		return;
	}
	c->work.data = c;
	c->swarm = s;
	c->done = done;
	c->user = user;
	snprintf(c->method, sizeof c->method, "%s", request->method);
	c->body = request->body ? json_text(request->body) : NULL;
	c->authorization = request->bearer ? bearer_header(request->bearer) : NULL;
	s->calls++;
	if (url_join(s->options.server, request->path, c->url, sizeof c->url, &e) != 0)
		on_worked(&c->work, UV_EINVAL);
	else if (uv_queue_work(&s->loop, &c->work, work_blocking, on_worked) != 0)
		on_worked(&c->work, UV_ENOMEM);
}

int64_t api_retry_ms(struct swarm *s, const struct http_response *answer)
{
	bool again = !answer || answer->status == 429 || answer->status >= 500 ||
		     strcmp(answer->code, "target-offline") == 0;
	if (!again || s->stopping)
		return -1;
	s->totals.call_retries++;
	if (answer && answer->retry_after_ms)
		return answer->retry_after_ms;
	uint16_t spread;
	secret_random(&spread, sizeof spread);
	return 200 + spread % 400;
}

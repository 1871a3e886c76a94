/* Renewing a session from here (POST /v1/sessions/{id}/renew) while it runs. The call asks the profile's source for a
 * credential and may block, so it runs on libuv's pool, one at a time, and a session that ends leaves it behind. */
#include "cli/session_renew.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "cli/session.h"
#include "net/pool.h"
#include "net/timer.h"

#include <stdlib.h>
#include <string.h>

struct renew_call {
	uv_work_t work;
	struct session *session; /* NULL: it is over */
	struct client client;    /* a copy that shares the profile's texts, which nobody changes */
	char path[LIMIT_ID + 32];
	json_t *answer;
	int code;
	char why[CLIENT_WHY];
};

static void on_due(uv_timer_t *timer);

static void arm(struct session *s)
{
	int64_t wait_ms = renewal_wait_ms(&s->renewal, clock_wall_ms());
	if (wait_ms >= 0)
		timer_in(&s->renew_timer, on_due, wait_ms);
}

static void ask_blocking(uv_work_t *work)
{
	struct renew_call *call = work->data;
	call->code = client_try(&call->client, "POST", call->path, NULL, &call->answer, call->why);
}

static void tell_failure(struct session *s, const char *why)
{
	char line[STORY_LINE];
	int64_t wall_ms = clock_wall_ms();
	log_debug("session %s: not renewed: %s", s->id, why);
	renewal_failed(&s->renewal, wall_ms);
	if (renewal_is_urgent(&s->renewal, wall_ms) &&
	    story_not_renewed(&s->story, s->renewal.end_ms, why, wall_ms, line))
		session_tell(s, "%s", line);
}

static void take_answer(struct session *s, const json_t *answer)
{
	char line[STORY_LINE];
	int64_t before_ms = s->expires_ms;
	session_take_times(s, json_object_get(answer, "session"));
	if (s->expires_ms <= before_ms) {
		tell_failure(s, "no credential that lasts longer is to be had yet");
		return;
	}
	log_debug("session %s: renewed", s->id);
	if (story_renewed(&s->story, s->expires_ms, clock_wall_ms(), line))
		session_tell(s, "%s", line);
	if (s->mode->renewed)
		s->mode->renewed(s->mode, s);
}

static void on_asked(uv_work_t *work, int status)
{
	struct renew_call *call = work->data;
	struct session *s = call->session;
	if (s) {
		s->renew_call = NULL;
		if (status == 0 && call->code == EXIT_CODE_OK)
			take_answer(s, call->answer);
		else
			tell_failure(s, status == 0 ? call->why : "no thread");
		arm(s);
	}
	json_decref(call->answer);
	free(call);
}

static void ask(struct session *s)
{
	struct renew_call *call = calloc(1, sizeof *call);
	if (!call) {
		tell_failure(s, "out of memory");
		return;
	}
	call->work.data = call;
	call->session = s;
	call->client = *s->client;
	call->client.background = true;
	call->client.outlast_ms = s->renewal.end_ms;
	snprintf(call->path, sizeof call->path, "/v1/sessions/%s/renew", s->id);
	struct err e = { 0 };
	if (net_pool_ready(&e) == 0 && uv_queue_work(&s->loop, &call->work, ask_blocking, on_asked) == 0) {
		s->renew_call = call;
		return;
	}
	free(call);
	tell_failure(s, e.text[0] ? e.text : "no thread");
}

static void on_due(uv_timer_t *timer)
{
	struct session *s = timer->data;
	if (renewal_wait_ms(&s->renewal, clock_wall_ms()) == 0 && !s->renew_call)
		ask(s);
	if (!s->renew_call)
		arm(s);
}

void session_renew_start(struct session *s)
{
	uv_timer_init(&s->loop, &s->renew_timer);
	s->renew_timer.data = s;
	arm(s);
}

void session_renew_hurry(struct session *s)
{
	renewal_hurry(&s->renewal, clock_wall_ms());
	if (!s->renew_call)
		arm(s);
}

void session_renew_stop(struct session *s)
{
	if (s->renew_call) {
		s->renew_call->session = NULL;
		(void)uv_cancel((uv_req_t *)&s->renew_call->work); /* it may run already: then it ends unheard */
		s->renew_call = NULL;
	}
	if (!uv_is_closing((uv_handle_t *)&s->renew_timer))
		uv_close((uv_handle_t *)&s->renew_timer, NULL);
}

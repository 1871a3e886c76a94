/* Which leg is tried when. At most one leg carries the link (`leg`), and at most one more is on its way (`next`). When
 * `next` is attached it takes the other's place; so a leg that still works is dropped only when a better one is there.
 *
 * An attempt goes straight to the relay last used, at once; when that fails, a server is asked where the session lives
 * before each further one, with growing delays. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEADY_MS 5000 /* a leg that was attached for so long ends a row of failures */
#define ATTACH_CALL_MS 5000
#define RETRY_AFTER_MOST_MS 30000

static void attempt(struct endpoint *ep);

static void on_retry_due(uv_timer_t *timer)
{
	attempt(timer->data);
}

/* Makes the next attempt when it is due, unless one is under way. */
static void schedule(struct endpoint *ep)
{
	if (ep->freed || ep->ended || ep->ending || ep->next || ep->call || (ep->leg && !ep->want_new) ||
	    uv_is_active((uv_handle_t *)&ep->retry_timer))
		return;
	int64_t delay = backoff_next_ms(&ep->backoff), wait = ep->not_before - clock_mono_ms();
	if (delay < wait)
		delay = wait;
	uv_timer_start(&ep->retry_timer, on_retry_due, (uint64_t)delay, 0);
}

static void refuse_finally(struct endpoint *ep, unsigned code, int status, const char *text)
{
	struct endpoint_end end = { .close_code = code, .http_status = status };
	snprintf(end.text, sizeof end.text, "%s", text);
	endpoint_finish(ep, &end);
}

static void dial(struct endpoint *ep)
{
	struct err e;
	if (leg_open(ep, ep->relay_url, &ep->next, &e) == 0) {
		ep->overtaken = ep->leg != NULL;
		return;
	}
	ep->next = NULL;
	ep->ask = true;
	endpoint_trouble(ep, e.text);
	schedule(ep);
}

/* A relay's URL comes from a server; it must not lead from TLS to plain text, where the token could be read. */
static bool take_relay_url(struct endpoint *ep, const char *text)
{
	struct url now, then;
	struct err e;
	if (url_parse(text, &then, &e) != 0 || url_parse(ep->relay_url, &now, &e) != 0 || (now.tls && !then.tls))
		return false;
	char *copy = strdup(text);
	if (!copy)
		return false;
	free(ep->relay_url);
	ep->relay_url = copy;
	return true;
}

static bool is_final_status(int status)
{
	return status == 401 || status == 403 || status == 404 || status == 410;
}

static void on_answer(struct endpoint *ep, const struct call_answer *a)
{
	char text[300];
	if (a->status == 200 && a->relay_url && take_relay_url(ep, a->relay_url)) {
		ep->ask = false;
		dial(ep);
		return;
	}
	if (is_final_status(a->status)) {
		refuse_finally(ep, 0, a->status, a->text);
		return;
	}
	if (a->retry_after_ms) {
		int64_t wait = a->retry_after_ms < RETRY_AFTER_MOST_MS ? a->retry_after_ms : RETRY_AFTER_MOST_MS;
		ep->not_before = clock_mono_ms() + wait;
	}
	snprintf(text, sizeof text, "attach: %s",
		 a->status == 200 ? "the server's answer has no usable relay_url" : a->text);
	endpoint_trouble(ep, text);
	schedule(ep);
}

static void attempt(struct endpoint *ep)
{
	struct err e;
	if (!ep->ask || !ep->server_urls[0]) {
		dial(ep);
		return;
	}
	size_t n = 0;
	while (ep->server_urls[n])
		n++;
	const char *const server[] = { ep->server_urls[ep->server_turn++ % n], NULL };
	const struct call_request request = {
		.method = "POST", .suffix = "/attach", .server_urls = server, .limit_ms = ATTACH_CALL_MS
	};
	if (call_start(ep, &request, on_answer, &e) == 0)
		return;
	endpoint_trouble(ep, e.text);
	schedule(ep);
}

void path_start(struct endpoint *ep)
{
	schedule(ep);
}

void path_renew(struct endpoint *ep, bool at_once)
{
	ep->want_new = true;
	if (at_once) {
		/* What is under way was begun on the old network. */
		leg_free(&ep->next);
		call_cancel(ep);
		uv_timer_stop(&ep->retry_timer);
		backoff_reset(&ep->backoff);
		ep->not_before = 0;
		ep->ask = false;
		if (ep->leg)
			leg_probe(ep->leg);
	}
	schedule(ep);
}

void path_hush(struct endpoint *ep)
{
	leg_free(&ep->next);
	call_cancel(ep);
	uv_timer_stop(&ep->retry_timer);
}

void path_stop(struct endpoint *ep)
{
	path_hush(ep);
	leg_free(&ep->leg);
}

void path_up(struct endpoint *ep)
{
	backoff_reset(&ep->backoff);
	ep->ask = false;
	ep->not_before = 0;
}

static void on_attached(struct endpoint *ep, struct leg *leg)
{
	if (leg != ep->next)
		return;
	ep->next = NULL;
	leg_free(&ep->leg);
	ep->leg = leg;
	ep->want_new = ep->overtaken = false;
	ep->broken[0] = '\0';
	ep->unpaired = false;
	link_epoch_lost(ep->link, clock_mono_ms());
}

static void on_paired(struct endpoint *ep, struct leg *leg)
{
	struct err e;
	if (leg != ep->leg || ep->ending)
		return;
	ep->broken[0] = '\0';
	if (ep->unpaired)
		endpoint_lost(ep, "the other end is away");
	ep->unpaired = false;
	if (ep->freed)
		return;
	if (link_epoch_start(ep->link, clock_mono_ms(), &e) == 0)
		(void)leg_ready(leg); /* fails only when the leg is closing, which is told by its own callback */
	else
		endpoint_trouble(ep, e.text);
	endpoint_turn_soon(ep);
}

static void on_unpaired(struct endpoint *ep, struct leg *leg)
{
	if (leg != ep->leg || ep->ending)
		return;
	/* Acted on in the turn, behind what the other end said last: it may have been goodbye. */
	ep->unpaired = true;
	endpoint_turn_soon(ep);
}

void path_lose(struct endpoint *ep, const char *why)
{
	if (ep->leg && leg_attached_ms(ep->leg) > STEADY_MS)
		path_up(ep);
	leg_free(&ep->leg);
	link_epoch_lost(ep->link, clock_mono_ms());
	endpoint_lost(ep, why);
	if (!ep->freed)
		schedule(ep);
}

static void on_bytes(struct endpoint *ep, struct leg *leg, const void *data, size_t len)
{
	struct err e;
	if (leg != ep->leg)
		return;
	int rc = link_input(ep->link, data, len, clock_mono_ms(), &e);
	endpoint_turn_soon(ep);
	/* A session that is over is told by an event. Else the epoch is broken, and a new leg makes a new one:
	 * path_lose at the end of the turn. */
	if (rc != 0)
		snprintf(ep->broken, sizeof ep->broken, "%s", e.text);
}

static void on_closed(struct endpoint *ep, struct leg *leg, const struct leg_end *end)
{
	bool was_next = leg == ep->next;
	char text[300];
	snprintf(text, sizeof text, "%s", end->text);
	if (ep->ending) {
		ending_leg_closed(ep, end->code);
		return;
	}
	/* With a newer leg of our own on its way, "replaced" is what we asked for. */
	if (end->code == 4001 && !was_next && ep->next) {
		leg_free(&ep->leg);
		link_epoch_lost(ep->link, clock_mono_ms());
		return;
	}
	bool by_us = end->code == 4001 && !was_next && ep->overtaken;
	if (leg_code_is_final(end->code) && !by_us) {
		refuse_finally(ep, end->code, end->http_status, text);
		return;
	}
	if (is_final_status(end->http_status) && !ep->server_urls[0]) {
		refuse_finally(ep, 0, end->http_status, text);
		return;
	}
	/* A draining or busy relay, or one that is gone: a server knows better. A cut connection is tried again as it
	 * was, first. */
	ep->ask = was_next || end->code == 4002 || end->code == 4009;
	if (end->code == 4009 && end->relay_url[0] && take_relay_url(ep, end->relay_url))
		ep->ask = false;
	if (!was_next) {
		path_lose(ep, text);
		return;
	}
	leg_free(&ep->next);
	if (!ep->leg && ep->state == ENDPOINT_UP) /* the older one made way for it already */
		endpoint_lost(ep, text);
	else
		endpoint_trouble(ep, text);
	if (!ep->freed)
		schedule(ep);
}

static void on_notice(struct endpoint *ep, struct leg *leg, unsigned code, int64_t at_ms, const char *reason)
{
	if (leg == ep->leg && !ep->ending && ep->callbacks.notice)
		ep->callbacks.notice(ep->user, code, at_ms, reason);
}

const struct leg_callbacks path_leg_callbacks = { on_attached, on_paired, on_unpaired, on_bytes, on_notice, on_closed };

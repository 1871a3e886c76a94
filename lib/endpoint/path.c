/* Which leg carries the link. At most one does (`leg`); what is tried beside it is redial.c's. A try that is attached
 * takes the other's place; so a leg that still works is dropped only when a better one is there, and one that was held
 * for dead and is not is kept, unless the relay has been asked for another already. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "base/text.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEADY_MS 5000 /* a leg that was attached for so long ends a row of failures */

void path_refuse(struct endpoint *ep, unsigned close_code, int http_status, const char *text)
{
	struct endpoint_end end = { .close_code = close_code, .http_status = http_status };
	text_print(end.text, sizeof end.text, "%s", text);
	endpoint_finish(ep, &end);
}

/* A relay's URL comes from a server; it must not lead to plain text, where the token could be read. */
bool path_take_relay_url(struct endpoint *ep, const char *text)
{
	struct url url;
	struct err e;
	char *copy = url_parse_secure(text, &url, &e) == 0 ? strdup(text) : NULL;
	if (!copy)
		return false;
	free(ep->relay_url);
	ep->relay_url = copy;
	return true;
}

void path_renew(struct endpoint *ep, enum renew_reason reason)
{
	ep->want_new = true;
	ep->stalled = reason == RENEW_STALLED;
	if (reason == RENEW_STALLED) {
		redial_start(ep);
		return;
	}
	if (ep->leg)
		leg_probe(ep->leg);
	redial_now(ep, reason == RENEW_WOKE);
}

/* Most of what a kernel tells is about other ways than ours: a leg that would go out as before is left alone. */
void path_watch_event(void *user, enum watch_event event)
{
	struct endpoint *ep = user;
	if (ep->ending || ep->ended)
		return;
	if (event == WATCH_WOKE)
		path_renew(ep, RENEW_WOKE);
	else if (!ep->leg || ep->want_new || leg_is_misrouted(ep->leg))
		path_renew(ep, RENEW_NETWORK);
}

void path_hush(struct endpoint *ep)
{
	redial_stop(ep);
}

void path_stop(struct endpoint *ep)
{
	redial_stop(ep);
	leg_free(&ep->leg);
	watch_free(&ep->watch);
}

void path_up(struct endpoint *ep)
{
	redial_settle(ep);
}

static void on_attached(struct endpoint *ep, struct leg *leg)
{
	if (!redial_take(ep, leg))
		return;
	redial_stop(ep);
	leg_free(&ep->leg);
	ep->leg = leg;
	ep->want_new = ep->stalled = ep->revived = false;
	ep->broken[0] = '\0';
	ep->unpaired = false;
	link_epoch_lost(ep->link, clock_mono_ms());
	endpoint_await_pair(ep);
}

static void on_paired(struct endpoint *ep, struct leg *leg)
{
	struct err e;
	if (leg != ep->leg || ep->ending)
		return;
	ep->broken[0] = '\0';
	ep->revived = false;
	if (ep->unpaired)
		endpoint_lost(ep, "the other end is away");
	ep->unpaired = false;
	if (ep->freed)
		return;
	if (link_epoch_start(ep->link, clock_mono_ms(), &e) == 0) {
		endpoint_has_pair(ep);
		(void)leg_ready(leg); /* fails only when the leg is closing, which is told by its own callback */
	} else {
		endpoint_trouble(ep, e.text);
	}
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

static void settle_if_steady(struct endpoint *ep)
{
	if (ep->leg && leg_phase_ms(ep->leg) > STEADY_MS)
		redial_settle(ep);
}

static void drop_leg(struct endpoint *ep, const char *why)
{
	leg_free(&ep->leg);
	ep->stalled = ep->revived = false;
	link_epoch_lost(ep->link, clock_mono_ms());
	endpoint_lost(ep, why);
	if (!ep->freed)
		redial_start(ep);
}

void path_lose(struct endpoint *ep, const char *why)
{
	settle_if_steady(ep);
	drop_leg(ep, why);
}

static void revive(struct endpoint *ep)
{
	ep->revived = true; /* told in the turn */
	if (!ep->stalled)   /* another is wanted because the way out has changed */
		return;
	ep->stalled = false;
	ep->want_new = false;
	redial_keep_asked(ep);
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
	else if ((ep->stalled || ep->state == ENDPOINT_LOST) && link_is_up(ep->link))
		revive(ep);
}

/* "Replaced" by a leg of our own, which only one that was attached can be: before, it means that the session has a new
 * client. */
static bool is_by_us(const struct endpoint *ep, const struct leg *leg, const struct leg_end *end)
{
	return end->code == 4001 && leg == ep->leg &&
	       (redial_is_asking(ep) || clock_mono_ms() < ep->redial.stray_until);
}

/* An HTTP status says nothing of the session: the relay answers that over the WebSocket. */
static bool is_final(const struct endpoint *ep, const struct leg *leg, const struct leg_end *end)
{
	return leg_code_is_final(end->code) && !is_by_us(ep, leg, end);
}

static void on_leg_closed(struct endpoint *ep, const struct leg_end *end, const char *text)
{
	if (end->code == 4001 && redial_is_asking(ep)) { /* no loss: the newer one is about to be attached */
		leg_free(&ep->leg);
		link_epoch_lost(ep->link, clock_mono_ms());
		endpoint_await_pair(ep);
		redial_start(ep); /* should its answer never come */
		return;
	}
	settle_if_steady(ep); /* that is the past; what the relay said last is about what comes */
	redial_note_end(ep, end);
	drop_leg(ep, text);
}

static void on_try_closed(struct endpoint *ep, struct leg *leg, const struct leg_end *end, const char *text)
{
	redial_failed(ep, leg, end);
	leg_free(&leg);
	if (!ep->leg && ep->state == ENDPOINT_UP) /* the older one made way for it already */
		endpoint_lost(ep, text);
	else
		endpoint_trouble(ep, text);
	if (!ep->freed)
		redial_start(ep);
}

static void on_closed(struct endpoint *ep, struct leg *leg, const struct leg_end *end)
{
	char text[300];
	snprintf(text, sizeof text, "%s", end->text);
	if (ep->ending)
		ending_leg_closed(ep, end->code);
	else if (is_final(ep, leg, end))
		path_refuse(ep, end->code, 0, text);
	else if (leg == ep->leg)
		on_leg_closed(ep, end, text);
	else
		on_try_closed(ep, leg, end, text);
}

static void on_notice(struct endpoint *ep, struct leg *leg, unsigned code, int64_t at_ms, const char *reason)
{
	if (leg == ep->leg && !ep->ending && ep->callbacks.notice)
		ep->callbacks.notice(ep->user, code, at_ms, reason);
}

const struct leg_callbacks path_leg_callbacks = { redial_progress, on_attached, on_paired, on_unpaired,
						  on_bytes,        on_notice,   on_closed };

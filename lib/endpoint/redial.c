/* Which leg is tried when. Up to three tries are under way, oldest first: one that hangs does not hold up the next.
 * They race as far as TLS, and there they are held: only one at a time asks the relay to be attached, because the relay
 * takes each attach for a replacement of the one before. So the losers are dropped before the relay has heard of them.
 *
 * A try that hangs gives its place to a newer one, but for the oldest: on a slow line nothing else would ever arrive. A
 * relay that answers slowly is given longer each time, else its callers would keep it busy with beginning anew. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "net/timer.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ASK_LIMIT_MS 5000
#define ASK_FIRST_MS 100 /* until a server is asked again: the session may be on its way to another node */
#define ASK_MOST_MS 1000
#define WAIT_MOST_MS 30000
#define BUSY_FIRST_MS 500
#define TLS_FIRST_MS 1000 /* for the handshake, before another try is made beside it */
#define TLS_MOST_MS 8000
#define PATIENCE_FIRST_MS 1000 /* for the answer to an upgrade */
#define PATIENCE_MOST_MS 8000
#define STRAY_MS 60000 /* a request that was left without an answer may be granted so late */
#define DRAINED_SPREAD_MS 100

static void on_due(uv_timer_t *timer);

static bool is_wanted(const struct endpoint *ep)
{
	return !ep->freed && !ep->ended && !ep->ending && (!ep->leg || ep->want_new);
}

static void arm(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	if (!is_wanted(ep)) {
		uv_timer_stop(&ep->retry_timer);
		return;
	}
	timer_at(&ep->retry_timer, on_due, r->next_at > r->not_before ? r->next_at : r->not_before);
}

static void drop(struct redial *r, size_t i)
{
	if (leg_phase(r->tries[i]) == LEG_ASKED)
		r->stray_until = clock_mono_ms() + STRAY_MS;
	leg_free(&r->tries[i]);
	r->count--;
	memmove(&r->tries[i], &r->tries[i + 1], (r->count - i) * sizeof r->tries[0]);
	r->tries[r->count] = NULL;
}

static struct leg *find_phase(const struct redial *r, enum leg_phase phase, size_t *out_index)
{
	for (size_t i = 0; i < r->count; i++)
		if (leg_phase(r->tries[i]) == phase) {
			*out_index = i;
			return r->tries[i];
		}
	return NULL;
}

bool redial_is_asking(const struct endpoint *ep)
{
	size_t at;
	return find_phase(&ep->redial, LEG_ASKED, &at) != NULL;
}

/* A try gets on: it may hold up the next one anew. */
static void give_time(struct redial *r, int64_t ms)
{
	int64_t then = clock_mono_ms() + pace_spread_ms(ms);
	if (r->next_at < then)
		r->next_at = then;
}

/* A try has been connected for long, and its handshake is not done. The relay may have many before us: each further try
 * that it has to look at puts everybody's back. */
static void hold_back(struct redial *r)
{
	size_t at;
	if (!find_phase(r, LEG_CONNECTED, &at))
		return;
	r->tls_ms = r->tls_ms * 2 < TLS_MOST_MS ? r->tls_ms * 2 : TLS_MOST_MS;
	give_time(r, r->tls_ms);
}

/* Lets one of those that wait ask, unless another one's answer may still come. */
static void choose(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	size_t asked_at = 0, held_at = 0;
	struct leg *asked = find_phase(r, LEG_ASKED, &asked_at), *held = find_phase(r, LEG_HELD, &held_at);
	if (!held || (asked && leg_phase_ms(asked) < r->patience_ms))
		return;
	if (asked) {
		drop(r, asked_at);
		r->patience_ms = r->patience_ms * 2 < PATIENCE_MOST_MS ? r->patience_ms * 2 : PATIENCE_MOST_MS;
	}
	leg_go(held);
	give_time(r, r->patience_ms);
}

void redial_progress(struct endpoint *ep, struct leg *leg)
{
	if (leg_phase(leg) == LEG_CONNECTED)
		give_time(&ep->redial, ep->redial.tls_ms);
	choose(ep);
	arm(ep);
}

/* The second oldest of those that have not asked. */
static bool make_room(struct redial *r)
{
	size_t i = 1;
	if (r->count < TRIES_MAX)
		return true;
	while (i < r->count && leg_phase(r->tries[i]) == LEG_ASKED)
		i++;
	if (i == r->count)
		return false;
	drop(r, i);
	return true;
}

static void dial(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	struct err e;
	if (!make_room(r))
		return;
	if (leg_open(ep, ep->relay_url, &r->tries[r->count], &e) == 0) {
		r->count++;
	} else {
		r->tries[r->count] = NULL;
		endpoint_trouble(ep, e.text);
	}
}

/* Asking servers. */

static bool is_relays_own(const struct endpoint *ep, const char *server_url)
{
	struct url a, b;
	struct err e;
	return url_parse(ep->relay_url, &a, &e) == 0 && url_parse(server_url, &b, &e) == 0 && a.port == b.port &&
	       strcasecmp(a.host, b.host) == 0;
}

/* The next one in turn that may know more than the relay itself; any, when that is what the relay said. */
static const char *next_server(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	size_t n = 0;
	while (ep->server_urls[n])
		n++;
	for (size_t i = 0; i < n; i++) {
		const char *url = ep->server_urls[(r->server_turn + i) % n];
		if (!r->elsewhere && is_relays_own(ep, url))
			continue;
		r->server_turn += i + 1;
		return url;
	}
	return NULL;
}

static bool is_final(const struct call_answer *a)
{
	static const struct {
		int status;
		const char *code;
	} rows[] = { { 401, "unauthenticated" }, { 403, "forbidden" }, { 404, "not-found" }, { 410, "session-ended" } };
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].status == a->status && strcmp(rows[i].code, a->code) == 0)
			return true;
	return false;
}

static void wait_at_least(int64_t *at, int64_t ms)
{
	int64_t then = clock_mono_ms() + (ms < WAIT_MOST_MS ? ms : WAIT_MOST_MS);
	if (*at < then)
		*at = then;
}

static void ask_later(struct redial *r)
{
	wait_at_least(&r->ask_at, pace_spread_ms(r->ask_ms));
	r->ask_ms = r->ask_ms * 2 < ASK_MOST_MS ? r->ask_ms * 2 : ASK_MOST_MS;
}

static void on_useless_answer(struct endpoint *ep, const struct call_answer *a)
{
	struct redial *r = &ep->redial;
	char text[300];
	if (a->now_ms)
		proving_learn_time(ep, a->now_ms);
	ask_later(r);
	wait_at_least(&r->ask_at, a->retry_after_ms);
	if (r->elsewhere) {
		wait_at_least(&r->next_at, pace_next_ms(&r->pace, clock_mono_ms()));
		wait_at_least(&r->not_before, a->retry_after_ms);
	}
	r->elsewhere = false;
	snprintf(text, sizeof text, "attach: %s",
		 a->status == 200 ? "the server's answer has no usable relay_url" : a->text);
	endpoint_trouble(ep, text);
	arm(ep);
}

static void on_answer(struct endpoint *ep, const struct call_answer *a)
{
	struct redial *r = &ep->redial;
	if (is_final(a)) {
		path_refuse(ep, a->end_code, a->status, a->text);
		return;
	}
	char *before = strdup(ep->relay_url);
	if (a->status == 200 && a->relay_url && path_take_relay_url(ep, a->relay_url)) {
		/* The same relay that is being dialled already is no news. */
		if (r->elsewhere || !before || strcmp(before, ep->relay_url) != 0)
			r->next_at = clock_mono_ms();
		r->elsewhere = false;
		ask_later(r);
		arm(ep);
	} else {
		on_useless_answer(ep, a);
	}
	free(before);
}

static bool ask(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	const char *const server[] = { ep->call || clock_mono_ms() < r->ask_at ? NULL : next_server(ep), NULL };
	const struct call_request request = {
		.method = "POST", .suffix = "/attach", .server_urls = server, .limit_ms = ASK_LIMIT_MS
	};
	struct err e;
	return server[0] && call_start(ep, &request, on_answer, &e) == 0;
}

/* Attempts. */

static void attempt(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	/* The first goes straight to the relay: mostly it is there, and only the connection was cut. */
	bool asked = (r->elsewhere || r->made > 0) && ask(ep);
	if (r->made < UINT32_MAX)
		r->made++;
	if (r->elsewhere && (asked || ep->call))
		return;
	r->elsewhere = false;
	dial(ep);
}

static void on_due(uv_timer_t *timer)
{
	struct endpoint *ep = timer->data;
	struct redial *r = &ep->redial;
	int64_t now = clock_mono_ms();
	if (!is_wanted(ep))
		return;
	r->next_at = now + pace_hold_ms(&r->pace, now);
	hold_back(r);
	choose(ep);
	attempt(ep);
	if (is_wanted(ep))
		arm(ep);
}

void redial_start(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	if (r->patience_ms == 0) {
		r->ask_ms = ASK_FIRST_MS;
		r->patience_ms = PATIENCE_FIRST_MS;
		r->tls_ms = TLS_FIRST_MS;
	}
	if (is_wanted(ep) && r->count == 0 && !ep->call && !uv_is_active((uv_handle_t *)&ep->retry_timer)) {
		int64_t now = clock_mono_ms();
		r->next_at = now + pace_next_ms(&r->pace, now);
	}
	arm(ep);
}

void redial_now(struct endpoint *ep, bool all_are_dead)
{
	struct redial *r = &ep->redial;
	for (size_t i = r->count; i-- > 0;)
		if (all_are_dead || leg_is_misrouted(r->tries[i]))
			drop(r, i);
	redial_settle(ep);
	int64_t now = clock_mono_ms();
	r->next_at = now + pace_next_ms(&r->pace, now);
	arm(ep);
}

void redial_settle(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	pace_reset(&r->pace);
	r->ask_ms = ASK_FIRST_MS;
	r->patience_ms = PATIENCE_FIRST_MS;
	r->tls_ms = TLS_FIRST_MS;
	r->not_before = r->ask_at = 0;
	r->elsewhere = false;
	r->busy = r->made = 0;
}

void redial_stop(struct endpoint *ep)
{
	while (ep->redial.count)
		drop(&ep->redial, ep->redial.count - 1);
	call_cancel(ep);
	uv_timer_stop(&ep->retry_timer);
}

void redial_keep_asked(struct endpoint *ep)
{
	struct redial *r = &ep->redial;
	for (size_t i = r->count; i-- > 0;)
		if (leg_phase(r->tries[i]) != LEG_ASKED)
			drop(r, i);
	if (!ep->ending)
		call_cancel(ep);
	uv_timer_stop(&ep->retry_timer);
}

bool redial_take(struct endpoint *ep, struct leg *leg)
{
	struct redial *r = &ep->redial;
	for (size_t i = 0; i < r->count; i++)
		if (r->tries[i] == leg) {
			r->count--;
			memmove(&r->tries[i], &r->tries[i + 1], (r->count - i) * sizeof r->tries[0]);
			r->tries[r->count] = NULL;
			return true;
		}
	return false;
}

void redial_note_end(struct endpoint *ep, const struct leg_end *end)
{
	struct redial *r = &ep->redial;
	if (end->now_ms)
		proving_learn_time(ep, end->now_ms);
	/* A relay that is going away, or that is not one: a server knows better. */
	r->elsewhere = end->code == 4002 || end->code == 4009 || end->http_status != 0;
	if (end->code == 4009 && end->relay_url[0] && path_take_relay_url(ep, end->relay_url))
		r->elsewhere = false;
	if (end->code == 4503) {
		wait_at_least(&r->not_before, pace_spread_ms((int64_t)BUSY_FIRST_MS << r->busy));
		if (r->busy < 4)
			r->busy++;
	}
	if (end->code == 4002) /* all its legs were told at once */
		wait_at_least(&r->not_before, pace_spread_ms(DRAINED_SPREAD_MS));
}

void redial_failed(struct endpoint *ep, struct leg *leg, const struct leg_end *end)
{
	struct redial *r = &ep->redial;
	size_t at;
	if (leg_phase(leg) == LEG_ASKED && end->code < 4000) /* not the relay's own answer */
		r->stray_until = clock_mono_ms() + STRAY_MS;
	redial_take(ep, leg);
	redial_note_end(ep, end);
	bool others = find_phase(r, LEG_CONNECTED, &at) || find_phase(r, LEG_HELD, &at) || redial_is_asking(ep);
	if (!others) {
		int64_t now = clock_mono_ms();
		r->next_at = now + pace_next_ms(&r->pace, now);
	}
	choose(ep);
}

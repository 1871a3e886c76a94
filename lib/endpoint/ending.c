/* How a session ends for this end. Three steps, each taken once: `ending` (the last words are on their way out),
 * `ended` (the reason is fixed), and the over callback.
 *
 * The last words are BYE for the other end and the leg's close for the relay. A client that has no leg to say them on,
 * or whose leg does not answer, tells a server by REST, so that the target does not wait for it. A detach says nothing
 * but that the leg goes. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "base/secret.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define LAST_WORDS_MS 2000 /* for BYE and close to leave, or for DELETE to be answered */
#define SILENT_MS 700      /* then the leg may be a black hole: DELETE beside it */

void endpoint_finish(struct endpoint *ep, const struct endpoint_end *end)
{
	if (ep->ended || ep->freed)
		return;
	ep->ended = true;
	ep->end = *end;
	ep->state = ENDPOINT_OVER;
	path_stop(ep);
	uv_timer_stop(&ep->link_timer);
	uv_timer_stop(&ep->give_up_timer);
	endpoint_turn_soon(ep);
}

static void on_deleted(struct endpoint *ep, const struct call_answer *answer)
{
	(void)answer; /* best effort: else the detach grace ends it */
	endpoint_finish(ep, &ep->end);
}

/* False when there is nobody to ask. */
static bool start_delete(struct endpoint *ep)
{
	const char *relay_only[] = { ep->relay_url, NULL };
	struct call_request request = {
		.method = "DELETE",
		.suffix = "",
		.server_urls = ep->server_urls[0] ? (const char *const *)ep->server_urls : relay_only,
		.limit_ms = LAST_WORDS_MS,
	};
	struct err e;
	return ep->role == LINK_CLIENT && !ep->detaching && !ep->call && call_start(ep, &request, on_deleted, &e) == 0;
}

static void on_last_words_due(uv_timer_t *timer)
{
	struct endpoint *ep = timer->data;
	endpoint_finish(ep, &ep->end);
}

static void on_silence(uv_timer_t *timer)
{
	struct endpoint *ep = timer->data;
	(void)start_delete(ep);
	uv_timer_start(timer, on_last_words_due, LAST_WORDS_MS - SILENT_MS, 0);
}

void ending_begin(struct endpoint *ep, unsigned code, const char *text)
{
	ep->end = (struct endpoint_end){ .link_code = code };
	text_print(ep->end.text, sizeof ep->end.text, "%s", text && *text ? text : link_code_name(code));
	ep->ending = true;
	path_hush(ep);
	if (ep->leg)
		uv_timer_start(&ep->give_up_timer, on_silence, ep->want_new ? 0 : SILENT_MS, 0);
	else if (start_delete(ep))
		uv_timer_start(&ep->give_up_timer, on_last_words_due, LAST_WORDS_MS, 0);
	else
		endpoint_finish(ep, &ep->end);
	endpoint_turn_soon(ep);
}

void ending_leg_closed(struct endpoint *ep, unsigned code)
{
	/* An answered close was heard by the relay, which ends the session of a client that said 1000. */
	bool heard = leg_code_is_final(code) || (ep->close_sent && code != 1006);
	if (!heard && (ep->call || start_delete(ep)))
		leg_free(&ep->leg);
	else
		endpoint_finish(ep, &ep->end);
}

static void say_last_words(struct endpoint *ep)
{
	if (!ep->detaching && leg_is_paired(ep->leg)) {
		leg_fill(ep->leg, clock_mono_ms());
		if (link_has_output(ep->link))
			return; /* the leg says when it takes more */
	}
	ep->close_sent = true;
	/* The client's 1000 ends the session. The target's end only goes: its session may have another end. */
	leg_close(ep->leg, ep->role == LINK_CLIENT && !ep->detaching ? 1000 : 1001, "");
}

static void tell_over(struct endpoint *ep)
{
	if (ep->over_told || ep->freed)
		return;
	ep->over_told = true;
	secret_free_text(&ep->token);
	struct endpoint_end end = ep->end;
	ep->callbacks.over(ep->user, &end);
}

static unsigned end_code_of_streams(const struct endpoint *ep)
{
	return ep->end.close_code || ep->end.http_status ? LINK_TERMINATED : ep->end.link_code;
}

void ending_turn(struct endpoint *ep)
{
	unsigned code = end_code_of_streams(ep);
	pumps_end(ep, code == LINK_OK ? LINK_TERMINATED : code, ep->end.text);
	if (ep->freed)
		return;
	if (ep->ended)
		tell_over(ep);
	else if (ep->leg && !ep->close_sent)
		say_last_words(ep);
}

/* One end of a session. What happens on legs and descriptors only leaves marks; the turn, a check handle that is active
 * while there are marks, does the work: events of the link, streams, output, timers. So everything that one round of
 * the loop brought is answered by one batch, and no callback of the user's runs inside a call of the user's. An idle
 * handle is active with it, so that the loop does not sleep over marks that were left behind its checks. */
#include "endpoint/internal.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "net/timer.h"
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIVE_UP_MS (15 * 60 * 1000)
#define ALONE_MS 3000         /* `paired` comes with `attached` where the other end is there */
#define SWOLLEN (256u * 1024) /* bytes in buffers: then the heap has grown */
#define REST_MS 5000

static void on_turn(struct endpoint *ep);

static void on_idle(uv_idle_t *idle)
{
	on_turn(idle->data);
}

static void on_check(uv_check_t *check)
{
	on_turn(check->data);
}

void endpoint_turn_soon(struct endpoint *ep)
{
	if (ep->freed)
		return;
	uv_check_start(&ep->turn, on_check);
	uv_idle_start(&ep->awake, on_idle);
}

static void tell_state(struct endpoint *ep, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	ep->state = state;
	if (ep->callbacks.state && !ep->freed)
		ep->callbacks.state(ep->user, state, outage_ms, text);
}

static void on_give_up(uv_timer_t *timer)
{
	struct endpoint *ep = timer->data;
	struct endpoint_end end = { .link_code = LINK_TIMEOUT };
	text_print(end.text, sizeof end.text, "not connected for %lld s%s%.200s", (long long)(ep->give_up_ms / 1000),
		   ep->trouble[0] ? "; last: " : "", ep->trouble);
	endpoint_finish(ep, &end);
}

/* States. */

void endpoint_lost(struct endpoint *ep, const char *why)
{
	if (ep->state == ENDPOINT_CONNECTING) {
		endpoint_trouble(ep, why);
	} else if (ep->state == ENDPOINT_UP) {
		ep->lost_at = clock_mono_ms();
		uv_timer_start(&ep->give_up_timer, on_give_up, (uint64_t)ep->give_up_ms, 0);
		tell_state(ep, ENDPOINT_LOST, 0, why);
	}
}

void endpoint_trouble(struct endpoint *ep, const char *what)
{
	snprintf(ep->trouble, sizeof ep->trouble, "%s", what);
	if (ep->state == ENDPOINT_CONNECTING)
		tell_state(ep, ENDPOINT_CONNECTING, 0, ep->trouble);
}

static void on_alone(uv_timer_t *timer)
{
	struct endpoint *ep = timer->data;
	endpoint_lost(ep, ep->leg ? "the other end is away" : "the relay does not answer");
}

/* The timer has nothing else to do while it is up. */
void endpoint_await_pair(struct endpoint *ep)
{
	if (ep->state == ENDPOINT_UP)
		timer_in(&ep->give_up_timer, on_alone, ALONE_MS);
}

void endpoint_has_pair(struct endpoint *ep)
{
	if (ep->state == ENDPOINT_UP)
		uv_timer_stop(&ep->give_up_timer);
}

static void on_up(struct endpoint *ep)
{
	ep->trouble[0] = '\0';
	path_up(ep);
	uv_timer_stop(&ep->give_up_timer);
	if (ep->state != ENDPOINT_UP)
		tell_state(ep, ENDPOINT_UP, ep->state == ENDPOINT_LOST ? clock_mono_ms() - ep->lost_at : 0, "");
}

/* Events of the link. */

static void on_stream_asked(struct endpoint *ep, const struct link_event *ev)
{
	if (!ep->callbacks.open) {
		link_stream_refuse(ep->link, ev->stream, LINK_NOT_ALLOWED, "this end takes no streams");
	} else if (!pump_new(ep, ev->stream)) {
		link_stream_refuse(ep->link, ev->stream, LINK_INTERNAL, "out of memory");
	} else {
		ep->callbacks.open(ep->user, ev->stream, &ev->dest);
	}
}

static void on_stream_event(struct endpoint *ep, const struct link_event *ev)
{
	struct pump *p = pump_find(ep, ev->stream);
	if (!p)
		return;
	switch (ev->type) {
	case LINK_EVENT_OPENED:
		pump_wake(p);
		if (ep->callbacks.opened)
			ep->callbacks.opened(ep->user, ev->stream);
		break;
	case LINK_EVENT_EOF:
		pump_eof(p);
		break;
	case LINK_EVENT_CLOSED:
		pump_closed(p, ev->code, ev->text);
		break;
	default:
		pump_wake(p);
	}
}

static void on_event(struct endpoint *ep, const struct link_event *ev)
{
	switch (ev->type) {
	case LINK_EVENT_UP:
		on_up(ep);
		break;
	case LINK_EVENT_STALLED:
		path_renew(ep, RENEW_STALLED);
		endpoint_lost(ep, "the other end does not answer");
		break;
	case LINK_EVENT_OPEN:
		on_stream_asked(ep, ev);
		break;
	case LINK_EVENT_OVER:
		ending_begin(ep, ev->code, ev->text);
		break;
	default:
		on_stream_event(ep, ev);
	}
}

static void take_events(struct endpoint *ep)
{
	struct link_event ev;
	while (!ep->freed && !ep->ending && !ep->ended && link_next_event(ep->link, &ev))
		on_event(ep, &ev);
}

/* A bulk transfer is over when the buffers are small at one of the link's timers, after REST_MS without large ones. */
static void note_memory(struct endpoint *ep, bool at_timer)
{
	struct link_stats stats;
	link_get_stats(ep->link, &stats);
	int64_t now = clock_mono_ms();
	if (stats.buffered >= SWOLLEN) {
		ep->swollen_at = now;
	} else if (at_timer && ep->swollen_at && now - ep->swollen_at >= REST_MS) {
		ep->swollen_at = 0;
		heap_give_back();
	}
}

static void on_link_due(uv_timer_t *timer)
{
	struct endpoint *ep = timer->data;
	link_tick(ep->link, clock_mono_ms());
	note_memory(ep, true);
	endpoint_turn_soon(ep);
}

static void arm_link_timer(struct endpoint *ep)
{
	int64_t due = link_deadline(ep->link);
	if (due == INT64_MAX) {
		uv_timer_stop(&ep->link_timer);
		return;
	}
	timer_at(&ep->link_timer, on_link_due, due);
}

static void on_turn(struct endpoint *ep)
{
	uv_check_stop(&ep->turn);
	uv_idle_stop(&ep->awake);
	take_events(ep);
	if (ep->revived && !ep->freed && !ep->ending && !ep->ended) {
		ep->revived = false;
		on_up(ep);
	}
	if (!ep->freed && !ep->ending && !ep->ended && ep->unpaired) {
		ep->unpaired = false;
		link_epoch_lost(ep->link, clock_mono_ms());
		endpoint_lost(ep, "the other end is away");
	}
	if (!ep->freed && !ep->ending && !ep->ended) {
		if (ep->broken[0]) {
			char why[sizeof ep->broken];
			memcpy(why, ep->broken, sizeof why);
			ep->broken[0] = '\0';
			path_lose(ep, why);
		}
		pumps_run(ep);
		take_events(ep); /* what the streams brought about */
	}
	if (ep->freed)
		return;
	if (ep->ending || ep->ended) {
		ending_turn(ep);
		return;
	}
	if (leg_is_paired(ep->leg))
		leg_fill(ep->leg, clock_mono_ms());
	note_memory(ep, false);
	arm_link_timer(ep);
}

/* Birth and death. */

static void on_handle_closed(uv_handle_t *h)
{
	struct endpoint *ep = h->data;
	if (--ep->handles > 0)
		return;
	link_free(&ep->link);
	EVP_PKEY_free(ep->key);
	free(ep->session);
	secret_free_text(&ep->token);
	secret_free_text(&ep->proxy);
	free(ep->relay_url);
	for (char **url = ep->server_urls; url && *url; url++)
		free(*url);
	free(ep->server_urls);
	free(ep);
}

static int check_config(const struct endpoint_config *c, struct err *e)
{
	struct url u;
	if (!c->session || !text_is_id(c->session))
		return err_set(e, ERR_INVALID, "endpoint: \"%s\" is not a session id", c->session ? c->session : "");
	if (!c->token || !*c->token || strlen(c->token) > LIMIT_TOKEN)
		return err_set(e, ERR_INVALID, "endpoint: the session token must have 1 to %u bytes", LIMIT_TOKEN);
	if (!c->key)
		return err_set(e, ERR_INVALID, "endpoint: no key was given");
	int rc = url_parse_secure(c->relay_url ? c->relay_url : "", &u, e);
	if (rc != 0)
		return err_wrap(e, "relay");
	for (const char *const *url = c->server_urls; url && *url; url++)
		if (url_parse_secure(*url, &u, e) != 0)
			return err_wrap(e, "server");
	return 0;
}

static int copy_config(struct endpoint *ep, const struct endpoint_config *c, struct err *e)
{
	size_t n = 0;
	while (c->server_urls && c->server_urls[n])
		n++;
	ep->role = c->role;
	ep->tls = c->tls;
	ep->give_up_ms = c->give_up_ms ? c->give_up_ms : GIVE_UP_MS;
	ep->session = strdup(c->session);
	ep->token = secret_dup(c->token);
	ep->relay_url = strdup(c->relay_url);
	ep->proxy = c->proxy ? strdup(c->proxy) : NULL;
	ep->server_urls = calloc(n + 1, sizeof *ep->server_urls);
	bool whole = ep->session && ep->token && ep->relay_url && ep->server_urls && (ep->proxy || !c->proxy);
	for (size_t i = 0; whole && i < n; i++)
		whole = (ep->server_urls[i] = strdup(c->server_urls[i])) != NULL;
	if (!whole)
		return err_set(e, ERR_NOMEM, "out of memory");
	EVP_PKEY_up_ref(c->key);
	ep->key = c->key;
	struct link_config link = { .role = c->role, .key = c->key };
	memcpy(link.peer_pin, c->peer_pin, sizeof link.peer_pin);
	return link_new(&link, &ep->link, e);
}

static void set_up_handles(struct endpoint *ep)
{
	uv_check_init(ep->loop, &ep->turn);
	uv_idle_init(ep->loop, &ep->awake);
	uv_timer_init(ep->loop, &ep->link_timer);
	uv_timer_init(ep->loop, &ep->retry_timer);
	uv_timer_init(ep->loop, &ep->give_up_timer);
	ep->turn.data = ep->awake.data = ep->link_timer.data = ep->retry_timer.data = ep->give_up_timer.data = ep;
	ep->handles = 5;
	for (size_t i = 0; i < PUMP_BUCKETS; i++)
		list_init(&ep->pumps[i]);
	list_init(&ep->dirty);
	list_init(&ep->leaving);
}

int endpoint_start(uv_loop_t *loop, const struct endpoint_config *config, const struct endpoint_callbacks *callbacks,
		   void *user, struct endpoint **out_endpoint, struct err *e)
{
	int rc = check_config(config, e);
	if (rc != 0)
		return rc;
	struct endpoint *ep = calloc(1, sizeof *ep);
	if (!ep)
		return err_set(e, ERR_NOMEM, "out of memory");
	ep->loop = loop;
	ep->callbacks = *callbacks;
	ep->user = user;
	set_up_handles(ep);
	rc = copy_config(ep, config, e);
	if (rc != 0) {
		endpoint_free(&ep);
		return rc;
	}
	timer_in(&ep->give_up_timer, on_give_up, ep->give_up_ms);
	if (watch_start(loop, path_watch_event, ep, &ep->watch, e) != 0)
		ep->watch = NULL; /* then silence tells */
	redial_start(ep);
	*out_endpoint = ep;
	return 0;
}

void endpoint_freeze(struct endpoint *ep, bool frozen)
{
	ep->frozen = frozen;
	if (!frozen)
		pumps_thaw(ep);
}

void endpoint_free(struct endpoint **ep_ptr)
{
	if (!ep_ptr || !*ep_ptr)
		return;
	struct endpoint *ep = *ep_ptr;
	*ep_ptr = NULL;
	if (ep->freed)
		return;
	ep->freed = true;
	ep->state = ENDPOINT_OVER;
	path_stop(ep);
	pumps_end(ep, LINK_TERMINATED, "");
	uv_close((uv_handle_t *)&ep->turn, on_handle_closed);
	uv_close((uv_handle_t *)&ep->awake, on_handle_closed);
	uv_close((uv_handle_t *)&ep->link_timer, on_handle_closed);
	uv_close((uv_handle_t *)&ep->retry_timer, on_handle_closed);
	uv_close((uv_handle_t *)&ep->give_up_timer, on_handle_closed);
}

/* What the user asks for. */

static bool is_over(const struct endpoint *ep)
{
	return ep->ending || ep->ended;
}

int endpoint_open_stream(struct endpoint *ep, const struct link_dest *dest, int in_fd, int out_fd, uint32_t *out_stream,
			 struct err *e)
{
	uint32_t id = 0;
	int rc = is_over(ep) ? err_set(e, ERR_CLOSED, "the session is over") : link_stream_open(ep->link, dest, &id, e);
	if (rc != 0) {
		pump_close_fds(in_fd, out_fd);
		return rc;
	}
	struct pump *p = pump_new(ep, id);
	if (!p) {
		pump_close_fds(in_fd, out_fd);
		rc = err_set(e, ERR_NOMEM, "out of memory");
	} else if (in_fd >= 0) {
		rc = pump_attach(p, in_fd, out_fd, e);
	}
	if (rc != 0) {
		link_stream_reset(ep->link, id, LINK_INTERNAL, "the local descriptor cannot be used");
		pump_forget(&p);
		endpoint_turn_soon(ep);
		return rc;
	}
	endpoint_turn_soon(ep);
	*out_stream = id;
	return 0;
}

static bool is_own(const struct endpoint *ep, uint32_t stream)
{
	return stream % 2 == (ep->role == LINK_CLIENT);
}

/* Takes the peer's stream, or one of our own that waits for its descriptors. */
static bool may_attach(struct endpoint *ep, const struct pump *p, uint32_t stream)
{
	return is_own(ep, stream) ? !pump_is_attached(p) : link_stream_accept(ep->link, stream) == 0;
}

int endpoint_attach_fd(struct endpoint *ep, uint32_t stream, int in_fd, int out_fd, struct err *e)
{
	struct pump *p = is_over(ep) ? NULL : pump_find(ep, stream);
	if (!p || !may_attach(ep, p, stream)) {
		pump_close_fds(in_fd, out_fd);
		return err_set(e, ERR_CLOSED, "stream %u is gone", stream);
	}
	int rc = pump_attach(p, in_fd, out_fd, e);
	if (rc != 0) {
		link_stream_reset(ep->link, stream, LINK_INTERNAL, "the local descriptor cannot be used");
		pump_forget(&p);
	}
	endpoint_turn_soon(ep);
	return rc;
}

void endpoint_refuse(struct endpoint *ep, uint32_t stream, unsigned code, const char *text)
{
	struct pump *p = is_over(ep) ? NULL : pump_find(ep, stream);
	if (!p)
		return;
	link_stream_refuse(ep->link, stream, code, text);
	pump_forget(&p);
	endpoint_turn_soon(ep);
}

void endpoint_reset_stream(struct endpoint *ep, uint32_t stream, unsigned code, const char *text)
{
	struct pump *p = is_over(ep) ? NULL : pump_find(ep, stream);
	if (!p)
		return;
	link_stream_reset(ep->link, stream, code, text);
	endpoint_turn_soon(ep);
	pump_done(p, code, text);
}

void endpoint_end(struct endpoint *ep, unsigned code, const char *text)
{
	if (is_over(ep))
		return;
	link_bye(ep->link, code, text);
	ending_begin(ep, code, text);
}

void endpoint_detach(struct endpoint *ep)
{
	if (is_over(ep))
		return;
	ep->detaching = true;
	ending_begin(ep, LINK_OK, "detached");
}

void endpoint_network_changed(struct endpoint *ep)
{
	if (!is_over(ep))
		path_renew(ep, RENEW_NETWORK);
}

void endpoint_cut(struct endpoint *ep)
{
	if (!is_over(ep))
		path_lose(ep, "cut by this end, to try how it comes back");
}

enum endpoint_state endpoint_get_state(const struct endpoint *ep)
{
	return ep->state;
}

const char *endpoint_get_trouble(const struct endpoint *ep)
{
	return ep->trouble;
}

void endpoint_get_stats(const struct endpoint *ep, struct link_stats *out)
{
	link_get_stats(ep->link, out);
}

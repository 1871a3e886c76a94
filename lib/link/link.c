/* A link's birth and end, and the coming and going of epochs. Everything that belongs to one epoch is given up in
 * drop_epoch and nowhere else; streams with their buffers and offsets stay. */
#include "link/internal.h"

#include <stdlib.h>
#include <string.h>

static int set_limit(uint32_t *value, uint32_t def, uint32_t min, uint32_t max, const char *name, struct err *e)
{
	if (*value == 0)
		*value = def;
	if (*value < min || *value > max)
		return err_set(e, ERR_INVALID, "link %s is %u, must be %u to %u", name, *value, min, max);
	return 0;
}

static int set_limits(struct link_config *c, struct err *e)
{
	int rc = set_limit(&c->max_streams, LIMIT_LINK_STREAMS, 1, LIMIT_LINK_STREAMS, "max_streams", e);
	if (rc == 0)
		rc = set_limit(&c->initial_window, LIMIT_LINK_INITIAL_WINDOW, LINK_MIN_WINDOW, LINK_MAX_WINDOW,
			       "initial_window", e);
	if (rc == 0)
		rc = set_limit(&c->window, LIMIT_LINK_WINDOW, LINK_MIN_WINDOW, LINK_MAX_WINDOW, "window", e);
	if (rc == 0)
		rc = set_limit(&c->session_window, LIMIT_LINK_SESSION_WINDOW, LINK_MIN_WINDOW, LINK_MAX_WINDOW,
			       "session_window", e);
	if (rc == 0 && c->window < c->initial_window)
		c->window = c->initial_window;
	return rc;
}

static void set_up_lists(struct link *link)
{
	list_init(&link->streams);
	list_init(&link->control);
	list_init(&link->lazy);
	list_init(&link->small);
	list_init(&link->bulk);
	list_init(&link->unconfirmed);
	list_init(&link->confirming);
	list_init(&link->eventful);
}

int link_new(const struct link_config *config, struct link **out_link, struct err *e)
{
	if (config->role != LINK_CLIENT && config->role != LINK_TARGET)
		return err_set(e, ERR_INVALID, "link role %d, must be client or target", (int)config->role);
	struct link_config c = *config;
	int rc = set_limits(&c, e);
	if (rc != 0)
		return rc;
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return err_set(e, ERR_NOMEM, "out of memory");
	link->config = c;
	link->config.key = NULL; /* the identity has its own reference */
	link->next_id = c.role == LINK_CLIENT ? 1 : 2;
	link->rtt_ms = link->rtt_min_ms = -1;
	link->now = INT64_MIN;
	set_up_lists(link);
	buf_init(&link->greeting, 0);
	rc = link_tls_identity_new(c.role == LINK_TARGET, c.key, c.peer_pin, &link->identity, e);
	if (rc != 0) {
		link_free(&link);
		return rc;
	}
	*out_link = link;
	return 0;
}

void link_forget_streams(struct link *link)
{
	LIST_EACH_SAFE(node, after, &link->streams)
	{
		struct stream *s = LIST_ENTRY(node, struct stream, all);
		stream_destroy(link, &s);
	}
}

/* Time never goes back in here, whatever the caller's clock does. */
void link_set_now(struct link *link, int64_t now_ms)
{
	if (now_ms > link->now)
		link->now = now_ms;
}

static void reset_stream_epoch(struct link *link, struct stream *s)
{
	stream_set_wired(link, s, false);
	sched_remove(link, s);
	s->listed = false;
}

static void drop_epoch(struct link *link)
{
	if (link->epoch == EPOCH_UP)
		live_down(link);
	link->epoch = EPOCH_NONE;
	link->event_mask &= ~(unsigned)(EVENT_STALLED | EVENT_UP);
	link_tls_free(&link->tls);
	buf_free(&link->greeting);
	link->hello_in = link->early = link->bye = link->pong_due = false;
	link->ping_in = 0;
	live_forget(link);
	LIST_EACH(node, &link->streams)
	reset_stream_epoch(link, LIST_ENTRY(node, struct stream, all));
	while (!list_empty(&link->confirming)) {
		struct list *node = link->confirming.next;
		list_remove(node);
		list_append(&link->unconfirmed, node);
	}
}

void link_break_epoch(struct link *link)
{
	if (link->epoch == EPOCH_UP)
		live_down(link);
	link->epoch = EPOCH_BROKEN;
}

void link_free(struct link **link)
{
	struct link *l = *link;
	*link = NULL;
	if (!l)
		return;
	drop_epoch(l);
	link_forget_streams(l);
	link_tls_identity_free(&l->identity);
	free(l);
}

int link_epoch_start(struct link *link, int64_t now_ms, struct err *e)
{
	link_set_now(link, now_ms);
	if (link->over)
		return err_set(e, ERR_CLOSED, "the session is over");
	drop_epoch(link);
	int rc = link_tls_new(link->identity, &link->tls, e);
	if (rc != 0)
		return rc;
	link->epoch = EPOCH_HANDSHAKE;
	link->epoch_at = link->heard_at = link->now;
	return 0;
}

void link_epoch_lost(struct link *link, int64_t now_ms)
{
	link_set_now(link, now_ms);
	drop_epoch(link);
}

bool link_is_up(const struct link *link)
{
	return link->epoch == EPOCH_UP && !link->over;
}

/* BYE needs our greeting before it, so TLS must be done. */
static void end_session(struct link *link, unsigned code, const char *text)
{
	link->over = true;
	link->event_mask = 0;
	link_forget_streams(link);
	link->bye = link->epoch == EPOCH_RESUME || link->epoch == EPOCH_UP;
	link->bye_reason.code = code;
	size_t len = text ? strnlen(text, LIMIT_LINK_TEXT) : 0;
	if (len)
		memcpy(link->bye_reason.text, text, len);
	link->bye_reason.text[len] = '\0';
}

void link_bye(struct link *link, unsigned code, const char *text)
{
	if (!link->over)
		end_session(link, code, text);
}

int link_fail(struct link *link, unsigned code, struct err *e)
{
	end_session(link, code, e->text);
	link->over_reason = link->bye_reason;
	event_link(link, EVENT_OVER);
	return code == LINK_PROTOCOL ? ERR_PROTOCOL : ERR_INTERNAL;
}

void link_get_stats(const struct link *link, struct link_stats *out)
{
	*out = (struct link_stats){
		.epochs = link->epochs,
		.bytes_in = link->bytes_in,
		.bytes_out = link->bytes_out,
		.buffered = link->held,
		.streams = (uint32_t)link->n_live,
		.rtt_ms = link->rtt_ms,
	};
}

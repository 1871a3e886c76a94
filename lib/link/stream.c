/* The stream table, and every change of a stream's state and numbers that has more than one cause.
 *
 * A stream is live, then a tombstone (DONE), then GONE. It is a tombstone while the peer may have to hear again how it
 * ended: until the peer has answered a PING that was sent behind the last word. What the peer ended itself needs no
 * last word from here. GONE holds only the events that the caller has not taken. */
#include "link/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ids of one opener are two apart */
static size_t bucket(uint32_t id)
{
	return (id ^ id >> 8) % LINK_BUCKETS;
}

struct stream *stream_find(const struct link *link, uint32_t id)
{
	struct stream *s = link->buckets[bucket(id)];
	while (s && s->id != id)
		s = s->hash_next;
	return s;
}

struct stream *stream_find_live(const struct link *link, uint32_t id)
{
	struct stream *s = stream_find(link, id);
	return s && stream_is_live(s) ? s : NULL;
}

/* Each opener has a table of its own: what this end has opened and reset in a hurry must not make an honest OPEN of the
 * peer illegal. */
bool stream_table_full(const struct link *link, bool local)
{
	return (local ? link->n_local : link->n_streams - link->n_local) >= LIMIT_LINK_TABLE;
}

struct stream *stream_new(struct link *link, uint32_t id, bool local, const struct link_dest *dest)
{
	struct stream *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->dest = malloc(sizeof(*dest));
	if (!s->dest) {
		free(s);
		return NULL;
	}
	*s->dest = *dest;
	s->id = id;
	s->local = local;
	s->state = local ? STREAM_OPENING : STREAM_ASKED;
	chunks_init(&s->out, &link->held);
	chunks_init(&s->in, &link->held);
	s->peer_credit = link->hello_ever ? link->hello.initial_window : 0;
	s->window = link->config.initial_window;
	s->credit = s->window;
	stream_told_credit(s);
	link->promised += s->window;
	list_init(&s->events);
	list_init(&s->control);
	list_init(&s->data);
	list_append(&link->streams, &s->all);
	s->hash_next = link->buckets[bucket(id)];
	link->buckets[bucket(id)] = s;
	link->n_streams++;
	link->n_local += local;
	link->n_live++;
	return s;
}

/* What a stream counts for while it lives is given back here, once. */
static void drop_buffers(struct link *link, struct stream *s)
{
	link->retained -= s->out.end - s->out.start;
	link->promised -= s->credit - s->in.start;
	if (s->wired)
		link->flight -= s->sent - s->out.start;
	chunks_free(&s->out);
	chunks_free(&s->in);
	free(s->dest);
	s->dest = NULL;
	list_remove(&s->data);
	stream_check_session_room(link);
}

/* The allowed moves. */
static const unsigned moves[] = {
	[STREAM_OPENING] = 1u << STREAM_OPEN | 1u << STREAM_DONE | 1u << STREAM_GONE,
	[STREAM_ASKED] = 1u << STREAM_OPEN | 1u << STREAM_DONE | 1u << STREAM_GONE,
	[STREAM_OPEN] = 1u << STREAM_DONE | 1u << STREAM_GONE,
	[STREAM_DONE] = 1u << STREAM_GONE,
	[STREAM_GONE] = 0,
};

void stream_move(struct link *link, struct stream *s, enum stream_state to)
{
	bool legal = moves[s->state] & 1u << to, was_live = stream_is_live(s);
	assert(legal);
	(void)legal;
	if (s->state == STREAM_OPENING && s->wired)
		link->asking--;
	s->state = to;
	if (was_live && !stream_is_live(s)) {
		link->n_live--;
		drop_buffers(link, s);
	}
	if (to == STREAM_DONE)
		list_append(&link->unconfirmed, &s->data);
	if (to == STREAM_GONE) {
		list_remove(&s->data);
		list_remove(&s->control);
		s->pending = 0;
	}
}

void stream_destroy(struct link *link, struct stream **stream)
{
	struct stream *s = *stream;
	*stream = NULL;
	if (s->state != STREAM_GONE)
		stream_move(link, s, STREAM_GONE);
	struct stream **at = &link->buckets[bucket(s->id)];
	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
	list_remove(&s->all);
	list_remove(&s->events);
	if (link->taken == s)
		link->taken = NULL;
	link->n_streams--;
	link->n_local -= s->local;
	free(s->text);
	free(s);
}

void stream_retire(struct link *link, struct stream *s)
{
	if (s->state != STREAM_GONE)
		stream_move(link, s, STREAM_GONE);
	if (!s->event_mask && link->taken != s)
		stream_destroy(link, &s);
}

/* Sent bytes are in flight only where the peer knows the stream. */
void stream_set_wired(struct link *link, struct stream *s, bool wired)
{
	if (s->wired == wired)
		return;
	uint64_t flight = stream_is_live(s) ? s->sent - s->out.start : 0;
	bool asks = s->state == STREAM_OPENING;
	if (wired) {
		if (flight || asks)
			live_outstanding(link);
		link->flight += flight;
		link->asking += asks;
	} else {
		link->flight -= flight;
		link->asking -= asks;
	}
	s->wired = wired;
}

void stream_set_reason(struct stream *s, unsigned code, const char *text)
{
	free(s->text);
	s->code = code;
	s->text = text && *text ? strndup(text, LIMIT_LINK_TEXT) : NULL; /* without memory the code must do */
}

/* Every stream may keep an initial window, whatever the others hold: stuck bulk never silences a shell. */
size_t stream_room(const struct link *link, const struct stream *s)
{
	if ((s->state != STREAM_OPENING && s->state != STREAM_OPEN) || s->finish || s->failing)
		return 0;
	uint64_t limit = link->hello_ever ? s->peer_credit : link->config.initial_window;
	uint64_t room = limit > s->out.end ? limit - s->out.end : 0;
	uint64_t held = s->out.end - s->out.start;
	uint64_t most = link->retained_full ? link->config.initial_window : link->config.window;
	uint64_t left = most > held ? most - held : 0;
	return (size_t)(room < left ? room : left);
}

void stream_check_writable(struct link *link, struct stream *s)
{
	if (s->state != STREAM_OPENING && s->state != STREAM_OPEN)
		return;
	bool room = stream_room(link, s) > 0;
	if (s->blocked && room)
		event_stream(link, s, EVENT_WRITABLE);
	s->blocked = !room;
}

/* Full at the session window, free again an eighth below it, so that one ACK more or less does not wake everybody. */
void stream_check_session_room(struct link *link)
{
	uint64_t most = link->config.session_window;
	bool full = link->retained >= (link->retained_full ? most - most / 8 : most);
	if (full == link->retained_full)
		return;
	link->retained_full = full;
	LIST_EACH(node, &link->streams)
	stream_check_writable(link, LIST_ENTRY(node, struct stream, all));
}

void stream_acked(struct link *link, struct stream *s, uint64_t delivered, uint64_t credit, bool fin)
{
	uint64_t n = delivered - s->out.start;
	link->retained -= n;
	if (s->wired)
		link->flight -= n;
	chunks_drop(&s->out, delivered);
	s->peer_credit = credit;
	s->fin_acked = s->fin_acked || fin;
	if (n)
		stream_check_session_room(link);
	stream_check_writable(link, s);
	sched_data(link, s);
	stream_check_done(link, s);
}

void stream_told_credit(struct stream *s)
{
	if (s->told_credit == s->credit)
		return;
	s->told_credit = s->credit;
	s->edges[s->next_edge++ % STREAM_EDGES] = s->credit;
}

/* The window is too small where the peer sends all that it may and then waits. However much more it was allowed in the
 * meantime, that shows here: a frame ends where an earlier credit did, for a peer that has more to say and may say it
 * ends its frames elsewhere. */
void stream_frame_ended(struct stream *s)
{
	for (unsigned i = 0; i < STREAM_EDGES; i++)
		if (s->edges[i] == s->in.end)
			s->hit_edge = true;
}

/* How much is to be under way for the peer never to wait: twice what is consumed in one round trip, and the small
 * window at least, since clocks tell no round trip below a millisecond. More would only stand in queues, in front of
 * everything that is urgent; so a window does not grow for a relay or a reader that is slow, whom a peer can fill up
 * with any window. */
static bool window_is_small(struct link *link, struct stream *s)
{
	int64_t rtt = link->rtt_min_ms, elapsed = link->now - s->rate_at;
	live_want_rtt(link);
	if (s->window < LIMIT_LINK_SMALL_WINDOW)
		return true;
	if (rtt < 0 || elapsed < rtt || elapsed < LINK_RATE_MS)
		return false;
	uint64_t enough = 2 * (s->in.start - s->rate_from) * (uint64_t)rtt / (uint64_t)elapsed;
	s->rate_at = link->now;
	s->rate_from = s->in.start;
	return enough > s->window;
}

static void grow_window(struct link *link, struct stream *s)
{
	uint32_t most = link->config.window;
	if (!window_is_small(link, s))
		return;
	s->window = s->window > most / 2 ? most : s->window * 2;
	s->hit_edge = false;
	memset(s->edges, 0, sizeof s->edges); /* those of the smaller window */
}

/* Credit follows what was consumed by one window. The window doubles when the peer runs into its end although the
 * caller keeps up, as long as the session's promises allow; over the session window it shrinks again, but not below the
 * initial one. */
void stream_extend_credit(struct link *link, struct stream *s)
{
	const struct link_config *c = &link->config;
	if (s->fin_in || !stream_is_live(s))
		return;
	uint64_t unread = s->in.end - s->in.start;
	if (s->hit_edge && unread <= s->window / 4 && s->window < c->window &&
	    link->promised + s->window <= c->session_window)
		grow_window(link, s);
	uint64_t want = s->in.start + s->window;
	if (want > s->credit && s->window > c->initial_window &&
	    link->promised + (want - s->credit) > c->session_window) {
		s->window = s->window / 2 > c->initial_window ? s->window / 2 : c->initial_window;
		want = s->in.start + s->window;
	}
	if (want <= s->credit)
		return;
	link->promised += want - s->credit;
	s->credit = want;
}

/* Its last word is queued, for a peer that may know it. */
static void give_up(struct link *link, struct stream *s)
{
	/* OPEN was never sent, or is to be repeated to a peer that did not get it */
	bool unheard = !s->open_ever || (link->epoch == EPOCH_UP && !s->wired && !s->listed);
	if (s->local && unheard) {
		stream_move(link, s, STREAM_GONE);
		return;
	}
	s->aborted = true;
	bool refuse = !s->local && !s->established;
	stream_move(link, s, STREAM_DONE);
	s->pending = 0;
	sched_control(link, s, refuse ? PENDING_REFUSED : PENDING_RESET);
}

void stream_check_done(struct link *link, struct stream *s)
{
	bool delivered = s->out.start == s->out.end && (s->fin_acked || !s->finish);
	if (s->state == STREAM_OPEN && s->fin_acked && s->eof_done) {
		stream_set_reason(s, LINK_OK, NULL);
		stream_move(link, s, STREAM_DONE);
	} else if (stream_is_live(s) && s->failing && delivered) {
		give_up(link, s);
	} else {
		return;
	}
	event_stream_clear(s, ~0u);
	event_stream(link, s, EVENT_CLOSED);
}

void stream_abort(struct link *link, struct stream *s, unsigned code, const char *text)
{
	event_stream_clear(s, ~0u);
	stream_set_reason(s, code, text);
	give_up(link, s);
	if (s->state == STREAM_GONE)
		stream_retire(link, s);
}

void stream_ended_by_peer(struct link *link, struct stream *s, unsigned code, const char *text)
{
	bool was_live = stream_is_live(s), unknown = s->event_mask & EVENT_OPEN;
	if (was_live)
		event_stream_clear(s, ~0u);
	if (was_live && !unknown) {
		stream_set_reason(s, code, text);
		event_stream(link, s, EVENT_CLOSED);
	}
	stream_retire(link, s);
}

/* What goes out next. Nothing is encrypted before it is asked for, so the order is decided at the last moment:
 *
 *   greeting (HELLO, RESUME) | PONG | control frames of streams, ACK among them | BYE | PING | small streams | bulk
 *
 * Small frames are collected and share a TLS record. Bulk is encrypted where it lies: the DATA header is put into the
 * bytes in front of the payload, which are put back afterwards, so that header and payload are one record.
 * A stream with little waiting passes bulk, but not for ever: after a run of small frames bulk has one turn.
 * ACKs that nobody waits for ride along with whatever goes out, or go alone after LINK_ACK_DELAY_MS. */
#include "link/internal.h"

#include <assert.h>
#include <string.h>

struct writer {
	struct link *link;
	size_t len;
	bool failed;
	uint8_t batch[LINK_BATCH];
};

void sched_remove(struct link *link, struct stream *s)
{
	(void)link;
	list_remove(&s->control);
	s->pending = 0;
	if (stream_is_live(s))
		list_remove(&s->data);
}

void sched_control(struct link *link, struct stream *s, unsigned pending)
{
	bool queued = s->pending & ~(unsigned)PENDING_ACK;
	s->pending |= pending;
	if (queued)
		return;
	list_remove(&s->control);
	list_append(&link->control, &s->control);
}

void sched_ack(struct link *link, struct stream *s)
{
	bool news = s->told_delivered != s->in.start || s->told_credit != s->credit || s->told_fin != s->eof_done;
	if (s->aborted || s->state == STREAM_GONE || !news)
		return;
	uint32_t every = s->window / 4 < LINK_ACK_EVERY ? s->window / 4 : LINK_ACK_EVERY;
	bool urgent = s->told_fin != s->eof_done || s->in.start - s->told_delivered >= every;
	if (urgent || (s->pending & ~(unsigned)PENDING_ACK)) {
		sched_control(link, s, PENDING_ACK);
	} else if (!s->pending) {
		s->pending = PENDING_ACK;
		if (list_empty(&link->lazy))
			live_lazy(link);
		list_append(&link->lazy, &s->control);
	}
}

static uint64_t sendable(const struct stream *s)
{
	uint64_t end = s->out.end < s->peer_credit ? s->out.end : s->peer_credit;
	return end > s->sent ? end - s->sent : 0;
}

static bool fin_is_due(const struct stream *s)
{
	return s->finish && !s->fin_sent && s->sent == s->out.end;
}

void sched_data(struct link *link, struct stream *s)
{
	if (!stream_is_live(s))
		return;
	bool any = s->wired && (sendable(s) > 0 || fin_is_due(s));
	bool small = s->out.end - s->sent <= LINK_SMALL;
	/* A stream that stays in its queue keeps its place; which queue it is in, only the queue knows: it is moved
	 * when it is small, for that is the better place, and when it has just been served. */
	if (!any)
		list_remove(&s->data);
	else if (list_empty(&s->data) || small != s->in_small) {
		list_remove(&s->data);
		list_append(small ? &link->small : &link->bulk, &s->data);
		s->in_small = small;
	}
}

static void flush(struct writer *w)
{
	if (w->len && !w->failed)
		w->failed = link_tls_write(w->link->tls, w->batch, w->len, NULL) != 0;
	w->len = 0;
}

/* Room in the batch for a frame of len bytes. */
static uint8_t *reserve(struct writer *w, size_t len)
{
	if (w->len + len > sizeof(w->batch))
		flush(w);
	return w->batch + w->len;
}

/* Bytes of plaintext that the buffer takes in one more record. */
static size_t space(const struct writer *w)
{
	size_t room = link_tls_output_room(w->link->tls), used = LINK_TLS_OVERHEAD;
	if (w->len)
		used += w->len + LINK_TLS_OVERHEAD;
	return room > used ? room - used : 0;
}

static void emit_greeting(struct writer *w)
{
	struct link *link = w->link;
	size_t n = space(w) > 1024 ? space(w) : 1024;
	if (n > link->greeting.len)
		n = link->greeting.len;
	if (n > LINK_TLS_RECORD)
		n = LINK_TLS_RECORD;
	w->failed = link_tls_write(link->tls, buf_data(&link->greeting), n, NULL) != 0;
	buf_consume(&link->greeting, n);
	if (link->greeting.len == 0)
		buf_free(&link->greeting);
}

static void emit_ack(struct writer *w, struct stream *s)
{
	w->len += frame_write_ack(reserve(w, FRAME_CONTROL_MAX), s->id, s->in.start, s->credit, s->eof_done);
	s->told_delivered = s->in.start;
	stream_told_credit(s);
	s->told_fin = s->eof_done;
}

static void emit_open(struct writer *w, struct stream *s)
{
	w->len += frame_write_open(reserve(w, FRAME_CONTROL_MAX), s->id, s->dest);
	s->open_ever = true;
	stream_set_wired(w->link, s, true);
	sched_data(w->link, s);
}

static void emit_control(struct writer *w, struct stream *s)
{
	unsigned pending = s->pending;
	s->pending = 0;
	list_remove(&s->control);
	if (pending & PENDING_OPEN)
		emit_open(w, s);
	if (pending & PENDING_OPENED)
		w->len += frame_write_opened(reserve(w, FRAME_CONTROL_MAX), s->id);
	if (pending & PENDING_ACK)
		emit_ack(w, s);
	if (pending & (PENDING_REFUSED | PENDING_RESET)) {
		enum frame_type type = pending & PENDING_REFUSED ? FRAME_REFUSED : FRAME_RESET;
		w->len += frame_write_reason(reserve(w, FRAME_CONTROL_MAX), type, s->id, s->code, s->text);
	}
}

static void emit_bye(struct writer *w)
{
	struct link *link = w->link;
	w->len += frame_write_reason(reserve(w, FRAME_CONTROL_MAX), FRAME_BYE, 0, link->bye_reason.code,
				     link->bye_reason.text);
	link->bye = false;
}

static void emit_number(struct writer *w, enum frame_type type, uint64_t number)
{
	w->len += frame_write_number(reserve(w, FRAME_CONTROL_MAX), type, 0, number);
}

static void emit_pong(struct writer *w)
{
	w->link->pong_due = false;
	emit_number(w, FRAME_PONG, w->link->ping_in);
}

/* For tombstones one PING at a time is enough; silence asks again each second. All control frames are out when a PING
 * goes, so its answer confirms every tombstone there is. */
static bool ping_is_due(const struct link *link)
{
	return link->ping_due || (!live_awaits_pong(link) && !list_empty(&link->unconfirmed));
}

static void emit_ping(struct writer *w)
{
	struct link *link = w->link;
	live_ping_sent(link);
	while (!list_empty(&link->unconfirmed)) {
		struct list *node = link->unconfirmed.next;
		list_remove(node);
		list_append(&link->confirming, node);
		LIST_ENTRY(node, struct stream, data)->confirmer = link->ping_number;
	}
	emit_number(w, FRAME_PING, link->ping_number);
}

static void emit_payload(struct writer *w, struct stream *s, size_t most)
{
	size_t n;
	uint8_t *payload = chunks_at(&s->out, s->sent, &n);
	if (n > sendable(s))
		n = (size_t)sendable(s);
	/* On a slow line a record must be through before the other end's silence counts as death. */
	if (n > FRAME_DATA_BODY >> w->link->doublings)
		n = FRAME_DATA_BODY >> w->link->doublings;
	if (n > most)
		n = most;
	live_outstanding(w->link);
	if (n + FRAME_DATA_HEAD <= LINK_BATCH / 4) {
		uint8_t *to = reserve(w, n + FRAME_DATA_HEAD);
		frame_write_data_head(to, s->id, s->sent, n);
		memcpy(to + FRAME_DATA_HEAD, payload, n);
		w->len += n + FRAME_DATA_HEAD;
	} else {
		flush(w);
		uint8_t kept[FRAME_DATA_HEAD], *head = payload - FRAME_DATA_HEAD;
		memcpy(kept, head, sizeof(kept));
		frame_write_data_head(head, s->id, s->sent, n);
		if (!w->failed)
			w->failed = link_tls_write(w->link->tls, head, n + FRAME_DATA_HEAD, NULL) != 0;
		memcpy(head, kept, sizeof(kept));
	}
	s->sent += n;
	w->link->flight += n;
	if (s->sent_max < s->sent)
		s->sent_max = s->sent;
}

/* One frame of payload, with the FIN behind it if that was the last. */
static void emit_data(struct writer *w, struct stream *s)
{
	size_t most = space(w);
	if (sendable(s) > 0)
		emit_payload(w, s, most > 512 + FRAME_DATA_HEAD ? most - FRAME_DATA_HEAD : 512);
	if (fin_is_due(s)) {
		w->len += frame_write_number(reserve(w, FRAME_CONTROL_MAX), FRAME_FIN, s->id, s->sent);
		s->fin_sent = s->fin_ever = true;
	}
	list_remove(&s->data);
	sched_data(w->link, s);
}

static struct stream *first_control(const struct list *head)
{
	return LIST_ENTRY(head->next, struct stream, control);
}

static struct stream *next_data(struct link *link)
{
	bool small = !list_empty(&link->small), bulk = !list_empty(&link->bulk);
	if (!small && !bulk)
		return NULL;
	if (small && bulk && ++link->small_run > LINK_SMALL_RUN)
		small = false;
	if (!small)
		link->small_run = 0;
	return LIST_ENTRY(small ? link->small.next : link->bulk.next, struct stream, data);
}

static bool may_send_frames(const struct link *link)
{
	return link->epoch == EPOCH_UP || (link->epoch == EPOCH_RESUME && link->early);
}

static bool has_frames(const struct link *link)
{
	return link->pong_due || !list_empty(&link->control) || link->bye || ping_is_due(link) ||
	       !list_empty(&link->small) || !list_empty(&link->bulk);
}

static bool emit_frame(struct writer *w)
{
	struct link *link = w->link;
	if (link->pong_due) {
		emit_pong(w);
	} else if (!list_empty(&link->control)) {
		emit_control(w, first_control(&link->control));
	} else if (!list_empty(&link->lazy) && (link->lazy_due || w->len || has_frames(link))) {
		emit_control(w, first_control(&link->lazy));
	} else if (ping_is_due(link)) {
		emit_ping(w);
	} else {
		struct stream *s = next_data(link);
		if (!s)
			return false;
		emit_data(w, s);
	}
	return true;
}

static bool emit_next(struct writer *w)
{
	struct link *link = w->link;
	if (link->epoch != EPOCH_RESUME && link->epoch != EPOCH_UP)
		return false;
	if (link->greeting.len) {
		emit_greeting(w);
		return true;
	}
	if (link->bye) {
		emit_bye(w);
		return true;
	}
	return !link->over && may_send_frames(link) && emit_frame(w);
}

/* Goes on while a useful record fits; the first one always does, since what is too long waits inside the TLS. */
static bool may_write(const struct writer *w, bool is_first)
{
	if (w->failed || link_tls_waiting(w->link->tls))
		return false;
	return is_first || space(w) >= FRAME_CONTROL_MAX * 2;
}

size_t link_output(struct link *link, void *out, size_t size, int64_t now_ms)
{
	if (!link->tls || size == 0)
		return 0;
	link_set_now(link, now_ms);
	link_tls_output_begin(link->tls, out, size);
	struct writer w; /* the batch needs no initial value */
	w.link = link;
	w.len = 0;
	w.failed = false;
	bool is_first = link_tls_output_room(link->tls) == size;
	while (may_write(&w, is_first) && emit_next(&w))
		is_first = false;
	flush(&w);
	if (list_empty(&link->lazy))
		link->lazy_due = false;
	size_t n = link_tls_output_end(link->tls);
	if (w.failed) {
		link_break_epoch(link);
		event_link(link, EVENT_STALLED);
	}
	return n;
}

bool link_has_output(const struct link *link)
{
	if (!link->tls)
		return false;
	if (link_tls_waiting(link->tls))
		return true;
	if (link->epoch != EPOCH_RESUME && link->epoch != EPOCH_UP)
		return false;
	if (link->greeting.len || link->bye)
		return true;
	return !link->over && may_send_frames(link) &&
	       (has_frames(link) || (link->lazy_due && !list_empty(&link->lazy)));
}

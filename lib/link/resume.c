/* The start of an epoch: what this end says (HELLO, and one RESUME entry for every stream that the peer may know), and
 * what the peer's RESUME means for every stream of ours.
 *
 * The greeting is made at the moment the handshake ends and before any frame of the epoch is read, so it speaks of the
 * state that the peer's greeting meets. What changes later is said by ordinary frames behind it: those are queued as
 * ever, and put in order again once the peer's last RESUME is in (resume_complete).
 *
 * If our RESUME is empty, nothing of the past can be mixed up: then OPEN goes out right behind it, which saves a new
 * session one round trip. Such a stream is wired but not listed, and the peer's RESUME has nothing to say about it. */
#include "link/internal.h"

#include <string.h>

static bool is_known_to_peer(const struct stream *s)
{
	return s->state != STREAM_GONE && (!s->local || s->open_ever);
}

static uint8_t state_bits(const struct stream *s)
{
	return (uint8_t)((s->established ? FRAME_STATE_OPENED : 0) | (s->fin_in ? FRAME_STATE_FIN : 0) |
			 (s->eof_done ? FRAME_STATE_FIN_DONE : 0) | (s->state == STREAM_DONE ? FRAME_STATE_DONE : 0) |
			 (s->aborted ? FRAME_STATE_ABORTED : 0));
}

static void list_stream(struct buf *to, struct stream *s)
{
	uint8_t bytes[FRAME_ENTRY];
	struct frame_entry entry = {
		.stream = s->id,
		.state = state_bits(s),
		.received = s->in.end,
		.delivered = s->in.start,
		.credit = s->credit,
	};
	frame_write_entry(bytes, &entry);
	buf_add(to, bytes, sizeof(bytes)); /* the caller has reserved the room */
	s->told_delivered = s->in.start;
	stream_told_credit(s);
	s->told_fin = s->eof_done;
}

static void add_resume_head(struct buf *to, size_t entries_left)
{
	const size_t most = LIMIT_LINK_FRAME_BODY / FRAME_ENTRY;
	size_t n = entries_left < most ? entries_left : most;
	uint8_t head[FRAME_HEAD];
	frame_write_head(head, FRAME_RESUME, n < entries_left ? FRAME_FLAG_MORE : 0, 0, n * FRAME_ENTRY);
	buf_add(to, head, sizeof(head));
}

/* All of them are this end's and new; those from before the epoch go before those that were opened meanwhile. */
static void open_early(struct link *link)
{
	LIST_EACH(node, &link->streams)
	{
		struct stream *s = LIST_ENTRY(node, struct stream, all);
		if (s->state != STREAM_OPENING)
			continue;
		sched_remove(link, s);
		sched_control(link, s, PENDING_OPEN);
	}
}

int resume_greet(struct link *link, struct err *e)
{
	size_t n = 0, at = 0;
	LIST_EACH(node, &link->streams)
	{
		struct stream *s = LIST_ENTRY(node, struct stream, all);
		s->listed = false;
		n += is_known_to_peer(s);
	}
	const size_t most = LIMIT_LINK_FRAME_BODY / FRAME_ENTRY;
	size_t size = FRAME_CONTROL_MAX + n * FRAME_ENTRY + (n / most + 1) * FRAME_HEAD;
	buf_init(&link->greeting, size);
	uint8_t *to = buf_reserve(&link->greeting, size);
	if (!to)
		return err_set(e, ERR_NOMEM, "out of memory");
	struct frame_hello hello = { link->config.max_streams, link->config.initial_window };
	buf_commit(&link->greeting, frame_write_hello(to, &hello));
	link->early = n == 0;
	if (link->early) {
		add_resume_head(&link->greeting, 0);
		open_early(link);
	}
	LIST_EACH(node, &link->streams)
	{
		struct stream *s = LIST_ENTRY(node, struct stream, all);
		if (!is_known_to_peer(s))
			continue;
		if (at % most == 0)
			add_resume_head(&link->greeting, n - at);
		list_stream(&link->greeting, s);
		at++;
	}
	return 0;
}

/* Streams that were opened before the first HELLO learn here how much they may send. */
int resume_hello(struct link *link, const struct frame_hello *hello, struct err *e)
{
	if (link->hello_ever &&
	    (hello->initial_window != link->hello.initial_window || hello->max_streams != link->hello.max_streams))
		return err_set(e, ERR_PROTOCOL, "HELLO differs from the one of an earlier epoch");
	link->hello_in = true;
	if (link->hello_ever)
		return 0;
	link->hello = *hello;
	link->hello_ever = true;
	LIST_EACH(node, &link->streams)
	{
		struct stream *s = LIST_ENTRY(node, struct stream, all);
		s->peer_credit = hello->initial_window;
		stream_check_writable(link, s);
		sched_data(link, s);
	}
	return 0;
}

static int check_entry(const struct stream *s, const struct frame_entry *in, struct err *e)
{
	bool opened = in->state & FRAME_STATE_OPENED, fin = in->state & FRAME_STATE_FIN,
	     fin_done = in->state & FRAME_STATE_FIN_DONE;
	const char *wrong = NULL;
	if (in->received > s->sent_max)
		wrong = "received more than was sent";
	else if (in->delivered < s->out.start)
		wrong = "delivered goes back";
	else if (in->credit < s->peer_credit)
		wrong = "credit goes back";
	else if (fin && (!s->fin_ever || in->received != s->out.end))
		wrong = "FIN received that was not sent";
	else if (fin_done && in->delivered != s->out.end)
		wrong = "FIN delivered before the bytes";
	else if (s->fin_acked && !fin_done)
		wrong = "delivered FIN goes back";
	else if (s->local ? s->established && !opened && !(in->state & FRAME_STATE_ABORTED) : !s->established && opened)
		wrong = "not the state that OPENED has made";
	return wrong ? err_set(e, ERR_PROTOCOL, "RESUME, stream %u: %s", s->id, wrong) : 0;
}

/* A live stream of ours continues where the peer says. */
static int continue_stream(struct link *link, struct stream *s, const struct frame_entry *in, struct err *e)
{
	int rc = check_entry(s, in, e);
	if (rc != 0)
		return rc;
	bool peer_done = in->state & FRAME_STATE_DONE, peer_aborted = in->state & FRAME_STATE_ABORTED;
	s->sent = in->received;
	s->fin_sent = in->state & FRAME_STATE_FIN;
	/* RESET or REFUSED follows; until then there is no point in sending. */
	stream_set_wired(link, s, !peer_aborted);
	if (!s->local && s->established && !(in->state & FRAME_STATE_OPENED))
		sched_control(link, s, PENDING_OPENED);
	sched_ack(link, s);
	stream_acked(link, s, in->delivered, in->credit, in->state & FRAME_STATE_FIN_DONE);
	if (peer_done && !peer_aborted && stream_is_live(s))
		return err_set(e, ERR_PROTOCOL, "RESUME, stream %u: done at the peer, but not here", s->id);
	return 0;
}

int resume_entry(struct link *link, const struct frame_entry *in, struct err *e)
{
	bool ours = (in->stream & 1) == (link->next_id & 1);
	struct stream *s = stream_find(link, in->stream);
	if (ours && (in->stream >= link->next_id || (s && s->local && !s->open_ever)))
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream %u, which was never opened", in->stream);
	if (!s || s->state == STREAM_GONE)
		return 0;
	if (s->listed)
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream %u twice", in->stream);
	if (s->wired)
		return 0; /* opened in this epoch already */
	s->listed = true;
	sched_remove(link, s);
	if (s->state != STREAM_DONE)
		return continue_stream(link, s, in, e);
	if (in->state & FRAME_STATE_DONE)
		return 0;
	if (s->aborted)
		sched_control(link, s, !s->local && !s->established ? PENDING_REFUSED : PENDING_RESET);
	else
		sched_ack(link, s); /* only what changed after our greeting */
	return 0;
}

static void unlisted(struct link *link, struct stream *s)
{
	sched_remove(link, s);
	if (s->state == STREAM_DONE)
		return; /* nothing to repeat: it never heard of it, or has forgotten */
	if (!s->local || s->established || s->out.start > 0) {
		stream_ended_by_peer(link, s, LINK_UNKNOWN_STREAM, "the other end no longer knows the stream");
		return;
	}
	s->sent = 0;
	s->fin_sent = false;
	sched_control(link, s, PENDING_OPEN);
}

void resume_complete(struct link *link)
{
	LIST_EACH_SAFE(node, after, &link->streams)
	{
		struct stream *s = LIST_ENTRY(node, struct stream, all);
		if (s->state != STREAM_GONE && !s->listed && !s->wired)
			unlisted(link, s);
	}
}

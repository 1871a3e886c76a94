/* Ciphertext in. Frames are taken apart as the bytes come: headers and small bodies gather in the parser, RESUME goes
 * by the entry, and payload is decrypted straight into its stream's buffer, where it counts as received at once, even
 * in the middle of a frame. A table says what each frame does; what is legal before RESUME is over is checked for all
 * of them. */
#include "link/internal.h"

#include <stdlib.h>

static int on_hello(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	struct frame_hello hello;
	int rc = frame_read_hello(body, head->length, &hello, e);
	return rc != 0 ? rc : resume_hello(link, &hello, e);
}

/* The stream that a frame is for; *out is NULL where it is done, and the frame is to be ignored. */
static int frame_stream(struct link *link, const struct frame_head *head, struct stream **out, struct err *e)
{
	struct stream *s = stream_find(link, head->stream);
	bool ours = (head->stream & 1) == (link->next_id & 1);
	bool opened = ours ? head->stream < link->next_id && (!s || s->open_ever) : head->stream <= link->peer_last_id;
	if (!opened)
		return err_set(e, ERR_PROTOCOL, "%s for stream %u, which was never opened", frame_name(head->type),
			       head->stream);
	*out = s && s->state != STREAM_GONE ? s : NULL;
	return 0;
}

static int check_new_id(const struct link *link, uint32_t id, struct err *e)
{
	if ((id & 1) == (link->next_id & 1))
		return err_set(e, ERR_PROTOCOL, "OPEN with id %u, which is this end's to give", id);
	if (id <= link->peer_last_id)
		return err_set(e, ERR_PROTOCOL, "OPEN with id %u after %u", id, link->peer_last_id);
	if (stream_table_full(link, false))
		return err_set(e, ERR_PROTOCOL, "OPEN although the ends of %zu streams are not confirmed",
			       link->n_streams - link->n_live);
	return 0;
}

static int on_open(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	struct link_dest dest;
	int rc = check_new_id(link, head->stream, e);
	if (rc == 0)
		rc = frame_read_open(body, head->length, &dest, e);
	if (rc != 0)
		return rc;
	bool full = link->n_live >= link->config.max_streams;
	struct stream *s = stream_new(link, head->stream, false, &dest);
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	link->peer_last_id = head->stream;
	stream_set_wired(link, s, true);
	if (full)
		stream_abort(link, s, LINK_LIMIT, "too many streams");
	else
		event_stream(link, s, EVENT_OPEN);
	return 0;
}

static int on_opened(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	(void)body;
	struct stream *s = NULL;
	int rc = frame_stream(link, head, &s, e);
	if (rc != 0)
		return rc;
	if (!(head->stream & 1) != !(link->next_id & 1))
		return err_set(e, ERR_PROTOCOL, "OPENED for stream %u, which the peer opened", head->stream);
	if (!s || s->state == STREAM_DONE)
		return 0;
	if (s->state != STREAM_OPENING)
		return err_set(e, ERR_PROTOCOL, "OPENED twice for stream %u", head->stream);
	if (!s->wired) /* its RESUME does not list it, and OPEN is still to be repeated */
		return err_set(e, ERR_PROTOCOL, "OPENED for stream %u, which the peer does not know", head->stream);
	stream_move(link, s, STREAM_OPEN);
	s->established = true;
	free(s->dest);
	s->dest = NULL;
	event_stream(link, s, EVENT_OPENED);
	return 0;
}

static int on_end(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	struct frame_reason reason;
	struct stream *s = NULL;
	int rc = frame_stream(link, head, &s, e);
	if (rc == 0)
		rc = frame_read_reason(body, head->length, &reason, e);
	if (rc != 0 || !s)
		return rc;
	if (head->type == FRAME_REFUSED && !s->local)
		return err_set(e, ERR_PROTOCOL, "REFUSED for stream %u, which the peer opened", head->stream);
	if (head->type == FRAME_REFUSED && s->established)
		return err_set(e, ERR_PROTOCOL, "REFUSED for stream %u after OPENED", head->stream);
	stream_ended_by_peer(link, s, reason.code, reason.text);
	return 0;
}

static int on_ack(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	struct stream *s = NULL;
	int rc = frame_stream(link, head, &s, e);
	if (rc != 0 || !s || s->state == STREAM_DONE)
		return rc;
	struct frame_ack ack = frame_read_ack(body);
	bool fin = head->flags & FRAME_FLAG_FIN_DONE;
	const char *wrong = NULL;
	if (ack.delivered < s->out.start)
		wrong = "delivered goes back";
	else if (ack.delivered > s->sent)
		wrong = "more was delivered than sent";
	else if (ack.credit < s->peer_credit)
		wrong = "credit goes back";
	else if (fin && (!s->fin_sent || ack.delivered != s->out.end))
		wrong = "FIN delivered that was not sent";
	if (wrong)
		return err_set(e, ERR_PROTOCOL, "ACK, stream %u: %s", head->stream, wrong);
	stream_acked(link, s, ack.delivered, ack.credit, fin);
	return 0;
}

/* DATA and FIN: is this what must come next? */
static int check_next(const struct stream *s, const struct frame_head *head, uint64_t offset, struct err *e)
{
	const char *name = frame_name(head->type);
	if (s->local && !s->established)
		return err_set(e, ERR_PROTOCOL, "%s for stream %u before OPENED", name, s->id);
	if (s->fin_in)
		return err_set(e, ERR_PROTOCOL, "%s for stream %u after FIN", name, s->id);
	if (offset != s->in.end)
		return err_set(e, ERR_PROTOCOL, "%s for stream %u at %llu, expected %llu", name, s->id,
			       (unsigned long long)offset, (unsigned long long)s->in.end);
	return 0;
}

static int on_fin(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	struct stream *s = NULL;
	int rc = frame_stream(link, head, &s, e);
	if (rc != 0 || !s || s->state == STREAM_DONE)
		return rc;
	rc = check_next(s, head, frame_read_u64(body), e);
	if (rc != 0)
		return rc;
	s->fin_in = true;
	if (s->state == STREAM_OPEN && s->in.start == s->in.end)
		event_stream(link, s, EVENT_EOF);
	return 0;
}

static int on_data(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	struct stream *s = NULL;
	int rc = frame_stream(link, head, &s, e);
	if (rc != 0 || !s || s->state == STREAM_DONE)
		return rc;
	uint64_t offset = frame_read_u64(body);
	size_t payload = head->length - 8;
	rc = check_next(s, head, offset, e);
	if (rc == 0 && payload > s->told_credit - offset)
		return err_set(e, ERR_PROTOCOL, "DATA for stream %u over its credit", s->id);
	return rc;
}

static int on_ping(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	(void)head;
	uint64_t number = frame_read_u64(body);
	if (number <= link->ping_in)
		return err_set(e, ERR_PROTOCOL, "PING %llu after %llu", (unsigned long long)number,
			       (unsigned long long)link->ping_in);
	link->ping_in = number;
	link->pong_due = true;
	return 0;
}

static int on_pong(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	(void)head;
	return live_pong(link, frame_read_u64(body), e);
}

static int on_bye(struct link *link, const struct frame_head *head, const uint8_t *body, struct err *e)
{
	int rc = frame_read_reason(body, head->length, &link->over_reason, e);
	if (rc != 0)
		return rc;
	link->over = true;
	link->event_mask = 0;
	link_forget_streams(link);
	event_link(link, EVENT_OVER);
	return err_set(e, ERR_CLOSED, "the peer ended the session (%s): %s", link_code_name(link->over_reason.code),
		       link->over_reason.text);
}

static int (*const effects[])(struct link *, const struct frame_head *, const uint8_t *body, struct err *) = {
	[FRAME_HELLO] = on_hello, [FRAME_OPEN] = on_open, [FRAME_OPENED] = on_opened, [FRAME_REFUSED] = on_end,
	[FRAME_DATA] = on_data,   [FRAME_ACK] = on_ack,   [FRAME_FIN] = on_fin,       [FRAME_RESET] = on_end,
	[FRAME_PING] = on_ping,   [FRAME_PONG] = on_pong, [FRAME_BYE] = on_bye,
};

static int check_order(const struct link *link, enum frame_type type, struct err *e)
{
	bool legal;
	if (!link->hello_in)
		legal = type == FRAME_HELLO;
	else if (link->epoch == EPOCH_RESUME)
		legal = type == FRAME_RESUME;
	else
		legal = type != FRAME_HELLO && type != FRAME_RESUME;
	return legal ? 0 : err_set(e, ERR_PROTOCOL, "%s at the wrong time", frame_name(type));
}

static void expect(struct parser *p, enum parse_step step, size_t want)
{
	p->step = step;
	p->have = 0;
	p->want = want;
}

static void epoch_is_up(struct link *link)
{
	resume_complete(link);
	link->epoch = EPOCH_UP;
	link->outage_ms = link->epochs ? link->now - link->down_at : 0;
	link->epochs++;
	live_up(link);
	event_link(link, EVENT_UP);
}

static void next_entries(struct link *link)
{
	struct parser *p = &link->parser;
	if (p->left) {
		expect(p, PARSE_ENTRIES, p->left < sizeof(p->bytes) ? p->left : sizeof(p->bytes));
		return;
	}
	if (!(p->head.flags & FRAME_FLAG_MORE))
		epoch_is_up(link);
	expect(p, PARSE_HEAD, FRAME_HEAD);
}

static int got_head(struct link *link, struct err *e)
{
	struct parser *p = &link->parser;
	int rc = frame_read_head(p->bytes, &p->head, e);
	if (rc == 0)
		rc = check_order(link, p->head.type, e);
	if (rc != 0)
		return rc;
	if (p->head.type == FRAME_RESUME) {
		p->left = p->head.length;
		next_entries(link);
	} else if (p->head.type == FRAME_DATA) {
		expect(p, PARSE_OFFSET, 8);
	} else {
		expect(p, PARSE_BODY, p->head.length);
	}
	return 0;
}

static int got_entries(struct link *link, struct err *e)
{
	struct parser *p = &link->parser;
	int rc = 0;
	for (size_t at = 0; at < p->want && rc == 0; at += FRAME_ENTRY) {
		struct frame_entry entry;
		rc = frame_read_entry(p->bytes + at, &entry, e);
		if (rc == 0)
			rc = resume_entry(link, &entry, e);
	}
	p->left -= p->want;
	if (rc == 0)
		next_entries(link);
	return rc;
}

/* A unit that was wanted is there. */
static int got_unit(struct link *link, struct err *e)
{
	struct parser *p = &link->parser;
	struct frame_head head = p->head;
	switch (p->step) {
	case PARSE_HEAD:
		return got_head(link, e);
	case PARSE_ENTRIES:
		return got_entries(link, e);
	case PARSE_OFFSET:
		p->step = PARSE_PAYLOAD;
		p->left = head.length - 8;
		return on_data(link, &head, p->bytes, e);
	case PARSE_BODY:
		expect(p, PARSE_HEAD, FRAME_HEAD);
		return effects[head.type](link, &head, p->bytes, e);
	default:
		return err_set(e, ERR_INTERNAL, "parser in step %d", (int)p->step);
	}
}

static void payload_arrived(struct link *link, struct stream *s, size_t n)
{
	chunks_commit(&s->in, n);
	if (s->state == STREAM_OPEN && !(s->event_mask & EVENT_READABLE))
		event_stream(link, s, EVENT_READABLE);
}

/* Some payload. The stream may have ended since the header came; then the rest is for nobody. Returns as
 * link_tls_read. */
static ssize_t read_payload(struct link *link, struct err *e)
{
	struct parser *p = &link->parser;
	struct stream *s = stream_find_live(link, p->head.stream);
	uint8_t nowhere[4096], *to = nowhere;
	size_t room = sizeof(nowhere);
	if (s)
		to = chunks_space(&s->in, p->left, &room);
	if (!to)
		return err_set(e, ERR_NOMEM, "out of memory");
	ssize_t n = link_tls_read(link->tls, to, p->left < room ? p->left : room, e);
	if (n <= 0)
		return n;
	if (s)
		payload_arrived(link, s, (size_t)n);
	p->left -= (size_t)n;
	if (p->left == 0) {
		if (s)
			stream_frame_ended(s);
		expect(p, PARSE_HEAD, FRAME_HEAD);
	}
	return n;
}

/* Some bytes of the unit that is wanted, and what it does once it is whole. Returns as link_tls_read; *out_rc is what
 * the unit's effect said. */
static ssize_t read_unit(struct link *link, int *out_rc, struct err *e)
{
	struct parser *p = &link->parser;
	ssize_t n = link_tls_read(link->tls, p->bytes + p->have, p->want - p->have, e);
	if (n <= 0)
		return n;
	p->have += (size_t)n;
	if (p->have < p->want)
		return n;
	int rc = got_unit(link, e);
	if (rc == 0 && p->step == PARSE_BODY && p->want == 0) /* a frame without a body is whole already */
		rc = got_unit(link, e);
	*out_rc = rc;
	return n;
}

static int read_frames(struct link *link, struct err *e)
{
	for (;;) {
		int rc = 0;
		ssize_t n = link->parser.step == PARSE_PAYLOAD ? read_payload(link, e) : read_unit(link, &rc, e);
		if (n == 0)
			return 0;
		if (n == ERR_NOMEM)
			return link_fail(link, LINK_INTERNAL, e);
		if (n < 0) {
			link_break_epoch(link);
			return (int)n;
		}
		if (rc != 0)
			return link->over ? rc : link_fail(link, rc == ERR_PROTOCOL ? LINK_PROTOCOL : LINK_INTERNAL, e);
	}
}

int link_input(struct link *link, const void *data, size_t len, int64_t now_ms, struct err *e)
{
	struct err own;
	if (!e)
		e = &own;
	link_set_now(link, now_ms);
	if (link->over)
		return err_set(e, ERR_CLOSED, "the session is over");
	if (!link->tls || link->epoch == EPOCH_BROKEN)
		return err_set(e, ERR_CLOSED, "no epoch is under way");
	if (len)
		live_heard(link);
	link_tls_feed(link->tls, data, len);
	if (link->epoch == EPOCH_HANDSHAKE) {
		int rc = link_tls_handshake(link->tls, e);
		if (rc < 0)
			link_break_epoch(link);
		if (rc <= 0)
			return rc;
		rc = resume_greet(link, e);
		if (rc != 0)
			return link_fail(link, LINK_INTERNAL, e);
		link->epoch = EPOCH_RESUME;
		expect(&link->parser, PARSE_HEAD, FRAME_HEAD);
	}
	return read_frames(link, e);
}

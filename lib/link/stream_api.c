/* What callers do to streams. */
#include "link/internal.h"

#include <stdlib.h>

static struct stream *find_open(const struct link *link, uint32_t id)
{
	struct stream *s = stream_find(link, id);
	return s && s->state == STREAM_OPEN ? s : NULL;
}

int link_stream_open(struct link *link, const struct link_dest *dest, uint32_t *out_id, struct err *e)
{
	if (link->over)
		return err_set(e, ERR_CLOSED, "the session is over");
	int rc = frame_check_dest(dest, e);
	if (rc != 0)
		return rc;
	uint32_t most = link->config.max_streams;
	if (link->hello_ever && link->hello.max_streams < most)
		most = link->hello.max_streams;
	if (link->n_live >= most)
		return err_set(e, ERR_LIMIT, "the session has %u streams, more are not allowed", most);
	if (stream_table_full(link, true) || link->next_id > UINT32_MAX - 2)
		return err_set(e, ERR_LIMIT, "the session has too many ended streams that the peer has not confirmed");
	struct stream *s = stream_new(link, link->next_id, true, dest);
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	link->next_id += 2;
	s->blocked = stream_room(link, s) == 0;
	sched_control(link, s, PENDING_OPEN);
	*out_id = s->id;
	return 0;
}

int link_stream_accept(struct link *link, uint32_t id)
{
	struct stream *s = stream_find(link, id);
	if (!s || s->state != STREAM_ASKED)
		return ERR_NOT_FOUND;
	stream_move(link, s, STREAM_OPEN);
	s->established = true;
	s->blocked = stream_room(link, s) == 0;
	event_stream_clear(s, EVENT_OPEN);
	free(s->dest);
	s->dest = NULL;
	sched_control(link, s, PENDING_OPENED);
	if (s->in.end > s->in.start)
		event_stream(link, s, EVENT_READABLE);
	else if (s->fin_in)
		event_stream(link, s, EVENT_EOF);
	return 0;
}

int link_stream_refuse(struct link *link, uint32_t id, unsigned code, const char *text)
{
	struct stream *s = stream_find(link, id);
	if (!s || s->state != STREAM_ASKED)
		return ERR_NOT_FOUND;
	stream_abort(link, s, code, text);
	return 0;
}

size_t link_stream_room(const struct link *link, uint32_t id)
{
	const struct stream *s = stream_find_live(link, id);
	return s ? stream_room(link, s) : 0;
}

static void wrote(struct link *link, struct stream *s, size_t n)
{
	link->retained += n;
	link->bytes_out += n;
	stream_check_session_room(link);
	s->blocked = stream_room(link, s) == 0;
	sched_data(link, s);
}

size_t link_stream_write(struct link *link, uint32_t id, const void *data, size_t len)
{
	struct stream *s = stream_find_live(link, id);
	if (!s)
		return 0;
	size_t room = stream_room(link, s);
	size_t n = chunks_append(&s->out, data, len < room ? len : room);
	wrote(link, s, n);
	return n;
}

void *link_stream_space(struct link *link, uint32_t id, size_t want, size_t *out_room)
{
	struct stream *s = stream_find_live(link, id);
	size_t room = s ? stream_room(link, s) : 0;
	void *space = room ? chunks_space(&s->out, want < room ? want : room, out_room) : NULL;
	if (space && *out_room > room)
		*out_room = room;
	return space;
}

void link_stream_commit(struct link *link, uint32_t id, size_t len)
{
	struct stream *s = stream_find_live(link, id);
	if (!s)
		return;
	chunks_commit(&s->out, len);
	wrote(link, s, len);
}

void link_stream_finish(struct link *link, uint32_t id)
{
	struct stream *s = stream_find_live(link, id);
	if (!s || s->state == STREAM_ASKED || s->failing)
		return;
	s->finish = true;
	event_stream_clear(s, EVENT_WRITABLE);
	sched_data(link, s);
}

void link_stream_reset(struct link *link, uint32_t id, unsigned code, const char *text)
{
	struct stream *s = stream_find_live(link, id);
	if (s)
		stream_abort(link, s, code, text);
}

void link_stream_fail(struct link *link, uint32_t id, unsigned code, const char *text)
{
	struct stream *s = stream_find_live(link, id);
	if (!s || s->failing)
		return;
	s->failing = true;
	stream_set_reason(s, code, text);
	event_stream_clear(s, EVENT_WRITABLE);
	stream_check_done(link, s);
}

size_t link_stream_peek(const struct link *link, uint32_t id, const void **out_data)
{
	const struct stream *s = find_open(link, id);
	size_t len = 0;
	const uint8_t *data = s ? chunks_first(&s->in, &len) : NULL;
	if (len)
		*out_data = data;
	return len;
}

size_t link_stream_pieces(const struct link *link, uint32_t id, struct iovec *out, size_t n)
{
	const struct stream *s = find_open(link, id);
	return s ? chunks_pieces(&s->in, out, n) : 0;
}

void link_stream_consume(struct link *link, uint32_t id, size_t len)
{
	struct stream *s = find_open(link, id);
	if (!s)
		return;
	uint64_t unread = s->in.end - s->in.start;
	if (len > unread)
		len = (size_t)unread;
	chunks_drop(&s->in, s->in.start + len);
	link->promised -= len;
	link->bytes_in += len;
	stream_extend_credit(link, s);
	sched_ack(link, s);
	if (s->in.start == s->in.end) {
		event_stream_clear(s, EVENT_READABLE);
		if (s->fin_in && !s->eof_told)
			event_stream(link, s, EVENT_EOF);
	}
}

void link_stream_eof_done(struct link *link, uint32_t id)
{
	struct stream *s = find_open(link, id);
	if (!s || !s->fin_in || s->in.start != s->in.end || s->eof_done)
		return;
	s->eof_done = true;
	event_stream_clear(s, EVENT_EOF);
	sched_ack(link, s);
	stream_check_done(link, s);
}

int link_stream_bytes(const struct link *link, uint32_t id, uint64_t *out_in, uint64_t *out_out)
{
	const struct stream *s = stream_find(link, id);
	if (!s)
		return ERR_NOT_FOUND;
	*out_in = s->in.start;
	*out_out = s->out.end;
	return 0;
}

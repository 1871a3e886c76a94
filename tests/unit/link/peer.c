#include "peer.h"

#include "support/case.h"

void peer_feed(struct peer *p, const void *bytes, size_t len)
{
	p->rc = link_input(p->link, bytes, len, p->now, &p->e);
}

void peer_feed_ok(struct peer *p, const void *bytes, size_t len)
{
	peer_feed(p, bytes, len);
	if (p->rc != 0)
		fail_msg("%s", p->e.text);
}

void peer_hear(struct peer *p)
{
	uint8_t bytes[4096];
	size_t n;
	while ((n = link_output(p->link, bytes, sizeof(bytes), p->now)) > 0)
		assert_int_equal(buf_add(&p->heard, bytes, n), 0);
}

bool peer_next_frame(struct peer *p, struct frame_head *out_head, const uint8_t **out_body)
{
	peer_hear(p);
	do {
		if (p->heard.len == 0)
			return false;
		if (frame_read_head(buf_data(&p->heard), out_head, &p->e) != 0)
			fail_msg("%s", p->e.text);
		*out_body = buf_data(&p->heard) + FRAME_HEAD;
		buf_consume(&p->heard, FRAME_HEAD + out_head->length);
	} while (out_head->type == FRAME_PING);
	return true;
}

const uint8_t *expect_frame(struct peer *p, enum frame_type type, uint32_t stream)
{
	struct frame_head head;
	const uint8_t *body;
	if (!peer_next_frame(p, &head, &body))
		fail_msg("no frame, expected %s", frame_name(type));
	if (head.type != type || head.stream != stream)
		fail_msg("%s for %u, expected %s for %u", frame_name(head.type), head.stream, frame_name(type), stream);
	return body;
}

void expect_no_frame(struct peer *p)
{
	struct frame_head head;
	const uint8_t *body;
	if (peer_next_frame(p, &head, &body))
		fail_msg("%s for %u, expected nothing", frame_name(head.type), head.stream);
}

void send_hello(struct peer *p)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(p, bytes, frame_write_hello(bytes, &(struct frame_hello){ 4, 1000 }));
}

void send_resume(struct peer *p, const struct frame_entry *entries, size_t n, bool more)
{
	uint8_t bytes[FRAME_HEAD + 64 * FRAME_ENTRY];
	frame_write_head(bytes, FRAME_RESUME, more ? FRAME_FLAG_MORE : 0, 0, n * FRAME_ENTRY);
	for (size_t i = 0; i < n; i++)
		frame_write_entry(bytes + FRAME_HEAD + i * FRAME_ENTRY, &entries[i]);
	peer_feed(p, bytes, FRAME_HEAD + n * FRAME_ENTRY);
}

void send_open(struct peer *p, uint32_t id)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(p, bytes, frame_write_open(bytes, id, &(struct link_dest){ .kind = LINK_KIND_SSH }));
}

void send_data(struct peer *p, uint32_t id, uint64_t offset, size_t len)
{
	static uint8_t bytes[FRAME_DATA_HEAD + 65536];
	frame_write_data_head(bytes, id, offset, len);
	peer_feed(p, bytes, FRAME_DATA_HEAD + len);
}

void send_ack(struct peer *p, uint32_t id, uint64_t delivered, uint64_t credit, bool fin)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(p, bytes, frame_write_ack(bytes, id, delivered, credit, fin));
}

void send_number(struct peer *p, enum frame_type type, uint32_t id, uint64_t number)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(p, bytes, frame_write_number(bytes, type, id, number));
}

void send_opened(struct peer *p, uint32_t id)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(p, bytes, frame_write_opened(bytes, id));
}

void send_reason(struct peer *p, enum frame_type type, uint32_t id, unsigned code)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(p, bytes, frame_write_reason(bytes, type, id, code, "because"));
}

void peer_start(struct peer *p)
{
	bool is_target = (p->link->next_id & 1) == 0;
	buf_clear(&p->heard);
	assert_int_equal(link_epoch_start(p->link, p->now, NULL), 0);
	if (is_target)
		peer_feed_ok(p, "CF", 2);
	else
		peer_feed_ok(p, "S", 1);
	peer_hear(p);
	buf_consume(&p->heard, is_target ? 1 : 2);
	expect_frame(p, FRAME_HELLO, 0);
	expect_frame(p, FRAME_RESUME, 0);
}

struct peer peer_new(enum link_role role)
{
	struct peer p = { .now = 1000 };
	struct link_config c = { .role = role, .initial_window = 1000, .window = 2000, .max_streams = 4 };
	assert_int_equal(link_new(&c, &p.link, NULL), 0);
	buf_init(&p.heard, 1 << 20);
	return p;
}

struct peer peer_up(enum link_role role)
{
	struct peer p = peer_new(role);
	peer_start(&p);
	send_hello(&p);
	send_resume(&p, NULL, 0, false);
	assert_true(link_is_up(p.link));
	return p;
}

void peer_free(struct peer *p)
{
	link_free(&p->link);
	buf_free(&p->heard);
}

uint32_t open_at_link(struct peer *p)
{
	uint32_t id;
	assert_int_equal(link_stream_open(p->link, &(struct link_dest){ .kind = LINK_KIND_SSH }, &id, NULL), 0);
	expect_frame(p, FRAME_OPEN, id);
	return id;
}

void expect_over(struct peer *p, const char *name, const char *text)
{
	struct link_event ev;
	if (p->rc != ERR_PROTOCOL)
		fail_msg("%s: input returned %d", name, p->rc);
	if (!link_next_event(p->link, &ev) || ev.type != LINK_EVENT_OVER || ev.code != LINK_PROTOCOL)
		fail_msg("%s: event %d code %u", name, ev.type, ev.code);
	if (!strstr(ev.text, text))
		fail_msg("%s: \"%s\" does not say \"%s\"", name, ev.text, text);
	assert_false(link_next_event(p->link, &ev));
	peer_hear(p);
	struct frame_head head = { .type = FRAME_PING };
	const uint8_t *body = NULL;
	while (peer_next_frame(p, &head, &body) && head.type != FRAME_BYE)
		;
	if (head.type != FRAME_BYE || body[1] != LINK_PROTOCOL)
		fail_msg("%s: no BYE", name);
	assert_false(link_has_output(p->link));
	assert_int_equal(link_input(p->link, "x", 1, p->now, &p->e), ERR_CLOSED);
	assert_int_equal(link_epoch_start(p->link, p->now, &p->e), ERR_CLOSED);
	assert_true(link_deadline(p->link) == INT64_MAX);
}

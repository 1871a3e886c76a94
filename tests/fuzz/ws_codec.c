/* RFC 6455 frames from a hostile server or client. The first byte says which ('m': masked, from a client); the rest is
 * the wire. However it is cut, the same must come out; and what came out, written again, must come out again. */
#include "fuzz.h"

#include "net/ws_codec.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT 300

/* All that a decoder gave: text to compare, and the messages as frames of our own. */
struct seen {
	struct buf line, again;
	bool in_binary;
	int rc;
};

static const char letters[] = {
	[WS_TEXT] = 'T', [WS_BINARY] = 'B', [WS_CLOSE] = 'C', [WS_PING] = 'P', [WS_PONG] = 'Q'
};

static void write_again(struct seen *s, const struct ws_piece *p, bool mask)
{
	uint8_t payload[MAX_TEXT + 2];
	size_t n = 0;
	if (p->op == WS_BINARY) {
		FUZZ_CHECK(ws_encode(&s->again, s->in_binary ? WS_CONT : WS_BINARY, p->end, mask, p->data, p->len) ==
			   0);
		return;
	}
	if (p->op == WS_CLOSE && p->close_code != 1005) {
		payload[n++] = (uint8_t)(p->close_code >> 8);
		payload[n++] = (uint8_t)p->close_code;
	}
	if (p->len)
		memcpy(payload + n, p->data, p->len);
	/* A text inside a binary message cannot be, but a control frame may stand there. */
	FUZZ_CHECK(ws_encode(&s->again, p->op, true, mask, payload, n + p->len) == 0);
}

static void note(struct seen *s, const struct ws_piece *p, bool mask)
{
	FUZZ_CHECK(p->op == WS_TEXT || p->op == WS_BINARY || p->op >= WS_CLOSE);
	FUZZ_CHECK(p->op == WS_BINARY || (p->end && p->len <= MAX_TEXT));
	FUZZ_CHECK(p->op == WS_BINARY || p->op == WS_CLOSE || p->data[p->len] == '\0');
	write_again(s, p, mask);
	if (p->op != WS_BINARY || !s->in_binary)
		buf_printf(&s->line, "\n%c%u:", letters[p->op], p->close_code);
	buf_add(&s->line, p->data, p->len);
	if (p->op == WS_BINARY) {
		s->in_binary = !p->end;
		if (p->end)
			buf_add_u8(&s->line, '|');
	} else if (s->in_binary) {
		/* the message goes on behind it */
		buf_add_text(&s->line, "\nB0:");
	}
}

static void decode(struct seen *s, bool masked, const uint8_t *bytes, size_t len, size_t step)
{
	struct ws_decoder d;
	memset(s, 0, sizeof *s);
	buf_init(&s->line, 1 << 22);
	buf_init(&s->again, 1 << 22);
	ws_decoder_init(&d, masked, MAX_TEXT);
	for (size_t at = 0; at < len && s->rc >= 0; at += step) {
		struct err e;
		struct ws_piece p;
		size_t n = len - at < step ? len - at : step;
		uint8_t *copy = malloc(n), *in = copy;
		memcpy(copy, bytes + at, n);
		while ((s->rc = ws_decode(&d, &in, &n, &p, &e)) == 1)
			note(s, &p, masked);
		FUZZ_CHECK(s->rc < 0 ? e.code == s->rc && e.text[0] : n == 0);
		FUZZ_CHECK(s->rc != ERR_NOMEM); /* limits speak before memory does */
		free(copy);
	}
	ws_decoder_free(&d);
}

static void seen_free(struct seen *s)
{
	buf_free(&s->line);
	buf_free(&s->again);
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->rc == b->rc && a->line.len == b->line.len &&
	       memcmp(buf_data(&a->line), buf_data(&b->line), a->line.len) == 0;
}

/* Text in pieces: nothing that is legal is refused, and no byte of it is lost. */
static void check_pieces(bool masked, const uint8_t *bytes, size_t len, const struct seen *whole)
{
	struct ws_decoder d;
	struct ws_piece p;
	struct err e;
	size_t text = 0, messages = 0, whole_messages = 0;
	uint8_t *copy = malloc(len ? len : 1), *in = copy;
	memcpy(copy, bytes, len);
	ws_decoder_init(&d, masked, 0);
	d.pieces = true;
	int rc;
	while ((rc = ws_decode(&d, &in, &len, &p, &e)) == 1) {
		FUZZ_CHECK(p.len > 0 || p.end || p.op >= WS_CLOSE);
		text += p.op == WS_TEXT ? p.len : 0;
		messages += p.op == WS_TEXT && p.end;
	}
	for (size_t i = 0; i + 1 < whole->line.len; i++)
		whole_messages += memcmp(buf_data(&whole->line) + i, "\nT", 2) == 0;
	FUZZ_CHECK(d.text.cap == 0 && (whole->rc < 0 || rc == 0));
	FUZZ_CHECK(whole->rc < 0 || whole_messages >= messages);
	FUZZ_CHECK(text == 0 || text <= (size_t)(in - copy));
	ws_decoder_free(&d);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	bool masked = fuzz_byte(&in) == 'm';
	struct seen whole, cut, again;
	decode(&whole, masked, in.at, in.left, in.left ? in.left : 1);
	for (size_t step = 1; step < 8; step += 3) {
		decode(&cut, masked, in.at, in.left, step);
		FUZZ_CHECK(same(&whole, &cut));
		seen_free(&cut);
	}
	decode(&again, masked, buf_data(&whole.again), whole.again.len, 1000);
	check_pieces(masked, in.at, in.left, &whole);
	again.rc = whole.rc; /* what ended the input is not written again */
	FUZZ_CHECK(same(&whole, &again));
	seen_free(&again);
	seen_free(&whole);
	return 0;
}

#include "wire.h"

#include "base/secret.h"
#include "link/internal.h"
#include "support/case.h"

#include <openssl/x509.h>

static void make_key(EVP_PKEY **out_key, unsigned char out_pin[32])
{
	unsigned char *der = NULL;
	*out_key = EVP_EC_gen("P-256");
	assert_non_null(*out_key);
	int len = i2d_PUBKEY(*out_key, &der);
	assert_true(len > 0);
	secret_sha256(der, (size_t)len, out_pin);
	OPENSSL_free(der);
}

static struct wire_keys keys;

static void free_keys(void)
{
	EVP_PKEY_free(keys.key[0]);
	EVP_PKEY_free(keys.key[1]);
}

const struct wire_keys *wire_keys(void)
{
	if (!keys.key[0]) {
		make_key(&keys.key[0], keys.pin[0]);
		make_key(&keys.key[1], keys.pin[1]);
		atexit(free_keys);
	}
	return &keys;
}

void wire_init(struct wire *w, const struct link_config *limits)
{
	struct err e;
	*w = (struct wire){ .now = 1000 };
	for (int i = 0; i < 2; i++) {
		struct link_config c = limits ? *limits : (struct link_config){ .role = LINK_CLIENT };
		c.role = i ? LINK_TARGET : LINK_CLIENT;
		c.key = wire_keys()->key[i];
		memcpy(c.peer_pin, wire_keys()->pin[!i], sizeof(c.peer_pin));
		if (link_new(&c, &w->end[i], &e) != 0)
			fail_msg("%s", e.text);
	}
}

void wire_free(struct wire *w)
{
	link_free(&w->end[0]);
	link_free(&w->end[1]);
}

void wire_start(struct wire *w)
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(link_epoch_start(w->end[i], w->now, NULL), 0);
}

void wire_lost(struct wire *w)
{
	link_epoch_lost(w->end[0], w->now);
	link_epoch_lost(w->end[1], w->now);
}

void wire_run(struct wire *w)
{
	static uint8_t bytes[65536];
	bool any = true;
	while (any) {
		any = false;
		for (int i = 0; i < 2; i++) {
			size_t n = link_output(w->end[i], bytes, sizeof(bytes), w->now);
			if (!n)
				continue;
			any = true;
			link_input(w->end[!i], bytes, n, w->now, NULL);
		}
	}
}

void wire_up(struct wire *w, const struct link_config *limits)
{
	wire_init(w, limits);
	wire_start(w);
	wire_run(w);
	wire_expect(w, LINK_CLIENT, LINK_EVENT_UP);
	wire_expect(w, LINK_TARGET, LINK_EVENT_UP);
}

static void add_stream(struct link *sum, const struct stream *s)
{
	sum->n_streams++;
	sum->n_local += s->local;
	if (!stream_is_live(s))
		return;
	sum->n_live++;
	sum->retained += s->out.end - s->out.start;
	sum->promised += s->credit - s->in.start;
	sum->flight += s->wired ? s->sent - s->out.start : 0;
	sum->asking += s->wired && s->state == STREAM_OPENING;
}

static bool is_sane(const struct stream *s)
{
	return s->out.start <= s->out.end && s->sent <= s->out.end && s->sent_max <= s->out.end &&
	       (!s->wired || (s->out.start <= s->sent && s->sent <= s->sent_max)) && s->in.start <= s->in.end &&
	       s->in.end <= s->told_credit && s->told_credit <= s->credit && s->told_delivered <= s->in.start;
}

const char *wire_check_books(const struct link *link)
{
	struct link sum = { 0 };
	LIST_EACH(node, &link->streams)
	{
		const struct stream *s = LIST_ENTRY(node, struct stream, all);
		add_stream(&sum, s);
		if (stream_is_live(s) && !is_sane(s))
			return "a stream's offsets";
	}
	if (sum.n_streams != link->n_streams || sum.n_local != link->n_local || sum.n_live != link->n_live)
		return "the number of streams";
	if (sum.retained != link->retained || sum.promised != link->promised)
		return "bytes retained or promised";
	return sum.flight != link->flight || sum.asking != link->asking ? "what is outstanding" : NULL;
}

struct link_event wire_expect(struct wire *w, enum link_role role, enum link_event_type type)
{
	struct link_event event;
	link_next_event(w->end[role], &event);
	if (event.type != type)
		fail_msg("event %d (code %u %s), expected %d", event.type, event.code, event.text, type);
	return event;
}

void wire_expect_none(struct wire *w, enum link_role role)
{
	wire_expect(w, role, LINK_EVENT_NONE);
}

uint32_t wire_stream(struct wire *w)
{
	struct link_dest dest = { .kind = LINK_KIND_TCP, .host = "127.0.0.1", .port = 5432 };
	uint32_t id;
	struct err e;
	if (link_stream_open(w->end[LINK_CLIENT], &dest, &id, &e) != 0)
		fail_msg("%s", e.text);
	wire_run(w);
	assert_int_equal(wire_expect(w, LINK_TARGET, LINK_EVENT_OPEN).stream, id);
	assert_int_equal(link_stream_accept(w->end[LINK_TARGET], id), 0);
	wire_run(w);
	assert_int_equal(wire_expect(w, LINK_CLIENT, LINK_EVENT_OPENED).stream, id);
	return id;
}

void wire_write(struct wire *w, enum link_role role, uint32_t id, const char *text)
{
	assert_int_equal(link_stream_write(w->end[role], id, text, strlen(text)), strlen(text));
}

const char *wire_read(struct wire *w, enum link_role role, uint32_t id)
{
	static char text[4096];
	size_t len = 0, n;
	const void *data = NULL;
	while ((n = link_stream_peek(w->end[role], id, &data)) > 0) {
		assert_true(len + n < sizeof(text));
		memcpy(text + len, data, n);
		len += n;
		link_stream_consume(w->end[role], id, n);
	}
	text[len] = '\0';
	return text;
}

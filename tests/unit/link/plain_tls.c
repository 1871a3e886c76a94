/* link/tls.h without cryptography, for tests alone: frames stay readable, handshakes cost nothing. A handshake of three
 * single bytes ("C" from the client, "S", then "F") keeps the order in which real ends become ready. */
#include "link/tls.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

struct link_tls_identity {
	bool is_server;
};

struct link_tls {
	bool is_server;
	int step; /* 0: first byte expected; 1: server waits for "F"; 2: done */
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_size, out_len;
	struct buf waiting;
};

int link_tls_identity_new(bool is_server, EVP_PKEY *key, const unsigned char peer_pin[32],
			  struct link_tls_identity **out_identity, struct err *e)
{
	(void)key, (void)peer_pin;
	struct link_tls_identity *identity = malloc(sizeof(*identity));
	if (!identity)
		return err_set(e, ERR_NOMEM, "out of memory");
	identity->is_server = is_server;
	*out_identity = identity;
	return 0;
}

void link_tls_identity_free(struct link_tls_identity **identity)
{
	free(*identity);
	*identity = NULL;
}

static void put(struct link_tls *tls, const void *data, size_t len)
{
	size_t direct = link_tls_output_room(tls);
	if (direct > len)
		direct = len;
	if (direct)
		memcpy(tls->out + tls->out_len, data, direct);
	tls->out_len += direct;
	buf_add(&tls->waiting, (const uint8_t *)data + direct, len - direct);
}

int link_tls_new(struct link_tls_identity *identity, struct link_tls **out_tls, struct err *e)
{
	struct link_tls *tls = calloc(1, sizeof(*tls));
	if (!tls)
		return err_set(e, ERR_NOMEM, "out of memory");
	tls->is_server = identity->is_server;
	buf_init(&tls->waiting, 128 * 1024);
	if (!tls->is_server)
		put(tls, "C", 1);
	*out_tls = tls;
	return 0;
}

void link_tls_free(struct link_tls **tls)
{
	if (*tls)
		buf_free(&(*tls)->waiting);
	free(*tls);
	*tls = NULL;
}

void link_tls_feed(struct link_tls *tls, const void *data, size_t len)
{
	tls->in = data;
	tls->in_len = len;
}

int link_tls_handshake(struct link_tls *tls, struct err *e)
{
	static const char expected[2][2] = { "S", "CF" };
	while (tls->step < 2 && tls->in_len) {
		char c = (char)*tls->in++;
		tls->in_len--;
		if (c != expected[tls->is_server][tls->step])
			return err_set(e, ERR_IO, "handshake: unexpected byte");
		if (!tls->is_server || tls->step == 0)
			put(tls, tls->is_server ? "S" : "F", 1);
		tls->step += tls->is_server ? 1 : 2;
	}
	return tls->step == 2;
}

ssize_t link_tls_read(struct link_tls *tls, void *to, size_t len, struct err *e)
{
	(void)e;
	if (len > tls->in_len)
		len = tls->in_len;
	if (len)
		memcpy(to, tls->in, len);
	tls->in += len;
	tls->in_len -= len;
	return (ssize_t)len;
}

int link_tls_write(struct link_tls *tls, const void *data, size_t len, struct err *e)
{
	if (len > LINK_TLS_RECORD)
		return err_set(e, ERR_INTERNAL, "record of %zu bytes", len);
	put(tls, data, len);
	return 0;
}

void link_tls_output_begin(struct link_tls *tls, void *out, size_t size)
{
	size_t n = tls->waiting.len < size ? tls->waiting.len : size;
	if (n)
		memcpy(out, buf_data(&tls->waiting), n);
	buf_consume(&tls->waiting, n);
	tls->out = out;
	tls->out_size = size;
	tls->out_len = n;
}

size_t link_tls_output_room(const struct link_tls *tls)
{
	return tls->waiting.len ? 0 : tls->out_size - tls->out_len;
}

size_t link_tls_output_end(struct link_tls *tls)
{
	size_t n = tls->out_len;
	tls->out = NULL;
	tls->out_size = tls->out_len = 0;
	return n;
}

size_t link_tls_waiting(const struct link_tls *tls)
{
	return tls->waiting.len;
}

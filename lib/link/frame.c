/* One table says for every type which flags, stream and lengths are legal, so the reader of the header is the same for
 * all of them, and a body reader may rely on its length. Reserved fields inside bodies are left to later versions and
 * not looked at. */
#include "link/frame.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <string.h>

struct frame_rule {
	const char *name;
	uint8_t flags;  /* that may be set */
	bool on_stream; /* the stream field must be set; else it must be 0 */
	uint32_t min, max, unit;
};

static const struct frame_rule rules[] = {
	[FRAME_HELLO] = { "HELLO", 0, false, 24, 24, 1 },
	[FRAME_RESUME] = { "RESUME", FRAME_FLAG_MORE, false, 0, LIMIT_LINK_FRAME_BODY, FRAME_ENTRY },
	[FRAME_OPEN] = { "OPEN", 0, true, 6, 6 + LIMIT_LINK_HOST, 1 },
	[FRAME_OPENED] = { "OPENED", 0, true, 0, 0, 1 },
	[FRAME_REFUSED] = { "REFUSED", 0, true, 2, 2 + LIMIT_LINK_TEXT, 1 },
	[FRAME_DATA] = { "DATA", 0, true, 9, LIMIT_LINK_FRAME_BODY, 1 },
	[FRAME_ACK] = { "ACK", FRAME_FLAG_FIN_DONE, true, 16, 16, 1 },
	[FRAME_FIN] = { "FIN", 0, true, 8, 8, 1 },
	[FRAME_RESET] = { "RESET", 0, true, 2, 2 + LIMIT_LINK_TEXT, 1 },
	[FRAME_PING] = { "PING", 0, false, 8, 8, 1 },
	[FRAME_PONG] = { "PONG", 0, false, 8, 8, 1 },
	[FRAME_BYE] = { "BYE", 0, false, 2, 2 + LIMIT_LINK_TEXT, 1 },
};

static uint64_t get(const uint8_t *in, size_t bytes)
{
	uint64_t v = 0;
	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | in[i];
	return v;
}

static uint8_t *put(uint8_t *out, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
	return out + bytes;
}

const char *frame_name(unsigned type)
{
	return type >= FRAME_HELLO && type <= FRAME_BYE ? rules[type].name : "unknown";
}

int frame_read_head(const uint8_t in[FRAME_HEAD], struct frame_head *out, struct err *e)
{
	if (in[0] < FRAME_HELLO || in[0] > FRAME_BYE)
		return err_set(e, ERR_PROTOCOL, "frame type %u is unknown", in[0]);
	const struct frame_rule *rule = &rules[in[0]];
	struct frame_head head = {
		.type = (enum frame_type)in[0],
		.flags = in[1],
		.stream = (uint32_t)get(in + 4, 4),
		.length = (uint32_t)get(in + 8, 4),
	};
	if (head.flags & ~rule->flags)
		return err_set(e, ERR_PROTOCOL, "%s has flags 0x%02x", rule->name, head.flags);
	if (in[2] || in[3])
		return err_set(e, ERR_PROTOCOL, "%s has a reserved field that is not 0", rule->name);
	if (rule->on_stream != (head.stream != 0))
		return err_set(e, ERR_PROTOCOL, "%s for stream %u", rule->name, head.stream);
	if (head.length < rule->min || head.length > rule->max || head.length % rule->unit)
		return err_set(e, ERR_PROTOCOL, "%s of %u bytes", rule->name, head.length);
	*out = head;
	return 0;
}

int frame_read_hello(const uint8_t *body, size_t len, struct frame_hello *out, struct err *e)
{
	if (len != rules[FRAME_HELLO].min)
		return err_set(e, ERR_PROTOCOL, "HELLO of %zu bytes", len);
	unsigned version = (unsigned)get(body, 2);
	if (version != FRAME_LINK_VERSION)
		return err_set(e, ERR_PROTOCOL, "link version %u, this end speaks %u", version, FRAME_LINK_VERSION);
	out->max_streams = (uint32_t)get(body + 4, 4);
	out->initial_window = (uint32_t)get(body + 8, 4);
	return 0;
}

int frame_read_entry(const uint8_t in[FRAME_ENTRY], struct frame_entry *out, struct err *e)
{
	struct frame_entry entry = {
		.stream = (uint32_t)get(in, 4),
		.state = in[4],
		.received = get(in + 8, 8),
		.delivered = get(in + 16, 8),
		.credit = get(in + 24, 8),
	};
	if (entry.stream == 0)
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream 0");
	if (entry.state >= FRAME_STATE_ABORTED << 1)
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream %u in state 0x%02x", entry.stream, entry.state);
	if (entry.delivered > entry.received)
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream %u with more delivered than received",
			       entry.stream);
	if ((entry.state & FRAME_STATE_FIN_DONE) && !(entry.state & FRAME_STATE_FIN))
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream %u with a FIN delivered but not received",
			       entry.stream);
	if ((entry.state & FRAME_STATE_ABORTED) && !(entry.state & FRAME_STATE_DONE))
		return err_set(e, ERR_PROTOCOL, "RESUME lists stream %u as reset but not done", entry.stream);
	*out = entry;
	return 0;
}

static bool is_host(const char *host, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (host[i] <= ' ' || host[i] > '~')
			return false;
	return len > 0;
}

static bool is_address(const char *host)
{
	unsigned char bytes[16];
	return inet_pton(strchr(host, ':') ? AF_INET6 : AF_INET, host, bytes) == 1;
}

static int check_accepted(const struct link_dest *dest, struct err *e)
{
	int64_t stream;
	if (dest->port == 0 && text_parse_int(dest->host, 1, UINT32_MAX, &stream) == 0)
		return 0;
	return err_set(e, ERR_INVALID,
		       "a destination of kind accepted has no port, and the number of a stream as host");
}

static int check_tcp(const struct link_dest *dest, struct err *e)
{
	size_t len = strnlen(dest->host, sizeof(dest->host));
	if (len > LIMIT_LINK_HOST || !is_host(dest->host, len))
		return err_set(e, ERR_INVALID, "destination host must be 1 to %u printable characters",
			       LIMIT_LINK_HOST);
	if (dest->port == 0)
		return err_set(e, ERR_INVALID, "destination port must be 1 to 65535");
	return 0;
}

int frame_check_dest(const struct link_dest *dest, struct err *e)
{
	switch (dest->kind) {
	case LINK_KIND_SSH:
		return !dest->host[0] && dest->port == 0
			       ? 0
			       : err_set(e, ERR_INVALID, "a destination of kind ssh has neither host nor port");
	case LINK_KIND_TCP:
		return check_tcp(dest, e);
	case LINK_KIND_UNIX:
		return text_is_socket_path(dest->host) && dest->port == 0
			       ? 0
			       : err_set(e, ERR_INVALID,
					 "a destination of kind unix has no port, and an absolute path of at most %u "
					 "bytes without \".\", \"..\" and \"//\"",
					 LIMIT_SOCKET_PATH);
	case LINK_KIND_LISTEN:
		return is_address(dest->host)
			       ? 0
			       : err_set(e, ERR_INVALID, "a destination of kind listen has an IP address as host");
	case LINK_KIND_ACCEPTED:
		return check_accepted(dest, e);
	default:
		return err_set(e, ERR_INVALID,
			       "destination kind %d, must be 1 (ssh), 2 (tcp), 3 (unix), 4 (listen) or 5 (accepted)",
			       (int)dest->kind);
	}
}

int frame_read_open(const uint8_t *body, size_t len, struct link_dest *out, struct err *e)
{
	size_t host_len = len >= 6 ? (size_t)get(body + 4, 2) : 0;
	if (len < 6 || host_len != len - 6 || host_len > LIMIT_LINK_HOST)
		return err_set(e, ERR_PROTOCOL, "OPEN of %zu bytes with a host of %zu bytes", len, host_len);
	if (memchr(body + 6, '\0', host_len))
		return err_set(e, ERR_PROTOCOL, "OPEN with a NUL in its host");
	struct link_dest dest = { .kind = (enum link_kind)body[0], .port = (uint16_t)get(body + 2, 2) };
	memcpy(dest.host, body + 6, host_len);
	if (frame_check_dest(&dest, e) != 0) {
		err_wrap(e, "OPEN");
		if (e)
			e->code = ERR_PROTOCOL;
		return ERR_PROTOCOL;
	}
	*out = dest;
	return 0;
}

/* C0, DEL and the C1 range (U+0080 to U+009F, two bytes in UTF-8) could drive a terminal. */
static void disarm(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c; c++) {
		if (*c < 0x20 || *c == 0x7f)
			*c = '?';
		else if (*c == 0xc2 && c[1] < 0xa0)
			c[0] = c[1] = '?';
	}
}

int frame_read_reason(const uint8_t *body, size_t len, struct frame_reason *out, struct err *e)
{
	if (len < 2 || len > 2 + LIMIT_LINK_TEXT)
		return err_set(e, ERR_PROTOCOL, "a reason of %zu bytes", len);
	const char *text = (const char *)body + 2;
	if (!text_is_utf8(text, len - 2) || memchr(text, '\0', len - 2))
		return err_set(e, ERR_PROTOCOL, "a reason whose text is not UTF-8");
	out->code = (unsigned)get(body, 2);
	memcpy(out->text, text, len - 2);
	out->text[len - 2] = '\0';
	disarm(out->text);
	return 0;
}

struct frame_ack frame_read_ack(const uint8_t body[16])
{
	return (struct frame_ack){ .delivered = get(body, 8), .credit = get(body + 8, 8) };
}

uint64_t frame_read_u64(const uint8_t in[8])
{
	return get(in, 8);
}

void frame_write_head(uint8_t out[FRAME_HEAD], enum frame_type type, unsigned flags, uint32_t stream, size_t length)
{
	out = put(out, type, 1);
	out = put(out, flags, 1);
	out = put(out, 0, 2);
	out = put(out, stream, 4);
	put(out, length, 4);
}

void frame_write_data_head(uint8_t out[FRAME_DATA_HEAD], uint32_t stream, uint64_t offset, size_t payload)
{
	frame_write_head(out, FRAME_DATA, 0, stream, 8 + payload);
	put(out + FRAME_HEAD, offset, 8);
}

void frame_write_entry(uint8_t out[FRAME_ENTRY], const struct frame_entry *entry)
{
	out = put(out, entry->stream, 4);
	out = put(out, entry->state, 1);
	out = put(out, 0, 3);
	out = put(out, entry->received, 8);
	out = put(out, entry->delivered, 8);
	put(out, entry->credit, 8);
}

size_t frame_write_hello(uint8_t *out, const struct frame_hello *hello)
{
	frame_write_head(out, FRAME_HELLO, 0, 0, 24);
	uint8_t *at = put(out + FRAME_HEAD, FRAME_LINK_VERSION, 2);
	at = put(at, 0, 2);
	at = put(at, hello->max_streams, 4);
	at = put(at, hello->initial_window, 4);
	at = put(at, 0, 4);
	put(at, 0, 8);
	return FRAME_HEAD + 24;
}

size_t frame_write_open(uint8_t *out, uint32_t stream, const struct link_dest *dest)
{
	size_t host_len = strlen(dest->host);
	frame_write_head(out, FRAME_OPEN, 0, stream, 6 + host_len);
	uint8_t *at = put(out + FRAME_HEAD, dest->kind, 1);
	at = put(at, 0, 1);
	at = put(at, dest->port, 2);
	at = put(at, host_len, 2);
	memcpy(at, dest->host, host_len);
	return FRAME_HEAD + 6 + host_len;
}

size_t frame_write_opened(uint8_t *out, uint32_t stream)
{
	frame_write_head(out, FRAME_OPENED, 0, stream, 0);
	return FRAME_HEAD;
}

/* The longest prefix of at most LIMIT_LINK_TEXT bytes that is UTF-8: what is cut or broken never reaches the peer. */
static size_t text_length(const char *text)
{
	size_t len = text ? strnlen(text, LIMIT_LINK_TEXT) : 0;
	while (len > 0 && !text_is_utf8(text, len))
		len--;
	return len;
}

size_t frame_write_reason(uint8_t *out, enum frame_type type, uint32_t stream, unsigned code, const char *text)
{
	size_t len = text_length(text);
	frame_write_head(out, type, 0, stream, 2 + len);
	uint8_t *at = put(out + FRAME_HEAD, code, 2);
	if (len)
		memcpy(at, text, len);
	return FRAME_HEAD + 2 + len;
}

size_t frame_write_ack(uint8_t *out, uint32_t stream, uint64_t delivered, uint64_t credit, bool fin_done)
{
	frame_write_head(out, FRAME_ACK, fin_done ? FRAME_FLAG_FIN_DONE : 0, stream, 16);
	put(put(out + FRAME_HEAD, delivered, 8), credit, 8);
	return FRAME_HEAD + 16;
}

size_t frame_write_number(uint8_t *out, enum frame_type type, uint32_t stream, uint64_t number)
{
	frame_write_head(out, type, 0, stream, 8);
	put(out + FRAME_HEAD, number, 8);
	return FRAME_HEAD + 8;
}

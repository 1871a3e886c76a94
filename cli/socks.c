/* The request is read part by part: each has a length that is known when the part before it was read, or ends with a
 * NUL. So no byte is taken that belongs to the stream, whatever the client sends ahead. */
#include "cli/socks.h"

#include "base/limits.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum {
	VERSION,
	METHOD_COUNT,
	METHODS,
	REQUEST, /* of SOCKS 5, with the first byte of its address */
	ADDRESS, /* the rest, and the port */
	REQUEST_4,
	USER_4,
	NAME_4,
};

enum {
	REPLY_GENERAL = 1,
	REPLY_NOT_ALLOWED = 2,
	REPLY_HOST_UNREACHABLE = 4,
	REPLY_REFUSED = 5,
	REPLY_TIMEOUT = 6,
	REPLY_COMMAND = 7,
	REPLY_ADDRESS_TYPE = 8,
};
enum { GRANTED_4 = 90, REJECTED_4 = 91 };
enum { CONNECT = 1, ADDRESS_V4 = 1, ADDRESS_NAME = 3, ADDRESS_V6 = 4 };

/* The bound address is not told: it is the target's, and of no use here. At most two messages wait in say. */
static void reply(struct socks *s, unsigned code)
{
	uint8_t *out = s->say + s->say_len;
	memset(out, 0, 10);
	if (s->version == 4) {
		out[1] = code ? REJECTED_4 : GRANTED_4;
		s->say_len += 8;
		return;
	}
	out[0] = 5;
	out[1] = (uint8_t)code;
	out[3] = ADDRESS_V4;
	s->say_len += 10;
}

static void refuse(struct socks *s, const char *why)
{
	s->state = SOCKS_REFUSED;
	s->why = why;
}

static void refuse_request(struct socks *s, unsigned code, const char *why)
{
	refuse(s, why);
	reply(s, code);
}

static void asked(struct socks *s, const void *host, size_t len, const uint8_t port[2])
{
	const unsigned char *c = host;
	s->dest.kind = LINK_KIND_TCP;
	s->dest.port = (uint16_t)(port[0] << 8 | port[1]);
	bool good = len > 0 && len <= LIMIT_LINK_HOST && s->dest.port != 0;
	for (size_t i = 0; i < len; i++)
		good = good && c[i] > ' ' && c[i] <= '~';
	if (!good) {
		refuse_request(s, REPLY_GENERAL, "the destination is no host and port");
		return;
	}
	memcpy(s->dest.host, host, len);
	s->dest.host[len] = '\0';
	s->state = SOCKS_ASKED;
}

static void asked_address(struct socks *s, int family, const uint8_t *bytes, const uint8_t port[2])
{
	char text[INET6_ADDRSTRLEN];
	inet_ntop(family, bytes, text, sizeof text);
	asked(s, text, strlen(text), port);
}

static unsigned on_version(struct socks *s)
{
	s->version = s->got[0];
	if (s->version == 5)
		return METHOD_COUNT;
	if (s->version == 4)
		return REQUEST_4;
	refuse(s, "it does not speak SOCKS 5 or 4");
	return VERSION;
}

static unsigned on_methods(struct socks *s)
{
	bool none = memchr(s->got + 2, 0, s->got[1]) != NULL;
	s->say[0] = 5;
	s->say[1] = none ? 0 : 0xff;
	s->say_len = 2;
	if (!none)
		refuse(s, "it insists on authentication");
	return REQUEST;
}

static unsigned on_request(struct socks *s)
{
	const uint8_t *at = s->got;
	if (at[0] != 5 || at[2] != 0)
		refuse_request(s, REPLY_GENERAL, "its request is malformed");
	else if (at[1] != CONNECT)
		refuse_request(s, REPLY_COMMAND, "only CONNECT is served");
	else if (at[3] != ADDRESS_V4 && at[3] != ADDRESS_V6 && at[3] != ADDRESS_NAME)
		refuse_request(s, REPLY_ADDRESS_TYPE, "its destination has an unknown type");
	return ADDRESS;
}

static unsigned on_address(struct socks *s)
{
	const uint8_t *port = s->got + s->len - 2;
	if (s->got[3] == ADDRESS_NAME)
		asked(s, s->got + 5, s->got[4], port);
	else
		asked_address(s, s->got[3] == ADDRESS_V4 ? AF_INET : AF_INET6, s->got + 4, port);
	return ADDRESS;
}

static unsigned on_request_4(struct socks *s)
{
	if (s->got[1] != CONNECT)
		refuse_request(s, REPLY_COMMAND, "only CONNECT is served");
	return USER_4;
}

/* 0.0.0.x stands for a name behind the user's (SOCKS 4a). */
static bool is_named(const struct socks *s)
{
	static const uint8_t zeros[3];
	return memcmp(s->got + 4, zeros, sizeof zeros) == 0 && s->got[7] != 0;
}

static unsigned on_user_4(struct socks *s)
{
	if (is_named(s)) {
		s->len = 8; /* the user is nobody to us */
		return NAME_4;
	}
	asked_address(s, AF_INET, s->got + 4, s->got + 2);
	return USER_4;
}

static unsigned on_name_4(struct socks *s)
{
	asked(s, s->got + 8, s->len - 9, s->got + 2);
	return NAME_4;
}

static size_t address_size(const struct socks *s)
{
	if (s->got[3] == ADDRESS_NAME)
		return 1u + s->got[4];
	return s->got[3] == ADDRESS_V4 ? 4 : 16;
}

/* Is the present part whole? */
static bool is_whole(const struct socks *s)
{
	switch (s->part) {
	case VERSION:
		return s->len == 1;
	case METHOD_COUNT:
		return s->len == 2;
	case METHODS:
		return s->len == 2u + s->got[1];
	case REQUEST:
		return s->len == 5;
	case ADDRESS:
		return s->len == 4 + address_size(s) + 2;
	case REQUEST_4:
		return s->len == 8;
	default:
		return s->len > 8 && s->got[s->len - 1] == '\0';
	}
}

static void next_part(struct socks *s)
{
	switch (s->part) {
	case VERSION:
		s->part = on_version(s);
		break;
	case METHOD_COUNT:
		s->part = METHODS;
		break;
	case METHODS:
		s->part = on_methods(s);
		s->len = 0;
		break;
	case REQUEST:
		s->part = on_request(s);
		break;
	case ADDRESS:
		s->part = on_address(s);
		break;
	case REQUEST_4:
		s->part = on_request_4(s);
		break;
	case USER_4:
		s->part = on_user_4(s);
		break;
	default:
		s->part = on_name_4(s);
	}
}

size_t socks_feed(struct socks *s, const void *data, size_t len)
{
	size_t n = 0;
	while (n < len && s->state == SOCKS_ASKING) {
		if (s->len == sizeof s->got) {
			refuse_request(s, REPLY_GENERAL, "its request is too long");
			break;
		}
		s->got[s->len++] = ((const uint8_t *)data)[n++];
		unsigned before;
		do { /* an empty list of methods is whole at once */
			before = s->part;
			if (is_whole(s))
				next_part(s);
		} while (s->part != before && s->state == SOCKS_ASKING);
	}
	return n;
}

void socks_answer(struct socks *s, unsigned link_code)
{
	switch (link_code) {
	case LINK_OK:
		reply(s, 0);
		break;
	case LINK_NOT_ALLOWED:
		reply(s, REPLY_NOT_ALLOWED);
		break;
	case LINK_REFUSED:
		reply(s, REPLY_REFUSED);
		break;
	case LINK_UNREACHABLE:
		reply(s, REPLY_HOST_UNREACHABLE);
		break;
	case LINK_TIMEOUT:
		reply(s, REPLY_TIMEOUT);
		break;
	default:
		reply(s, REPLY_GENERAL);
	}
}

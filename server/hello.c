/* A ClientHello (RFC 8446, 4.1.2) in one record, read only as far as the list of application protocols. This decides
 * nothing but who takes the connection: whatever is odd goes to the general transport, where OpenSSL judges it. */
#include "server/hello.h"

#include <stdbool.h>
#include <string.h>

#define RECORD_HEAD 5u
#define HANDSHAKE_HEAD 4u
#define TYPE_HANDSHAKE 22
#define TYPE_CLIENT_HELLO 1
#define EXTENSION_ALPN 16

/* Bytes not read yet. A part that is not whole empties it, and `broken` stays. */
struct input {
	const uint8_t *at;
	size_t left;
	bool broken;
};

static struct input take(struct input *in, size_t n)
{
	if (in->broken || n > in->left) {
		*in = (struct input){ in->at, 0, true };
		return *in;
	}
	struct input part = { in->at, n, false };
	in->at += n;
	in->left -= n;
	return part;
}

static size_t number(struct input *in, size_t bytes)
{
	size_t value = 0;
	struct input part = take(in, bytes);
	for (size_t i = 0; i < part.left; i++)
		value = value << 8 | part.at[i];
	return value;
}

/* What its own length stands before. */
static struct input vector(struct input *in, size_t length_bytes)
{
	return take(in, number(in, length_bytes));
}

static bool lists(struct input extension, const char *protocol)
{
	struct input list = vector(&extension, 2);
	while (list.left) {
		struct input name = vector(&list, 1);
		if (!list.broken && name.left == strlen(protocol) && memcmp(name.at, protocol, name.left) == 0)
			return true;
	}
	return false;
}

static enum hello read_hello(struct input in, const char *protocol)
{
	take(&in, 2 + 32); /* version, random */
	vector(&in, 1);    /* session id */
	vector(&in, 2);    /* cipher suites */
	vector(&in, 1);    /* compression */
	struct input extensions = vector(&in, 2);
	while (extensions.left) {
		size_t type = number(&extensions, 2);
		struct input body = vector(&extensions, 2);
		if (!extensions.broken && type == EXTENSION_ALPN)
			return lists(body, protocol) ? HELLO_OURS : HELLO_OTHER;
	}
	return HELLO_OTHER;
}

enum hello hello_offers(const uint8_t *data, size_t len, const char *protocol)
{
	struct input in = { data, len, false };
	if ((len > 0 && data[0] != TYPE_HANDSHAKE) || (len > 1 && data[1] != 3))
		return HELLO_OTHER;
	if (len < RECORD_HEAD)
		return HELLO_MORE;
	take(&in, 3);
	size_t record = number(&in, 2);
	if (record < HANDSHAKE_HEAD || record > HELLO_MAX - RECORD_HEAD || (in.left && *in.at != TYPE_CLIENT_HELLO))
		return HELLO_OTHER;
	if (in.left < HANDSHAKE_HEAD)
		return HELLO_MORE;
	take(&in, 1);
	size_t size = number(&in, 3);
	if (size > record - HANDSHAKE_HEAD)
		return HELLO_OTHER; /* over several records */
	if (in.left < size)
		return HELLO_MORE;
	return read_hello(take(&in, size), protocol);
}

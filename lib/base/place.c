#include "base/place.h"

#include "base/err.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

int place_address(const char *text, char out_address[PLACE_ADDRESS])
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned char bytes[16];
	const unsigned char *at = bytes;
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, text, bytes) != 1)
		return ERR_INVALID;
	if (family == AF_INET6 && memcmp(bytes, mapped, sizeof mapped) == 0) {
		family = AF_INET;
		at += sizeof mapped;
	}
	return inet_ntop(family, at, out_address, PLACE_ADDRESS) ? 0 : ERR_INVALID;
}

int place_parse(const char *text, char out_address[PLACE_ADDRESS], uint16_t *out_port)
{
	char host[PLACE_ADDRESS];
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
	int64_t port;
	if (brackets) {
		text++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof host || text_parse_int(colon + 1, 0, 65535, &port) != 0)
		return ERR_INVALID;
	memcpy(host, text, len);
	host[len] = '\0';
	if ((strchr(host, ':') != NULL) != brackets || place_address(host, host) != 0)
		return ERR_INVALID;
	memcpy(out_address, host, strlen(host) + 1);
	*out_port = (uint16_t)port;
	return 0;
}

/* A ClientHello that nobody has read yet. The input is one; whatever it is, a cut of it waits or has the verdict of the
 * whole, and the verdict "ours" needs the protocol's name in it. Behind a '!' the input is the body of the extensions,
 * and a hello is made around it: with what stands before them right, no cut of the list reads past it. */
#include "fuzz.h"

#include "server/hello.h"

#include <stdlib.h>
#include <string.h>

#define ALPN "tunnel-leg/1"
#define CUTS_MAX 700u

static enum hello judge(const uint8_t *data, size_t len)
{
	uint8_t *copy = calloc(len ? len : 1, 1);
	if (len)
		memcpy(copy, data, len);
	enum hello verdict = hello_offers(copy, len, ALPN);
	free(copy);
	return verdict;
}

static void check(const uint8_t *data, size_t len)
{
	enum hello whole = judge(data, len), before = HELLO_MORE;
	for (size_t cut = 0; cut < len && cut < CUTS_MAX; cut++) {
		enum hello verdict = judge(data, cut);
		FUZZ_CHECK(before == HELLO_MORE || verdict == before);
		FUZZ_CHECK(verdict == HELLO_MORE || verdict == whole);
		before = verdict;
	}
	FUZZ_CHECK(whole != HELLO_MORE || len < HELLO_MAX);
	FUZZ_CHECK(whole != HELLO_OURS || memmem(data, len, "\x0c" ALPN, sizeof ALPN));
	FUZZ_CHECK(len == 0 || data[0] == 22 || whole == HELLO_OTHER);
}

static void put(uint8_t **at, size_t value, size_t bytes)
{
	while (bytes-- > 0)
		*(*at)++ = (uint8_t)(value >> (8 * bytes));
}

static void check_extensions(const uint8_t *data, size_t len)
{
	size_t body = 2 + 32 + 1 + 4 + 2 + 2 + len;
	uint8_t *hello = calloc(1, 9 + body), *at = hello;
	put(&at, 0x160301, 3);
	put(&at, 4 + body, 2);
	put(&at, 1, 1);
	put(&at, body, 3);
	put(&at, 0x0303, 2);
	at += 32 + 1;
	put(&at, 2, 2);
	put(&at, 0x1301, 2);
	put(&at, 1, 1);
	at++;
	put(&at, len, 2);
	if (len)
		memcpy(at, data, len);
	check(hello, 9 + body);
	FUZZ_CHECK(judge(hello, 9 + body) != HELLO_MORE);
	free(hello);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] == '!' && size < 16000)
		check_extensions(data + 1, size - 1);
	else
		check(data, size);
	return 0;
}

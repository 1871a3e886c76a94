/* Scalars of a request and the typed values of a policy.
 *
 * A policy's own values are read once, when it is parsed, and strictly. A request's values come from tokens and tags,
 * so text that should be a number, date or address may be anything: what it means is found out when a condition first
 * asks, kept for the next one, and "means nothing" is an answer of its own that matches no value of a policy. */
#include "server/policy/model.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct policy_scalar policy_scalar_text(const char *text)
{
	struct policy_scalar s = { .type = POLICY_SCALAR_TEXT, .text = text, .len = strlen(text) };
	return s;
}

struct policy_scalar policy_scalar_of(const json_t *value)
{
	struct policy_scalar s = { .type = POLICY_SCALAR_ALIEN };
	if (json_is_string(value)) {
		s.type = POLICY_SCALAR_TEXT;
		s.text = json_string_value(value);
		s.len = json_string_length(value);
	} else if (json_is_integer(value)) {
		s.type = POLICY_SCALAR_NUMBER;
		s.number = (struct policy_number){ .whole = true, .i = json_integer_value(value) };
		s.number.r = (double)s.number.i;
	} else if (json_is_real(value)) {
		s.type = POLICY_SCALAR_NUMBER;
		s.number = (struct policy_number){ .r = json_real_value(value) };
	} else if (json_is_boolean(value)) {
		s.type = POLICY_SCALAR_BOOL;
		s.truth = json_is_true(value);
	}
	return s;
}

const char *policy_scalar_as_text(const struct policy_scalar *s, char scratch[POLICY_SCRATCH], size_t *out_len)
{
	const char *text = scratch;
	switch (s->type) {
	case POLICY_SCALAR_TEXT:
		*out_len = s->len;
		return s->text;
	case POLICY_SCALAR_NUMBER:
		if (s->number.whole)
			snprintf(scratch, POLICY_SCRATCH, "%" PRId64, s->number.i);
		else
			snprintf(scratch, POLICY_SCRATCH, "%.17g", s->number.r);
		break;
	case POLICY_SCALAR_BOOL:
		text = s->truth ? "true" : "false";
		break;
	case POLICY_SCALAR_ALIEN:
		return NULL;
	}
	*out_len = strlen(text);
	return text;
}

static size_t digits(const char *s)
{
	return strspn(s, "0123456789");
}

/* -?digits[.digits][e[+-]digits]: no blanks, no hex, no "inf". */
static bool looks_like_number(const char *s, bool *out_whole)
{
	s += *s == '-';
	size_t n = digits(s);
	if (n == 0)
		return false;
	s += n;
	*out_whole = *s == '\0';
	if (*s == '.') {
		n = digits(++s);
		if (n == 0)
			return false;
		s += n;
	}
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		n = digits(s);
		if (n == 0)
			return false;
		s += n;
	}
	return *s == '\0';
}

bool policy_scalar_as_number(const struct policy_scalar *s, struct policy_number *out)
{
	if (s->type == POLICY_SCALAR_NUMBER) {
		*out = s->number;
		return true;
	}
	bool whole;
	if (s->type != POLICY_SCALAR_TEXT || strlen(s->text) != s->len || !looks_like_number(s->text, &whole))
		return false;
	struct policy_number n = { .whole = whole, .r = strtod(s->text, NULL) };
	if (!isfinite(n.r))
		return false;
	if (whole) {
		errno = 0;
		n.i = strtoll(s->text, NULL, 10);
		n.whole = errno == 0;
	}
	*out = n;
	return true;
}

int policy_number_compare(const struct policy_number *a, const struct policy_number *b)
{
	if (a->whole && b->whole)
		return (a->i > b->i) - (a->i < b->i);
	return (a->r > b->r) - (a->r < b->r);
}

static bool read_date(const struct policy_scalar *s, int64_t *out_ms)
{
	struct policy_number n;
	if (policy_scalar_as_number(s, &n)) {
		/* seconds; beyond the year 9999 it is a mistake, most likely milliseconds */
		if (n.r < -62135596800.0 || n.r > 253402300799.0)
			return false;
		*out_ms = n.whole ? n.i * 1000 : (int64_t)(n.r * 1000.0);
		return true;
	}
	return s->type == POLICY_SCALAR_TEXT && strlen(s->text) == s->len && clock_parse(s->text, out_ms) == 0;
}

bool policy_scalar_as_date(struct policy_scalar *s, int64_t *out_ms)
{
	if (s->has_date == POLICY_LAZY_UNKNOWN)
		s->has_date = read_date(s, &s->date_ms) ? POLICY_LAZY_YES : POLICY_LAZY_NO;
	*out_ms = s->date_ms;
	return s->has_date == POLICY_LAZY_YES;
}

bool policy_scalar_as_bool(const struct policy_scalar *s, bool *out)
{
	if (s->type == POLICY_SCALAR_BOOL) {
		*out = s->truth;
		return true;
	}
	if (s->type != POLICY_SCALAR_TEXT)
		return false;
	bool yes = s->len == 4 && memcmp(s->text, "true", 4) == 0;
	bool no = s->len == 5 && memcmp(s->text, "false", 5) == 0;
	if (yes || no)
		*out = yes;
	return yes || no;
}

static bool read_address(const char *text, struct policy_address *out)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	struct policy_address a = { .v6 = false };
	if (inet_pton(AF_INET, text, a.bytes) == 1) {
		*out = a;
		return true;
	}
	if (inet_pton(AF_INET6, text, a.bytes) != 1)
		return false;
	a.v6 = memcmp(a.bytes, mapped, sizeof mapped) != 0;
	if (!a.v6) {
		memcpy(a.bytes, a.bytes + 12, 4);
		memset(a.bytes + 4, 0, 12);
	}
	*out = a;
	return true;
}

bool policy_scalar_as_address(struct policy_scalar *s, struct policy_address *out)
{
	if (s->has_address == POLICY_LAZY_UNKNOWN) {
		char text[INET6_ADDRSTRLEN];
		const char *zone = s->type == POLICY_SCALAR_TEXT ? memchr(s->text, '%', s->len) : NULL;
		size_t len = zone ? (size_t)(zone - s->text) : s->len;
		s->has_address = POLICY_LAZY_NO;
		if (s->type == POLICY_SCALAR_TEXT && len < sizeof text && strlen(s->text) == s->len) {
			memcpy(text, s->text, len);
			text[len] = '\0';
			if (read_address(text, &s->address))
				s->has_address = POLICY_LAZY_YES;
		}
	}
	*out = s->address;
	return s->has_address == POLICY_LAZY_YES;
}

bool policy_net_holds(const struct policy_net *net, const struct policy_address *a)
{
	if (net->base.v6 != a->v6)
		return false;
	size_t whole = net->bits / 8;
	unsigned rest = net->bits % 8;
	if (memcmp(net->base.bytes, a->bytes, whole) != 0)
		return false;
	return rest == 0 || (net->base.bytes[whole] ^ a->bytes[whole]) >> (8 - rest) == 0;
}

static bool has_bits_beyond(const struct policy_net *net)
{
	size_t size = net->base.v6 ? 16 : 4;
	for (size_t bit = net->bits; bit < size * 8; bit++)
		if (net->base.bytes[bit / 8] & (0x80u >> bit % 8))
			return true;
	return false;
}

const char *policy_net_parse(const char *text, struct policy_net *out)
{
	static const char form[] = "not an address or network; allowed: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32";
	char address[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	struct policy_net net;
	if (len >= sizeof address)
		return form;
	memcpy(address, text, len);
	address[len] = '\0';
	if (!read_address(address, &net.base))
		return form;
	unsigned written_bits = strchr(address, ':') ? 128 : 32; /* of the family as written */
	net.bits = written_bits;
	if (slash) {
		size_t n = digits(slash + 1);
		if (n == 0 || n > 3 || slash[1 + n] != '\0' || (n > 1 && slash[1] == '0'))
			return form;
		net.bits = (unsigned)atoi(slash + 1);
		if (net.bits > written_bits)
			return written_bits == 32 ? "prefix length out of range; allowed: 0 to 32"
						  : "prefix length out of range; allowed: 0 to 128";
	}
	if (written_bits == 128 && !net.base.v6) {
		if (net.bits < 96)
			return "prefix of a v4-mapped network out of range; allowed: 96 to 128, or write it as v4";
		net.bits -= 96;
	}
	if (has_bits_beyond(&net))
		return "address has bits behind its prefix; write the network's first address";
	*out = net;
	return NULL;
}

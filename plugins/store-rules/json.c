/* Is it a JSON text (RFC 8259)? Checked here, on the caller's thread, because the one writer is the narrow place, and
 * because SQLite's own json_valid stops at a NUL byte and does not look at UTF-8. No recursion: open brackets are bits
 * of a small stack. */
#include "store_rules.h"

#define DEPTH_MAX 512u

struct scanner {
	const unsigned char *at, *end;
	unsigned depth;
	unsigned char kinds[DEPTH_MAX / 8]; /* bit set: the bracket at that depth is an object's */
};

static void skip_blanks(struct scanner *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

static bool take(struct scanner *s, unsigned char c)
{
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

/* Length of a well-formed UTF-8 sequence at p, 0 if there is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	if (p[0] < 0x80)
		return 1;
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static bool is_hex(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool take_escape(struct scanner *s)
{
	if (s->at == s->end)
		return false;
	unsigned char c = *s->at++;
	if (c != 'u')
		return c && strchr("\"\\/bfnrt", c);
	if (s->end - s->at < 4)
		return false;
	for (int i = 0; i < 4; i++)
		if (!is_hex(*s->at++))
			return false;
	return true;
}

static bool take_string(struct scanner *s)
{
	if (!take(s, '"'))
		return false;
	while (s->at < s->end && *s->at != '"') {
		if (*s->at == '\\') {
			s->at++;
			if (!take_escape(s))
				return false;
			continue;
		}
		size_t n = *s->at < 0x20 ? 0 : utf8_length(s->at, (size_t)(s->end - s->at));
		if (n == 0)
			return false;
		s->at += n;
	}
	return take(s, '"');
}

static bool take_digits(struct scanner *s)
{
	const unsigned char *first = s->at;
	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return s->at > first;
}

static bool take_number(struct scanner *s)
{
	take(s, '-');
	if (!take(s, '0') && !take_digits(s))
		return false;
	if (take(s, '.') && !take_digits(s))
		return false;
	if (take(s, 'e') || take(s, 'E')) {
		if (!take(s, '+'))
			take(s, '-');
		return take_digits(s);
	}
	return true;
}

static bool take_word(struct scanner *s, const char *word)
{
	size_t n = strlen(word);
	if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
		return false;
	s->at += n;
	return true;
}

static bool take_scalar(struct scanner *s)
{
	if (s->at == s->end)
		return false;
	switch (*s->at) {
	case '"':
		return take_string(s);
	case 't':
		return take_word(s, "true");
	case 'f':
		return take_word(s, "false");
	case 'n':
		return take_word(s, "null");
	default:
		return take_number(s);
	}
}

static bool in_object(const struct scanner *s)
{
	return s->kinds[(s->depth - 1) / 8] >> ((s->depth - 1) % 8) & 1;
}

static bool push(struct scanner *s, bool object)
{
	if (s->depth == DEPTH_MAX)
		return false;
	unsigned char bit = (unsigned char)(1u << (s->depth % 8));
	unsigned char *kinds = &s->kinds[s->depth / 8];
	*kinds = (unsigned char)(object ? *kinds | bit : *kinds & ~bit);
	s->depth++;
	return true;
}

static bool take_name(struct scanner *s)
{
	skip_blanks(s);
	if (!take_string(s))
		return false;
	skip_blanks(s);
	return take(s, ':');
}

/* Brackets that close behind a value, then the comma before the next one. True with *done at the text's end. */
static bool after_value(struct scanner *s, bool *done)
{
	for (;;) {
		skip_blanks(s);
		if (s->depth == 0) {
			*done = true;
			return s->at == s->end;
		}
		if (take(s, ','))
			return !in_object(s) || take_name(s);
		if (!take(s, in_object(s) ? '}' : ']'))
			return false;
		s->depth--;
	}
}

bool is_json(const char *text, size_t len)
{
	struct scanner s = { .at = (const unsigned char *)text, .end = (const unsigned char *)text + len };
	bool done = false;
	while (!done) {
		skip_blanks(&s);
		bool closed = true; /* a whole value was taken; else a bracket was opened and its first value follows */
		if (take(&s, '{')) {
			skip_blanks(&s);
			if (!take(&s, '}')) {
				if (!push(&s, true) || !take_name(&s))
					return false;
				closed = false;
			}
		} else if (take(&s, '[')) {
			skip_blanks(&s);
			if (!take(&s, ']')) {
				if (!push(&s, false))
					return false;
				closed = false;
			}
		} else if (!take_scalar(&s)) {
			return false;
		}
		if (closed && !after_value(&s, &done))
			return false;
	}
	return true;
}

#include "naive.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <math.h>
#include <regex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_TEXT NAIVE_TEXT_MAX
#define MAX_EXPANDED (10 * MAX_TEXT) /* a pattern of 1024 bytes has at most 8 variables */
/* In expanded text: wildcards that were written as such. Neither byte occurs in UTF-8. */
#define RUN '\xff'
#define ONE '\xfe'

static size_t character(const char *s)
{
	size_t n = 1;
	while (((unsigned char)s[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* rest[i]: does the pattern from where we are in it, coming from its end, match the text from i on? */
static bool glob(const char *p, const char *s)
{
	size_t len = strlen(s);
	bool *rest = calloc(len + 1, sizeof *rest);
	rest[len] = true;
	for (size_t k = strlen(p); k-- > 0;) {
		if (p[k] == RUN)
			for (size_t i = len; i-- > 0;)
				rest[i] = rest[i] || rest[i + 1];
		else
			for (size_t i = 0; i <= len; i++)
				rest[i] = i < len &&
					  (p[k] == ONE ? rest[i + character(s + i)] : p[k] == s[i] && rest[i + 1]);
	}
	bool is = rest[0];
	free(rest);
	return is;
}

static const json_t *lookup(const struct policy_request *q, const char *key)
{
	if (strcmp(key, "tunnel:Group") == 0)
		return q->groups;
	return json_object_get(q->context, key);
}

/* The scalar as text; false for what is none. */
static bool to_text(const json_t *v, char *out)
{
	if (json_is_string(v))
		snprintf(out, MAX_TEXT, "%s", json_string_value(v));
	else if (json_is_integer(v))
		snprintf(out, MAX_TEXT, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_real(v))
		snprintf(out, MAX_TEXT, "%.17g", json_real_value(v));
	else if (json_is_boolean(v))
		snprintf(out, MAX_TEXT, "%s", json_is_true(v) ? "true" : "false");
	else
		return false;
	return true;
}

static bool value_of(const struct policy_request *q, const char *key, char *out)
{
	if (strcmp(key, "tunnel:Subject") == 0) {
		snprintf(out, MAX_TEXT, "%s", q->subject);
		return true;
	}
	return to_text(lookup(q, key), out);
}

/* What stands between "${" at *p and its "}", which *p is left behind. */
static bool variable(const struct policy_request *q, const char **p, char *out)
{
	char key[MAX_TEXT];
	size_t len = strcspn(*p, ",}");
	snprintf(key, sizeof key, "%.*s", (int)len, *p);
	for (char *end = key + strlen(key); end > key && end[-1] == ' ';)
		*--end = '\0';
	*p += len;
	const char *fallback = **p == ',' ? strchr(*p, '\'') + 1 : NULL;
	size_t fallback_len = fallback ? strcspn(fallback, "'") : 0;
	*p = strchr(fallback ? fallback + fallback_len : *p, '}') + 1;
	bool is_sign = !fallback && strlen(key) == 1 && strchr("*?$", key[0]);
	if (is_sign)
		snprintf(out, MAX_TEXT, "%s", key);
	else if (value_of(q, key, out))
		return true;
	else if (fallback)
		snprintf(out, MAX_TEXT, "%.*s", (int)fallback_len, fallback);
	return is_sign || fallback;
}

static bool expand(const struct policy_request *q, const char *p, bool like, char *out)
{
	while (*p) {
		if (p[0] == '$' && p[1] == '{') {
			p += 2;
			if (!variable(q, &p, out))
				return false;
			out += strlen(out);
			continue;
		}
		*out++ = like && *p == '*' ? RUN : like && *p == '?' ? ONE : *p;
		p++;
	}
	*out = '\0';
	return true;
}

enum answer { NO, YES, UNSET };

static enum answer string_matches(const struct policy_request *q, const char *op, const json_t *value,
				  const json_t *operand)
{
	char text[MAX_TEXT], raw[MAX_TEXT], pattern[MAX_EXPANDED];
	bool like = strstr(op, "Like") != NULL;
	if (!to_text(value, text))
		return NO;
	to_text(operand, raw);
	if (!expand(q, raw, like, pattern))
		return UNSET;
	if (strstr(op, "IgnoreCase"))
		return strcasecmp(pattern, text) == 0 ? YES : NO;
	return (like ? glob(pattern, text) : strcmp(pattern, text) == 0) ? YES : NO;
}

struct form {
	const char *pattern;
	bool ready;
	regex_t compiled;
};

static bool has_form(const char *text, struct form *form)
{
	if (!form->ready && regcomp(&form->compiled, form->pattern, REG_EXTENDED | REG_NOSUB) != 0)
		abort();
	form->ready = true;
	return text && regexec(&form->compiled, text, 0, NULL, 0) == 0;
}

static struct form a_number = { .pattern = "^-?[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]+)?$" },
		   an_integer = { .pattern = "^-?[0-9]+$" },
		   a_date = { .pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?"
					 "([Zz]|[-+][0-9]{2}:[0-9]{2})$" };

struct number {
	bool whole; /* i says it exactly */
	int64_t i;
	double r;
};

static bool to_number(const json_t *v, struct number *out)
{
	char text[MAX_TEXT], again[32];
	if (json_is_boolean(v) || !to_text(v, text) || !has_form(text, &a_number))
		return false;
	out->r = strtod(text, NULL);
	out->i = has_form(text, &an_integer) ? strtoll(text, NULL, 10) : 0;
	snprintf(again, sizeof again, "%" PRId64, out->i);
	/* Beyond 64 bits strtoll gives the last that there is. */
	const char *digits = text + (*text == '-');
	while (digits[0] == '0' && digits[1])
		digits++;
	out->whole = !json_is_real(v) && has_form(text, &an_integer) &&
		     (strcmp(digits, again + (*again == '-')) == 0 || strcmp(digits, "0") == 0);
	return isfinite(out->r);
}

static int order(const struct number *a, const struct number *b)
{
	if (a->whole && b->whole)
		return a->i < b->i ? -1 : a->i > b->i;
	return a->r < b->r ? -1 : a->r > b->r;
}

/* Days of the months before, of a year that is none of 366 days. */
static int64_t days_since_1970(int64_t y, int m, int d)
{
	static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	int64_t days = 0;
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	for (int64_t i = y < 1970 ? y : 1970; i < (y < 1970 ? 1970 : y); i++)
		days += (i % 4 == 0 && i % 100 != 0) || i % 400 == 0 ? 366 : 365;
	return (y < 1970 ? -days : days) + before[m - 1] + (leap && m > 2) + d - 1;
}

static bool is_day(int y, int m, int d)
{
	static const int of_month[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	return m >= 1 && m <= 12 && d >= 1 && d <= of_month[m - 1] + (leap && m == 2);
}

/* RFC 3339, in milliseconds. */
static bool to_ms(const char *s, int64_t *out)
{
	int y, m, d, h, min, sec, zone_h = 0, zone_min = 0, at = 0;
	if (!has_form(s, &a_date))
		return false;
	sscanf(s, "%d-%d-%dT%d:%d:%d%n", &y, &m, &d, &h, &min, &sec, &at);
	double fraction = s[at] == '.' ? strtod(s + at, NULL) : 0;
	const char *zone = strpbrk(s + at, "+-");
	if (zone)
		sscanf(zone + 1, "%d:%d", &zone_h, &zone_min);
	if (!is_day(y, m, d) || h > 23 || min > 59 || sec > 60 || zone_h > 23 || zone_min > 59)
		return false;
	int64_t offset = (zone && *zone == '-' ? -60 : 60) * (zone_h * 60 + zone_min);
	*out = (days_since_1970(y, m, d) * 86400 + h * 3600 + min * 60 + sec - offset) * 1000 +
	       (int64_t)floor(fraction * 1000 + 1e-9);
	return true;
}

static bool to_date(const json_t *v, struct number *out)
{
	struct number n;
	out->whole = true;
	if (!to_number(v, &n))
		return to_ms(json_string_value(v), &out->i);
	if (n.r < -62135596800.0 || n.r > 253402300799.0) /* years 1 to 9999 */
		return false;
	out->i = n.whole ? n.i * 1000 : (int64_t)(n.r * 1000.0);
	return true;
}

static bool compares(const char *op, int sign)
{
	if (strstr(op, "LessThanEquals"))
		return sign <= 0;
	if (strstr(op, "LessThan"))
		return sign < 0;
	if (strstr(op, "GreaterThanEquals"))
		return sign >= 0;
	if (strstr(op, "GreaterThan"))
		return sign > 0;
	return sign == 0;
}

/* As IPv6, where IPv4 addresses are ::ffff:0:0/96. A zone ("%eth0") says nothing. *bits grows with it. */
static bool to_address(const char *s, char separator, struct in6_addr *out, unsigned *bits)
{
	char text[MAX_TEXT], mapped[MAX_TEXT + 8];
	struct in_addr v4;
	snprintf(text, sizeof text, "%s", s ? s : "");
	text[strcspn(text, (char[]){ separator, 0 })] = '\0';
	if (inet_pton(AF_INET, text, &v4) != 1)
		return inet_pton(AF_INET6, text, out) == 1;
	*bits += 96;
	snprintf(mapped, sizeof mapped, "::ffff:%s", text);
	return inet_pton(AF_INET6, mapped, out) == 1;
}

static bool in_net(const json_t *value, const json_t *operand)
{
	struct in6_addr a, net;
	unsigned bits = 0, unused = 0;
	const char *written = json_string_value(operand), *slash = strchr(written, '/');
	if (!to_address(json_string_value(value), '%', &a, &unused) || !to_address(written, '/', &net, &bits))
		return false;
	bits = slash ? bits + (unsigned)atoi(slash + 1) : 128;
	if (IN6_IS_ADDR_V4MAPPED(&a) != IN6_IS_ADDR_V4MAPPED(&net))
		return false;
	for (unsigned i = 0; i < bits; i++)
		if ((a.s6_addr[i / 8] ^ net.s6_addr[i / 8]) >> (7 - i % 8) & 1)
			return false;
	return true;
}

static enum answer one_matches(const struct policy_request *q, const char *op, const json_t *value,
			       const json_t *operand)
{
	struct number a, b;
	char x[MAX_TEXT], y[MAX_TEXT];
	if (strstr(op, "String"))
		return string_matches(q, op, value, operand);
	if (strstr(op, "Numeric"))
		return to_number(value, &a) && to_number(operand, &b) && compares(op, order(&a, &b)) ? YES : NO;
	if (strstr(op, "Date"))
		return to_date(value, &a) && to_date(operand, &b) && compares(op, order(&a, &b)) ? YES : NO;
	if (strstr(op, "IpAddress"))
		return in_net(value, operand) ? YES : NO;
	/* Bool */
	return to_text(value, x) && to_text(operand, y) && strcmp(x, y) == 0 ? YES : NO;
}

/* Arrays and lone values alike. */
static size_t count(const json_t *list)
{
	return json_is_array(list) ? json_array_size(list) : 1;
}
static const json_t *item(const json_t *list, size_t i)
{
	return json_is_array(list) ? json_array_get(list, i) : list;
}

static bool passes(const struct policy_request *q, bool deny, const char *op, bool inverted, const json_t *value,
		   const json_t *operands)
{
	bool any = false, unset = false;
	for (size_t i = 0; i < count(operands); i++) {
		enum answer a = one_matches(q, op, value, item(operands, i));
		any |= a == YES;
		unset |= a == UNSET;
	}
	if (!inverted)
		return any;
	return !any && (!unset || deny);
}

/* Is one of them that truth? */
static bool asks_for(const json_t *operands, bool truth)
{
	char text[MAX_TEXT];
	bool any = false;
	for (size_t i = 0; i < count(operands); i++)
		any |= to_text(item(operands, i), text) && strcmp(text, truth ? "true" : "false") == 0;
	return any;
}

static bool condition_holds(const struct policy_request *q, bool deny, const char *op, const char *key,
			    const json_t *operands)
{
	json_t *subject = json_string(q->subject);
	const json_t *values = strcmp(key, "tunnel:Subject") == 0 ? subject : lookup(q, key);
	bool missing = !values || json_is_null(values) || (json_is_array(values) && json_array_size(values) == 0);
	bool inverted = strstr(op, "Not") != NULL, if_exists = strstr(op, "IfExists") != NULL;
	bool for_any = strstr(op, "ForAnyValue:") != NULL, for_all = strstr(op, "ForAllValues:") != NULL;
	bool holds;
	size_t passed = 0, n = missing ? 0 : count(values);
	for (size_t i = 0; i < n; i++)
		passed += passes(q, deny, op, inverted, item(values, i), operands);
	if (strcmp(op, "Null") == 0)
		holds = asks_for(operands, missing);
	else if (missing)
		holds = if_exists || for_all || (inverted && !for_any);
	else if (for_any || (!for_all && !inverted))
		holds = passed > 0;
	else
		holds = passed == n;
	json_decref(subject);
	return holds;
}

static bool conditions_hold(const struct policy_request *q, bool deny, json_t *conditions)
{
	const char *op, *key;
	json_t *block, *operands;
	bool all = true;
	json_object_foreach(conditions, op, block)
	{
		json_object_foreach(block, key, operands)
		{
			all = all && condition_holds(q, deny, op, key, operands);
		}
	}
	return all;
}

static bool has(const json_t *list, const char *name)
{
	for (size_t i = 0; list && i < count(list); i++) {
		const char *s = json_string_value(item(list, i));
		if (s && (strcmp(s, name) == 0 || strcmp(s, "*") == 0))
			return true;
	}
	return false;
}

static bool is_principal(const struct policy_request *q, const json_t *principal)
{
	if (json_is_string(principal) || has(json_object_get(principal, "User"), q->subject))
		return true;
	bool in = false;
	for (size_t i = 0; i < json_array_size(q->groups); i++)
		if (json_is_string(json_array_get(q->groups, i)))
			in |= has(json_object_get(principal, "Group"), json_string_value(json_array_get(q->groups, i)));
	return in;
}

static enum answer list_matches(const struct policy_request *q, const json_t *list, const char *text)
{
	enum answer found = NO;
	for (size_t i = 0; i < count(list); i++) {
		char pattern[MAX_EXPANDED];
		if (!expand(q, json_string_value(item(list, i)), true, pattern))
			found = found == YES ? YES : UNSET;
		else if (glob(pattern, text))
			found = YES;
	}
	return found;
}

static bool applies(const struct policy_request *q, json_t *s)
{
	bool deny = strcmp(json_string_value(json_object_get(s, "Effect")), "Deny") == 0;
	const json_t *v;
	if ((v = json_object_get(s, "Principal")) && !is_principal(q, v))
		return false;
	if ((v = json_object_get(s, "NotPrincipal")) && is_principal(q, v))
		return false;
	if ((v = json_object_get(s, "Action")) && list_matches(q, v, q->action) != YES)
		return false;
	if ((v = json_object_get(s, "NotAction")) && list_matches(q, v, q->action) != NO)
		return false;
	if ((v = json_object_get(s, "Resource")) && list_matches(q, v, q->resource) != YES)
		return false;
	if ((v = json_object_get(s, "NotResource"))) {
		enum answer a = list_matches(q, v, q->resource);
		if (a == YES || (a == UNSET && !deny))
			return false;
	}
	return conditions_hold(q, deny, json_object_get(s, "Condition"));
}

enum policy_effect naive_judge(const json_t *documents, const struct policy_request *q)
{
	enum policy_effect found = POLICY_NO_MATCH;
	for (size_t i = 0; i < json_array_size(documents); i++) {
		const json_t *statements = json_object_get(json_array_get(documents, i), "Statement");
		for (size_t k = 0; k < count(statements); k++) {
			json_t *s = json_is_array(statements) ? json_array_get(statements, k)
							      : (json_t *)(uintptr_t)statements;
			if (!applies(q, s))
				continue;
			if (strcmp(json_string_value(json_object_get(s, "Effect")), "Deny") == 0)
				return POLICY_DENY;
			found = POLICY_ALLOW;
		}
	}
	return found;
}

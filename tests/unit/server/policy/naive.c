#include "naive.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_TEXT 512
/* In expanded text: wildcards that were written as such. Neither byte occurs in UTF-8. */
#define RUN '\xff'
#define ONE '\xfe'

static bool glob(const char *p, const char *s)
{
	if (*p == '\0')
		return *s == '\0';
	if (*p == RUN)
		return glob(p + 1, s) || (*s && glob(p, s + 1));
	return *s && (*p == ONE || *p == *s) && glob(p + 1, s + 1);
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
	else if (json_is_boolean(v))
		snprintf(out, MAX_TEXT, "%s", json_is_true(v) ? "true" : "false");
	else
		return false;
	return true;
}

static bool variable(const struct policy_request *q, const char *inside, char *out)
{
	char key[MAX_TEXT], fallback[MAX_TEXT];
	bool has_fallback = sscanf(inside, "%[^,], '%[^']'", key, fallback) == 2;
	if (strcmp(key, "*") == 0 || strcmp(key, "?") == 0 || strcmp(key, "$") == 0) {
		snprintf(out, MAX_TEXT, "%s", key);
		return true;
	}
	if (strcmp(key, "tunnel:Subject") == 0) {
		snprintf(out, MAX_TEXT, "%s", q->subject);
		return true;
	}
	if (to_text(lookup(q, key), out))
		return true;
	if (has_fallback)
		snprintf(out, MAX_TEXT, "%s", fallback);
	return has_fallback;
}

static bool expand(const struct policy_request *q, const char *p, bool like, char *out)
{
	while (*p) {
		if (p[0] == '$' && p[1] == '{') {
			char inside[MAX_TEXT];
			const char *end = strchr(p, '}');
			snprintf(inside, sizeof inside, "%.*s", (int)(end - p - 2), p + 2);
			if (!variable(q, inside, out))
				return false;
			out += strlen(out);
			p = end + 1;
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
	char text[MAX_TEXT], raw[MAX_TEXT], pattern[MAX_TEXT * 4];
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

static bool to_number(const json_t *v, double *out)
{
	if (json_is_integer(v)) {
		*out = (double)json_integer_value(v);
		return true;
	}
	char *end;
	const char *s = json_string_value(v);
	if (!s || !*s)
		return false;
	*out = strtod(s, &end);
	return *end == '\0';
}

static bool to_seconds(const json_t *v, double *out)
{
	struct tm tm = { 0 };
	const char *s = json_string_value(v);
	const char *end = s ? strptime(s, "%Y-%m-%dT%H:%M:%SZ", &tm) : NULL;
	if (end && !*end) {
		*out = (double)timegm(&tm);
		return true;
	}
	return to_number(v, out);
}

static bool compares(const char *op, double a, double b)
{
	if (strstr(op, "LessThanEquals"))
		return a <= b;
	if (strstr(op, "LessThan"))
		return a < b;
	if (strstr(op, "GreaterThanEquals"))
		return a >= b;
	if (strstr(op, "GreaterThan"))
		return a > b;
	return a == b;
}

static bool in_net(const json_t *value, const json_t *operand)
{
	struct in_addr a, net;
	char text[64];
	unsigned bits = 32;
	const char *s = json_string_value(value);
	if (!s || inet_pton(AF_INET, s, &a) != 1)
		return false;
	sscanf(json_string_value(operand), "%63[^/]/%u", text, &bits);
	inet_pton(AF_INET, text, &net);
	uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
	return (ntohl(a.s_addr) & mask) == (ntohl(net.s_addr) & mask);
}

static enum answer one_matches(const struct policy_request *q, const char *op, const json_t *value,
			       const json_t *operand)
{
	double a, b;
	char x[MAX_TEXT], y[MAX_TEXT];
	if (strstr(op, "String"))
		return string_matches(q, op, value, operand);
	if (strstr(op, "Numeric"))
		return to_number(value, &a) && to_number(operand, &b) && compares(op, a, b) ? YES : NO;
	if (strstr(op, "Date"))
		return to_seconds(value, &a) && to_seconds(operand, &b) && compares(op, a, b) ? YES : NO;
	if (strstr(op, "IpAddress"))
		return in_net(value, operand) ? YES : NO;
	/* Bool */
	if (json_is_integer(value))
		return NO;
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
		holds = json_is_true(operands) == missing;
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
		in |= has(json_object_get(principal, "Group"), json_string_value(json_array_get(q->groups, i)));
	return in;
}

static enum answer list_matches(const struct policy_request *q, const json_t *list, const char *text)
{
	enum answer found = NO;
	for (size_t i = 0; i < count(list); i++) {
		char pattern[MAX_TEXT * 4];
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
		for (size_t k = 0; k < json_array_size(statements); k++) {
			json_t *s = json_array_get(statements, k);
			if (!applies(q, s))
				continue;
			if (strcmp(json_string_value(json_object_get(s, "Effect")), "Deny") == 0)
				return POLICY_DENY;
			found = POLICY_ALLOW;
		}
	}
	return found;
}

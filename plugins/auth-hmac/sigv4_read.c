/* Reads what the request says of its own signature, from the Authorization header or from the query (a presigned
 * URL), into one struct, and judges everything that needs no secret. */
#include "sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char algorithm[] = "AWS4-HMAC-SHA256";

/* The header's value when it is there once; *out_count how often. */
static const char *header_of(const struct tunnel_auth_request *r, const char *name, size_t *out_count)
{
	const char *value = NULL;
	*out_count = 0;
	for (size_t i = 0; i < r->header_count; i++)
		if (strcmp(r->headers[i].name, name) == 0) {
			++*out_count;
			value = r->headers[i].value;
		}
	return value;
}

static int read_signature(const char *text, size_t n, struct sigv4 *out, char *err, size_t err_len)
{
	for (size_t i = 0; i < 64; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *digit = n == 64 && text[i] ? strchr(digits, text[i]) : NULL;
		if (!digit)
			return say(TUNNEL_DENIED, err, err_len, "Signature: expected 64 hex digits in lower case");
		unsigned high = i % 2 ? (unsigned)out->signature[i / 2] : 0u;
		out->signature[i / 2] = (unsigned char)(high << 4 | (unsigned)(digit - digits));
	}
	return 0;
}

/* "KEYID/20150830/region/service/aws4_request" */
static int read_credential(const char *text, size_t n, struct sigv4 *out, char *err, size_t err_len)
{
	const char *slash = memchr(text, '/', n);
	size_t id = slash ? (size_t)(slash - text) : 0, slashes = 0;
	for (size_t i = 0; i < n; i++)
		slashes += text[i] == '/';
	if (!slash || slashes != 4 || !key_id_is_valid(text, id) || n - id - 1 >= sizeof out->scope)
		return say(TUNNEL_DENIED, err, err_len,
			   "Credential: expected <key id>/<yyyymmdd>/<region>/<service>/aws4_request");
	snprintf(out->key_id, sizeof out->key_id, "%.*s", (int)id, text);
	snprintf(out->scope, sizeof out->scope, "%.*s", (int)(n - id - 1), slash + 1);
	return 0;
}

/* Names in lower case, sorted, each once, so that there is one way to read the list. */
static int read_signed_headers(const char *text, size_t n, struct sigv4 *out, char *err, size_t err_len)
{
	char before[128] = "", name[128];
	int bad = n == 0 || n >= sizeof out->signed_headers;
	for (size_t i = 0; !bad && i <= n;) {
		size_t len = 0;
		while (i + len < n && text[i + len] != ';')
			len++;
		bad = len == 0 || len >= sizeof name;
		if (bad)
			break;
		snprintf(name, sizeof name, "%.*s", (int)len, text + i);
		for (size_t k = 0; k < len; k++)
			bad |= !((name[k] >= 'a' && name[k] <= 'z') || (name[k] >= '0' && name[k] <= '9') ||
				 strchr("-_.!#$%&'*+^`|~", name[k]));
		bad |= strcmp(before, name) >= 0;
		memcpy(before, name, sizeof before);
		i += len + 1;
	}
	if (bad)
		return say(TUNNEL_DENIED, err, err_len,
			   "SignedHeaders: expected header names in lower case, sorted, with \";\" between them");
	snprintf(out->signed_headers, sizeof out->signed_headers, "%.*s", (int)n, text);
	return 0;
}

static int is_signed(const struct sigv4 *s, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = s->signed_headers; *p;) {
		size_t len = strcspn(p, ";");
		if (len == n && memcmp(p, name, n) == 0)
			return 1;
		p += len + (p[len] == ';');
	}
	return 0;
}

static int digits(const char *text, size_t n)
{
	int value = 0;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

/* Checks the parts and makes both forms of the time. */
static int take_time(int year, int month, int day, int hour, int minute, int second, struct sigv4 *out)
{
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 ||
	    minute > 59 || second < 0 || second > 59)
		return -1;
	struct tm tm = { .tm_year = year - 1900,
			 .tm_mon = month - 1,
			 .tm_mday = day,
			 .tm_hour = hour,
			 .tm_min = minute,
			 .tm_sec = second };
	time_t t = timegm(&tm);
	if (t < 0 || tm.tm_mday != day) /* 31 February */
		return -1;
	out->time_ms = (int64_t)t * 1000;
	return strftime(out->timestamp, sizeof out->timestamp, "%Y%m%dT%H%M%SZ", &tm) == 16 ? 0 : -1;
}

/* "20150830T123600Z" */
static int read_iso(const char *t, struct sigv4 *out)
{
	if (strlen(t) != 16 || t[8] != 'T' || t[15] != 'Z')
		return -1;
	return take_time(digits(t, 4), digits(t + 4, 2), digits(t + 6, 2), digits(t + 9, 2), digits(t + 11, 2),
			 digits(t + 13, 2), out);
}

/* "Sun, 30 Aug 2015 12:36:00 GMT" */
static int read_http_date(const char *t, struct sigv4 *out)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char month[4] = "";
	if (strlen(t) != 29 || memcmp(t + 3, ", ", 2) != 0 || t[7] != ' ' || t[11] != ' ' || t[16] != ' ' ||
	    t[19] != ':' || t[22] != ':' || strcmp(t + 25, " GMT") != 0)
		return -1;
	memcpy(month, t + 8, 3);
	const char *found = strstr(months, month);
	if (!found || (found - months) % 3)
		return -1;
	return take_time(digits(t + 12, 4), (int)(found - months) / 3 + 1, digits(t + 5, 2), digits(t + 17, 2),
			 digits(t + 20, 2), digits(t + 23, 2), out);
}

/* x-amz-date, or date where there is none; either must be signed. */
static int read_date_header(const struct tunnel_auth_request *r, struct sigv4 *out, char *err, size_t err_len)
{
	size_t count = 0;
	const char *name = "x-amz-date";
	const char *value = header_of(r, name, &count);
	if (count == 0) {
		name = "date";
		value = header_of(r, name, &count);
	}
	if (count != 1)
		return say(TUNNEL_DENIED, err, err_len, "expected one x-amz-date or date header, found %zu", count);
	if (!is_signed(out, name))
		return say(TUNNEL_DENIED, err, err_len, "the header %s must be signed", name);
	if (read_iso(value, out) == 0 || (strcmp(name, "date") == 0 && read_http_date(value, out) == 0))
		return 0;
	return say(TUNNEL_DENIED, err, err_len, "%s: expected a time like 20150830T123600Z", name);
}

static int read_header_field(const char *field, size_t n, unsigned *seen, struct sigv4 *out, char *err, size_t err_len)
{
	static const char *const names[] = { "Credential=", "SignedHeaders=", "Signature=" };
	static int (*const readers[])(const char *, size_t, struct sigv4 *, char *,
				      size_t) = { read_credential, read_signed_headers, read_signature };
	for (unsigned i = 0; i < 3; i++) {
		size_t len = strlen(names[i]);
		if (n < len || memcmp(field, names[i], len) != 0 || (*seen & 1u << i))
			continue;
		*seen |= 1u << i;
		return readers[i](field + len, n - len, out, err, err_len);
	}
	return say(TUNNEL_DENIED, err, err_len,
		   "Authorization: expected Credential, SignedHeaders, Signature, each once");
}

static int read_authorization(const struct tunnel_auth_request *r, const char *value, struct sigv4 *out, char *err,
			      size_t err_len)
{
	unsigned seen = 0;
	int rc = 0;
	for (const char *p = value + strcspn(value, " "); rc == 0 && *p;) {
		p += strspn(p, " ");
		size_t n = strcspn(p, ","), used = n;
		while (used && p[used - 1] == ' ')
			used--;
		rc = read_header_field(p, used, &seen, out, err, err_len);
		p += n + (p[n] == ',');
	}
	if (rc == 0 && seen != 7u)
		rc = say(TUNNEL_DENIED, err, err_len,
			 "Authorization: expected Credential, SignedHeaders, Signature, each once");
	return rc ? rc : read_date_header(r, out, err, err_len);
}

static const char *param_of(const struct params *params, const char *name, size_t *out_count)
{
	const char *value = NULL;
	for (size_t i = 0; i < params->n; i++)
		if (strcmp(params->at[i].name, name) == 0) {
			++*out_count;
			value = params->at[i].value;
		}
	return value;
}

static int read_presigned(const struct params *params, struct sigv4 *out, char *err, size_t err_len)
{
	static const char *const names[] = { "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders",
					     "X-Amz-Signature", "X-Amz-Date",       "X-Amz-Expires" };
	const char *v[6];
	for (size_t i = 0; i < 6; i++) {
		size_t count = 0;
		v[i] = param_of(params, names[i], &count);
		if (count != 1)
			return say(TUNNEL_DENIED, err, err_len,
				   "expected the query parameter %s once, found it %zu times", names[i], count);
	}
	out->presigned = 1;
	if (strcmp(v[0], algorithm) != 0)
		return say(TUNNEL_DENIED, err, err_len, "X-Amz-Algorithm: allowed: %s", algorithm);
	int rc = read_credential(v[1], strlen(v[1]), out, err, err_len);
	if (rc == 0)
		rc = read_signed_headers(v[2], strlen(v[2]), out, err, err_len);
	if (rc == 0)
		rc = read_signature(v[3], strlen(v[3]), out, err, err_len);
	if (rc != 0)
		return rc;
	int expires = strlen(v[5]) <= 6 && v[5][0] ? digits(v[5], strlen(v[5])) : -1;
	if (read_iso(v[4], out) != 0)
		return say(TUNNEL_DENIED, err, err_len, "X-Amz-Date: expected a time like 20150830T123600Z");
	if (expires < 1 || expires > SIGV4_EXPIRES_MAX_S)
		return say(TUNNEL_DENIED, err, err_len, "X-Amz-Expires: allowed: 1 to %d seconds", SIGV4_EXPIRES_MAX_S);
	out->expires_ms = out->time_ms + (int64_t)expires * 1000;
	return 0;
}

/* Which form does the request carry, if any? */
static int read_claim(const struct tunnel_auth_request *r, const struct params *params, struct sigv4 *out, char *err,
		      size_t err_len)
{
	size_t count = 0, in_query = 0;
	const char *value = NULL;
	for (size_t i = 0; i < r->header_count; i++) {
		if (strcmp(r->headers[i].name, "authorization") != 0)
			continue;
		count++;
		if (strncasecmp(r->headers[i].value, "AWS4-", 5) == 0)
			value = r->headers[i].value;
	}
	param_of(params, "X-Amz-Signature", &in_query);
	param_of(params, "X-Amz-Algorithm", &in_query);
	if (!value && !in_query)
		return say(TUNNEL_NOT_MINE, err, err_len, "no AWS4-HMAC-SHA256 signature");
	if (value && in_query)
		return say(TUNNEL_DENIED, err, err_len, "signed twice: in the Authorization header and in the query");
	if (in_query)
		return count ? say(TUNNEL_NOT_MINE, err, err_len, "carries another credential")
			     : read_presigned(params, out, err, err_len);
	if (count > 1)
		return say(TUNNEL_DENIED, err, err_len, "more than one Authorization header");
	if (strncmp(value, algorithm, sizeof algorithm - 1) != 0 || value[sizeof algorithm - 1] != ' ')
		return say(TUNNEL_DENIED, err, err_len, "Authorization: of the AWS4 schemes, %s is allowed", algorithm);
	return read_authorization(r, value, out, err, err_len);
}

static int judge_scope(const struct sigv4 *s, const struct sigv4_rules *rules, char *err, size_t err_len)
{
	char expected[sizeof s->scope], a[SHOWN_MAX];
	snprintf(expected, sizeof expected, "%.8s/%s/%s/aws4_request", s->timestamp, rules->region, rules->service);
	if (strcmp(expected, s->scope) == 0)
		return 0;
	return say(TUNNEL_DENIED, err, err_len, "signed for the scope \"%s\"; expected \"%s\"", shown(s->scope, a),
		   expected);
}

static int judge_time(const struct sigv4 *s, const struct sigv4_rules *rules, int64_t now_ms, char *err, size_t err_len)
{
	long long window = rules->clock_window_ms / 1000;
	if (s->time_ms > now_ms + rules->clock_window_ms)
		return say(TUNNEL_DENIED, err, err_len,
			   "signed %lld s in the future; allowed: %lld s (check the clocks)",
			   (long long)(s->time_ms - now_ms) / 1000, window);
	if (s->presigned && s->expires_ms - s->time_ms > rules->presigned_max_ms)
		return say(TUNNEL_DENIED, err, err_len,
			   "X-Amz-Expires is %lld; this server allows up to %lld s (presigned_max)",
			   (long long)(s->expires_ms - s->time_ms) / 1000, (long long)rules->presigned_max_ms / 1000);
	if (s->presigned && now_ms >= s->expires_ms)
		return say(TUNNEL_DENIED, err, err_len, "presigned URL expired %lld s ago",
			   (long long)(now_ms - s->expires_ms) / 1000);
	if (!s->presigned && s->time_ms < now_ms - rules->clock_window_ms)
		return say(TUNNEL_DENIED, err, err_len, "signed %lld s ago; allowed: %lld s (check the clocks)",
			   (long long)(now_ms - s->time_ms) / 1000, window);
	return 0;
}

int sigv4_read(const struct tunnel_auth_request *request, const struct sigv4_rules *rules, int64_t now_ms,
	       struct sigv4 *out, char *err, size_t err_len)
{
	struct sigv4 s = { 0 };
	struct params *params = malloc(sizeof *params);
	if (!params)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	params->n = 0;
	/* A query that cannot be read carries nothing of ours; with a signed header canonical_make says what is wrong.
	 */
	(void)params_read(request->query, params, NULL, 0);
	int rc = read_claim(request, params, &s, err, err_len);
	params_free(params);
	free(params);
	if (rc == 0 && !is_signed(&s, "host"))
		rc = say(TUNNEL_DENIED, err, err_len, "the header host must be signed");
	if (rc == 0)
		rc = judge_scope(&s, rules, err, err_len);
	if (rc == 0)
		rc = judge_time(&s, rules, now_ms, err, err_len);
	if (rc == 0)
		*out = s;
	return rc;
}

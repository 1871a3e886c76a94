/* Reads the whole head of a request out of libwebsockets, which keeps it only until the callback that announces it
 * returns, and decodes path and query: they are encoded again for whoever signs them. */
#include "server/conn_head.h"

#include "base/limits.h"

#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	enum lws_token_indexes token;
	const char *method;
} methods[] = { { WSI_TOKEN_GET_URI, "GET" },     { WSI_TOKEN_POST_URI, "POST" },
		{ WSI_TOKEN_PUT_URI, "PUT" },     { WSI_TOKEN_DELETE_URI, "DELETE" },
		{ WSI_TOKEN_PATCH_URI, "PATCH" }, { WSI_TOKEN_OPTIONS_URI, "OPTIONS" },
		{ WSI_TOKEN_HEAD_URI, "HEAD" } };

/* Copies into a block of known size; the block is big enough by construction (three bytes for each of the head). */
struct packer {
	char *at, *end;
	bool full;
};

static const char *pack(struct packer *p, const char *text, size_t len)
{
	if (p->full || (size_t)(p->end - p->at) < len + 1) {
		p->full = true;
		return "";
	}
	char *start = p->at;
	memcpy(start, text, len);
	start[len] = '\0';
	p->at += len + 1;
	return start;
}

/* Percent-encodes again what lws has decoded. safe: bytes that stay as they are beside letters, digits and "-._~". */
static void pack_encoded(struct packer *p, const char *text, size_t len, const char *safe)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < len; i++) {
		unsigned char ch = (unsigned char)text[i];
		bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
			     (ch && strchr("-._~", ch)) || (ch && strchr(safe, ch));
		if (p->end - p->at < 4) {
			p->full = true;
			return;
		}
		if (plain) {
			*p->at++ = (char)ch;
		} else {
			*p->at++ = '%';
			*p->at++ = hex[ch >> 4];
			*p->at++ = hex[ch & 15];
		}
	}
}

static const char *pack_query(struct packer *p, struct lws *wsi, char *scratch)
{
	char *start = p->at;
	for (int i = 0;; i++) {
		int n = lws_hdr_copy_fragment(wsi, scratch, CONN_HEAD_SPACE, WSI_TOKEN_HTTP_URI_ARGS, i);
		if (n < 0)
			break;
		if (i)
			pack_encoded(p, "&", 1, "&");
		/* The first "=" ends the name; later ones belong to the value and were encoded. */
		char *equals = memchr(scratch, '=', (size_t)n);
		size_t name = equals ? (size_t)(equals - scratch) + 1 : (size_t)n;
		pack_encoded(p, scratch, name, "=:@/?!$'()*,");
		pack_encoded(p, scratch + name, (size_t)n - name, ":@/?!$'()*,");
	}
	if (p->at == p->end)
		p->full = true;
	else
		*p->at++ = '\0';
	return p->full ? "" : start;
}

struct collect {
	struct lws *wsi;
	struct packer *p;
	struct http_head *head;
	size_t room;
	char *scratch;
};

static void collect_header(struct collect *k, const char *name, size_t name_len, const char *value, size_t len)
{
	k->head->size += name_len + len + 4;
	if (k->head->header_count == k->room) {
		k->head->header_count++; /* refused above for their number; the array is not touched */
		k->room = 0;
		return;
	}
	if (k->room == 0)
		return;
	while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	struct tunnel_header *h = &k->head->headers[k->head->header_count++];
	h->name = pack(k->p, name, name_len);
	h->value = pack(k->p, value, len);
}

static void collect_custom(const char *name, int nlen, void *opaque)
{
	struct collect *k = opaque;
	if (nlen < 2 || name[nlen - 1] != ':')
		return;
	int n = lws_hdr_custom_copy(k->wsi, k->scratch, CONN_HEAD_SPACE, name, nlen);
	if (n >= 0)
		collect_header(k, name, (size_t)nlen - 1, k->scratch, (size_t)n);
}

#ifndef HAVE_LWS_HDR_CUSTOM_NAME_FOREACH
/* lws before 4.2 keeps headers that it does not know but has no call to list them. They lie in the head's buffer behind
 * the URI, among the values of known headers, as: length of the name and of the value (16 bits each, big-endian), 32
 * bits, name with colon, value. What looks like one is taken for real only when lws itself finds a header of that name.
 * Each name is listed once. Eight zero bytes end the used space. */
static bool listed(const struct http_head *head, const char *name, size_t len)
{
	for (size_t i = 0; i < head->header_count; i++)
		if (strlen(head->headers[i].name) == len && memcmp(head->headers[i].name, name, len) == 0)
			return true;
	return false;
}

static void walk_custom(struct collect *k, const char *uri)
{
	/* The buffer has CONN_HEAD_SPACE bytes, and the URI begins within its first 64. */
	const unsigned char *at = (const unsigned char *)uri, *end = at + CONN_HEAD_SPACE - 64;
	static const unsigned char unused[8];
	while (end - at > 16 && memcmp(at, unused, sizeof unused) != 0) {
		size_t nlen = (size_t)at[0] << 8 | at[1], vlen = (size_t)at[2] << 8 | at[3];
		const char *name = (const char *)at + 8;
		if (nlen < 2 || nlen + vlen + 8 >= (size_t)(end - at) || name[nlen - 1] != ':' ||
		    memchr(name, '\0', nlen) || lws_hdr_custom_length(k->wsi, name, (int)nlen) < 0) {
			at++;
			continue;
		}
		if (k->room && !listed(k->head, name, nlen - 1))
			collect_custom(name, (int)nlen, k);
		at += 8 + nlen + vlen;
	}
}
#endif

static void collect_known(struct collect *k)
{
	for (int t = 0; t < WSI_TOKEN_COUNT; t++) {
		const char *name = (const char *)lws_token_to_string((enum lws_token_indexes)t);
		size_t len = name ? strlen(name) : 0;
		if (len < 2 || name[len - 1] != ':' || name[0] == ':')
			continue;
		for (int i = 0;; i++) {
			int n = lws_hdr_copy_fragment(k->wsi, k->scratch, CONN_HEAD_SPACE, (enum lws_token_indexes)t,
						      i);
			if (n < 0)
				break;
			collect_header(k, name, len - 1, k->scratch, (size_t)n);
		}
	}
}

static int64_t content_length(const struct http_head *head)
{
	int64_t length = HTTP_BODY_NONE;
	for (size_t i = 0; i < head->header_count && i < LIMIT_HTTP_HEADER_COUNT; i++) {
		if (strcmp(head->headers[i].name, "content-length") != 0)
			continue;
		const char *v = head->headers[i].value;
		if (length != HTTP_BODY_NONE || !*v || strspn(v, "0123456789") != strlen(v))
			return HTTP_BODY_INVALID;
		length = strlen(v) > 15 ? INT64_MAX : strtoll(v, NULL, 10);
	}
	return length;
}

int conn_head_read(struct lws *wsi, const char *uri, struct http_head *out)
{
	memset(out, 0, sizeof *out);
	size_t m = 0;
	while (m < sizeof methods / sizeof methods[0] && lws_hdr_total_length(wsi, methods[m].token) == 0)
		m++;
	if (m == sizeof methods / sizeof methods[0])
		return -1;
	size_t array = LIMIT_HTTP_HEADER_COUNT * sizeof(struct tunnel_header), size = array + CONN_HEAD_SPACE * 4u;
	char *scratch = malloc(CONN_HEAD_SPACE);
	out->block = calloc(1, size);
	out->block_size = size;
	if (!scratch || !out->block) {
		free(scratch);
		http_head_free(out);
		return ERR_NOMEM;
	}
	out->headers = (struct tunnel_header *)(void *)out->block;
	struct packer p = { out->block + array, out->block + size, false };
	struct collect k = { wsi, &p, out, LIMIT_HTTP_HEADER_COUNT, scratch };
	out->method = methods[m].method;
	int n = lws_hdr_copy(wsi, scratch, CONN_HEAD_SPACE, methods[m].token);
	out->path = p.at;
	pack_encoded(&p, scratch, n > 0 ? (size_t)n : 0, "/:@!$&'()*+,;=");
	pack(&p, "", 0);
	out->query = pack_query(&p, wsi, scratch);
	collect_known(&k);
	if (!uri)
		collect_custom("dpop:", 5, &k);
#ifdef HAVE_LWS_HDR_CUSTOM_NAME_FOREACH
	if (uri)
		lws_hdr_custom_name_foreach(wsi, collect_custom, &k);
#else
	if (uri)
		walk_custom(&k, uri);
#endif
	if (p.full)
		out->size = CONN_HEAD_SPACE;
	size_t count = out->header_count;
	if (count > LIMIT_HTTP_HEADER_COUNT)
		out->header_count = LIMIT_HTTP_HEADER_COUNT;
	out->content_length = content_length(out);
	out->chunked = http_head_get(out, "transfer-encoding") != NULL;
	const char *expect = http_head_get(out, "expect"), *connection = http_head_get(out, "connection");
	out->expect_continue = expect && strcasecmp(expect, "100-continue") == 0;
	n = lws_hdr_copy(wsi, scratch, CONN_HEAD_SPACE, WSI_TOKEN_HTTP);
	out->keep_alive = n > 0 && strcmp(scratch, "HTTP/1.1") == 0;
	if (connection && strcasecmp(connection, "close") == 0)
		out->keep_alive = false;
	/* lws waits for a body of such a request and would take the next one for it. */
	if (out->content_length == HTTP_BODY_NONE && out->method[0] == 'P')
		out->keep_alive = false;
	out->header_count = count;
	free(scratch);
	return 0;
}

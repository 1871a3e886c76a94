/* Pages in key order. Keys are bytes 0x21 to 0x7e, so "x\x01" stands between "x" and every longer or greater key, and
 * "x\x7f" behind all that begin with "x". */
#include "store_rules.h"

#define CURSOR_MARK "k:" /* a cursor is never empty, so "" can mean the end */

int key_range_of(struct words w, const struct tunnel_scan *scan, struct key_range *out)
{
	const char *prefix = scan->prefix ? scan->prefix : "";
	size_t n = strlen(prefix), mark = strlen(CURSOR_MARK);
	if (*prefix && check_key(w, prefix) != 0)
		return TUNNEL_INVALID;
	memcpy(out->low, prefix, n + 1);
	memcpy(out->high, prefix, n);
	memcpy(out->high + n, "\x7f", 2);
	if (!scan->cursor || !*scan->cursor)
		return 0;
	const char *last = scan->cursor + mark;
	if (strncmp(scan->cursor, CURSOR_MARK, mark) != 0 || check_key(w, last) != 0)
		return words_set(w, TUNNEL_INVALID, "a cursor that no scan gave");
	if (strcmp(last, prefix) >= 0) {
		n = strlen(last);
		memcpy(out->low, last, n);
		memcpy(out->low + n, "\x01", 2);
	}
	return 0;
}

void cursor_after(const char *key, char out[TUNNEL_CURSOR_MAX])
{
	memcpy(out, CURSOR_MARK, strlen(CURSOR_MARK));
	memcpy(out + strlen(CURSOR_MARK), key, strlen(key) + 1);
}

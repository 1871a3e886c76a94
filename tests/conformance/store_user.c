#include "store_user.h"

#include <stdlib.h>
#include <string.h>

struct user user_open(void)
{
	return (struct user){ .p = suite_open(NULL), .words = "" };
}

void user_close(struct user *u)
{
	plugin_close(&u->p);
}

int user_put_all(struct user *u, const struct tunnel_put *put, uint64_t *out_version)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	return plugin_store_put_blocking(u->p, &call, put, out_version);
}

int user_put(struct user *u, const char *collection, const char *key, const char *value, uint64_t expect,
	     uint64_t *out_version)
{
	struct tunnel_put put = { .size = sizeof put,
				  .collection = collection,
				  .key = key,
				  .value = value,
				  .value_len = strlen(value),
				  .expect_version = expect };
	return user_put_all(u, &put, out_version);
}

static int keep(void *arg, const struct tunnel_row *row)
{
	struct doc *d = arg;
	d->value = malloc(row->value_len + 1);
	EXPECT(d->value != NULL);
	memcpy(d->value, row->value, row->value_len);
	d->value[row->value_len] = '\0';
	d->version = row->version;
	d->expires_ms = row->expires_ms;
	snprintf(d->key, sizeof d->key, "%s", row->key);
	return 0;
}

int user_get(struct user *u, const char *collection, const char *key, struct doc *out)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	memset(out, 0, sizeof *out);
	return plugin_store_get_blocking(u->p, &call, collection, key, keep, out);
}

void doc_free(struct doc *d)
{
	free(d->value);
	memset(d, 0, sizeof *d);
}

int user_del(struct user *u, const char *collection, const char *key, uint64_t expect)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	return plugin_store_del_blocking(u->p, &call, collection, key, expect);
}

int user_append(struct user *u, const char *log, const char *record, uint64_t *out_seq)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	return plugin_store_append_blocking(u->p, &call, log, record, strlen(record), out_seq);
}

int user_append_many(struct user *u, const char *log, const struct tunnel_record *records, size_t n, size_t *out_n,
		     uint64_t *out_first)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	return plugin_store_append_many_blocking(u->p, &call, log, records, n, out_n, out_first);
}

int rows_take(void *arg, const struct tunnel_row *row)
{
	struct rows *r = arg;
	EXPECT(strlen(row->value) == row->value_len);
	if (r->used < sizeof r->text)
		r->used +=
			(size_t)snprintf(r->text + r->used, sizeof r->text - r->used, "%s=%s ", row->key, row->value);
	r->count++;
	r->last_version = row->version;
	return r->stop_after && r->count == r->stop_after;
}

int user_scan(struct user *u, const struct tunnel_scan *scan, struct rows *rows, char cursor[TUNNEL_CURSOR_MAX])
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	uint32_t stop_after = rows->stop_after;
	memset(rows, 0, sizeof *rows);
	rows->stop_after = stop_after;
	return plugin_store_scan_blocking(u->p, &call, scan, rows_take, rows, cursor);
}

int user_read(struct user *u, const char *log, uint64_t from, uint32_t limit, struct rows *rows)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	uint32_t stop_after = rows->stop_after;
	memset(rows, 0, sizeof *rows);
	rows->stop_after = stop_after;
	return plugin_store_read_blocking(u->p, &call, log, from, limit, rows_take, rows);
}

/* Reading documents and logs. */
#ifndef READER_H
#define READER_H

#include "pool.h"

int reader_get(struct pool *p, const char *prefix, const struct tunnel_call *call, const char *collection,
	       const char *key, tunnel_row_fn *row, void *arg);
int reader_scan(struct pool *p, const char *prefix, const struct tunnel_call *call, const struct tunnel_scan *scan,
		tunnel_row_fn *row, void *arg, char *out_cursor);
int reader_read(struct pool *p, const char *prefix, const struct tunnel_call *call, const char *log, uint64_t from,
		uint32_t limit, tunnel_row_fn *row, void *arg);

#endif

/* One caller of a store in a case: short names for the calls, results checked with the plugin's own words. */
#ifndef CONFORMANCE_STORE_USER_H
#define CONFORMANCE_STORE_USER_H

#include "suite.h"

struct user {
	struct plugin *p;
	char words[256];
};

struct doc {
	char *value; /* malloc'd; NULL when there was no row */
	uint64_t version;
	int64_t expires_ms;
	char key[300];
};

#define EXPECT_RESULT(user, call, want)                                                           \
	do {                                                                                      \
		int result_ = (call);                                                             \
		if (result_ != (want))                                                            \
			suite_fail(__FILE__, __LINE__, "%s answered %s (%s); expected %s", #call, \
				   suite_result(result_), (user)->words, suite_result(want));     \
	} while (0)

struct user user_open(void);
void user_close(struct user *u);

int user_put(struct user *u, const char *collection, const char *key, const char *value, uint64_t expect,
	     uint64_t *out_version);
int user_put_all(struct user *u, const struct tunnel_put *put, uint64_t *out_version);
int user_get(struct user *u, const char *collection, const char *key, struct doc *out);
void doc_free(struct doc *d);
int user_del(struct user *u, const char *collection, const char *key, uint64_t expect);
int user_append(struct user *u, const char *log, const char *record, uint64_t *out_seq);
/* As the host does: a plugin of before ABI 1.1 takes one. */
int user_append_many(struct user *u, const char *log, const struct tunnel_record *records, size_t n, size_t *out_n,
		     uint64_t *out_first);

/* Rows of a scan or a read, keys and values joined to text: "a=1 b=2 ". */
struct rows {
	char text[65536];
	size_t used;
	uint32_t count;
	uint64_t last_version;
	uint32_t stop_after; /* 0: never */
};
int rows_take(void *arg, const struct tunnel_row *row);
int user_scan(struct user *u, const struct tunnel_scan *scan, struct rows *rows, char cursor[TUNNEL_CURSOR_MAX]);
int user_read(struct user *u, const char *log, uint64_t from, uint32_t limit, struct rows *rows);

#endif

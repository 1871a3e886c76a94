/* What every store plugin of ours needs of tunnel/store.h: its rules for arguments, the words of a refusal, and waiting
 * until a call's deadline. Knows no store. */
#ifndef STORE_RULES_H
#define STORE_RULES_H

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <tunnel/store.h>

#define NAME_MAX_LEN 64u
#define KEY_MAX_LEN 256u
#define VALUE_MAX_LEN (1024u * 1024)
#define INDEXES_MAX 8u
#define PAGE_MAX 1000u

/* A caller's struct into ours; what the caller did not know is zero. */
#define COPY_IN(to, from)                                                                        \
	do {                                                                                     \
		memset((to), 0, sizeof *(to));                                                   \
		memcpy((to), (from), (from)->size < sizeof *(to) ? (from)->size : sizeof *(to)); \
	} while (0)

/* Where words of a failure go: the buffer of open, or that of a call. */
struct words {
	char *text;
	size_t size;
};
int words_set(struct words w, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct words words_of(const struct tunnel_call *call);

/* 0 or TUNNEL_INVALID with words. */
int check_name(struct words w, const char *what, const char *name);
int check_key(struct words w, const char *key);
int check_document(struct words w, const char *collection, const char *key);
int check_value(struct words w, const char *what, const char *value, size_t len);
int check_records(struct words w, const struct tunnel_record *records, size_t n);
int check_indexes(struct words w, const struct tunnel_index *indexes, size_t count);
int check_put(struct words w, const struct tunnel_put *put);
int check_del(struct words w, const char *collection, const char *key, uint64_t expect_version);
int check_scan(struct words w, const struct tunnel_scan *scan);
int check_read(struct words w, const char *log, uint32_t limit);
int check_message(struct words w, const char *channel, const char *message, size_t len);
bool is_json(const char *text, size_t len);

/* The keys of a page: low <= key < high, compared as bytes. Checks prefix and cursor. */
struct key_range {
	char low[KEY_MAX_LEN + 2], high[KEY_MAX_LEN + 2];
};
int key_range_of(struct words w, const struct tunnel_scan *scan, struct key_range *out);
/* The cursor of a page that ended with this key. */
void cursor_after(const char *key, char out[TUNNEL_CURSOR_MAX]);

/* Milliseconds until the deadline, at most most; 0 when it has passed. */
int64_t time_left(const struct tunnel_host *host, int64_t deadline_ms, int64_t most);
/* Waits on a condition made with CLOCK_MONOTONIC; false when the time is over. */
bool wait_on(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms);
void cond_init_monotonic(pthread_cond_t *cond);
/* A thread that gets no signal: those are the server's. */
bool thread_start(pthread_t *out_thread, void *(*fn)(void *arg), void *arg);

#endif

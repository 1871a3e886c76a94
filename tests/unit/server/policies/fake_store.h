/* server/store.h in memory, with failures on demand. One at a time a process. */
#ifndef TESTS_FAKE_STORE_H
#define TESTS_FAKE_STORE_H

#include "server/store.h"

struct store {
	json_t *docs;                                       /* collection → key → document */
	json_t *log;                                        /* of records; the only log there is */
	int fail_put, fail_append, fail_read, fail_publish; /* err code that the next calls give; 0: none */
	bool append_anyway;                                 /* a failing append wrote its record all the same */
	bool append_late;                                   /* a failing append writes it before the next change */
	json_t *late;
	bool singly;                  /* of several records only the first is taken */
	void (*on_append)(void *arg); /* before each append; may wait */
	void *arg;
	unsigned appends, rows_read, puts, published;
};

struct store *fake_store_new(void);
void fake_store_free(struct store *s);

#endif

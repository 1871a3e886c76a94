#include "base/certain.h"

#include "base/clock.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE (1024 * 1024) /* bytes: some hundred requests that are at work */
#define AGAIN_MS 1000         /* between tries to put it aside anew */

static void nobody(const char *words)
{
	(void)words;
}

static void (*tell)(const char *words) = nobody;
static _Atomic(void *) reserve;
static atomic_bool given; /* and not yet put aside again */
static _Atomic(int64_t) tried_ms;

void certain_init(void (*told)(const char *words))
{
	tell = told ? told : nobody;
	if (!atomic_load(&reserve))
		atomic_store(&reserve, malloc(RESERVE));
	json_set_alloc_funcs(certain_malloc, free);
}

/* Of several threads one does. */
static void put_aside(void)
{
	int64_t now_ms = clock_mono_ms(), then_ms = atomic_load(&tried_ms);
	void *none = NULL;
	if (now_ms - then_ms < AGAIN_MS || !atomic_compare_exchange_strong(&tried_ms, &then_ms, now_ms))
		return;
	void *room = malloc(RESERVE);
	if (!room)
		return;
	if (!atomic_compare_exchange_strong(&reserve, &none, room)) {
		free(room);
		return;
	}
	atomic_store(&given, false);
	tell("there is memory again");
}

bool certain_release(void)
{
	void *room = atomic_exchange(&reserve, NULL);
	if (!room)
		return false;
	free(room);
	atomic_store(&tried_ms, clock_mono_ms());
	atomic_store(&given, true);
	tell("out of memory: the reserve is in use, requests may be refused");
	return true;
}

void *certain_malloc(size_t size)
{
	void *p = malloc(size);
	if (p) {
		if (atomic_load_explicit(&given, memory_order_relaxed))
			put_aside();
		return p;
	}
	certain_release();
	p = malloc(size); /* also where another thread has just given the reserve back */
	if (!p) {
		tell("out of memory, and the reserve is used up: ending, so that a restart can help");
		abort();
	}
	return p;
}

void *certain_zeroed(size_t size)
{
	return memset(certain_malloc(size), 0, size);
}

/* Memory for what must be whole: a message to another thread that somebody waits for, and JSON documents, whose missing
 * member may be a right that is missing. Where malloc has none, a reserve that was put aside at the start is given back
 * to it; it is put aside anew when there is memory again. Without even that the process ends, with a word: a restart
 * is a pause for sessions, half a document or a lost message is not. Everything else asks malloc, and refuses its one
 * request when there is none. */
#ifndef BASE_CERTAIN_H
#define BASE_CERTAIN_H

#include <stdbool.h>
#include <stddef.h>

/* At a program's start, before its threads: puts the reserve aside, and has jansson allocate here. told: of what
 * happens, in words, on the thread that it happens to; it must need no memory. NULL: nobody is told. */
void certain_init(void (*told)(const char *words));

/* Never NULL; free gives it back. Any thread. */
void *certain_malloc(size_t size);
void *certain_zeroed(size_t size);

/* Gives the reserve back, for a library that found no memory and is then asked again. false: there is none to give. */
bool certain_release(void);

#endif

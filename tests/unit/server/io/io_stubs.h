/* The control plane of the transport's tests. */
#ifndef TESTS_IO_STUBS_H
#define TESTS_IO_STUBS_H

/* Prints one line of what happened, for the test to wait for. Any thread. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Lets go all requests for /hold, now and from here on. */
void hold_end(void);

#endif

/* What a program of ours does to its own process so that keys and tokens stay in it: no core dumps, no look into its
 * memory by other processes of its user, and the keys that OpenSSL holds in memory that is not swapped out. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include "base/err.h"

#include <signal.h>
#include <stddef.h>

/* First thing in main behind certain_init, before threads and keys. secrets: bytes of memory for keys, a power of two;
 * when it is used up, OpenSSL makes no more keys. Every private key of a TLS connection is one, of at most 128 bytes.
 * Without the right to lock so much (RLIMIT_MEMLOCK) the memory is used all the same and the answer is ERR_LIMIT, for a
 * line in the log. */
int process_guard(size_t secrets, struct err *e);
/* OpenSSL is set up: the first connection was made, or a server listens. Until then it takes its memory from
 * base/certain.h, since what it fails to set up would be missing for good. Any thread. */
void process_settled(void);
/* The number of bytes that process_guard needs for a key on each descriptor that this process may open. */
size_t process_secrets_for_descriptors(void);
/* From now on processes of the same user may open descriptors of this one through /proc, and look into it. */
void process_show(void);

/* A process that starts another one: fork copies the tables of its memory, and it pays for each page that it touches
 * afterwards; vfork does not, but its child runs in that memory, where no handler of ours may run. So:
 *
 *	process_block_signals(&before);
 *	pid_t pid = process_vfork();
 *	if (pid == 0) { process_default_signals(); … execve(…); _exit(127); }   only async-signal-safe calls
 *	process_unblock_signals(&before);
 */
#define process_vfork vfork
/* A sanitizer's vfork keeps one return address for parent and child, over which a child of the child writes. */
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef process_vfork
#define process_vfork fork
#endif
#endif
void process_block_signals(sigset_t *before);
void process_unblock_signals(const sigset_t *before);
/* In the child: all signals do what they do by default, and none is blocked. Async-signal-safe. */
void process_default_signals(void);
/* In the child, before it becomes somebody else's program: the limits that process_guard found. Async-signal-safe. */
void process_restore_limits(void);

#endif

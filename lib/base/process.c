/* Two locks on core dumps, since each alone has a gap: a limit of 0 does not keep the kernel from handing a dump to a
 * program (core_pattern), and a program that has to be dumpable for a child's sake has the limit alone. The memory for
 * keys is OpenSSL's "secure heap": it puts private keys there by itself, locks it, and keeps it out of dumps. What it
 * leaves on the ordinary heap while it reads a key's file is wiped as it is freed.
 *
 * OpenSSL sets itself up piece by piece, each when it is first needed, and never again: what fails then for want of
 * memory fails for as long as the process lives, and each connection with it. So until it has worked once, its memory
 * is what must be whole (base/certain.h). */
#include "base/process.h"

#include "base/certain.h"
#include "base/limits.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define LEAST_BLOCK 32 /* bytes: a private key of X25519 or P-256 */
#define FOR_EACH 128   /* bytes: one of any curve that TLS has, as its blocks are powers of two */

#define WIPED 8192 /* bytes of a block: a key's file is shorter, what TLS sends and receives is longer */

static struct rlimit core_found;
static int core_lowered;

static void forbid_dumps(void)
{
	if (getrlimit(RLIMIT_CORE, &core_found) == 0) {
		/* The hard one stays, or who is not root could not restore it for others. */
		const struct rlimit none = { 0, core_found.rlim_max };
		core_lowered = setrlimit(RLIMIT_CORE, &none) == 0;
	}
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static atomic_bool settled;

static void *get_memory(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	if (!size)
		return NULL;
	return atomic_load_explicit(&settled, memory_order_relaxed) ? malloc(size) : certain_malloc(size);
}

static void wipe_and_free(void *block, const char *file, int line)
{
	(void)file, (void)line;
	size_t size = block ? malloc_usable_size(block) : 0;
	if (size <= WIPED)
		OPENSSL_cleanse(block, size);
	free(block);
}

static void *move_memory(void *block, size_t size, const char *file, int line)
{
	size_t old = block ? malloc_usable_size(block) : 0;
	if (old > WIPED && size)
		return realloc(block, size);
	void *moved = get_memory(size, file, line);
	if (!moved && size)
		return NULL;
	if (block && moved)
		memcpy(moved, block, old < size ? old : size);
	wipe_and_free(block, file, line);
	return moved;
}

int process_guard(size_t secrets, struct err *e)
{
	struct rlimit lock = { 0, 0 };
	forbid_dumps();
	CRYPTO_set_mem_functions(get_memory, move_memory, wipe_and_free); /* before its first block */
	switch (CRYPTO_secure_malloc_init(secrets, LEAST_BLOCK)) {
	case 1:
		return 0;
	case 2:
		getrlimit(RLIMIT_MEMLOCK, &lock);
		return err_set(
			e, ERR_LIMIT,
			"keys may be swapped out to disk: the limit of locked memory (LimitMEMLOCK, ulimit -l) is "
			"%llu KiB, and %zu KiB are needed",
			(unsigned long long)lock.rlim_cur / 1024, secrets / 1024);
	default:
		return err_set(e, ERR_NOMEM,
			       "keys may be swapped out to disk: there is no memory to set apart for them");
	}
}

void process_settled(void)
{
	atomic_store_explicit(&settled, true, memory_order_relaxed);
}

size_t process_secrets_for_descriptors(void)
{
	struct rlimit files = { 0, 0 };
	size_t size = LIMIT_SECRETS_LEAST;
	getrlimit(RLIMIT_NOFILE, &files);
	while (size < LIMIT_SECRETS_MOST && size / FOR_EACH < files.rlim_cur)
		size *= 2;
	return size;
}

void process_show(void)
{
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

void process_restore_limits(void)
{
	if (core_lowered)
		setrlimit(RLIMIT_CORE, &core_found);
}

void process_block_signals(sigset_t *before)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

void process_unblock_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

void process_default_signals(void)
{
	sigset_t none;
	struct sigaction standard = { .sa_handler = SIG_DFL };
	for (int signum = 1; signum < NSIG; signum++)
		sigaction(signum, &standard, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

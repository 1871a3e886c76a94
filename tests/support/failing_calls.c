/* Preloaded into our programs: makes calls of the C library fail, and the wall clock jump, as failing_calls.h has it.
 * Only what our own objects (the program, its plugins), jansson and SQLite call is counted: what other libraries do
 * without memory is not ours to mend, and OpenSSL's own use is neither the same in two runs. Without $FAILING_CALLS
 * nothing changes. */
#include "failing_calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLER ((uintptr_t)__builtin_return_address(0))

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static struct failing *shared; /* NULL: nothing is to fail */

__attribute__((constructor)) static void open_shared(void)
{
	const char *path = getenv("FAILING_CALLS");
	int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	shared = at == MAP_FAILED ? NULL : at;
}

/* ---- whose call it is ---- */

struct search {
	uintptr_t at;
	bool found, program;
	char name[256];
};

static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || s->at < info->dlpi_addr + p->p_vaddr ||
		    s->at >= info->dlpi_addr + p->p_vaddr + p->p_memsz)
			continue;
		s->found = true;
		s->program = !info->dlpi_name[0];
		snprintf(s->name, sizeof s->name, "%s", info->dlpi_name);
		return 1;
	}
	return 0;
}

static bool is_ours(const struct search *s)
{
	static const char *const names[] = { "/plugins/", "/libjansson.so", "/libsqlite3.so", NULL };
	const char *const *n = names;
	if (!s->found || s->program) /* the program alone has no name; sshd and the shell have no such library */
		return s->program && strstr(program_invocation_short_name, "tunnel-");
	while (*n && !strstr(s->name, *n))
		n++;
	return *n != NULL;
}

/* Pages of code that were judged already: the search takes a lock. */
#define PAGES 4096
static uintptr_t judged[PAGES]; /* page << 1 | ours */

static bool called_by_us(uintptr_t caller)
{
	uintptr_t page = caller >> 12, was = __atomic_load_n(&judged[page % PAGES], __ATOMIC_RELAXED);
	static __thread bool inside;
	if (was >> 1 == page)
		return was & 1;
	if (inside)
		return false;
	inside = true;
	struct search s = { .at = caller };
	dl_iterate_phdr(look, &s);
	bool ours = is_ours(&s);
	__atomic_store_n(&judged[page % PAGES], page << 1 | ours, __ATOMIC_RELAXED);
	inside = false;
	return ours;
}

/* Whether this call is one that fails; errno says how. */
static bool fails(enum failing_kind kind, uintptr_t caller)
{
	if (!shared || !called_by_us(caller))
		return false;
	struct failing_call *c = &shared->call[kind];
	int64_t n = __atomic_add_fetch(&c->calls, 1, __ATOMIC_RELAXED);
	if (n < __atomic_load_n(&c->first, __ATOMIC_RELAXED) || n > __atomic_load_n(&c->last, __ATOMIC_RELAXED))
		return false;
	__atomic_add_fetch(&c->failed, 1, __ATOMIC_RELAXED);
	errno = (int)c->errnum;
	return true;
}

#define NEXT(name)                                                 \
	__extension__({                                            \
		static __typeof__(&name) next;                     \
		if (!next)                                         \
			*(void **)&next = dlsym(RTLD_NEXT, #name); \
		next;                                              \
	})

/* ---- memory ---- */

EXPORT void *malloc(size_t size)
{
	return fails(FAILING_ALLOC, CALLER) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
	return fails(FAILING_ALLOC, CALLER) ? NULL : __libc_calloc(n, size);
}

EXPORT void *realloc(void *old, size_t size)
{
	return fails(FAILING_ALLOC, CALLER) ? NULL : __libc_realloc(old, size);
}

EXPORT char *strdup(const char *s)
{
	size_t len = strlen(s) + 1;
	char *copy = fails(FAILING_ALLOC, CALLER) ? NULL : __libc_malloc(len);
	return copy ? memcpy(copy, s, len) : NULL;
}

EXPORT char *strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = fails(FAILING_ALLOC, CALLER) ? NULL : __libc_malloc(len + 1);
	if (copy)
		*((char *)memcpy(copy, s, len) + len) = '\0';
	return copy;
}

/* ---- files ---- */

/* A log that is a file takes what is written. */
static bool is_kept(int fd)
{
	struct stat st;
	return shared && fd > STDERR_FILENO && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

EXPORT ssize_t write(int fd, const void *data, size_t len)
{
	return is_kept(fd) && fails(FAILING_WRITE, CALLER) ? -1 : NEXT(write)(fd, data, len);
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int n)
{
	return is_kept(fd) && fails(FAILING_WRITE, CALLER) ? -1 : NEXT(writev)(fd, v, n);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	return is_kept(fd) && fails(FAILING_WRITE, CALLER) ? -1 : NEXT(pwrite)(fd, data, len, at);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
	return is_kept(fd) && fails(FAILING_WRITE, CALLER) ? -1 : NEXT(pwrite64)(fd, data, len, at);
}

EXPORT int ftruncate(int fd, off_t len)
{
	return is_kept(fd) && fails(FAILING_WRITE, CALLER) ? -1 : NEXT(ftruncate)(fd, len);
}

EXPORT int ftruncate64(int fd, off64_t len)
{
	return is_kept(fd) && fails(FAILING_WRITE, CALLER) ? -1 : NEXT(ftruncate64)(fd, len);
}

EXPORT int fsync(int fd)
{
	return fails(FAILING_SYNC, CALLER) ? -1 : NEXT(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
	return fails(FAILING_SYNC, CALLER) ? -1 : NEXT(fdatasync)(fd);
}

static mode_t mode_of(int flags, va_list more)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENS(name, parameters, arguments)                                      \
	EXPORT int name parameters                                              \
	{                                                                       \
		va_list more;                                                   \
		va_start(more, flags);                                          \
		mode_t mode = mode_of(flags, more);                             \
		va_end(more);                                                   \
		return fails(FAILING_OPEN, CALLER) ? -1 : NEXT(name) arguments; \
	}
OPENS(open, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))

EXPORT FILE *fopen(const char *path, const char *mode)
{
	return fails(FAILING_OPEN, CALLER) ? NULL : NEXT(fopen)(path, mode);
}

/* ---- descriptors, processes, threads ---- */

EXPORT int socket(int domain, int type, int protocol)
{
	return fails(FAILING_SOCKET, CALLER) ? -1 : NEXT(socket)(domain, type, protocol);
}

EXPORT int socketpair(int domain, int type, int protocol, int out[2])
{
	return fails(FAILING_SOCKET, CALLER) ? -1 : NEXT(socketpair)(domain, type, protocol, out);
}

EXPORT int accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	return fails(FAILING_SOCKET, CALLER) ? -1 : NEXT(accept4)(fd, from, len, flags);
}

EXPORT int pipe2(int out[2], int flags)
{
	return fails(FAILING_SOCKET, CALLER) ? -1 : NEXT(pipe2)(out, flags);
}

EXPORT int eventfd(unsigned start, int flags)
{
	return fails(FAILING_SOCKET, CALLER) ? -1 : NEXT(eventfd)(start, flags);
}

EXPORT pid_t fork(void)
{
	return fails(FAILING_FORK, CALLER) ? -1 : NEXT(fork)();
}

/* From a function of ours nobody can return in the child of a real one. */
EXPORT pid_t vfork(void)
{
	return fails(FAILING_FORK, CALLER) ? -1 : NEXT(fork)();
}

EXPORT int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return fails(FAILING_THREAD, CALLER) ? errno : NEXT(pthread_create)(out, attr, fn, arg);
}

/* ---- the wall clock: of everybody in the process, so that signatures and certificates agree with it ---- */

static int64_t ahead_ms(void)
{
	return shared ? __atomic_load_n(&shared->clock_ms, __ATOMIC_RELAXED) : 0;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = NEXT(clock_gettime)(clock, out);
	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		out->tv_sec += ahead_ms() / 1000;
	return rc;
}

EXPORT int gettimeofday(struct timeval *out, void *zone)
{
	int rc = NEXT(gettimeofday)(out, zone);
	if (rc == 0)
		out->tv_sec += ahead_ms() / 1000;
	return rc;
}

EXPORT time_t time(time_t *out)
{
	time_t now = NEXT(time)(NULL) + ahead_ms() / 1000;
	if (out)
		*out = now;
	return now;
}

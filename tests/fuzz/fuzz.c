#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILLER 0xa5

/* libconfig forgets a string that it was reading when it meets an error. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}
const char *__lsan_default_options(void)
{
	return "print_suppressions=0";
}

void fuzz_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

uint8_t fuzz_byte(struct fuzz_input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

char *fuzz_part(struct fuzz_input *in, char separator)
{
	const uint8_t *end = in->left ? memchr(in->at, separator, in->left) : NULL;
	size_t len = end ? (size_t)(end - in->at) : in->left;
	char *text = fuzz_text(in->at, len);
	len += end != NULL;
	if (len) {
		in->at += len;
		in->left -= len;
	}
	return text;
}

char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

const char *fuzz_file(const void *data, size_t size)
{
	static int fd = -1;
	static char path[64];
	if (fd < 0) {
		fd = memfd_create("fuzz", MFD_CLOEXEC);
		if (fd < 0 || fchmod(fd, 0600) != 0)
			abort();
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	return path;
}

static char folder[] = "/dev/shm/tunnel-fuzz-XXXXXX", *made;

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *where)
{
	(void)st, (void)what, (void)where;
	return remove(path);
}

static void remove_folder(void)
{
	nftw(made, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
	if (made)
		return made;
	made = mkdtemp(folder);
	if (!made) {
		memcpy(folder, "/tmp/tunnel-fuzz-XXXXXX", sizeof "/tmp/tunnel-fuzz-XXXXXX");
		made = mkdtemp(folder);
	}
	if (!made || atexit(remove_folder) != 0)
		abort();
	return made;
}

void fuzz_put(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0)
		abort();
}

char *fuzz_get(const char *path, size_t *out_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	char *text = fstat(fd, &st) == 0 ? calloc(1, (size_t)st.st_size + 1) : NULL;
	if (!text || read(fd, text, (size_t)st.st_size) != st.st_size)
		abort();
	close(fd);
	*out_size = (size_t)st.st_size;
	return text;
}

void fuzz_fill(void *out, size_t size)
{
	memset(out, FILLER, size);
}

bool fuzz_is_untouched(const void *out, size_t size)
{
	const uint8_t *bytes = out;
	size_t i = 0;
	while (i < size && bytes[i] == FILLER)
		i++;
	return i == size;
}

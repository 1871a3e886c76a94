#include "fuzz.h"

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

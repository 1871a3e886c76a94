/* What fuzz targets share. A target is one LLVMFuzzerTestOneInput that gives the input to one parser and checks what
 * must hold whatever the input is. With the preset `fuzz` libFuzzer drives it (scripts/fuzz); everywhere else driver.c
 * does, with the files of corpus/<target> and a fixed number of changes to each. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_fail(const char *file, int line, const char *what);

/* The input, taken from its front. What is asked for behind its end is 0 or empty. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};
uint8_t fuzz_byte(struct fuzz_input *in);
/* Up to the separator, which is taken too, or to the end: malloc'd, with a NUL behind it and not a byte more. */
char *fuzz_part(struct fuzz_input *in, char separator);
/* The whole input, as fuzz_part. It ends at its first NUL for all that takes a text. */
char *fuzz_text(const uint8_t *data, size_t size);
/* The path of a file without a name, of mode 0600, with that content; until the next call. */
const char *fuzz_file(const void *data, size_t size);

/* A folder of this process alone, in memory where the system has such a place. It is removed at the end. */
const char *fuzz_folder(void);
/* Creates the file with mode 0600, or takes the place of what it has; aborts when it cannot. */
void fuzz_put(const char *path, const void *data, size_t size);
/* Reads it whole, as fuzz_text; *out_size: bytes. NULL when it is not there. */
char *fuzz_get(const char *path, size_t *out_size);

/* Outputs must be left alone on failure: fill before the call, ask behind it. */
void fuzz_fill(void *out, size_t size);
bool fuzz_is_untouched(const void *out, size_t size);

#endif

/* Runs a fuzz target where there is no libFuzzer.
 *   fuzz_<target> [--rounds N] [--dictionary FILE] FOLDER…
 *                          each file of a folder as it is, and N changes of it (default 100), with words of that file;
 *                          what was learnt, named for its hash, as it is alone
 *   fuzz_<target> FILE…    these inputs alone
 * The changes depend on nothing but a file's name and content, and the dictionary, so a failure comes again. The input
 * that failed is kept in fuzz_<target>.crash of the working folder. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX 65536u /* bytes */

struct input {
	uint8_t bytes[INPUT_MAX];
	size_t len;
};

static struct input current;
static char crash_name[256] = "fuzz.crash";

/* ---- what is kept of a failure ---- */

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void keep_input(void)
{
	int fd = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, current.bytes, current.len) != (ssize_t)current.len)
		return;
	close(fd);
	fprintf(stderr, "the input is in %s (%zu bytes)\n", crash_name, current.len);
}

static void on_abort(int number)
{
	keep_input();
	signal(number, SIG_DFL);
	raise(number);
}

static void watch_for_failures(const char *program)
{
	const char *slash = strrchr(program, '/');
	snprintf(crash_name, sizeof crash_name, "%s.crash", slash ? slash + 1 : program);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(keep_input);
	else
		signal(SIGSEGV, on_abort);
	signal(SIGABRT, on_abort);
}

/* ---- one input ---- */

/* In memory of its own of exactly that size, so that a byte too far is seen. */
static void run_current(void)
{
	uint8_t *copy = malloc(current.len ? current.len : 1);
	if (!copy)
		abort();
	memcpy(copy, current.bytes, current.len);
	LLVMFuzzerTestOneInput(copy, current.len);
	free(copy);
}

static void read_input(const char *path, struct input *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out->bytes, sizeof out->bytes);
	if (n < 0) {
		perror(path);
		exit(2);
	}
	close(fd);
	out->len = (size_t)n;
}

/* ---- the dictionary: libFuzzer's form, a line for each word, "\xNN" for bytes ---- */

#define WORDS_MAX 512u
#define WORD_MAX 128u /* bytes */

static struct word {
	uint8_t bytes[WORD_MAX];
	size_t len;
} words[WORDS_MAX];
static size_t word_count;

static void read_word(const char *at, struct word *out)
{
	unsigned byte;
	for (; *at && *at != '"' && out->len < WORD_MAX; at++) {
		if (sscanf(at, "\\x%2x", &byte) == 1)
			at += 3;
		else if (*at == '\\' && at[1])
			byte = (uint8_t) * ++at;
		else
			byte = (uint8_t)*at;
		out->bytes[out->len++] = (uint8_t)byte;
	}
}

static void read_dictionary(const char *path)
{
	char line[1024];
	FILE *f = fopen(path, "re");
	if (!f) {
		perror(path);
		exit(2);
	}
	while (word_count < WORDS_MAX && fgets(line, sizeof line, f))
		if (line[0] == '"')
			read_word(line + 1, &words[word_count++]);
	fclose(f);
}

/* ---- changes ---- */

static uint64_t noise; /* xorshift64 */

static size_t below(size_t n)
{
	noise ^= noise << 13;
	noise ^= noise >> 7;
	noise ^= noise << 17;
	return n ? (size_t)(noise % n) : 0;
}

static void remove_some(struct input *in, size_t at, size_t n)
{
	memmove(in->bytes + at, in->bytes + at + n, in->len - at - n);
	in->len -= n;
}

/* A copy of n bytes from elsewhere in the input. */
static void repeat_some(struct input *in, size_t at, size_t from, size_t n)
{
	uint8_t part[64];
	if (n > sizeof part)
		n = sizeof part;
	if (n > sizeof in->bytes - in->len)
		return;
	memcpy(part, in->bytes + from, n);
	memmove(in->bytes + at + n, in->bytes + at, in->len - at);
	memcpy(in->bytes + at, part, n);
	in->len += n;
}

static void insert_word(struct input *in, size_t at)
{
	const struct word *w = &words[below(word_count)];
	if (word_count == 0 || w->len > sizeof in->bytes - in->len)
		return;
	memmove(in->bytes + at + w->len, in->bytes + at, in->len - at);
	memcpy(in->bytes + at, w->bytes, w->len);
	in->len += w->len;
}

static void change(struct input *in)
{
	static const uint8_t telling[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '\\', '\n', '%', ':', '/', '.', ' ', '*', '{' };
	if (in->len == 0)
		return;
	size_t at = below(in->len), n = 1 + below(in->len - at < 32 ? in->len - at : 32);
	switch (below(word_count ? 8 : 6)) {
	case 0:
		in->bytes[at] ^= (uint8_t)(1u << below(8));
		break;
	case 1:
		in->bytes[at] = telling[below(sizeof telling)];
		break;
	case 2:
		in->bytes[at] = (uint8_t)(in->bytes[at] + below(9) - 4);
		break;
	case 3:
		remove_some(in, at, n);
		break;
	case 4:
		repeat_some(in, below(in->len), at, n);
		break;
	case 5:
		in->len = at;
		break;
	default:
		insert_word(in, at);
	}
}

static void run_seed(const char *path, const char *name, unsigned rounds)
{
	static struct input seed;
	read_input(path, &seed);
	noise = 0x9e3779b97f4a7c15;
	for (const char *c = name; *c; c++)
		noise = (noise ^ (uint8_t)*c) * 0x100000001b3;
	noise |= 1;
	for (unsigned round = 0; round <= rounds; round++) {
		current = seed;
		for (size_t i = round ? 1 + below(3) : 0; i > 0; i--)
			change(&current);
		run_current();
	}
}

/* Named for its hash, as scripts/fuzz --keep does it: there are many, each for one place in the code that it reaches.
 */
static bool is_learnt(const char *name)
{
	return strlen(name) == 40 && strspn(name, "0123456789abcdef") == 40;
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int run_folder(const char *path, unsigned rounds)
{
	struct dirent **names;
	int n = scandir(path, &names, is_visible, alphasort);
	for (int i = 0; i < n; i++) {
		char file[4096];
		snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
		run_seed(file, names[i]->d_name, is_learnt(names[i]->d_name) ? 0 : rounds);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return n;
}

int main(int argc, char **argv)
{
	unsigned rounds = 100;
	int ran = 0;
	watch_for_failures(argv[0]);
	for (int i = 1; i < argc; i++) {
		struct stat st;
		if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
			rounds = (unsigned)strtoul(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--dictionary") == 0 && i + 1 < argc) {
			read_dictionary(argv[++i]);
		} else if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			int n = run_folder(argv[i], rounds);
			ran += n > 0 ? n : 0;
		} else {
			read_input(argv[i], &current);
			run_current();
			ran++;
		}
	}
	if (ran == 0)
		fprintf(stderr, "%s: no input was named\n", argv[0]);
	return ran ? 0 : 2;
}

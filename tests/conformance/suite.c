/* The program: tunnel-plugin-check [--list] [--case NAME] [--accept 'Header: value'] [--volatile] PLUGIN.so [key=value
 * …]
 */
#include "suite.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/plugin_internal.h"

#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_SECONDS 240u /* then it hangs */
#define SKIPPED 77

static struct {
	char file[PATH_MAX];
	struct conf_section section;
	char folder[64];
	struct tunnel_header accept;
	bool is_volatile;
} suite;

_Noreturn void suite_fail(const char *file, int line, const char *fmt, ...)
{
	const char *slash = strrchr(file, '/');
	va_list ap;
	fprintf(stderr, "  %s:%d: ", slash ? slash + 1 : file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(1);
}

_Noreturn void suite_skip(const char *why)
{
	fprintf(stderr, "  %s\n", why);
	_exit(SKIPPED);
}

struct plugin *suite_open(struct err *e)
{
	struct err mine = { 0 };
	struct plugin *p = NULL;
	enum tunnel_kind kind = TUNNEL_KIND_STORE;
	if (plugin_load("/", suite.file, NULL, kind, &p, &mine) != 0)
		kind = TUNNEL_KIND_AUTH;
	plugin_unload(&p);
	if (plugin_open("/", &suite.section, kind, NULL, &p, e ? e : &mine) != 0) {
		if (!e)
			suite_fail(__FILE__, __LINE__, "%s", mine.text);
		return NULL;
	}
	return p;
}

const struct tunnel_header *suite_accept(void)
{
	return suite.accept.name ? &suite.accept : NULL;
}

void suite_needs_durability(void)
{
	if (suite.is_volatile)
		suite_skip("--volatile: nothing is kept");
}

const char *suite_name(const char *word, char out[65])
{
	char random[13];
	secret_random_id(random, 12);
	snprintf(out, 65, "%s_%s", word, random);
	return out;
}

const char *suite_result(int result)
{
	static const struct {
		int result;
		const char *name;
	} names[] = { { TUNNEL_OK, "OK" },
		      { TUNNEL_DENIED, "DENIED" },
		      { TUNNEL_NOT_FOUND, "NOT_FOUND" },
		      { TUNNEL_CONFLICT, "CONFLICT" },
		      { TUNNEL_NOT_MINE, "NOT_MINE" },
		      { TUNNEL_UNAVAILABLE, "UNAVAILABLE" },
		      { TUNNEL_TIMEOUT, "TIMEOUT" },
		      { TUNNEL_CONFIG, "CONFIG" },
		      { TUNNEL_INVALID, "INVALID" },
		      { TUNNEL_INTERNAL, "INTERNAL" } };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].result == result)
			return names[i].name;
	return "a result that does not exist";
}

struct tunnel_call suite_call(char *words, size_t size)
{
	return (struct tunnel_call){ .size = sizeof(struct tunnel_call),
				     .deadline_ms = clock_mono_ms() + 30000,
				     .err = words,
				     .err_len = size };
}

struct crew {
	pthread_barrier_t start;
	void (*fn)(void *arg, size_t i);
	void *arg;
};
struct member {
	struct crew *crew;
	size_t i;
	pthread_t thread;
};

static void *member_main(void *arg)
{
	struct member *m = arg;
	pthread_barrier_wait(&m->crew->start);
	m->crew->fn(m->crew->arg, m->i);
	return NULL;
}

void suite_threads(size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	struct crew crew = { .fn = fn, .arg = arg };
	struct member *members = calloc(n, sizeof *members);
	EXPECT(members != NULL);
	pthread_barrier_init(&crew.start, NULL, (unsigned)n);
	for (size_t i = 0; i < n; i++) {
		members[i].crew = &crew;
		members[i].i = i;
		EXPECT(pthread_create(&members[i].thread, NULL, member_main, &members[i]) == 0);
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(members[i].thread, NULL);
	pthread_barrier_destroy(&crew.start);
	free(members);
}

static void folder_make(char out[64])
{
	const char *tmp = getenv("TMPDIR");
	snprintf(out, 64, "%s/plugin-check-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(out))
		suite_fail(__FILE__, __LINE__, "%s cannot be made", out);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void folder_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* "{folder}" in a value becomes the case's own empty folder. */
static char *expand(const char *value)
{
	const char *mark = strstr(value, "{folder}");
	char *out = NULL;
	int n = mark ? asprintf(&out, "%.*s%s%s", (int)(mark - value), value, suite.folder, mark + 8)
		     : asprintf(&out, "%s", value);
	return n < 0 ? NULL : out;
}

static int add_pair(char *key, char *value, int number)
{
	struct conf_pair *pairs = realloc(suite.section.pairs, (suite.section.n + 1) * sizeof *pairs);
	char *where = NULL;
	if (!pairs || asprintf(&where, "option %d", number) < 0)
		return -1;
	suite.section.pairs = pairs;
	pairs[suite.section.n++] = (struct conf_pair){ key, value, where };
	return 0;
}

static int make_section(char **options)
{
	static char where[] = "the command line";
	suite.section.where = where;
	if (add_pair(strdup("plugin"), strdup(suite.file), 0) != 0)
		return -1;
	for (int i = 0; options[i]; i++) {
		char *equals = strchr(options[i], '=');
		if (!equals) {
			fprintf(stderr, "\"%s\": expected key=value\n", options[i]);
			return -1;
		}
		if (add_pair(strndup(options[i], (size_t)(equals - options[i])), expand(equals + 1), i + 1) != 0)
			return -1;
	}
	return 0;
}

static void drop_section(void)
{
	for (size_t i = 0; i < suite.section.n; i++) {
		free(suite.section.pairs[i].key);
		free(suite.section.pairs[i].value);
		free(suite.section.pairs[i].where);
	}
	free(suite.section.pairs);
	memset(&suite.section, 0, sizeof suite.section);
}

/* With the options that were given: what keeps it from being opened is one mistake, not one of each case. In a process
 * of its own, as the cases are. */
static bool can_be_opened(char **options)
{
	folder_make(suite.folder);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		struct err e = { 0 };
		alarm(CASE_SECONDS);
		if (make_section(options) != 0)
			_exit(1);
		struct plugin *p = suite_open(&e);
		if (!p)
			fprintf(stderr, "%s\n", e.text);
		int rc = !p;
		plugin_close(&p);
		drop_section();
		exit(rc);
	}
	int status = 1 << 8;
	if (child > 0 && waitpid(child, &status, 0) != child)
		status = 1 << 8;
	folder_remove(suite.folder);
	if (WIFSIGNALED(status))
		fprintf(stderr, "opening it: %s\n",
			WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
	return status == 0;
}

/* 0 passed, 1 failed, SKIPPED. */
static int run_case(const struct suite_case *c, char **options)
{
	folder_make(suite.folder);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		alarm(CASE_SECONDS);
		if (make_section(options) != 0)
			_exit(1);
		c->run();
		drop_section();
		exit(0);
	}
	int status = 0;
	if (child < 0 || waitpid(child, &status, 0) != child)
		status = 1 << 8;
	folder_remove(suite.folder);
	int result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	if (WIFSIGNALED(status))
		printf("FAILED   %s: %s\n", c->name,
		       WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
	else
		printf("%s %s\n", result == 0 ? "ok      " : result == SKIPPED ? "skipped " : "FAILED  ", c->name);
	return result == 0 || result == SKIPPED ? result : 1;
}

static const struct suite_case *const store_tables[] = { store_document_cases,
							 store_scan_cases,
							 store_log_cases,
							 store_event_cases,
							 store_race_cases,
							 store_durability_cases,
							 NULL };
static const struct suite_case *const auth_tables[] = { auth_cases, NULL };

static int run_tables(const struct suite_case *const *tables, const char *only, bool list, char **options)
{
	int failed = 0, passed = 0, skipped = 0;
	for (; *tables; tables++) {
		for (const struct suite_case *c = *tables; c->name; c++) {
			if (list)
				puts(c->name);
			if (list || (only && strcmp(only, c->name) != 0))
				continue;
			int rc = run_case(c, options);
			passed += rc == 0;
			skipped += rc == SKIPPED;
			failed += rc == 1;
		}
	}
	if (list)
		return 0;
	if (passed + skipped + failed == 0) {
		fprintf(stderr, "no case %s\n", only ? only : "");
		return 2;
	}
	if (!only)
		printf("%d passed, %d skipped, %d failed\n", passed, skipped, failed);
	return failed ? 1 : only && skipped ? SKIPPED : 0;
}

static int usage(FILE *to)
{
	fputs("usage: tunnel-plugin-check [--list] [--case NAME] [--accept 'Header: value'] [--volatile] PLUGIN.so\n"
	      "                           [key=value …]\n"
	      "Checks a plugin of tunnel-server against the rules of its kind. In a value, {folder} stands for an\n"
	      "empty folder that each case gets. --accept gives an auth plugin's cases a credential that it accepts.\n"
	      "--volatile is for a store that keeps nothing when its process ends.\n"
	      "Exit codes: 0 no rule is broken, 1 one is, 2 wrong usage.\n",
	      to);
	return to == stdout ? 0 : 2;
}

static int take_accept(char *text)
{
	char *colon = strchr(text, ':');
	if (!colon)
		return -1;
	*colon = '\0';
	for (char *c = text; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	suite.accept = (struct tunnel_header){ text, colon + 1 + strspn(colon + 1, " ") };
	return 0;
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	bool list = false;
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--list") == 0)
			list = true;
		else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc)
			only = argv[++i];
		else if (strcmp(argv[i], "--volatile") == 0)
			suite.is_volatile = true;
		else if (strcmp(argv[i], "--help") == 0)
			return usage(stdout);
		else if (strcmp(argv[i], "--accept") != 0 || i + 1 == argc || take_accept(argv[++i]) != 0)
			return usage(stderr);
	}
	if (i == argc)
		return usage(stderr);
	if (!realpath(argv[i], suite.file)) {
		perror(argv[i]);
		return 2;
	}
	log_init("tunnel-plugin-check", LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN);
	struct err e = { 0 };
	struct plugin *p = NULL;
	if (plugin_load("/", suite.file, NULL, PLUGIN_ANY_KIND, &p, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	bool store = p->desc.kind == TUNNEL_KIND_STORE;
	plugin_unload(&p);
	if (!list && !can_be_opened(argv + i + 1)) {
		fprintf(stderr, "it cannot be opened, so nothing was checked\n");
		return 1;
	}
	return run_tables(store ? store_tables : auth_tables, only, list, argv + i + 1);
}

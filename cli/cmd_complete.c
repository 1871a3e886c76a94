/* complete: what may stand where the cursor is. The shells' scripts (cmd_completion.c) run it for each press of Tab, so
 * commands, options and choices come from the very tables that the arguments are read by, and what a word stands for
 * from the name of its place in --help: "TARGET", "SESSION", "FILE".
 *
 * A line for each candidate, with a tab and a few words behind it where there are some. ":files" leaves it to the
 * shell. Whatever fails is silence: somebody is typing. */
#include "cli/client.h"
#include "cli/command.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 2000 /* what is not known by then is not waited for */
#define LATE_S 120     /* so long who asks may go on behind that: longer than a sign-in takes to be refreshed */
#define OFFERS_MAX (1024u * 1024)
#define PLACE_MAX 64

struct completion {
	const struct common_options *common; /* of the line that is typed */
	char prefix[512];                    /* "--target=" */
	const char *typed;                   /* what is there of the word, behind the prefix */
};

static void offer(const struct completion *c, const char *word, const char *about)
{
	char plain[512];
	if (!text_starts(word, c->typed))
		return;
	snprintf(plain, sizeof plain, "%s", about ? about : "");
	text_make_plain(plain);
	for (char *at = plain; (at = strchr(at, '\n')) != NULL;)
		*at = '?';
	printf("%s%s%s%s\n", c->prefix, word, plain[0] ? "\t" : "", plain);
}

/* --- what the server knows */

struct source {
	const char *place, *path, *list, *name;
	const char *about[3]; /* members that tell one from another */
};

static const struct source sources[] = {
	{ "TARGET", "/v1/targets?limit=1000", "targets", "id", { "state", "tags", NULL } },
	{ "SESSION", "/v1/sessions?state=active&limit=1000", "sessions", "id", { "target", "principal", "state" } },
	{ "POLICY", "/v1/policies", "policies", "name", { "source", NULL, NULL } },
	{ "REVOCATION", "/v1/revocations", "revocations", "id", { "kind", "by", "reason" } },
};

static void describe(const struct source *s, const json_t *row, char *out, size_t size)
{
	size_t n = 0;
	out[0] = '\0';
	for (size_t i = 0; i < sizeof s->about / sizeof *s->about && s->about[i] && n < size; i++) {
		const json_t *value = json_object_get(row, s->about[i]), *tag;
		const char *text = json_string_value(value), *key;
		if (text)
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", text);
		json_object_foreach((json_t *)(size_t)value, key, tag) if (n < size && json_is_string(tag)) n +=
			(size_t)snprintf(out + n, size - n, "%s%s=%s", n ? ", " : "", key, json_string_value(tag));
	}
}

static void offer_source(const struct completion *c, const struct source *s)
{
	struct client client;
	json_t *answer = NULL;
	const json_t *row;
	char why[CLIENT_WHY], about[200];
	size_t i;
	if (client_open_quietly(&client, c->common) != EXIT_CODE_OK)
		return;
	client.background = true;
	client.timeout_ms = ANSWER_MS;
	if (client_try(&client, "GET", s->path, NULL, &answer, why) == EXIT_CODE_OK)
		json_array_foreach(json_object_get(answer, s->list), i, row)
		{
			const char *name = json_string_value(json_object_get(row, s->name));
			describe(s, row, about, sizeof about);
			if (name && text_is_id(name)) /* a shell may put it into the line as it is */
				offer(c, name, about);
		}
	json_decref(answer);
	client_close(&client);
}

/* Never returns. */
static void ask_apart(const struct completion *c, const struct source *s, int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	setsid();
	alarm(LATE_S);
	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0 &&
	    dup2(out, STDOUT_FILENO) >= 0)
		offer_source(c, s);
	fflush(stdout);
	_exit(EXIT_CODE_OK);
}

/* All of it, or nothing. */
static void pass_on(int from)
{
	struct buf all = BUF_INIT(OFFERS_MAX);
	struct pollfd p = { .fd = from, .events = POLLIN };
	int64_t until_ms = clock_mono_ms() + ANSWER_MS, left_ms;
	ssize_t n = -1;
	do {
		uint8_t *at = buf_reserve(&all, 4096);
		left_ms = until_ms - clock_mono_ms();
		n = at && left_ms > 0 && poll(&p, 1, (int)left_ms) > 0 ? read(from, at, 4096) : -1;
		if (n > 0)
			buf_commit(&all, (size_t)n);
	} while (n > 0);
	if (n == 0)
		fwrite(buf_data(&all), 1, all.len, stdout);
	buf_free(&all);
}

/* A server, an issuer, a token_command, another program that refreshes the sign-in: each may take its time. So another
 * process asks, and what it does not say in time is there for the next press of Tab. It is not ended then: a refresh
 * token is good once, and what the issuer has given for it must be kept. */
static void offer_in_time(const struct completion *c, const struct source *s)
{
	int out[2];
	if (pipe2(out, O_CLOEXEC) != 0)
		return;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		ask_apart(c, s, out[1]);
	close(out[1]);
	if (pid > 0)
		pass_on(out[0]);
	close(out[0]);
}

/* --- places */

/* "bash|zsh|fish" */
static bool offer_choices(const struct completion *c, const char *place)
{
	char word[PLACE_MAX];
	if (!strchr(place, '|') || strspn(place, "abcdefghijklmnopqrstuvwxyz|-") != strlen(place))
		return false;
	while (*place) {
		size_t n = strcspn(place, "|");
		snprintf(word, sizeof word, "%.*s", (int)n, place);
		offer(c, word, NULL);
		place += n + (place[n] == '|');
	}
	return true;
}

static void offer_profile(void *user, const char *name)
{
	offer(user, name, NULL);
}

/* name: of the option, or "" */
static void offer_place(const struct completion *c, const char *name, const char *place)
{
	if (strcmp(name, "target") == 0)
		place = "TARGET";
	else if (strcmp(name, "session") == 0)
		place = "SESSION";
	else if (strcmp(name, "profile") == 0)
		profile_each(c->common, offer_profile, (void *)(uintptr_t)c, NULL);
	if (offer_choices(c, place))
		return;
	if (strcmp(place, "FILE") == 0 || strcmp(place, "DIR") == 0)
		puts(":files");
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		if (strcmp(place, sources[i].place) == 0)
			offer_in_time(c, &sources[i]);
}

static void offer_options(const struct completion *c, const struct arg_row *rows)
{
	char word[PLACE_MAX + 2];
	for (; rows && rows->name; rows++) {
		snprintf(word, sizeof word, "--%s", rows->name);
		offer(c, word, rows->help);
	}
}

/* The nth argument that is no option, as the usage calls it. */
static void offer_argument(const struct completion *c, const char *usage, int n)
{
	char place[PLACE_MAX];
	for (;; n--) {
		size_t len = strcspn(usage, " "), skip = usage[0] == '[';
		if (len == 0 || usage[skip] == '-')
			return;
		snprintf(place, sizeof place, "%.*s", (int)strcspn(usage + skip, " ]"), usage + skip);
		if (n == 0)
			break;
		usage += len + strspn(usage + len, " ");
	}
	offer_place(c, "", place);
}

/* --- the line */

static const struct arg_row *row_of(const struct command *command, const char *word, size_t len)
{
	const struct arg_row *row = args_find(common_rows, word, len);
	return row ? row : args_find(command->rows, word, len);
}

static bool needs_value(const struct arg_row *row)
{
	return row && row->type != ARG_FLAG;
}

/* What the words before say of the last one: it is this option's value, or the nth argument, or (-1) nothing of ours.
 */
static const struct arg_row *look_back(const struct command *command, int argc, char **argv, int *out_n)
{
	const struct arg_row *open = NULL;
	int n = 0;
	for (int i = 0; i < argc - 1; i++) {
		if (open) {
			open = NULL;
		} else if (strcmp(argv[i], "--") == 0) {
			n = -1;
			break;
		} else if (argv[i][0] == '-' && argv[i][1]) {
			const struct arg_row *row = row_of(command, argv[i], strlen(argv[i]));
			open = needs_value(row) ? row : NULL;
		} else if (command->takes_command) {
			n = -1;
			break;
		} else {
			n++;
		}
	}
	*out_n = n;
	return open;
}

static void complete_word(struct completion *c, const struct command *command, int argc, char **argv)
{
	int n;
	const struct arg_row *row = look_back(command, argc, argv, &n);
	const char *word = argv[argc - 1], *equals = strchr(word, '=');
	if (n < 0)
		return;
	if (!row && text_starts(word, "--") && equals) {
		row = row_of(command, word, (size_t)(equals - word));
		if (!needs_value(row))
			return;
		snprintf(c->prefix, sizeof c->prefix, "%.*s", (int)(equals + 1 - word), word);
		c->typed = equals + 1;
	}
	if (row) {
		offer_place(c, row->name, row->value);
	} else if (word[0] == '-') {
		offer_options(c, command->rows);
		offer_options(c, common_rows);
	} else {
		offer_argument(c, command->usage, n);
	}
}

/* --profile and --config of the line count for the question; the rest of it may be half typed. */
static void take_common(const struct command *command, int argc, char **argv, struct common_options *out)
{
	for (int i = 0; i + 2 < argc; i++) {
		const struct arg_row *row = row_of(command, argv[i], strlen(argv[i]));
		if (row && strcmp(row->name, "profile") == 0)
			out->profile = argv[i + 1];
		else if (row && strcmp(row->name, "config") == 0)
			out->config = argv[i + 1];
	}
}

static int complete(const void *options, int argc, char **argv)
{
	(void)options;
	struct common_options common = { .quiet = true };
	struct completion c = { .common = &common, .typed = argc > 0 ? argv[argc - 1] : "" };
	if (argc <= 1) {
		for (size_t i = 0; commands[i]; i++)
			if (!commands[i]->hidden)
				offer(&c, commands[i]->name, commands[i]->summary);
		offer(&c, "--help", "all commands");
		offer(&c, "--version", NULL);
		return EXIT_CODE_OK;
	}
	const struct command *command = command_find(argv[0]);
	if (!command || command->hidden)
		return EXIT_CODE_OK;
	take_common(command, argc, argv, &common);
	complete_word(&c, command, argc - 1, argv + 1);
	return EXIT_CODE_OK;
}

const struct command command_complete = {
	.name = "complete",
	.usage = "-- WORD...",
	.summary = "Say what may stand at the end of a line",
	.options_size = sizeof(struct common_options),
	.run = complete,
	.hidden = true,
};

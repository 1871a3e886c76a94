/* A copy of the audit log in a file, and verify-audit over it. Each step of the input is a letter and a byte n:
 *   a b n  so many records are appended, by one node or the other
 *   r      the server writes what the copy lacks         o   it is started again
 *   f n    the next write fails: the (n & 15)-th call, behind n >> 4 bytes (of 8)
 *   k n    it is killed in that call, and started again
 *   m z    the file is rotated: moved away, or copied and emptied
 *   l n    the store loses its last n records, as a failover does
 *   w p n  somebody writes the next n bytes: behind the file, or as its position
 *   t      the rest changes what was copied: where (two bytes), and what to
 * The copy has what the log has, once and in its order, and verify-audit says so; what was changed in it is found as by
 * a check of each line. A file that is refused is left as it is. */
#include "fuzz.h"

#include "base/audit_chain.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/output.h"
#include "server/audit.h"
#include "server/audit_export.h"
#include "server/metrics.h"
#include "server/server.h"
#include "unit/server/policies/fake_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDS_MAX 260u
#define STEPS_MAX 60u
#define ROTATED_MAX 8u

static char path[128], position[128];
static struct settings settings;
static struct server server;
static struct audit *nodes[2];
static struct audit_export *copy;
static json_t *known; /* hash -> record, of all that ever were in the log */
static char *rotated[ROTATED_MAX];
static size_t rotated_len[ROTATED_MAX], rotated_n, appended;
static bool lost, strange, failed;
static struct metrics *metrics;

/* ---- calls that fail ---- */

static unsigned calls_left; /* 0: none fails */
static size_t part;
static bool dead, deadly;
static json_t *reported; /* by verify-audit */

ssize_t __real_write(int fd, const void *data, size_t n);
ssize_t __wrap_write(int fd, const void *data, size_t n);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *name, const char *as);
int __wrap_rename(const char *name, const char *as);
int __wrap_sched_yield(void);
void __wrap_output_json(const json_t *json);
void __wrap_log_event(enum log_level level, const struct log_field *fields, const char *fmt, ...);

static bool fails(void)
{
	bool now = dead || (calls_left && --calls_left == 0);
	dead = dead || (now && deadly);
	failed |= now;
	errno = now ? ENOSPC : errno;
	return now;
}

ssize_t __wrap_write(int fd, const void *data, size_t n)
{
	bool was_dead = dead;
	if (!fails())
		return __real_write(fd, data, n);
	ssize_t some = was_dead || part == 0 || part > n ? -1 : __real_write(fd, data, part);
	errno = ENOSPC;
	return dead ? -1 : some;
}

int __wrap_fdatasync(int fd)
{
	(void)fd;
	return fails() ? -1 : 0;
}

int __wrap_fsync(int fd)
{
	(void)fd;
	return fails() ? -1 : 0;
}

int __wrap_rename(const char *name, const char *as)
{
	return fails() ? -1 : __real_rename(name, as);
}

/* Of the store, for others; there are none. */
int __wrap_sched_yield(void)
{
	return 0;
}

void __wrap_output_json(const json_t *json)
{
	reported = json_deep_copy(json);
}

void __wrap_log_event(enum log_level level, const struct log_field *fields, const char *fmt, ...)
{
	(void)level, (void)fields;
	FUZZ_CHECK(fmt[0]);
}

/* ---- the server ---- */

static void open_log(void)
{
	static const char *const names[] = { "node-1", "node-2" };
	for (size_t i = 0; i < 2; i++) {
		server.node = names[i];
		FUZZ_CHECK(audit_open_blocking(&server, &nodes[i], NULL) == 0);
	}
	server.audit = nodes[0];
}

static void close_log(void)
{
	audit_close(&nodes[0]);
	audit_close(&nodes[1]);
}

static void append(size_t node, unsigned n)
{
	static const char *const texts[] = { "", "\xc3\xa4 \"quoted\"\\", "a\nline" };
	for (; n-- && appended < RECORDS_MAX; appended++) {
		json_t *fields = json_pack("{s:s, s:I, s:f}", "text", texts[appended % 3], "i", (json_int_t)appended,
					   "f", (double)appended / 3);
		FUZZ_CHECK(audit_append_blocking(nodes[node], "event", fields, NULL) == 0);
		json_t *record = json_array_get(server.store->log, json_array_size(server.store->log) - 1);
		json_object_set(known, json_string_value(json_object_get(record, "hash")), record);
	}
}

static size_t log_end(void)
{
	return json_array_size(server.store->log);
}

/* A failover: the nodes read where their chains end. */
static void lose(size_t n)
{
	close_log();
	for (; n-- && log_end(); lost = true)
		json_array_remove(server.store->log, log_end() - 1);
	json_object_clear(server.store->docs);
	open_log();
}

/* What was there is as it was, if it is refused. */
static void start_copying(void)
{
	struct err e = { 0 };
	size_t before_n = 0, after_n = 0;
	char *before = fuzz_get(path, &before_n);
	int rc = audit_export_open_blocking(&server, &copy, &e);
	FUZZ_CHECK((rc == 0) == (copy != NULL));
	if (rc == ERR_INVALID || rc == ERR_CONFLICT) {
		FUZZ_CHECK(strange || (rc == ERR_CONFLICT && lost));
		FUZZ_CHECK(strstr(e.text, "audit.file") && strlen(e.text) > strlen("audit.file: "));
		char *after = fuzz_get(path, &after_n);
		FUZZ_CHECK(rc == ERR_CONFLICT ||
			   (before_n == after_n && memcmp(before ? before : "", after ? after : "", after_n) == 0));
		free(after);
	} else {
		FUZZ_CHECK(rc == 0);
	}
	free(before);
}

static void write_copy(void)
{
	for (unsigned i = 0; i < 20 && audit_export_run_blocking(copy); i++)
		;
}

static void restart(void)
{
	calls_left = 0;
	dead = false;
	audit_export_close(&copy);
	start_copying();
}

static void arm(unsigned n, bool kill)
{
	calls_left = 1 + (n & 15);
	part = (size_t)(n >> 4) * 8;
	deadly = kill;
}

/* Between two lines alone: half of one that is moved away stays half a line. */
static void rotate(bool move)
{
	size_t n = 0;
	char *text = rotated_n < ROTATED_MAX ? fuzz_get(path, &n) : NULL;
	if (!text || (n && text[n - 1] != '\n')) {
		free(text);
		return;
	}
	rotated[rotated_n] = text;
	rotated_len[rotated_n++] = n;
	if (move)
		unlink(path);
	else
		FUZZ_CHECK(truncate(path, 0) == 0);
}

static void meddle(const char *file, bool behind, struct fuzz_input *in, size_t n)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | (behind ? O_APPEND : O_TRUNC), 0600);
	n = n < in->left ? n : in->left;
	FUZZ_CHECK(fd >= 0 && __real_write(fd, in->at, n) == (ssize_t)n);
	close(fd);
	in->at += n;
	in->left -= n;
	strange = true;
	restart();
}

static void take_step(char what, uint8_t n, struct fuzz_input *in)
{
	if (what == 'a' || what == 'b')
		append(what == 'b', n);
	else if (what == 'r' && copy)
		write_copy();
	else if (what == 'o')
		restart();
	else if (what == 'f')
		arm(n, false);
	else if (what == 'k' && copy) {
		arm(n, true);
		write_copy();
		restart();
	} else if (what == 'm' || what == 'z')
		rotate(what == 'm');
	else if (what == 'l')
		lose(n);
	else if (what == 'w' || what == 'p')
		meddle(what == 'w' ? path : position, what == 'w', in, n);
}

/* ---- what was copied ---- */

/* All of it, one behind the other. */
static char *copied(size_t *out_n)
{
	size_t n = 0, last_n = 0;
	char *last = fuzz_get(path, &last_n), *all;
	for (size_t i = 0; i < rotated_n; i++)
		n += rotated_len[i];
	all = malloc(n + last_n + 1);
	for (size_t i = n = 0; i < rotated_n; n += rotated_len[i++])
		memcpy(all + n, rotated[i], rotated_len[i]);
	if (last)
		memcpy(all + n, last, last_n);
	all[n + last_n] = '\0';
	free(last);
	*out_n = n + last_n;
	return all;
}

/* A line's length with its end; 0: there is none. */
static size_t line_at(const char *text, size_t left)
{
	const char *end = left ? memchr(text, '\n', left) : NULL;
	return end ? (size_t)(end - text) + 1 : left;
}

/* Nothing but records of the log, and all that it has. */
static void check_copied(const char *text, size_t n)
{
	json_auto_t *there = json_object();
	for (size_t len; (len = line_at(text, n)) > 0; text += len, n -= len) {
		json_t *record = NULL;
		FUZZ_CHECK(text[len - 1] == '\n' && json_parse(text, len - 1, &record, NULL) == 0);
		const char *hash = json_string_value(json_object_get(record, "hash"));
		FUZZ_CHECK(hash && json_integer_value(json_object_get(record, "seq")) > 0);
		json_object_del(record, "seq");
		json_object_set_new(there, hash, record);
		char *a = json_dumps(record, JSON_SORT_KEYS),
		     *b = json_dumps(json_object_get(known, hash), JSON_SORT_KEYS);
		FUZZ_CHECK(a && b && strcmp(a, b) == 0);
		free(a);
		free(b);
	}
	for (size_t i = 0; i < log_end(); i++)
		FUZZ_CHECK(json_object_get(
			there, json_string_value(json_object_get(json_array_get(server.store->log, i), "hash"))));
}

static json_t *verify(const char *text, size_t n)
{
	char verified[160], option[] = "--file";
	char *argv[] = { option, verified };
	union {
		struct common_options common;
		char room[COMMAND_OPTIONS_MAX];
	} options = { .common = { .profile = NULL } };
	int rest = 0;
	struct err e;
	snprintf(verified, sizeof verified, "%s.all", path);
	fuzz_put(verified, text, n);
	FUZZ_CHECK(args_parse(command_verify_audit.rows, NULL, false, 2, argv, &options, &rest, &e) == 0);
	options.common.output = OUTPUT_JSON;
	reported = NULL;
	int code = command_verify_audit.run(&options, 0, NULL);
	FUZZ_CHECK(reported &&
		   code == (json_is_true(json_object_get(reported, "whole")) ? EXIT_CODE_OK : EXIT_CODE_NOT_WHOLE));
	return reported;
}

static uint64_t number(const json_t *report, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(report, key));
}

/* The same, line by line. */
static void check_verified(const char *text, size_t n)
{
	struct audit_check check;
	bool whole = true;
	audit_check_init(&check);
	FUZZ_CHECK(audit_check_allow_repeats(&check, NULL) == 0);
	json_auto_t *report = verify(text, n);
	for (size_t len; whole && (len = line_at(text, n)) > 0; text += len, n -= len) {
		json_t *record = NULL;
		whole = json_parse(text, len - (text[len - 1] == '\n'), &record, NULL) == 0;
		json_auto_t *page = record ? json_pack("[o]", record) : NULL;
		whole = whole && audit_check_records(&check, page, NULL) == 0;
	}
	FUZZ_CHECK(json_is_true(json_object_get(report, "whole")) == whole);
	FUZZ_CHECK(whole == json_is_null(json_object_get(report, "problem")));
	FUZZ_CHECK(number(report, "records") == check.records && number(report, "repeated") == check.repeated);
	FUZZ_CHECK(number(report, "first") == check.first &&
		   number(report, "last") == (check.next ? check.next - 1 : 0));
	audit_check_free(&check);
}

static void check_all(struct fuzz_input *changes)
{
	size_t n;
	calls_left = 0;
	if (copy)
		write_copy();
	char *text = copied(&n);
	if (copy && !strange)
		check_copied(text, n);
	if (copy && !strange && !lost) {
		json_auto_t *report = verify(text, n);
		FUZZ_CHECK(json_is_true(json_object_get(report, "whole")) && number(report, "records") == log_end());
		/* What was written when the file was moved away before that was noted comes again. */
		FUZZ_CHECK(number(report, "repeated") == 0 || (failed && rotated_n));
	}
	while (changes->left >= 3 && n) {
		size_t at = ((size_t)fuzz_byte(changes) << 8 | fuzz_byte(changes)) % n;
		text[at] = (char)fuzz_byte(changes);
	}
	check_verified(text, n);
	free(text);
}

static void set_up(void)
{
	const char *folder = fuzz_folder();
	snprintf(path, sizeof path, "%s/copy", folder);
	snprintf(position, sizeof position, "%s/audit.file", folder);
	unlink(path);
	unlink(position);
	if (!metrics)
		metrics = metrics_new();
	settings = (struct settings){ .state_dir = (char *)(uintptr_t)folder,
				      .audit_file = path,
				      .audit_syslog = (char *)(uintptr_t) "" };
	server = (struct server){ .settings = &settings, .store = fake_store_new(), .metrics = metrics };
	known = json_object();
	appended = 0;
	lost = strange = failed = dead = false;
	open_log();
	start_copying();
}

static void tear_down(void)
{
	audit_export_close(&copy);
	close_log();
	fake_store_free(server.store);
	json_decref(known);
	while (rotated_n)
		free(rotated[--rotated_n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char what = 0;
	set_up();
	for (unsigned i = 0; i < STEPS_MAX && in.left && what != 't'; i++) {
		what = (char)fuzz_byte(&in);
		if (what != 't')
			take_step(what, strchr("abfklwp", what) ? fuzz_byte(&in) : 0, &in);
	}
	check_all(&in);
	tear_down();
	return 0;
}

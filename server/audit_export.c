/* Each copy has a position, the number and the hash of the last record in it, in a file of its own in state_dir. It is
 * written behind the records: so after a crash none is missing, and what was written behind the position may come
 * again. A file says itself how far it got, by its last line: there nothing comes twice, unless it was rotated away in
 * the moment before the crash. A line that was cut is cut off.
 *
 * A store may lose its last records, and give their numbers to others: a failover does. So the last record that was
 * copied is looked at again, and when it is not there, or is another one, some of those before it are copied once more:
 * what was copied and lost stays in the copy, and nothing that is in the log is left out. */
#include "server/audit_export.h"

#include "base/audit_chain.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 200u                                  /* records between two writings of the position, but for one */
#define LINE_MAX_BYTES (LIMIT_STORE_VALUE + 4096u) /* a record as the store takes it, with its number */
#define BACK 2000u                                 /* records that are copied once more when the log has lost some */
#define PAGE_BYTES ((size_t)(PAGE + 1) * LINE_MAX_BYTES)
#define POSITION_MAX 128u  /* bytes: a number and a hash */
#define SYSLOG_PRIORITY 86 /* facility authpriv, severity info */

struct sink {
	const char *setting, *path;
	char *position_path;
	uint64_t at;                /* the last record in it */
	char hash[AUDIT_HASH_TEXT]; /* of that one; "": not known */
	int fd;                     /* -1: not open */
	bool failing;
	/* Readies fd; may move at. */
	int (*ready)(struct sink *s, struct err *e);
	/* Writes records, in order; *out_at: the last one that is there, also on failure. */
	int (*write)(struct sink *s, const json_t *records, uint64_t *out_at, struct err *e);
};

#define SINKS 2
struct audit_export {
	struct server *server;
	struct sink sinks[SINKS];
	size_t n;
};

static uint64_t seq_of(const json_t *record)
{
	json_int_t seq = json_integer_value(json_object_get(record, "seq"));
	return seq > 0 ? (uint64_t)seq : 0;
}

static void is_at(struct sink *s, uint64_t seq, const json_t *record)
{
	const char *hash = json_string_value(json_object_get(record, "hash"));
	s->at = seq;
	snprintf(s->hash, sizeof s->hash, "%s", hash ? hash : "");
}

static void shut(struct sink *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* --- position --- */

static int load_position(struct sink *s, struct err *e)
{
	struct buf b;
	int64_t at = 0;
	int rc = file_read(s->position_path, POSITION_MAX, &b, e);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	char text[POSITION_MAX + 1];
	snprintf(text, sizeof text, "%.*s", (int)b.len, (const char *)buf_data(&b));
	buf_free(&b);
	text[strcspn(text, "\n")] = '\0';
	char *hash = strchr(text, ' ');
	if (hash)
		*hash++ = '\0';
	if (text_parse_int(text, 0, INT64_MAX, &at) != 0)
		return err_set(e, ERR_INVALID, "%s: expected a number", s->position_path);
	s->at = (uint64_t)at;
	snprintf(s->hash, sizeof s->hash, "%s", hash ? hash : "");
	return 0;
}

static int save_position(const struct sink *s, struct err *e)
{
	char text[POSITION_MAX];
	int n = snprintf(text, sizeof text, "%" PRIu64 "%s%s\n", s->at, *s->hash ? " " : "", s->hash);
	return file_write(s->position_path, text, (size_t)n, 0600, e);
}

/* --- a file --- */

/* May it be what a crash left of a record? Where the power went, a file may end in zeros. */
static bool is_half_record(const uint8_t *at, size_t n)
{
	static const char start[] = "{\"seq\":";
	while (n && at[n - 1] == '\0')
		n--;
	return memcmp(at, start, n < sizeof start - 1 ? n : sizeof start - 1) == 0;
}

/* The last whole line of the file, without what was cut behind it, which begins at *out_half: at 0 there is none. */
static int last_line(const struct sink *s, struct buf *out, off_t *out_half, struct err *e)
{
	off_t end = lseek(s->fd, 0, SEEK_END);
	size_t want = end > (off_t)(2 * LINE_MAX_BYTES) ? 2 * LINE_MAX_BYTES : (size_t)end;
	uint8_t *at = want ? buf_reserve(out, want) : NULL;
	*out_half = end;
	if (end <= 0)
		return end < 0 ? err_set_errno(e, ERR_IO, errno, "%s", s->path) : 0;
	if (!at)
		return err_set(e, ERR_NOMEM, "out of memory");
	ssize_t n = pread(s->fd, at, want, end - (off_t)want);
	if (n != (ssize_t)want)
		return err_set(e, ERR_IO, "%s: could not be read", s->path);
	size_t len = want;
	while (len && at[len - 1] != '\n')
		len--;
	if (len == 0 && want < (size_t)end)
		return err_set(e, ERR_INVALID, "%s: ends with a line of over %u bytes, which is no record", s->path,
			       2 * LINE_MAX_BYTES);
	if (len < want && !is_half_record(at + len, want - len))
		return err_set(e, ERR_INVALID, "%s: ends with what is no audit record, so it is not written to",
			       s->path);
	*out_half = end - (off_t)(want - len);
	if (len == 0)
		return 0;
	size_t start = --len;
	while (start && at[start - 1] != '\n')
		start--;
	memmove(at, at + start, len - start);
	buf_commit(out, len - start);
	return 0;
}

static int resume_file(struct sink *s, struct err *e)
{
	struct buf line = BUF_INIT(2 * LINE_MAX_BYTES);
	json_auto_t *record = NULL;
	struct err why;
	off_t half = 0;
	int rc = last_line(s, &line, &half, e);
	if (rc == 0 && half > 0 &&
	    (json_parse((const char *)buf_data(&line), line.len, &record, &why) != 0 || seq_of(record) == 0))
		rc = err_set(e, ERR_INVALID, "%s: its last line is no audit record, so it is not written to", s->path);
	if (rc == 0 && lseek(s->fd, 0, SEEK_END) > half && ftruncate(s->fd, half) != 0)
		rc = err_set_errno(e, ERR_IO, errno, "%s: cutting off half a line", s->path);
	if (rc == 0 && seq_of(record) >= s->at && seq_of(record) > 0)
		is_at(s, seq_of(record), record);
	buf_free(&line);
	return rc;
}

static int ready_file(struct sink *s, struct err *e)
{
	struct stat there, here;
	if (s->fd >= 0 && (stat(s->path, &there) != 0 || fstat(s->fd, &here) != 0 || there.st_ino != here.st_ino ||
			   there.st_dev != here.st_dev || here.st_size == 0))
		shut(s); /* it was rotated away, or emptied */
	if (s->fd >= 0)
		return 0;
	s->fd = open(s->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	if (s->fd < 0)
		return err_set_errno(e, ERR_IO, errno, "%s", s->path);
	int rc = resume_file(s, e);
	if (rc != 0)
		shut(s);
	return rc;
}

static int write_file(struct sink *s, const json_t *records, uint64_t *out_at, struct err *e)
{
	struct buf b = BUF_INIT(PAGE_BYTES);
	size_t i, done = 0;
	const json_t *record;
	int rc = 0;
	json_array_foreach(records, i, record)
	{
		char *text = json_text(record);
		rc |= text ? buf_printf(&b, "%s\n", text) : -1;
		free(text);
	}
	if (rc != 0)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	while (rc == 0 && done < b.len) {
		ssize_t n = write(s->fd, buf_data(&b) + done, b.len - done);
		if (n < 0 && errno != EINTR)
			rc = err_set_errno(e, ERR_IO, errno, "%s", s->path);
		done += n > 0 ? (size_t)n : 0;
	}
	if (rc == 0 && fdatasync(s->fd) != 0 && errno != EINVAL) /* EINVAL: a pipe or the like */
		rc = err_set_errno(e, ERR_IO, errno, "%s", s->path);
	buf_free(&b);
	if (rc == 0)
		*out_at = seq_of(json_array_get(records, json_array_size(records) - 1));
	else
		shut(s); /* when it is opened again its last line says how far it got */
	return rc;
}

/* --- syslog --- */

static int ready_syslog(struct sink *s, struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (s->fd >= 0)
		return 0;
	if ((size_t)snprintf(to.sun_path, sizeof to.sun_path, "%s", s->path) >= sizeof to.sun_path)
		return err_set(e, ERR_INVALID, "%s: longer than %zu bytes", s->path, sizeof to.sun_path - 1);
	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd >= 0 && connect(s->fd, (struct sockaddr *)&to, sizeof to) == 0)
		return 0;
	int saved = errno;
	shut(s);
	return err_set_errno(e, ERR_UNAVAILABLE, saved, "%s", s->path);
}

static int send_record(const struct sink *s, const json_t *record)
{
	char *json = json_text(record), *text = NULL;
	int n = json ? asprintf(&text, "<%d>tunnel-server[%d]: %s", SYSLOG_PRIORITY, (int)getpid(), json) : -1;
	int rc = n < 0 ? ENOMEM : send(s->fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : errno;
	if (n >= 0)
		free(text);
	free(json);
	return rc;
}

/* A record that no datagram takes leaves its number, chain and event. */
static int send_head(const struct sink *s, const json_t *record)
{
	static const char *const keys[] = { "seq", "at", "node", "event", "prev", "hash" };
	json_auto_t *head = json_pack("{s:b}", "too_long", 1);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		json_object_set(head, keys[i], json_object_get(record, keys[i]));
	return send_record(s, head);
}

static int write_syslog(struct sink *s, const json_t *records, uint64_t *out_at, struct err *e)
{
	size_t i;
	const json_t *record;
	json_array_foreach(records, i, record)
	{
		int errnum = send_record(s, record);
		if (errnum == EMSGSIZE)
			errnum = send_head(s, record);
		if (errnum == EAGAIN || errnum == ENOBUFS) /* it is slow: not a failure if anything went */
			return i ? 0 : err_set_errno(e, ERR_UNAVAILABLE, errnum, "%s", s->path);
		if (errnum) {
			shut(s);
			return err_set_errno(e, ERR_UNAVAILABLE, errnum, "%s", s->path);
		}
		*out_at = seq_of(record);
	}
	return 0;
}

/* --- all of them --- */

/* records: from the last one that was copied on. Takes that one away; false: it is lost. */
static bool take_last(struct sink *s, json_t *records)
{
	const json_t *last = json_array_get(records, 0);
	const char *hash = json_string_value(json_object_get(last, "hash"));
	if (s->at == 0)
		return true;
	if (seq_of(last) != s->at || !hash || (*s->hash && strcmp(hash, s->hash) != 0))
		return false;
	json_array_remove(records, 0);
	return true;
}

static int go_back(struct audit *audit, struct sink *s, struct err *e)
{
	uint64_t end = 0;
	int rc = audit_end_blocking(audit, &end, e);
	if (rc)
		return rc;
	if (end > s->at)
		end = s->at;
	uint64_t to = end > BACK ? end - BACK : 0;
	log_error("%s: record %" PRIu64 " is in the copy, and the store has lost it; those from %" PRIu64
		  " on are copied once more",
		  s->setting, s->at, to + 1);
	is_at(s, to, NULL);
	return 0;
}

static const json_t *find(const json_t *records, uint64_t seq)
{
	size_t i;
	const json_t *record;
	json_array_foreach(records, i, record)
	{
		if (seq_of(record) == seq)
			return record;
	}
	return NULL;
}

static int run_sink(struct audit *audit, struct sink *s, bool *out_more, struct err *e)
{
	json_auto_t *records = NULL;
	uint64_t next, before;
	int rc = s->ready(s, e);
	if (rc == 0)
		rc = audit_read_blocking(audit, s->at ? s->at : 1, PAGE + 1, &records, &next, e);
	if (rc == 0 && !take_last(s, records)) {
		*out_more = true;
		return go_back(audit, s, e);
	}
	size_t n = json_array_size(records);
	if (rc != 0 || n == 0)
		return rc;
	before = s->at;
	rc = s->write(s, records, &s->at, e);
	if (s->at != before) {
		is_at(s, s->at, find(records, s->at));
		struct err why;
		int saved = save_position(s, &why);
		if (saved != 0 && rc == 0)
			rc = err_set(e, saved, "%s", why.text);
	}
	*out_more |= rc == 0 && n >= PAGE;
	return rc;
}

bool audit_export_run_blocking(struct audit_export *x)
{
	bool more = false;
	uint64_t end = 0, behind = 0;
	for (size_t i = 0; x && i < x->n; i++) {
		struct err e;
		struct sink *s = &x->sinks[i];
		int rc = run_sink(x->server->audit, s, &more, &e);
		if (rc != 0 && !s->failing)
			log_error("%s: %s; trying again", s->setting, e.text);
		else if (rc == 0 && s->failing)
			log_info("%s: %s can be written again", s->setting, s->path);
		s->failing = rc != 0;
		if (s->failing && audit_end_blocking(x->server->audit, &end, &e) == 0 && end - s->at > behind)
			behind = end - s->at;
	}
	if (x)
		metrics_set(x->server->metrics, METRIC_AUDIT_EXPORT_BEHIND, (int64_t)behind);
	return more;
}

static int open_sink(struct audit_export *x, struct sink sink, struct err *e)
{
	struct sink *s = &x->sinks[x->n];
	uint64_t end = 0;
	struct err why;
	if (!*sink.path)
		return 0;
	*s = sink;
	s->fd = -1;
	if (asprintf(&s->position_path, "%s/%s", x->server->settings->state_dir, s->setting) < 0) {
		s->position_path = NULL;
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	x->n++;
	int rc = load_position(s, e);
	if (rc == 0)
		rc = audit_end_blocking(x->server->audit, &end, e);
	/* A file or socket that is not there yet is no reason not to serve; one that is something else is. */
	if (rc == 0 && s->ready(s, &why) == ERR_INVALID)
		rc = err_set(e, ERR_INVALID, "%s", why.text);
	if (rc == 0 && s->at > end)
		rc = err_set(e, ERR_CONFLICT,
			     "%s got up to record %" PRIu64 ", but the log in the store ends with %" PRIu64
			     ": it is of another log; move %s%s away",
			     s->path, s->at, end, s->ready == ready_file ? "it and " : "", s->position_path);
	return rc ? err_wrap(e, "%s", s->setting) : 0;
}

int audit_export_open_blocking(struct server *server, struct audit_export **out_export, struct err *e)
{
	const struct settings *set = server->settings;
	if (!*set->audit_file && !*set->audit_syslog)
		return 0;
	struct audit_export *x = calloc(1, sizeof *x);
	if (!x)
		return err_set(e, ERR_NOMEM, "out of memory");
	x->server = server;
	int rc = open_sink(
		x,
		(struct sink){
			.setting = "audit.file", .path = set->audit_file, .ready = ready_file, .write = write_file },
		e);
	if (rc == 0)
		rc = open_sink(x,
			       (struct sink){ .setting = "audit.syslog",
					      .path = set->audit_syslog,
					      .ready = ready_syslog,
					      .write = write_syslog },
			       e);
	if (rc != 0)
		audit_export_close(&x);
	else
		*out_export = x;
	return rc;
}

void audit_export_close(struct audit_export **export)
{
	struct audit_export *x = *export;
	*export = NULL;
	for (size_t i = 0; x && i < x->n; i++) {
		shut(&x->sinks[i]);
		free(x->sinks[i].position_path);
	}
	free(x);
}

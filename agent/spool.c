/* One file of JSON lines, appended: reports {"seq","session","n","body"}, acknowledgements {"ack"}, departures
 * {"forget"}, and after each rewrite a head {"next","sessions"}. Replaying the lines gives the state. The file is
 * rewritten when little of it is alive, and before anything is added to one that a failure has left in doubt: after an
 * fsync that failed the kernel may have dropped what was written, and the next one would not tell. Acknowledgements and
 * departures need no fsync: losing one repeats something that the other end drops. A new spool starts counting at the
 * time of day, so that a lost state folder does not make the server take new reports for old ones. */
#include "agent/spool.h"

#include "agent/name.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REWRITE_BYTES (256u * 1024) /* dead bytes that are worth a rewrite */

struct entry {
	struct list node;
	uint64_t seq, number;
	char session[WORKER_NAME];
	char *message; /* with seq, as it is sent */
	size_t len;
};

struct spool {
	char *path;
	int fd;
	uint64_t next, synced; /* synced: highest seq that is durable */
	struct list entries;
	size_t live_bytes, file_bytes;
	json_t *numbers;   /* session → newest number */
	bool dirty, hurry; /* not durable yet; and somebody waits for it */
	bool doubtful;     /* the file may not be what stands here */
};

static void drop(struct spool *s, struct entry *en)
{
	s->live_bytes -= en->len;
	list_remove(&en->node);
	free(en->message);
	free(en);
}

static int keep(struct spool *s, uint64_t seq, const char *session, uint64_t number, const json_t *body, struct err *e)
{
	struct entry *en = calloc(1, sizeof *en);
	json_auto_t *message = json_copy((json_t *)(uintptr_t)body);
	if (en && message && json_object_set_new(message, "seq", json_integer((json_int_t)seq)) == 0)
		en->message = json_text(message);
	if (!en || !en->message) {
		free(en);
		return err_set(e, ERR_NOMEM, "spool: out of memory");
	}
	en->seq = seq, en->number = number;
	en->len = strlen(en->message);
	snprintf(en->session, sizeof en->session, "%s", session);
	list_append(&s->entries, &en->node);
	s->live_bytes += en->len;
	return 0;
}

static uint64_t number_of(const json_t *line, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(line, key));
	return v > 0 && v <= SPOOL_SEQ_MAX ? (uint64_t)v : 0;
}

static void set_number(struct spool *s, const char *session, uint64_t number)
{
	if (number > spool_last_number(s, session))
		json_object_set_new(s->numbers, session, json_integer((json_int_t)number));
}

uint64_t spool_last_number(const struct spool *spool, const char *session)
{
	return number_of(spool->numbers, session);
}

static void drop_acked(struct spool *s, uint64_t seq)
{
	LIST_EACH_SAFE(node, after, &s->entries)
	{
		struct entry *en = LIST_ENTRY(node, struct entry, node);
		if (en->seq > seq)
			break;
		drop(s, en);
	}
}

static int replay_line(struct spool *s, const json_t *line, struct err *e)
{
	const char *session = json_string_value(json_object_get(line, "session"));
	const json_t *body = json_object_get(line, "body"), *sessions = json_object_get(line, "sessions");
	const char *forget = json_string_value(json_object_get(line, "forget"));
	uint64_t seq = number_of(line, "seq"), next = number_of(line, "next");
	if (next > s->next)
		s->next = next;
	if (json_is_object(sessions))
		json_object_update(s->numbers, (json_t *)(uintptr_t)sessions);
	if (forget)
		json_object_del(s->numbers, forget);
	drop_acked(s, number_of(line, "ack"));
	if (!seq || !session || strlen(session) >= WORKER_NAME || !json_is_object(body))
		return 0;
	if (seq >= s->next)
		s->next = seq + 1;
	set_number(s, session, number_of(line, "n"));
	return keep(s, seq, session, number_of(line, "n"), body, e);
}

/* *out_good: bytes of whole, readable lines. */
static int replay(struct spool *s, const struct buf *text, size_t *out_good, struct err *e)
{
	const char *from = (const char *)buf_data(text), *end = from + text->len;
	*out_good = 0;
	while (from < end) {
		const char *newline = memchr(from, '\n', (size_t)(end - from));
		json_t *line = NULL;
		if (!newline || json_parse(from, (size_t)(newline - from), &line, NULL))
			return 0; /* torn by a crash; nothing behind it was acknowledged to a worker */
		int rc = replay_line(s, line, e);
		json_decref(line);
		if (rc)
			return rc;
		from = newline + 1;
		*out_good = text->len - (size_t)(end - from);
	}
	return 0;
}

static int append(struct spool *s, const json_t *line, struct err *e)
{
	char *text = json_text(line);
	if (!text)
		return err_set(e, ERR_NOMEM, "spool: out of memory");
	size_t len = strlen(text), done = 0;
	text[len++] = '\n'; /* in the place of the NUL */
	while (done < len) {
		ssize_t n = write(s->fd, text + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	free(text);
	if (done < len) {
		int why = errno; /* a torn line in the middle would hide what follows it */
		s->doubtful = done && ftruncate(s->fd, (off_t)s->file_bytes) != 0;
		return err_set_errno(e, ERR_IO, why, "%s", s->path);
	}
	s->file_bytes += len;
	return 0;
}

static int open_file(struct spool *s, struct err *e)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = open(s->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return s->fd < 0 ? err_set_errno(e, ERR_IO, errno, "%s", s->path) : 0;
}

static int add_line(struct buf *b, const json_t *line)
{
	char *text = line ? json_text(line) : NULL;
	int bad = !text || buf_add_text(b, text) || buf_add_u8(b, '\n');
	free(text);
	return bad;
}

static json_t *entry_line(const struct entry *en)
{
	json_t *body = NULL;
	if (json_parse(en->message, en->len, &body, NULL))
		return NULL;
	return json_pack("{s:I, s:s, s:I, s:o}", "seq", (json_int_t)en->seq, "session", en->session, "n",
			 (json_int_t)en->number, "body", body);
}

/* By a file whose name was to last, and perhaps does not. */
static bool is_replaced(const struct spool *s)
{
	struct stat st;
	return s->fd >= 0 && (fstat(s->fd, &st) != 0 || st.st_nlink == 0);
}

static int rewrite(struct spool *s, struct err *e)
{
	struct buf b = BUF_INIT(4 * LIMIT_AGENT_SPOOL);
	json_auto_t *head = json_pack("{s:I, s:O}", "next", (json_int_t)s->next, "sessions", s->numbers);
	int bad = add_line(&b, head);
	LIST_EACH(node, &s->entries)
	{
		json_auto_t *line = entry_line(LIST_ENTRY(node, struct entry, node));
		bad |= add_line(&b, line);
	}
	int rc = bad ? err_set(e, ERR_NOMEM, "%s: cannot rewrite it", s->path)
		     : file_write(s->path, buf_data(&b), b.len, 0600, e);
	if (!rc) {
		s->file_bytes = b.len;
		rc = open_file(s, e);
		s->doubtful = rc != 0; /* the file that was open is no longer there */
	} else {
		s->doubtful |= is_replaced(s);
	}
	if (!rc) {
		s->synced = s->next - 1;
		s->dirty = s->hurry = false;
	}
	buf_free(&b);
	return rc;
}

static int trust(struct spool *s, struct err *e)
{
	return s->doubtful ? rewrite(s, e) : 0;
}

int spool_open(const char *path, struct spool **out_spool, struct err *e)
{
	struct spool *s = calloc(1, sizeof *s);
	struct buf text = BUF_INIT(1);
	size_t good = 0;
	if (!s)
		return err_set(e, ERR_NOMEM, "spool: out of memory");
	s->fd = -1;
	list_init(&s->entries);
	s->path = strdup(path);
	s->numbers = json_object();
	int rc = s->path && s->numbers ? file_read(path, 64u * LIMIT_AGENT_SPOOL, &text, e)
				       : err_set(e, ERR_NOMEM, "spool: out of memory");
	if (rc == ERR_NOT_FOUND) {
		s->next = (uint64_t)clock_wall_ms();
		rc = 0;
	} else if (!rc) {
		rc = replay(s, &text, &good, e);
		if (!s->next) /* not one line could be read */
			s->next = (uint64_t)clock_wall_ms();
	}
	buf_free(&text);
	if (!rc)
		rc = rewrite(s, e); /* also drops what is torn */
	if (rc)
		spool_close(&s);
	else
		*out_spool = s;
	return rc;
}

void spool_close(struct spool **spool)
{
	struct spool *s = *spool;
	*spool = NULL;
	if (!s)
		return;
	LIST_EACH_SAFE(node, after, &s->entries)
	drop(s, LIST_ENTRY(node, struct entry, node));
	if (s->fd >= 0)
		close(s->fd);
	json_decref(s->numbers);
	free(s->path);
	free(s);
}

int spool_add(struct spool *spool, const char *session, uint64_t number, const json_t *report, struct err *e)
{
	struct spool *s = spool;
	const char *type = json_string_value(json_object_get(report, "type"));
	bool is_end = type && strcmp(type, "session-closed") == 0;
	if (number <= spool_last_number(s, session))
		return 0;
	if (s->live_bytes > LIMIT_AGENT_SPOOL && !is_end)
		return err_set(e, ERR_LIMIT, "%s: more than %u bytes of reports wait for the server", s->path,
			       LIMIT_AGENT_SPOOL);
	json_auto_t *line = json_pack("{s:I, s:s, s:I, s:O}", "seq", (json_int_t)s->next, "session", session, "n",
				      (json_int_t)number, "body", report);
	if (!line)
		return err_set(e, ERR_NOMEM, "spool: out of memory");
	int rc = trust(s, e);
	if (!rc)
		rc = keep(s, s->next, session, number, report, e);
	if (rc)
		return rc;
	rc = append(s, line, e);
	if (rc) {
		drop(s, LIST_ENTRY(s->entries.prev, struct entry, node));
		return rc;
	}
	s->dirty = true;
	s->hurry |= is_end;
	s->next++;
	set_number(s, session, number);
	return 0;
}

int spool_sync(struct spool *spool, struct err *e)
{
	if (spool->doubtful)
		return rewrite(spool, e);
	if (!spool->dirty)
		return 0;
	if (fdatasync(spool->fd) != 0) {
		spool->doubtful = true;
		return err_set_errno(e, ERR_IO, errno, "%s", spool->path);
	}
	spool->dirty = spool->hurry = false;
	spool->synced = spool->next - 1;
	return 0;
}

bool spool_waits(const struct spool *spool, bool *out_hurry)
{
	*out_hurry = spool->hurry;
	return spool->dirty;
}

static void note(struct spool *s, json_t *line)
{
	if (trust(s, NULL) == 0)
		append(s, line, NULL);
	json_decref(line);
	if (s->file_bytes > 2 * s->live_bytes + REWRITE_BYTES)
		rewrite(s, NULL); /* on failure the long file serves as well */
}

void spool_forget(struct spool *spool, const char *session)
{
	if (json_object_del(spool->numbers, session) == 0)
		note(spool, json_pack("{s:s}", "forget", session));
}

void spool_forget_others(struct spool *spool, bool (*is_known)(const void *user, const char *session), const void *user)
{
	const char *session;
	json_t *number;
	void *next;
	size_t before = json_object_size(spool->numbers);
	json_object_foreach_safe(spool->numbers, next, session, number)
	{
		if (!is_known(user, session))
			json_object_del(spool->numbers, session);
	}
	if (json_object_size(spool->numbers) < before)
		rewrite(spool, NULL); /* on failure they are forgotten the next time */
}

void spool_ack(struct spool *spool, uint64_t seq)
{
	if (list_empty(&spool->entries) || LIST_ENTRY(spool->entries.next, struct entry, node)->seq > seq)
		return;
	drop_acked(spool, seq);
	note(spool, json_pack("{s:I}", "ack", (json_int_t)seq));
}

const char *spool_next(const struct spool *spool, uint64_t after, uint64_t *out_seq)
{
	LIST_EACH(node, &spool->entries)
	{
		const struct entry *en = LIST_ENTRY(node, const struct entry, node);
		if (en->seq > spool->synced)
			break;
		if (en->seq > after) {
			*out_seq = en->seq;
			return en->message;
		}
	}
	return NULL;
}

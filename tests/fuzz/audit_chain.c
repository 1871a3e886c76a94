/* An audit log that somebody has changed, read back as verify-audit reads it. The first line of the input says who
 * wrote the log, a letter a record, one chain of hashes for each letter; then a step a line changes it:
 *   d i     removes line i      s i j   swaps two            c i j   copies line i to before j
 *   f i n x changes byte n of line i to x                    p i x   puts the rest of this line before line i
 *   n i j   gives record i the number of record j            r x     all are numbered anew, from x on
 *   t n     the last n lines are missing
 * i, j, n and x are bytes. A second check, which has the records as they were written and knows no hashes, says whether
 * what is left is a whole log, and how many records come before what is not. */
#include "fuzz.h"

#include "base/audit_chain.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS 24
#define LINES_MAX 48

static json_t *written[RECORDS]; /* with their numbers, from 1 on */
static size_t written_n;
static char *lines[LINES_MAX];
static size_t n;

/* ---- the log, as it was written ---- */

/* Some of what records hold: texts, numbers, what is nested, and what has more than one way to be written. */
static json_t *fields_of(size_t i)
{
	switch (i % 5) {
	case 0:
		return json_pack("{s:s, s:s}", "session", "s-1", "principal", "ärger \"quoted\" \\ \x01");
	case 1:
		return json_pack("{s:I, s:f, s:n}", "bytes", (json_int_t)1 << 53, "seconds", 0.1, "nothing");
	case 2:
		return json_pack("{s:{s:[s, i, b], s:{}}}", "grant", "logins", "root", -1, 1, "nested");
	case 3:
		return json_pack("{s:f, s:s}", "bytes", -0.0, "text", "");
	default:
		return json_object();
	}
}

static void write_log(const char *writers)
{
	char last[256][AUDIT_HASH_TEXT] = { "" };
	written_n = 0;
	for (; *writers && written_n < RECORDS; writers++) {
		char node[2] = { *writers, '\0' }, hash[AUDIT_HASH_TEXT];
		char *prev = last[(uint8_t)*writers];
		json_t *node_name = json_string(node);
		if (!node_name)
			continue; /* no UTF-8 */
		json_t *record = fields_of(written_n);
		json_object_set_new(record, "at", json_string("2026-01-01T00:00:00.000Z"));
		json_object_set_new(record, "node", node_name);
		json_object_set_new(record, "prev", json_string(*prev ? prev : audit_first_prev));
		FUZZ_CHECK(audit_record_hash(record, hash, NULL) == 0);
		json_object_set_new(record, "hash", json_string(hash));
		memcpy(prev, hash, sizeof hash);
		json_object_set_new(record, "seq", json_integer((json_int_t)written_n + 1));
		lines[written_n] = json_dumps(record, JSON_COMPACT);
		written[written_n++] = record;
	}
	n = written_n;
}

/* ---- what becomes of it ---- */

static void insert(size_t at, char *line)
{
	if (n == LINES_MAX || at > n) {
		free(line);
		return;
	}
	memmove(&lines[at + 1], &lines[at], (n - at) * sizeof *lines);
	lines[at] = line;
	n++;
}

static void remove_line(size_t at)
{
	free(lines[at]);
	n--;
	memmove(&lines[at], &lines[at + 1], (n - at) * sizeof *lines);
}

/* Text of a line with another number; what is no record stays. */
static void renumber(size_t at, json_int_t seq)
{
	json_t *record = json_loads(lines[at], 0, NULL);
	if (json_is_object(record)) {
		json_object_set_new(record, "seq", json_integer(seq));
		free(lines[at]);
		lines[at] = json_dumps(record, JSON_COMPACT);
	}
	json_decref(record);
}

static void change_bytes(size_t at, size_t byte, uint8_t to)
{
	if (byte < strlen(lines[at]) && to && to != '\n')
		lines[at][byte] = (char)to;
}

static void swap_lines(size_t a, size_t b)
{
	char *line = lines[a];
	lines[a] = lines[b];
	lines[b] = line;
}

static void take_pair(char step, size_t at, size_t other)
{
	json_int_t seq = 0;
	if (other >= n)
		return;
	json_auto_t *record = json_loads(lines[other], 0, NULL);
	seq = json_integer_value(json_object_get(record, "seq"));
	if (step == 's')
		swap_lines(at, other);
	else if (step == 'c')
		insert(other, strdup(lines[at]));
	else
		renumber(at, seq);
}

static void take_step(struct fuzz_input *step)
{
	char what = (char)fuzz_byte(step);
	size_t at = fuzz_byte(step), byte;
	if (what == 't')
		while (at-- && n)
			remove_line(n - 1);
	else if (what == 'r')
		for (size_t i = 0; i < n; i++)
			renumber(i, (json_int_t)(at + i));
	else if (what == 'p')
		insert(at, fuzz_text(step->at, step->left));
	else if (at >= n)
		return;
	else if (what == 'd')
		remove_line(at);
	else if (what == 'f') {
		byte = fuzz_byte(step);
		change_bytes(at, byte, fuzz_byte(step));
	} else if (what == 's' || what == 'c' || what == 'n')
		take_pair(what, at, fuzz_byte(step));
}

/* ---- the check that knows what was written ---- */

static bool same(const json_t *a, const json_t *b)
{
	const unsigned flags = JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);
	char *x = json_dumps(a, flags), *y = json_dumps(b, flags);
	bool is = x && y && strcmp(x, y) == 0;
	free(x);
	free(y);
	return is;
}

/* Which of those that were written it is, but for its number: from 0; RECORDS: none. */
static size_t which(const json_t *record)
{
	size_t i = 0;
	json_auto_t *bare = json_copy((json_t *)(uintptr_t)record);
	for (; i < written_n; i++) {
		json_object_set(bare, "seq", json_object_get(written[i], "seq"));
		if (same(bare, written[i]))
			return i;
	}
	return RECORDS;
}

static const char *node_of(size_t i)
{
	return json_string_value(json_object_get(written[i], "node"));
}

/* The next record of the same node behind one; of a node's first one, behind RECORDS. */
static size_t next_of(const char *node, size_t behind)
{
	size_t i = behind == RECORDS ? 0 : behind + 1;
	while (i < written_n && strcmp(node_of(i), node) != 0)
		i++;
	return i;
}

struct slow {
	size_t seen[LINES_MAX]; /* which ones they were */
	size_t n;
	json_int_t first;
};

/* Is it one that was there already, with that number? */
static bool is_repeated(const struct slow *s, json_int_t seq, size_t it)
{
	return s->n && seq >= s->first && seq < s->first + (json_int_t)s->n && s->seen[seq - s->first] == it;
}

/* May this record come next? */
static bool goes_on(struct slow *s, const json_t *record, bool repeats)
{
	const json_t *number = json_object_get(record, "seq");
	json_int_t seq = json_integer_value(number);
	size_t it = json_is_object(record) ? which(record) : RECORDS, before = RECORDS;
	if (it == RECORDS || !json_is_integer(number) || seq < 1)
		return false;
	if (repeats && is_repeated(s, seq, it))
		return true;
	if (s->n == 0)
		s->first = seq;
	if (seq != s->first + (json_int_t)s->n)
		return false;
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(node_of(s->seen[i]), node_of(it)) == 0)
			before = s->seen[i];
	if ((before != RECORDS || s->first == 1) && next_of(node_of(it), before) != it)
		return false;
	s->seen[s->n++] = it;
	return true;
}

/* ---- both ---- */

static void compare(bool repeats)
{
	struct audit_check check;
	struct slow slow = { .n = 0 };
	bool whole = true;
	audit_check_init(&check);
	FUZZ_CHECK(!repeats || audit_check_allow_repeats(&check, NULL) == 0);
	for (size_t i = 0; whole && i < n; i++) {
		json_t *record = NULL;
		struct err e = { 0 };
		if (json_parse(lines[i], strlen(lines[i]), &record, NULL) != 0)
			break;
		whole = goes_on(&slow, record, repeats);
		json_auto_t *page = json_pack("[o]", record);
		int rc = audit_check_records(&check, page, &e);
		FUZZ_CHECK((rc == 0) == whole && (whole || (rc == ERR_INVALID && e.text[0])));
		FUZZ_CHECK(check.records == slow.n);
	}
	audit_check_free(&check);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *writers = fuzz_part(&in, '\n');
	write_log(writers);
	free(writers);
	while (in.left) {
		const uint8_t *start = in.at;
		free(fuzz_part(&in, '\n'));
		struct fuzz_input step = { start, (size_t)(in.at - start) };
		step.left -= in.at[-1] == '\n';
		take_step(&step);
	}
	compare(false);
	compare(true);
	while (n)
		remove_line(n - 1);
	while (written_n)
		json_decref(written[--written_n]);
	return 0;
}

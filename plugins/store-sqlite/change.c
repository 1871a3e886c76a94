/* What a put, a del, an append does in the open transaction. Each runs in a savepoint of its own, so one that fails
 * leaves the others of its batch alone. */
#include "sqlite_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum statement {
	FIND,
	INSERT,
	UPDATE,
	DELETE,
	CLEAR_ENTRIES,
	ADD_ENTRY,
	LAST_SEQ,
	APPEND,
	PURGE,
	PROBE,
	SAVEPOINT,
	RELEASE,
	ROLLBACK_TO,
	STATEMENTS
};

static const char *const sql[STATEMENTS] = {
	[FIND] = "SELECT id, version, expires_ms FROM _document WHERE collection = ?1 AND key = ?2",
	[INSERT] = "INSERT INTO _document(collection, key, value, version, expires_ms) VALUES(?1, ?2, ?3, 1, ?4)",
	[UPDATE] = "UPDATE _document SET value = ?2, version = ?3, expires_ms = ?4 WHERE id = ?1",
	[DELETE] = "DELETE FROM _document WHERE id = ?1",
	[CLEAR_ENTRIES] = "DELETE FROM _entry WHERE id = ?1",
	[ADD_ENTRY] = "INSERT OR IGNORE INTO _entry(collection, name, value, key, id) VALUES(?1, ?2, ?3, ?4, ?5)",
	[LAST_SEQ] = "SELECT coalesce(max(seq), 0) FROM _log WHERE name = ?1",
	[APPEND] = "INSERT INTO _log(name, seq, record) VALUES(?1, ?2, ?3)",
	[PURGE] = ("DELETE FROM _document WHERE id IN "
		   "(SELECT id FROM _document WHERE expires_ms > 0 AND expires_ms <= ?1 LIMIT ?2)"),
	[PROBE] = "INSERT OR REPLACE INTO _probe(id, at_ms) VALUES(1, ?1)",
	[SAVEPOINT] = "SAVEPOINT change",
	[RELEASE] = "RELEASE change",
	[ROLLBACK_TO] = "ROLLBACK TO change",
};

struct changer {
	sqlite3 *db;
	sqlite3_stmt *s[STATEMENTS];
	char *views[VIEWS_MAX]; /* collections whose view exists */
	size_t view_count;
};

int changer_new(sqlite3 *db, struct changer **out_changer, struct words w)
{
	struct changer *c = calloc(1, sizeof *c);
	if (!c)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	c->db = db;
	for (size_t i = 0; i < STATEMENTS; i++) {
		int rc = sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &c->s[i], NULL);
		if (rc != SQLITE_OK) {
			rc = words_sqlite(w, db, rc, "prepare");
			changer_free(&c);
			return rc;
		}
	}
	*out_changer = c;
	return 0;
}

void changer_forget(struct changer *c)
{
	for (size_t i = 0; i < c->view_count; i++)
		free(c->views[i]);
	c->view_count = 0;
}

void changer_free(struct changer **changer)
{
	struct changer *c = *changer;
	if (!c)
		return;
	changer_forget(c);
	for (size_t i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(c->s[i]);
	free(c);
	*changer = NULL;
}

static int run(struct changer *c, enum statement which)
{
	sqlite3_step(c->s[which]);
	return sqlite3_reset(c->s[which]); /* tells the step's error again */
}

static void bind_text(struct changer *c, enum statement which, int at, const char *text)
{
	sqlite3_bind_text(c->s[which], at, text, -1, SQLITE_STATIC);
}

static void bind_number(struct changer *c, enum statement which, int at, int64_t n)
{
	sqlite3_bind_int64(c->s[which], at, n);
}

/* A view per collection, for people with the sqlite3 shell: SELECT key, value->>'$.state' FROM sessions. The name was
 * checked to be [a-z][a-z0-9_]*, so it can stand in the text. A failure to make one is not the document's. */
static void make_view(struct changer *c, const char *collection)
{
	if (strncmp(collection, "sqlite_", 7) == 0 || c->view_count == VIEWS_MAX)
		return;
	for (size_t i = 0; i < c->view_count; i++)
		if (strcmp(c->views[i], collection) == 0)
			return;
	char text[512];
	snprintf(text, sizeof text,
		 "CREATE VIEW IF NOT EXISTS \"%s\" AS SELECT key, version, "
		 "CASE WHEN expires_ms > 0 THEN datetime(expires_ms / 1000, 'unixepoch') END AS expires_at, value "
		 "FROM _document WHERE collection = '%s' "
		 "AND (expires_ms = 0 OR expires_ms > (julianday('now') - 2440587.5) * 86400000)",
		 collection, collection);
	char *name = strdup(collection);
	if (name && sqlite3_exec(c->db, text, NULL, NULL, NULL) == SQLITE_OK)
		c->views[c->view_count++] = name;
	else
		free(name);
}

struct found {
	int64_t id;
	uint64_t version; /* 0: there is none, or it has expired */
};

static int find(struct changer *c, const struct change *change, int64_t now_ms, struct found *out)
{
	memset(out, 0, sizeof *out);
	bind_text(c, FIND, 1, change->place);
	bind_text(c, FIND, 2, change->key);
	if (sqlite3_step(c->s[FIND]) == SQLITE_ROW) {
		int64_t expires = sqlite3_column_int64(c->s[FIND], 2);
		out->id = sqlite3_column_int64(c->s[FIND], 0);
		if (expires == 0 || expires > now_ms)
			out->version = (uint64_t)sqlite3_column_int64(c->s[FIND], 1);
	}
	return sqlite3_reset(c->s[FIND]);
}

static int conflict(struct change *change, uint64_t present)
{
	change->result = TUNNEL_CONFLICT;
	if (present == 0)
		snprintf(change->text, sizeof change->text, "there is no such document; expected version %" PRIu64,
			 change->expect_version);
	else
		snprintf(change->text, sizeof change->text, "the version is %" PRIu64 "; expected %" PRIu64, present,
			 change->expect_version);
	return SQLITE_OK;
}

static int write_entries(struct changer *c, const struct change *change, int64_t id)
{
	int rc = SQLITE_OK;
	for (size_t i = 0; rc == SQLITE_OK && i < change->index_count; i++) {
		bind_text(c, ADD_ENTRY, 1, change->place);
		bind_text(c, ADD_ENTRY, 2, change->index_name[i]);
		bind_text(c, ADD_ENTRY, 3, change->index_value[i]);
		bind_text(c, ADD_ENTRY, 4, change->key);
		bind_number(c, ADD_ENTRY, 5, id);
		rc = run(c, ADD_ENTRY);
	}
	return rc;
}

static int run_put(struct changer *c, struct change *change, int64_t now_ms)
{
	struct found present;
	int rc = find(c, change, now_ms, &present);
	if (rc != SQLITE_OK)
		return rc;
	if (change->expect_version != TUNNEL_VERSION_ANY && change->expect_version != present.version)
		return conflict(change, present.version);
	if (present.id) {
		bind_number(c, UPDATE, 1, present.id);
		sqlite3_bind_text64(c->s[UPDATE], 2, change->value, change->value_len, SQLITE_STATIC, SQLITE_UTF8);
		bind_number(c, UPDATE, 3, (int64_t)present.version + 1);
		bind_number(c, UPDATE, 4, change->expires_ms);
		rc = run(c, UPDATE);
		bind_number(c, CLEAR_ENTRIES, 1, present.id);
		if (rc == SQLITE_OK)
			rc = run(c, CLEAR_ENTRIES);
	} else {
		make_view(c, change->place);
		bind_text(c, INSERT, 1, change->place);
		bind_text(c, INSERT, 2, change->key);
		sqlite3_bind_text64(c->s[INSERT], 3, change->value, change->value_len, SQLITE_STATIC, SQLITE_UTF8);
		bind_number(c, INSERT, 4, change->expires_ms);
		rc = run(c, INSERT);
		present.id = sqlite3_last_insert_rowid(c->db);
	}
	change->number = present.version + 1;
	return rc == SQLITE_OK ? write_entries(c, change, present.id) : rc;
}

static int run_del(struct changer *c, struct change *change, int64_t now_ms)
{
	struct found present;
	int rc = find(c, change, now_ms, &present);
	if (rc != SQLITE_OK)
		return rc;
	if (present.version == 0) {
		change->result = TUNNEL_NOT_FOUND;
		return SQLITE_OK;
	}
	if (change->expect_version != TUNNEL_VERSION_ANY && change->expect_version != present.version)
		return conflict(change, present.version);
	bind_number(c, DELETE, 1, present.id);
	return run(c, DELETE);
}

static int run_append(struct changer *c, struct change *change)
{
	bind_text(c, LAST_SEQ, 1, change->place);
	int64_t last = 0;
	if (sqlite3_step(c->s[LAST_SEQ]) == SQLITE_ROW)
		last = sqlite3_column_int64(c->s[LAST_SEQ], 0);
	int rc = sqlite3_reset(c->s[LAST_SEQ]);
	const char *record = change->value;
	for (size_t i = 0; rc == SQLITE_OK && i < change->record_count; i++) {
		bind_text(c, APPEND, 1, change->place);
		bind_number(c, APPEND, 2, last + 1 + (int64_t)i);
		sqlite3_bind_text64(c->s[APPEND], 3, record, change->record_len[i], SQLITE_STATIC, SQLITE_UTF8);
		rc = run(c, APPEND);
		record += change->record_len[i];
	}
	change->number = (uint64_t)last + 1;
	return rc;
}

static int run_kind(struct changer *c, struct change *change, int64_t now_ms)
{
	switch (change->kind) {
	case CHANGE_PUT:
		return run_put(c, change, now_ms);
	case CHANGE_DEL:
		return run_del(c, change, now_ms);
	case CHANGE_APPEND:
		return run_append(c, change);
	case CHANGE_PROBE:
		bind_number(c, PROBE, 1, now_ms);
		return run(c, PROBE);
	}
	return SQLITE_MISUSE;
}

void changer_run(struct changer *c, struct change *change, int64_t now_ms)
{
	static const char *const doing[] = { "put", "del", "append", "health" };
	struct words w = { change->text, sizeof change->text };
	change->result = TUNNEL_OK;
	int rc = run(c, SAVEPOINT);
	if (rc == SQLITE_OK)
		rc = run_kind(c, change, now_ms);
	if (rc != SQLITE_OK) {
		change->result = words_sqlite(w, c->db, rc, doing[change->kind]);
		/* A serious error may have rolled back everything already; then there is no savepoint any more. */
		if (!sqlite3_get_autocommit(c->db)) {
			run(c, ROLLBACK_TO);
			changer_forget(c);
		}
	}
	if (!sqlite3_get_autocommit(c->db))
		run(c, RELEASE);
}

bool changer_purge(struct changer *c, int64_t now_ms)
{
	bind_number(c, PURGE, 1, now_ms);
	bind_number(c, PURGE, 2, PURGE_ROWS);
	return run(c, PURGE) == SQLITE_OK && sqlite3_changes(c->db) == (int)PURGE_ROWS;
}

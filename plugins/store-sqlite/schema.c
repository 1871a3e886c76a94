/* The file: its lock, its mode, its schema. One process at a time has it open (a lock on "<path>-lock", gone with the
 * process), because events reach only this process. The sqlite3 shell is not kept out. */
#include "sqlite_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION_ID 0x74756e6c /* "tunl" */

/* Step i takes a file from user_version i to i + 1. Steps are only ever appended. Names of ours begin with "_", so that
 * no collection's view can meet them. */
static const char *const migrations[] = {
	"CREATE TABLE _document("
	"  id INTEGER PRIMARY KEY, collection TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
	"  version INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
	"  UNIQUE(collection, key)) STRICT;"
	"CREATE INDEX _document_expiry ON _document(expires_ms) WHERE expires_ms > 0;"
	"CREATE TABLE _entry("
	"  collection TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL,"
	"  PRIMARY KEY(collection, name, value, key)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX _entry_document ON _entry(id);"
	"CREATE TRIGGER _document_deleted AFTER DELETE ON _document BEGIN DELETE FROM _entry WHERE id = old.id; END;"
	"CREATE TABLE _log("
	"  name TEXT NOT NULL, seq INTEGER NOT NULL, record TEXT NOT NULL,"
	"  PRIMARY KEY(name, seq)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE _probe(id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;",
};
#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof *migrations))

static int take_lock(const struct database_options *o, int *out_fd, struct words w)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s-lock", o->path) >= sizeof path)
		return words_set(w, TUNNEL_CONFIG, "path: longer than %zu bytes", sizeof path - 6);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return words_set(w, TUNNEL_CONFIG, "path: %s: %s", path, strerror(errno));
	/* A predecessor that is just ending gets the busy timeout to do so. */
	for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited += 20) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || waited >= o->busy_ms) {
			int rc = errno == EWOULDBLOCK
					 ? words_set(w, TUNNEL_UNAVAILABLE,
						     "path: %s is in use by another tunnel-server; expected: one at a "
						     "time",
						     o->path)
					 : words_set(w, TUNNEL_CONFIG, "path: %s: %s", path, strerror(errno));
			close(fd);
			return rc;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	*out_fd = fd;
	return 0;
}

/* SQLite gives its -wal and -shm files the mode of the database, so creating that one with 0600 is enough. */
static int check_file(const char *path, struct words w)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return words_set(w, TUNNEL_CONFIG, "path: %s: %s", path, strerror(errno));
	struct stat st;
	int rc = 0;
	if (fstat(fd, &st) != 0)
		rc = words_set(w, TUNNEL_UNAVAILABLE, "path: %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = words_set(w, TUNNEL_CONFIG, "path: %s: not a file", path);
	else if (st.st_mode & 077)
		rc = words_set(w, TUNNEL_CONFIG,
			       "path: %s has mode %04o, which lets others in; expected 0600 (chmod 600)", path,
			       (unsigned)st.st_mode & 07777);
	close(fd);
	return rc;
}

static int one_value(sqlite3 *db, const char *sql, char *out, size_t size)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(s, 0);
		snprintf(out, size, "%s", text ? text : "");
		rc = SQLITE_OK;
	} else if (rc == SQLITE_DONE) {
		out[0] = '\0';
		rc = SQLITE_OK;
	}
	int closing = sqlite3_finalize(s);
	return rc == SQLITE_OK ? closing : rc;
}

int database_connect(const struct database_options *o, bool read_only, sqlite3 **out_db, struct words w)
{
	sqlite3 *db = NULL;
	/* Each connection is used by one thread at a time. Readers are opened for writing too: a WAL reader needs it to
	 * keep its place in the shared index. query_only holds them back. */
	int rc = sqlite3_open_v2(o->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
				 NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(db, o->busy_ms);
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON;", NULL, NULL, NULL);
	if (rc == SQLITE_OK && read_only)
		rc = sqlite3_exec(db, "PRAGMA query_only = ON;", NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		int result = words_sqlite(w, db, rc, o->path);
		sqlite3_close_v2(db);
		return result;
	}
	*out_db = db;
	return 0;
}

/* Inside BEGIN IMMEDIATE, so that two starts cannot migrate at once. */
static int migrate_locked(sqlite3 *db, const char *path, struct words w)
{
	char version_text[24], app_text[24], tables[24];
	int rc = one_value(db, "PRAGMA user_version", version_text, sizeof version_text);
	if (rc == SQLITE_OK)
		rc = one_value(db, "PRAGMA application_id", app_text, sizeof app_text);
	if (rc == SQLITE_OK)
		rc = one_value(db, "SELECT count(*) FROM sqlite_schema", tables, sizeof tables);
	if (rc != SQLITE_OK)
		return words_sqlite(w, db, rc, path);
	int version = atoi(version_text), app = atoi(app_text);
	bool fresh = version == 0 && app == 0 && atoi(tables) == 0;
	if (!fresh && app != APPLICATION_ID)
		return words_set(w, TUNNEL_CONFIG,
				 "path: %s is another program's database; expected one of this plugin", path);
	if (version > SCHEMA_VERSION)
		return words_set(w, TUNNEL_CONFIG,
				 "path: %s has schema version %d, from a newer tunnel-server; this one knows up to %d",
				 path, version, SCHEMA_VERSION);
	for (; version < SCHEMA_VERSION; version++) {
		char pragma[96];
		rc = sqlite3_exec(db, migrations[version], NULL, NULL, NULL);
		snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d; PRAGMA application_id = %d;", version + 1,
			 APPLICATION_ID);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(db, pragma, NULL, NULL, NULL);
		if (rc != SQLITE_OK)
			return words_sqlite(w, db, rc, "migration");
	}
	return 0;
}

static int migrate(sqlite3 *db, const char *path, struct words w)
{
	int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return words_sqlite(w, db, rc, path);
	int result = migrate_locked(db, path, w);
	if (result == 0 && (rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL)) != SQLITE_OK)
		result = words_sqlite(w, db, rc, path);
	if (result != 0)
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return result;
}

static int check_content(sqlite3 *db, const char *path, struct words w)
{
	char answer[160];
	int rc = one_value(db, "PRAGMA journal_mode = WAL", answer, sizeof answer);
	if (rc == SQLITE_OK && strcmp(answer, "wal") != 0)
		return words_set(w, TUNNEL_CONFIG, "path: %s: journal mode is %s; expected wal (a local file system)",
				 path, answer);
	if (rc == SQLITE_OK)
		rc = one_value(db, "PRAGMA quick_check(1)", answer, sizeof answer);
	if (rc != SQLITE_OK)
		return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB
			       ? words_set(w, TUNNEL_CONFIG, "path: %s is damaged: %s", path, sqlite3_errmsg(db))
			       : words_sqlite(w, db, rc, path);
	if (strcmp(answer, "ok") != 0)
		return words_set(w, TUNNEL_CONFIG, "path: %s is damaged: %s", path, answer);
	return 0;
}

int database_prepare(const struct database_options *o, int *out_lock_fd, sqlite3 **out_db, struct words w)
{
	int lock = -1;
	sqlite3 *db = NULL;
	int rc = take_lock(o, &lock, w);
	if (rc == 0)
		rc = check_file(o->path, w);
	if (rc == 0)
		rc = database_connect(o, false, &db, w);
	if (rc == 0)
		rc = migrate(db, o->path, w);
	if (rc == 0)
		rc = check_content(db, o->path, w);
	if (rc != 0) {
		sqlite3_close_v2(db);
		if (lock >= 0)
			close(lock);
		return rc;
	}
	*out_lock_fd = lock;
	*out_db = db;
	return 0;
}

#include "sqlite_store.h"

int words_sqlite(struct words w, sqlite3 *db, int sqlite_code, const char *doing)
{
	const char *why = db ? sqlite3_errmsg(db) : sqlite3_errstr(sqlite_code);
	switch (sqlite_code & 0xff) {
	case SQLITE_INTERRUPT:
		return words_set(w, TUNNEL_TIMEOUT, "%s: took longer than the deadline", doing);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return words_set(w, TUNNEL_UNAVAILABLE, "%s: another program holds the database (%s)", doing, why);
	case SQLITE_FULL:
		return words_set(w, TUNNEL_UNAVAILABLE, "%s: the disk is full (%s)", doing, why);
	case SQLITE_NOTADB:
		return words_set(w, TUNNEL_CONFIG, "%s: not an SQLite database", doing);
	case SQLITE_MISUSE:
	case SQLITE_ERROR:
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_RANGE:
		return words_set(w, TUNNEL_INTERNAL, "%s: %s", doing, why);
	default:
		return words_set(w, TUNNEL_UNAVAILABLE, "%s: %s (code %d)", doing, why,
				 db ? sqlite3_extended_errcode(db) : sqlite_code);
	}
}

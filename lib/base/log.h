/* Logging for programs: one line a call on stderr, logfmt by default. Safe from any thread.
 * Library code does not log; it returns struct err. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON, LOG_FORMAT_PLAIN }; /* plain: "<text> key=value", for people */

/* program must outlive the process. Until called: level info, logfmt, program "tunnel". */
void log_init(const char *program, enum log_level level, enum log_format format);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "error" | "warn" | "info" | "debug"; 0, or -1 for another word. */
int log_level_parse(const char *word, enum log_level *out_level);

/* One key=value pair. Values are escaped; secrets must never be passed. */
struct log_field {
	const char *key;
	const char *value; /* NULL: the field is left out */
};

/* event: what happened, in words ("session attached"). fields end with one whose key is NULL; fields may be NULL. */
void log_event(enum log_level level, const struct log_field *fields, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(...) log_event(LOG_LEVEL_ERROR, NULL, __VA_ARGS__)
#define log_warn(...) log_event(LOG_LEVEL_WARN, NULL, __VA_ARGS__)
#define log_info(...) log_event(LOG_LEVEL_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_event(LOG_LEVEL_DEBUG, NULL, __VA_ARGS__)
/* log_with(LOG_LEVEL_INFO, FIELDS({"session", id}, {"target", t}), "session started") */
#define FIELDS(...) ((const struct log_field[]){ __VA_ARGS__, { NULL, NULL } })
#define log_with(level, fields, ...) log_event(level, fields, __VA_ARGS__)

#endif

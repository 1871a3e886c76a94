/* Two clocks: monotonic for intervals and timeouts, wall for what people and certificates read. Milliseconds, int64. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_TEXT_LEN 32
#define CLOCK_WALL_MAX_MS 253402300799999 /* the end of the year 9999, the last one that a date can say */

int64_t clock_mono_ms(void); /* since some start; counts suspend (CLOCK_BOOTTIME) */
int64_t clock_mono_us(void);
int64_t clock_wall_ms(void); /* since 1970-01-01T00:00:00Z */

/* RFC 3339, UTC, milliseconds: "2026-01-31T09:15:00.250Z". Returns out. */
char *clock_text(int64_t wall_ms, char out[CLOCK_TEXT_LEN]);
/* The reverse; fraction optional, "Z" or "+hh:mm". 0, or -1 when it is not a date: the 31st of February is none. */
int clock_parse(const char *text, int64_t *out_wall_ms);

#endif

#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t clock_mono_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

int64_t clock_wall_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

char *clock_text(int64_t wall_ms, char out[CLOCK_TEXT_LEN])
{
	int64_t ms = wall_ms % 1000;
	time_t s = (time_t)(wall_ms / 1000);
	if (ms < 0) {
		ms += 1000;
		s--;
	}
	struct tm tm;
	char rest[24];
	int n = CLOCK_TEXT_LEN;
	/* The year by itself: %Y has no leading zeros. */
	if (gmtime_r(&s, &tm) && strftime(rest, sizeof rest, "-%m-%dT%H:%M:%S", &tm) > 0)
		n = snprintf(out, CLOCK_TEXT_LEN, "%04lld%s.%03dZ", 1900 + (long long)tm.tm_year, rest, (int)ms);
	if (n >= CLOCK_TEXT_LEN)
		snprintf(out, CLOCK_TEXT_LEN, "invalid-time");
	return out;
}

/* strptime forgives blanks and the 31st of February. */
static bool is_date_shaped(const char *s)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	static const unsigned char month_days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
			return false;
	int year = atoi(s), month = atoi(s + 5), day = atoi(s + 8);
	if (month < 1 || month > 12 || day < 1 || day > month_days[month - 1])
		return false;
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return month != 2 || day < 29 || leap;
}

int clock_parse(const char *text, int64_t *out_wall_ms)
{
	struct tm tm;
	memset(&tm, 0, sizeof tm);
	const char *p = is_date_shaped(text) ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	if (!p)
		return -1;
	int64_t ms = 0;
	if (*p == '.') {
		int64_t scale = 100;
		const char *digits = ++p;
		for (; *p >= '0' && *p <= '9'; p++, scale /= 10)
			ms += (*p - '0') * scale;
		if (p == digits)
			return -1;
	}
	int64_t offset_s = 0;
	if (*p == 'Z' || *p == 'z') {
		p++;
	} else if (*p == '+' || *p == '-') {
		int h, m, used = 0;
		if (strspn(p + 1, "0123456789:") < 5 || sscanf(p + 1, "%2d:%2d%n", &h, &m, &used) != 2 || used != 5 ||
		    h > 23 || m > 59)
			return -1;
		offset_s = (*p == '-' ? -1 : 1) * (h * 3600 + m * 60);
		p += 6;
	} else {
		return -1;
	}
	if (*p)
		return -1;
	*out_wall_ms = ((int64_t)timegm(&tm) - offset_s) * 1000 + ms;
	return 0;
}

#include "cli/story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_CONNECT_MS 3000 /* a first connection that takes longer is told */
#define EVERY_MS 60000
#define SAME_END_MS 10000  /* two notices so close speak of the same end */
#define CLOSE_EXPIRED 4004 /* PROTOCOL.md, section 3 */
#define DAY_MS (24 * 3600 * 1000LL)

void story_begin(struct story *s, int64_t give_up_ms, int64_t mono_ms)
{
	*s = (struct story){ .state = ENDPOINT_CONNECTING,
			     .since_ms = mono_ms,
			     .give_up_ms = give_up_ms,
			     .next_ms = mono_ms + FIRST_CONNECT_MS };
}

void story_trouble(struct story *s, const char *text)
{
	if (text && *text)
		snprintf(s->trouble, sizeof s->trouble, "%s", text);
}

static void move(struct story *s, enum endpoint_state state, int64_t mono_ms, int64_t next_ms)
{
	s->state = state;
	s->since_ms = mono_ms;
	s->next_ms = next_ms;
}

bool story_state(struct story *s, enum endpoint_state state, int64_t outage_ms, const char *text, int64_t mono_ms,
		 char out[STORY_LINE])
{
	story_trouble(s, text);
	if (state == s->state)
		return false;
	bool was_lost = s->state == ENDPOINT_LOST;
	switch (state) {
	case ENDPOINT_LOST:
		move(s, state, mono_ms, mono_ms + EVERY_MS);
		snprintf(out, STORY_LINE, "connection lost, resuming…");
		return true;
	case ENDPOINT_UP:
		move(s, state, mono_ms, INT64_MAX);
		s->resumes += was_lost ? 1 : 0;
		snprintf(out, STORY_LINE, "resumed after %.1f s", (double)outage_ms / 1000);
		return was_lost;
	default:
		move(s, state, mono_ms, INT64_MAX);
		return false;
	}
}

/* "17:05", with the day unless it is today's. */
static void hour_text(int64_t at_ms, int64_t wall_ms, char *out, size_t size)
{
	time_t at = (time_t)(at_ms / 1000), now = (time_t)(wall_ms / 1000);
	struct tm then, today;
	localtime_r(&at, &then);
	localtime_r(&now, &today);
	bool same_day = then.tm_yday == today.tm_yday && then.tm_year == today.tm_year;
	if (strftime(out, size, same_day ? "%H:%M" : "%Y-%m-%d %H:%M", &then) == 0)
		out[0] = '\0';
}

void story_duration(int64_t ms, char *out, size_t size)
{
	static const struct {
		int64_t from_ms, unit_ms;
		const char *name;
	} units[] = { { 2 * DAY_MS, DAY_MS, "days" },
		      { 2 * 3600000LL, 3600000, "h" },
		      { 120000, 60000, "min" },
		      { 0, 1000, "s" } };
	size_t i = 0;
	ms = ms < 0 ? 0 : ms;
	while (ms < units[i].from_ms)
		i++;
	snprintf(out, size, "%lld %s", (long long)((ms + units[i].unit_ms / 2) / units[i].unit_ms), units[i].name);
}

bool story_tick(struct story *s, int64_t mono_ms, int64_t wall_ms, char out[STORY_LINE])
{
	if (mono_ms < s->next_ms)
		return false;
	s->next_ms = mono_ms + EVERY_MS;
	char until[40];
	hour_text(wall_ms + s->since_ms + s->give_up_ms - mono_ms, wall_ms, until, sizeof until);
	snprintf(out, STORY_LINE, "%s: %s; giving up at %s",
		 s->state == ENDPOINT_LOST ? "still trying to resume" : "not connected yet",
		 s->trouble[0] ? s->trouble : "no answer", until);
	return true;
}

bool story_notice(struct story *s, unsigned code, int64_t at_ms, const char *reason, int64_t wall_ms,
		  char out[STORY_LINE])
{
	const size_t n = sizeof s->notices / sizeof *s->notices;
	size_t row = 0;
	while (row < n - 1 && s->notices[row].code && s->notices[row].code != code)
		row++;
	struct story_notice *told = &s->notices[row];
	if (told->code == code && llabs(told->at_ms - at_ms) < SAME_END_MS)
		return false;
	*told = (struct story_notice){ code, at_ms };
	char at[40], in[32];
	hour_text(at_ms, wall_ms, at, sizeof at);
	story_duration(at_ms - wall_ms, in, sizeof in);
	snprintf(out, STORY_LINE, "the session ends at %s (in %s): %s", at, in,
		 reason && *reason ? reason : "the server gives no reason");
	return true;
}

bool story_not_renewed(struct story *s, int64_t end_ms, const char *why, int64_t wall_ms, char out[STORY_LINE])
{
	if (s->not_renewed)
		return false;
	s->not_renewed = true;
	char at[40], in[32];
	hour_text(end_ms, wall_ms, at, sizeof at);
	story_duration(end_ms - wall_ms, in, sizeof in);
	snprintf(out, STORY_LINE,
		 "the session could not be renewed, and ends with its credential at %s (in %s): %.250s", at, in, why);
	return true;
}

bool story_renewed(struct story *s, int64_t end_ms, int64_t wall_ms, char out[STORY_LINE])
{
	bool told = s->not_renewed;
	s->not_renewed = false;
	for (size_t i = 0; i < sizeof s->notices / sizeof *s->notices; i++) {
		if (s->notices[i].code != CLOSE_EXPIRED)
			continue;
		told = true;
		s->notices[i] = (struct story_notice){ .code = 0 };
	}
	char at[40];
	hour_text(end_ms, wall_ms, at, sizeof at);
	snprintf(out, STORY_LINE, "the session was renewed and goes on; it ends at %s", at);
	return told;
}

void story_bytes(uint64_t bytes, char *out, size_t size)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	double value = (double)bytes;
	size_t i = 0;
	for (; value >= 999.5 && i < sizeof units / sizeof *units - 1; i++)
		value /= 1000;
	snprintf(out, size, i == 0 || value >= 99.5 ? "%.0f %s" : "%.1f %s", value, units[i]);
}

void story_status(const struct story *s, const char *session, const char *target, const struct link_stats *stats,
		  int64_t mono_ms, char out[STORY_LINE])
{
	static const char *const names[] = { "connecting", "up", "away, resuming", "over" };
	char since[32], in[32], sent[32], rtt[40] = "", why[120] = "";
	story_duration(mono_ms - s->since_ms, since, sizeof since);
	story_bytes(stats->bytes_in, in, sizeof in);
	story_bytes(stats->bytes_out, sent, sizeof sent);
	if (stats->rtt_ms >= 0)
		snprintf(rtt, sizeof rtt, ", RTT %lld ms", (long long)stats->rtt_ms);
	if (s->state != ENDPOINT_UP && s->trouble[0])
		snprintf(why, sizeof why, " (%.100s)", s->trouble);
	snprintf(out, STORY_LINE, "session %s to %s: %s for %s%s, %u stream%s, %s in, %s out%s, %u resume%s", session,
		 target, names[s->state], since, why, stats->streams, stats->streams == 1 ? "" : "s", in, sent, rtt,
		 s->resumes, s->resumes == 1 ? "" : "s");
}

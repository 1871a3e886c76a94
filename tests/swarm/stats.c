#include "swarm.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdarg.h>
#include <string.h>

void stats_error(struct swarm *s, const char *fmt, ...)
{
	char text[200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (s->totals.errors++ < 100)
		log_error("%s", text);
	if (s->totals.error_text_count < SWARM_ERRORS)
		memcpy(s->totals.error_texts[s->totals.error_text_count++], text, sizeof text);
}

void stats_end(struct swarm *s, unsigned code)
{
	struct totals *t = &s->totals;
	size_t i = 0;
	while (i < t->end_kinds && t->ends[i].code != code)
		i++;
	if (i == SWARM_ENDS)
		i--; /* the last one also counts what found no place */
	else if (i == t->end_kinds)
		t->ends[t->end_kinds++].code = code;
	t->ends[i].count++;
}

void stats_mark(struct swarm *s)
{
	memset(&s->outages, 0, sizeof s->outages);
	memset(&s->round_trips, 0, sizeof s->round_trips);
	s->marked_mono_ms = clock_mono_ms();
	s->marked_losses = s->totals.losses;
	s->marked_ups = s->totals.ups;
	for (size_t i = 0; i < s->sessions_begun; i++)
		s->sessions[i].up_wall_ms = 0;
}

static json_t *percentiles(const struct histogram *h, double unit)
{
	return json_pack("{s:I, s:f, s:f, s:f, s:f}", "count", (json_int_t)h->count, "p50_ms",
			 (double)histogram_permille(h, 500) / unit, "p90_ms", (double)histogram_permille(h, 900) / unit,
			 "p99_ms", (double)histogram_permille(h, 990) / unit, "max_ms", (double)h->max / unit);
}

static json_t *agents_json(const struct swarm *s)
{
	size_t enrolled = 0, up = 0, reports = 0;
	for (size_t i = 0; i < s->agents_begun; i++) {
		enrolled += s->agents[i].enrolled;
		up += s->agents[i].state == AGENT_UP;
		reports += json_array_size(s->agents[i].reports);
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "wanted", (json_int_t)s->options.agents, "enrolled",
			 (json_int_t)enrolled, "connected", (json_int_t)up, "connects",
			 (json_int_t)s->totals.agent_connects, "reports_waiting", (json_int_t)reports);
}

static json_t *ends_json(const struct totals *t)
{
	json_t *out = json_object();
	for (size_t i = 0; i < t->end_kinds; i++) {
		char code[12];
		snprintf(code, sizeof code, "%u", t->ends[i].code);
		json_object_set_new(out, code, json_integer((json_int_t)t->ends[i].count));
	}
	return out;
}

static json_t *sessions_json(const struct swarm *s)
{
	size_t steps[SESSION_FAILED + 1] = { 0 }, up = 0, lost = 0;
	for (size_t i = 0; i < s->sessions_begun; i++) {
		const struct session *one = &s->sessions[i];
		steps[one->step]++;
		up += one->step == SESSION_LIVE && one->was_up && !one->lost;
		lost += one->step == SESSION_LIVE && one->lost;
	}
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "wanted", (json_int_t)s->options.sessions, "starting",
		(json_int_t)(steps[SESSION_WAITING] + steps[SESSION_STARTING] + steps[SESSION_LIVE] - up - lost), "up",
		(json_int_t)up, "lost", (json_int_t)lost, "over", (json_int_t)steps[SESSION_OVER], "failed",
		(json_int_t)steps[SESSION_FAILED], "ends", ends_json(&s->totals));
}

static struct traffic_numbers sum(const struct swarm *s, uint64_t *out_unanswered)
{
	struct traffic_numbers all = { 0 };
	*out_unanswered = 0;
	for (size_t i = 0; i < s->sessions_begun; i++) {
		if (!s->sessions[i].traffic)
			continue;
		struct traffic_numbers n = traffic_numbers(s->sessions[i].traffic);
		all.sent += n.sent;
		all.checked += n.checked;
		*out_unanswered += n.failed ? 0 : n.sent - n.checked; /* what failed is told as an error */
	}
	return all;
}

uint64_t stats_unanswered(struct swarm *s)
{
	uint64_t unanswered;
	(void)sum(s, &unanswered);
	return unanswered;
}

static uint64_t epochs(const struct swarm *s)
{
	uint64_t n = 0;
	for (size_t i = 0; i < s->sessions_begun; i++) {
		struct link_stats stats = { .epochs = s->sessions[i].epochs };
		if (s->sessions[i].ep)
			endpoint_get_stats(s->sessions[i].ep, &stats);
		n += stats.epochs;
	}
	return n;
}

static json_t *attaches_json(const struct swarm *s)
{
	const struct totals *t = &s->totals;
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "client_ups", (json_int_t)t->ups, "target_ups",
			 (json_int_t)t->target_ups, "client_losses", (json_int_t)t->losses, "target_losses",
			 (json_int_t)t->target_losses, "offers", (json_int_t)t->offers, "epochs",
			 (json_int_t)epochs(s));
}

size_t stats_sessions_live(struct swarm *s)
{
	size_t n = 0;
	for (size_t i = 0; i < s->sessions_begun; i++)
		n += s->sessions[i].step == SESSION_STARTING || s->sessions[i].step == SESSION_LIVE;
	for (size_t i = 0; i < s->agents_begun; i++)
		n += !list_empty(&s->agents[i].targets);
	return n;
}

json_t *stats_json(struct swarm *s)
{
	uint64_t unanswered;
	struct traffic_numbers n = sum(s, &unanswered);
	int64_t now = clock_mono_ms();
	json_t *texts = json_array();
	for (size_t i = 0; i < s->totals.error_text_count; i++)
		json_array_append_new(texts, json_string(s->totals.error_texts[i]));
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:{s:I, s:I, s:I}, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o}",
			 "at_ms", (json_int_t)(now - s->started_mono_ms), "since_mark_ms",
			 (json_int_t)(now - s->marked_mono_ms), "agents", agents_json(s), "sessions", sessions_json(s),
			 "attaches", attaches_json(s), "bytes", "sent", (json_int_t)n.sent, "checked",
			 (json_int_t)n.checked, "unanswered", (json_int_t)unanswered, "outages",
			 percentiles(&s->outages, 1), "round_trips", percentiles(&s->round_trips, 1000),
			 "losses_since_mark", (json_int_t)(s->totals.losses - s->marked_losses), "ups_since_mark",
			 (json_int_t)(s->totals.ups - s->marked_ups), "call_retries",
			 (json_int_t)s->totals.call_retries, "mismatches", (json_int_t)s->totals.mismatches, "errors",
			 (json_int_t)s->totals.errors, "error_texts", texts);
}

json_t *stats_ups_json(struct swarm *s)
{
	json_t *out = json_array();
	for (size_t i = 0; i < s->sessions_begun; i++)
		if (s->sessions[i].up_wall_ms)
			json_array_append_new(out, json_integer((json_int_t)s->sessions[i].up_wall_ms));
	return out;
}

json_t *stats_overs_json(struct swarm *s)
{
	json_t *out = json_array();
	for (size_t i = 0; i < s->sessions_begun; i++)
		if (s->sessions[i].over_wall_ms)
			json_array_append_new(out, json_integer((json_int_t)s->sessions[i].over_wall_ms));
	return out;
}

/* The timers of PROTOCOL.md 4.4. With nothing outstanding silence is normal, and a rare PING finds out whether anybody
 * is there. With something outstanding (bytes that are not acknowledged, an OPEN or a PING without answer) anything
 * heard is a sign of life and due within seconds, and a PING each second provokes it.
 *
 * A slow line may need longer than that for one TLS record, and then each epoch would die before it brought anything.
 * So the time doubles with each epoch that stalled young. Only an epoch that lived takes that back: the other end may
 * be the one that notices, and what it ends looks like a cut from here, which says nothing about the line. */
#include "link/internal.h"

void live_outstanding(struct link *link)
{
	if (!link_has_outstanding(link))
		link->outstanding_at = link->now;
}

void live_lazy(struct link *link)
{
	link->lazy_at = link->now + LINK_ACK_DELAY_MS;
	link->lazy_due = false;
}

void live_ping_sent(struct link *link)
{
	live_outstanding(link);
	link->ping_due = false;
	link->ping_at = link->now;
	link->ping_number++;
	if (link->timed_number > link->ping_answered)
		return;
	link->timed_number = link->ping_number;
	link->timed_at = link->now;
}

void live_want_rtt(struct link *link)
{
	if (!live_awaits_pong(link) && (link->rtt_min_ms < 0 || link->now - link->ping_at >= LINK_RTT_MS))
		link->ping_due = true;
}

static struct stream *first_confirming(const struct link *link)
{
	return LIST_ENTRY(link->confirming.next, struct stream, data);
}

int live_pong(struct link *link, uint64_t number, struct err *e)
{
	if (number <= link->ping_answered || number > link->ping_number)
		return err_set(e, ERR_PROTOCOL, "PONG without its PING");
	if (number >= link->timed_number && link->timed_number > link->ping_answered) {
		link->rtt_ms = link->now - link->timed_at;
		if (link->rtt_min_ms < 0 || link->rtt_ms < link->rtt_min_ms)
			link->rtt_min_ms = link->rtt_ms;
	}
	link->ping_answered = number;
	while (!list_empty(&link->confirming) && first_confirming(link)->confirmer <= number)
		stream_retire(link, first_confirming(link));
	return 0;
}

/* A stall of the handshake is over; the epoch has its own still before it. */
void live_up(struct link *link)
{
	link->up_at = link->now;
	link->rtt_min_ms = -1;
	link->stalled_told = false;
	link->event_mask &= ~(unsigned)EVENT_STALLED;
}

void live_down(struct link *link)
{
	link->down_at = link->now;
	if (!link->stalled_told && link->now - link->up_at >= LINK_LIVED_MS)
		link->doublings = 0;
}

void live_forget(struct link *link)
{
	link->lazy_due = link->ping_due = link->stalled_told = false;
	link->ping_answered = link->timed_number = link->ping_number;
}

/* An epoch that was held for dead and is not may be kept, and is watched again. */
void live_heard(struct link *link)
{
	link->heard_at = link->now;
	if (link->epoch != EPOCH_UP)
		return;
	link->stalled_told = false;
	link->event_mask &= ~(unsigned)EVENT_STALLED;
}

static void stalled(struct link *link)
{
	link->stalled_told = true;
	event_link(link, EVENT_STALLED);
	if (link->epoch != EPOCH_UP)
		return;
	if (link->now - link->up_at >= LINK_LIVED_MS)
		link->doublings = 0;
	else if (link->doublings < LINK_DEAD_DOUBLINGS)
		link->doublings++;
}

/* Since when something heard is being waited for; only with something outstanding. */
static int64_t quiet_since(const struct link *link)
{
	return link->outstanding_at > link->heard_at ? link->outstanding_at : link->heard_at;
}

static int64_t ping_time(const struct link *link)
{
	if (link->ping_due)
		return INT64_MAX;
	if (!link_has_outstanding(link))
		return link->heard_at + LINK_IDLE_PING_MS;
	int64_t since = quiet_since(link);
	if (live_awaits_pong(link) && link->ping_at > since)
		since = link->ping_at;
	return since + LINK_BUSY_PING_MS;
}

static int64_t dead_time(const struct link *link)
{
	if (link->stalled_told)
		return INT64_MAX;
	if (link->epoch != EPOCH_UP)
		return link->epoch_at + LINK_HANDSHAKE_MS;
	if (!link_has_outstanding(link))
		return INT64_MAX;
	return quiet_since(link) + (LINK_DEAD_MS << link->doublings);
}

static bool is_watched(const struct link *link)
{
	return !link->over && link->tls && link->epoch != EPOCH_BROKEN;
}

int64_t link_deadline(const struct link *link)
{
	if (!is_watched(link))
		return INT64_MAX;
	int64_t at = dead_time(link);
	if (link->epoch == EPOCH_UP && ping_time(link) < at)
		at = ping_time(link);
	if (!list_empty(&link->lazy) && !link->lazy_due && link->lazy_at < at)
		at = link->lazy_at;
	return at;
}

void link_tick(struct link *link, int64_t now_ms)
{
	link_set_now(link, now_ms);
	if (!is_watched(link))
		return;
	if (!list_empty(&link->lazy) && link->now >= link->lazy_at)
		link->lazy_due = true;
	if (link->epoch == EPOCH_UP && link->now >= ping_time(link))
		link->ping_due = true;
	if (link->now >= dead_time(link))
		stalled(link);
}

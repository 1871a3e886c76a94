/* The timers of PROTOCOL.md 4.4. Two ways to wait: with something outstanding (bytes that are not acknowledged, an OPEN
 * without answer) an answer is due within seconds, and a PING provokes one; with nothing outstanding silence is normal,
 * and a rare PING finds out whether anybody is there. */
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
	link->ping_due = false;
	link->ping_out = true;
	link->ping_at = link->now;
	link->ping_number++;
}

int live_pong(struct link *link, uint64_t number, struct err *e)
{
	if (!link->ping_out || number != link->ping_number)
		return err_set(e, ERR_PROTOCOL, "PONG without its PING");
	link->ping_out = false;
	link->rtt_ms = link->now - link->ping_at;
	while (!list_empty(&link->confirming))
		stream_retire(link, LIST_ENTRY(link->confirming.next, struct stream, data));
	return 0;
}

static int64_t quiet_since(const struct link *link)
{
	if (link_has_outstanding(link) && link->outstanding_at > link->heard_at)
		return link->outstanding_at;
	return link->heard_at;
}

static int64_t ping_time(const struct link *link)
{
	if (link->ping_out || link->ping_due)
		return INT64_MAX;
	return quiet_since(link) + (link_has_outstanding(link) ? LINK_BUSY_PING_MS : LINK_IDLE_PING_MS);
}

static int64_t dead_time(const struct link *link)
{
	if (link->stalled_told)
		return INT64_MAX;
	if (link->epoch != EPOCH_UP)
		return link->epoch_at + LINK_HANDSHAKE_MS;
	if (link_has_outstanding(link))
		return quiet_since(link) + LINK_BUSY_DEAD_MS;
	if (!link->ping_out)
		return INT64_MAX;
	int64_t since = link->ping_at > link->heard_at ? link->ping_at : link->heard_at;
	return since + LINK_IDLE_ANSWER_MS;
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
	if (link->now >= dead_time(link)) {
		link->stalled_told = true;
		event_link(link, EVENT_STALLED);
	}
}

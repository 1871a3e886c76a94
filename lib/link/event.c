/* Events are bits, not a queue: a stream waits in the list of eventful ones at most once, so what the caller has not
 * taken yet costs no memory that grows. */
#include "link/internal.h"

#include <string.h>

void event_link(struct link *link, enum link_event_bit bit)
{
	link->event_mask |= bit;
}

void event_stream(struct link *link, struct stream *s, enum stream_event_bit bit)
{
	s->event_mask |= bit;
	if (bit == EVENT_EOF)
		s->eof_told = true;
	if (list_empty(&s->events))
		list_append(&link->eventful, &s->events);
}

void event_stream_clear(struct stream *s, unsigned mask)
{
	s->event_mask &= ~mask;
	if (!s->event_mask)
		list_remove(&s->events);
}

/* In the order in which they are given out. */
static const struct {
	enum stream_event_bit bit;
	enum link_event_type type;
} stream_events[] = {
	{ EVENT_OPEN, LINK_EVENT_OPEN },         { EVENT_OPENED, LINK_EVENT_OPENED },
	{ EVENT_READABLE, LINK_EVENT_READABLE }, { EVENT_EOF, LINK_EVENT_EOF },
	{ EVENT_WRITABLE, LINK_EVENT_WRITABLE }, { EVENT_CLOSED, LINK_EVENT_CLOSED },
};

static void take_stream_event(struct link *link, struct stream *s, struct link_event *out)
{
	size_t i = 0;
	while (!(s->event_mask & stream_events[i].bit))
		i++;
	out->type = stream_events[i].type;
	out->stream = s->id;
	if (out->type == LINK_EVENT_OPEN)
		out->dest = *s->dest;
	if (out->type == LINK_EVENT_CLOSED) {
		out->code = s->code;
		if (s->text)
			strcpy(out->text, s->text);
		link->taken = s;
	}
	event_stream_clear(s, stream_events[i].bit);
	if (s->event_mask) { /* others first */
		list_remove(&s->events);
		list_append(&link->eventful, &s->events);
	}
}

static bool take_link_event(struct link *link, enum link_event_bit bit)
{
	bool set = link->event_mask & bit;
	link->event_mask &= ~(unsigned)bit;
	return set;
}

bool link_next_event(struct link *link, struct link_event *out_event)
{
	struct stream *taken = link->taken;
	link->taken = NULL;
	if (taken && taken->state == STREAM_GONE)
		stream_destroy(link, &taken);
	*out_event = (struct link_event){ .type = LINK_EVENT_NONE };
	if (take_link_event(link, EVENT_UP)) {
		out_event->type = LINK_EVENT_UP;
		out_event->outage_ms = link->outage_ms;
	} else if (take_link_event(link, EVENT_STALLED)) {
		out_event->type = LINK_EVENT_STALLED;
	} else if (!list_empty(&link->eventful)) {
		take_stream_event(link, LIST_ENTRY(link->eventful.next, struct stream, events), out_event);
	} else if (take_link_event(link, EVENT_OVER)) {
		out_event->type = LINK_EVENT_OVER;
		out_event->code = link->over_reason.code;
		strcpy(out_event->text, link->over_reason.text);
	}
	return out_event->type != LINK_EVENT_NONE;
}

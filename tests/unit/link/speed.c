/* Throughput of two links back to back, both ends in this thread: unit_link_speed [MiB]. Prints MB/s. Not a test: a
 * figure depends on the machine. */
#include "support/case.h"
#include "wire.h"

#include "base/clock.h"

static uint8_t payload[65536], wire_bytes[65536];

static void feed(struct wire *w, enum link_role role, size_t n)
{
	struct err e;
	if (link_input(w->end[role], wire_bytes, n, w->now, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
}

static void take_all(struct wire *w, uint32_t id, uint64_t *out_total)
{
	const void *data;
	size_t n;
	while ((n = link_stream_peek(w->end[LINK_TARGET], id, &data)) > 0) {
		*out_total += n;
		link_stream_consume(w->end[LINK_TARGET], id, n);
	}
}

int main(int argc, char **argv)
{
	uint64_t total = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) << 20, taken = 0;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	int64_t start = clock_mono_us();
	while (taken < total) {
		link_stream_write(w.end[LINK_CLIENT], id, payload, sizeof(payload));
		size_t n = link_output(w.end[LINK_CLIENT], wire_bytes, sizeof(wire_bytes), w.now);
		feed(&w, LINK_TARGET, n);
		take_all(&w, id, &taken);
		if (!link_has_output(w.end[LINK_TARGET]))
			continue;
		n = link_output(w.end[LINK_TARGET], wire_bytes, sizeof(wire_bytes), w.now);
		feed(&w, LINK_CLIENT, n);
	}
	int64_t us = clock_mono_us() - start;
	printf("%.0f MB/s, both ends in one thread\n", (double)taken / (double)us);
	wire_free(&w);
	return 0;
}

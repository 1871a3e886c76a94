/* A line between two network namespaces: what goes in at one end comes out at the other so many milliseconds later, or
 * with a probability not at all. Whole IP packets, so TCP behaves as it does on such a line. Needs root. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET 2048u
#define QUEUE 32768u /* packets under way in one direction: more are dropped, as by a full router */

struct packet {
	int64_t due_us;
	uint16_t size;
	uint8_t bytes[PACKET - 10];
};

struct way {
	struct packet *queue;
	size_t head, count;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "tunnel-delay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int open_tun(const char *netns)
{
	char path[256];
	struct ifreq r = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	snprintf(path, sizeof path, "/run/netns/%s", netns);
	int ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET) != 0)
		die(path);
	close(ns);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	snprintf(r.ifr_name, sizeof r.ifr_name, "far0");
	if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0)
		die("/dev/net/tun");
	return fd;
}

static void take(struct way *w, int fd, int64_t delay_us, unsigned per_million)
{
	static uint8_t nowhere[PACKET];
	for (;;) {
		struct packet *p = &w->queue[(w->head + w->count) % QUEUE];
		bool full = w->count == QUEUE;
		ssize_t n = read(fd, full ? nowhere : p->bytes, sizeof p->bytes);
		if (n <= 0)
			return;
		if (full || (unsigned)(random() % 1000000) < per_million)
			continue;
		p->size = (uint16_t)n;
		p->due_us = now_us() + delay_us;
		w->count++;
	}
}

/* Sends what is due; when the next one is, or -1. */
static int64_t give(struct way *w, int fd)
{
	while (w->count > 0) {
		const struct packet *p = &w->queue[w->head];
		int64_t left = p->due_us - now_us();
		if (left > 0)
			return left;
		if (write(fd, p->bytes, p->size) < 0 && errno != EAGAIN && errno != EIO && errno != EINVAL)
			die("write");
		w->head = (w->head + 1) % QUEUE;
		w->count--;
	}
	return -1;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fputs("Usage: tunnel-delay NETNS NETNS ONE_WAY_US LOST_OF_A_MILLION\n"
		      "Makes the device far0 in both; runs until it is killed.\n",
		      stderr);
		return 2;
	}
	int64_t delay_us = atoll(argv[3]);
	unsigned lost = (unsigned)atoi(argv[4]);
	struct way ways[2];
	struct pollfd fds[2];
	for (int i = 0; i < 2; i++) {
		fds[i] = (struct pollfd){ .fd = open_tun(argv[1 + i]), .events = POLLIN };
		ways[i] = (struct way){ .queue = calloc(QUEUE, sizeof *ways[i].queue) };
		if (!ways[i].queue)
			die("memory");
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int64_t a = give(&ways[0], fds[1].fd), b = give(&ways[1], fds[0].fd);
		int64_t wait = a < 0 || (b >= 0 && b < a) ? b : a;
		struct timespec t = { .tv_sec = wait / 1000000, .tv_nsec = wait % 1000000 * 1000 };
		if (ppoll(fds, 2, wait < 0 ? NULL : &t, NULL) < 0 && errno != EINTR)
			die("poll");
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				take(&ways[i], fds[i].fd, delay_us, lost);
	}
}

/* Both ends of a measured connection: a server on loopback that takes, gives or echoes bytes, and clients that time it
 * through whatever stands between. One line of JSON a measurement. Run by scripts/bench; plain blocking sockets and a
 * thread a connection, so that the tool costs little and the same for everybody. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256u << 10)
#define MIB (1u << 20)
#define HEAD 32u /* of each connection, text padded with zeros: "sink BYTES", "source BYTES", "echo" */
#define STREAMS_MAX 256

static const char usage[] =
	"Usage: tunnel-pump serve PORTFILE                  on 127.0.0.1, until it is killed\n"
	"       tunnel-pump up|down PORT STREAMS MIB        MIB through each of so many connections at once\n"
	"       tunnel-pump ping PORT COUNT BYTES           round trips, one after the other\n"
	"       tunnel-pump open PORT COUNT AT_ONCE         new connections, each for one byte there and back\n"
	"       tunnel-pump hold PORT COUNT                 so many idle connections, until the end of standard "
	"input\n";

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "tunnel-pump: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool send_all(int fd, const void *data, size_t n)
{
	for (const char *p = data; n > 0;) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

static bool receive_all(int fd, void *data, size_t n)
{
	for (char *p = data; n > 0;) {
		ssize_t k = recv(fd, p, n, 0);
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

static void without_delay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void *chunk(void)
{
	void *p = malloc(CHUNK);
	if (!p)
		die("memory");
	memset(p, 'x', CHUNK);
	return p;
}

static bool give(int fd, char *buf, uint64_t bytes)
{
	while (bytes > 0) {
		size_t n = bytes < CHUNK ? (size_t)bytes : CHUNK;
		if (!send_all(fd, buf, n))
			return false;
		bytes -= n;
	}
	return true;
}

/* How much of it came. No end of data is waited for: not every proxy passes one on and keeps the other way open. */
static uint64_t take(int fd, char *buf, uint64_t bytes)
{
	uint64_t total = 0;
	for (ssize_t n; total < bytes && (n = recv(fd, buf, CHUNK, 0)) > 0;)
		total += (uint64_t)n;
	return total;
}

/* -- server */

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char head[HEAD + 1] = { 0 }, *buf = chunk();
	uint64_t bytes;
	without_delay(fd);
	if (receive_all(fd, head, HEAD)) {
		if (sscanf(head, "sink %" SCNu64, &bytes) == 1) {
			bytes = take(fd, buf, bytes);
			send_all(fd, &bytes, sizeof bytes);
		} else if (sscanf(head, "source %" SCNu64, &bytes) == 1) {
			give(fd, buf, bytes);
		} else {
			for (ssize_t n; (n = recv(fd, buf, CHUNK, 0)) > 0 && send_all(fd, buf, (size_t)n);)
				;
		}
	}
	free(buf);
	close(fd);
	return NULL;
}

static void start(pthread_t *out, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128u << 10);
	errno = pthread_create(out, &attr, run, arg);
	if (errno)
		die("thread");
	pthread_attr_destroy(&attr);
}

static int serve(const char *port_file)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		die("listen");
	FILE *f = fopen(port_file, "w");
	if (!f || fprintf(f, "%u\n", ntohs(a.sin_port)) < 0 || fclose(f) != 0)
		die(port_file);
	for (;;) {
		int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (c < 0 && errno != ECONNABORTED && errno != EINTR)
			die("accept");
		if (c < 0)
			continue;
		pthread_t t;
		start(&t, serve_one, (void *)(intptr_t)c);
		pthread_detach(t);
	}
}

/* -- clients */

static int dial(unsigned port, const char *word)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char head[HEAD] = { 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(head, sizeof head, "%s", word);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
		die("connect");
	without_delay(fd);
	if (!send_all(fd, head, sizeof head))
		die("send");
	return fd;
}

struct lane {
	pthread_t thread;
	unsigned port;
	uint64_t bytes;
	bool up;
};

static void *run_lane(void *arg)
{
	struct lane *l = arg;
	char head[HEAD], *buf = chunk();
	snprintf(head, sizeof head, "%s %" PRIu64, l->up ? "sink" : "source", l->bytes);
	int fd = dial(l->port, head);
	uint64_t got = 0;
	if (l->up) {
		if (!give(fd, buf, l->bytes) || !receive_all(fd, &got, sizeof got))
			die("the far end went away");
	} else {
		got = take(fd, buf, l->bytes);
	}
	if (got != l->bytes) {
		fprintf(stderr, "tunnel-pump: %" PRIu64 " of %" PRIu64 " bytes arrived\n", got, l->bytes);
		exit(1);
	}
	close(fd);
	free(buf);
	return NULL;
}

static int bulk(bool up, unsigned port, unsigned streams, unsigned mib)
{
	static struct lane lanes[STREAMS_MAX];
	int64_t begun = now_ns();
	for (unsigned i = 0; i < streams; i++) {
		lanes[i] = (struct lane){ .port = port, .bytes = (uint64_t)mib * MIB, .up = up };
		start(&lanes[i].thread, run_lane, &lanes[i]);
	}
	for (unsigned i = 0; i < streams; i++)
		pthread_join(lanes[i].thread, NULL);
	double s = (double)(now_ns() - begun) / 1e9;
	printf("{\"seconds\": %.6f, \"mb_per_s\": %.1f}\n", s, (double)streams * mib * MIB / 1e6 / s);
	return 0;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static int ping(unsigned port, unsigned count, unsigned bytes)
{
	int64_t *took = calloc(count, sizeof *took);
	char *buf = chunk();
	if (!took || bytes > CHUNK)
		die("count or bytes");
	int fd = dial(port, "echo");
	for (unsigned i = 0; i < count + 10; i++) { /* the first ones are not counted */
		int64_t t = now_ns();
		if (!send_all(fd, buf, bytes) || !receive_all(fd, buf, bytes))
			die("the far end went away");
		if (i >= 10)
			took[i - 10] = now_ns() - t;
	}
	qsort(took, count, sizeof *took, by_size);
	printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", (double)took[count / 2] / 1e3,
	       (double)took[(size_t)count * 99 / 100] / 1e3, (double)took[count - 1] / 1e3);
	free(took);
	free(buf);
	close(fd);
	return 0;
}

struct opener {
	pthread_t thread;
	unsigned port, count;
};

static void *run_opener(void *arg)
{
	const struct opener *o = arg;
	for (unsigned i = 0; i < o->count; i++) {
		char c = 'x';
		int fd = dial(o->port, "echo");
		if (!send_all(fd, &c, 1) || !receive_all(fd, &c, 1))
			die("the far end went away");
		close(fd);
	}
	return NULL;
}

static int opens(unsigned port, unsigned count, unsigned at_once)
{
	static struct opener openers[STREAMS_MAX];
	int64_t begun = now_ns();
	for (unsigned i = 0; i < at_once; i++) {
		openers[i] = (struct opener){ .port = port, .count = count / at_once };
		start(&openers[i].thread, run_opener, &openers[i]);
	}
	for (unsigned i = 0; i < at_once; i++)
		pthread_join(openers[i].thread, NULL);
	double s = (double)(now_ns() - begun) / 1e9;
	printf("{\"per_s\": %.1f}\n", (double)(count / at_once * at_once) / s);
	return 0;
}

static int hold(unsigned port, unsigned count)
{
	char c = 'x';
	for (unsigned i = 0; i < count; i++) {
		int fd = dial(port, "echo");
		if (!send_all(fd, &c, 1) || !receive_all(fd, &c, 1))
			die("the far end went away");
	}
	puts("{\"held\": true}");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}

static unsigned number(const char *text, unsigned least, unsigned most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	if (*end || n < least || n > most) {
		fprintf(stderr, "tunnel-pump: \"%s\"; allowed: %u to %u\n%s", text, least, most, usage);
		exit(2);
	}
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(what, "serve") == 0)
		return serve(argv[2]);
	if (argc == 4 && strcmp(what, "hold") == 0)
		return hold(number(argv[2], 1, 65535), number(argv[3], 1, 1u << 16));
	if (argc == 5) {
		unsigned port = number(argv[2], 1, 65535);
		if (strcmp(what, "up") == 0 || strcmp(what, "down") == 0)
			return bulk(what[0] == 'u', port, number(argv[3], 1, STREAMS_MAX),
				    number(argv[4], 1, 1u << 20));
		if (strcmp(what, "ping") == 0)
			return ping(port, number(argv[3], 1, 1u << 24), number(argv[4], 1, CHUNK));
		if (strcmp(what, "open") == 0)
			return opens(port, number(argv[3], 1, 1u << 24), number(argv[4], 1, STREAMS_MAX));
	}
	fputs(usage, stderr);
	return 2;
}

/* Sends requests that were signed beforehand over kept connections, as fast as answers come: so what is measured is the
 * server. One line of JSON: answers of 201 a second, how long they took, and the CPU time of this program. Any other
 * answer ends it. Run by scripts/bench; a thread and a TLS connection for each of so many at once. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE_MAX 256
#define ANSWER_MAX 16384u /* bytes; that of a start has about one thousand */

static struct {
	char **requests; /* HTTP texts */
	size_t count;
	int64_t *took_ns;         /* of each */
	_Atomic int64_t first_ns; /* when the first was sent */
	atomic_size_t next;
	pthread_barrier_t connected;
	SSL_CTX *tls;
	uint16_t port;
} bench;

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "tunnel-bench-starts: %s: %s\n", what, why);
	exit(1);
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The file holds requests with a NUL behind each. */
static void read_requests(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t room = 0;
	if (!f)
		die(path, "cannot be read");
	while (getdelim(&text, &room, '\0', f) > 0) {
		bench.requests = realloc(bench.requests, (bench.count + 1) * sizeof *bench.requests);
		if (!bench.requests)
			die(path, "out of memory");
		bench.requests[bench.count++] = text;
		text = NULL;
	}
	free(text);
	fclose(f);
	bench.took_ns = calloc(bench.count + 1, sizeof *bench.took_ns);
	if (!bench.count || !bench.took_ns)
		die(path, "no request in it");
}

static SSL *dial(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(bench.port) };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	SSL *s = SSL_new(bench.tls);
	if (!s || fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 || SSL_set_fd(s, fd) != 1 ||
	    SSL_set1_host(s, "localhost") != 1 || SSL_connect(s) != 1)
		die("connect", ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : strerror(errno));
	return s;
}

/* Where an answer ends: 0 while that cannot be told, or it is not all there. */
static size_t answer_length(const char *text, size_t n)
{
	const char *body = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\ncontent-length:");
	if (!body || !length || length > body)
		return 0;
	size_t whole = (size_t)(body + 4 - text) + strtoul(length + 17, NULL, 10);
	return n >= whole ? whole : 0;
}

static void ask(SSL *s, const char *request)
{
	char answer[ANSWER_MAX + 1];
	size_t n = 0;
	if (SSL_write(s, request, (int)strlen(request)) <= 0)
		die("a request", "the connection is closed");
	do {
		int k = SSL_read(s, answer + n, (int)(ANSWER_MAX - n));
		if (k <= 0)
			die("an answer", "the connection is closed, or it is too long");
		n += (size_t)k;
		answer[n] = '\0';
	} while (!answer_length(answer, n));
	if (strncmp(answer, "HTTP/1.1 201 ", 13) != 0)
		die("expected 201", answer);
}

static void *run(void *arg)
{
	SSL *s = dial();
	size_t i;
	(void)arg;
	pthread_barrier_wait(&bench.connected);
	while ((i = atomic_fetch_add(&bench.next, 1)) < bench.count) {
		int64_t begun = now_ns(CLOCK_MONOTONIC);
		if (i == 0)
			atomic_store(&bench.first_ns, begun);
		ask(s, bench.requests[i]);
		bench.took_ns[i] = now_ns(CLOCK_MONOTONIC) - begun;
	}
	return s;
}

static void hang_up(SSL *s)
{
	close(SSL_get_fd(s));
	SSL_free(s);
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double percentile_ms(unsigned p)
{
	return (double)bench.took_ns[(bench.count - 1) * p / 100] / 1e6;
}

static void measure(unsigned at_once)
{
	static pthread_t threads[AT_ONCE_MAX];
	void *s;
	pthread_barrier_init(&bench.connected, NULL, at_once + 1);
	for (unsigned i = 0; i < at_once; i++)
		if (pthread_create(&threads[i], NULL, run, NULL) != 0)
			die("connections", "no thread");
	pthread_barrier_wait(&bench.connected);
	int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (unsigned i = 0; i < at_once; i++) {
		pthread_join(threads[i], &s);
		hang_up(s);
	}
	double took_s = (double)(now_ns(CLOCK_MONOTONIC) - atomic_load(&bench.first_ns)) / 1e9;
	double cpu_s = (double)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9;
	qsort(bench.took_ns, bench.count, sizeof *bench.took_ns, by_size);
	printf("{\"per_s\": %.1f, \"took_s\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"own_cpu_s\": %.3f}\n",
	       (double)bench.count / took_s, took_s, percentile_ms(50), percentile_ms(99), cpu_s);
	pthread_barrier_destroy(&bench.connected);
}

int main(int argc, char **argv)
{
	unsigned at_once = argc == 5 ? (unsigned)atoi(argv[3]) : 0;
	if (at_once < 1 || at_once > AT_ONCE_MAX) {
		fputs("Usage: tunnel-bench-starts PORT CA.pem AT_ONCE REQUESTS     at localhost; AT_ONCE: 1 to 256\n",
		      stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	bench.port = (uint16_t)atoi(argv[1]);
	bench.tls = SSL_CTX_new(TLS_client_method());
	if (!bench.tls || SSL_CTX_load_verify_locations(bench.tls, argv[2], NULL) != 1)
		die(argv[2], "no certificates to trust");
	SSL_CTX_set_verify(bench.tls, SSL_VERIFY_PEER, NULL);
	read_requests(argv[4]);
	measure(at_once);
	for (size_t i = 0; i < bench.count; i++)
		free(bench.requests[i]);
	free(bench.requests);
	free(bench.took_ns);
	SSL_CTX_free(bench.tls);
	return 0;
}

/* Lookups run on libuv's pool, which has few threads, and after a network's loss each of them may hang for many
 * seconds. So those who ask for one name share its lookups, of which there are at most two; and the last good addresses
 * of a few names are kept for those who cannot wait. An old address costs one failed connect; whose it is, TLS finds
 * out.
 *
 * What is kept belongs to the thread, as a loop does. */
#include "net/resolve.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/text.h"
#include "net/pool.h"
#include "net/timer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEPT 8u
#define HOST_MAX 254u
#define LOOKUPS_OF_A_NAME 2u

struct kept {
	char host[HOST_MAX];
	struct dial_address addresses[DIAL_ADDRESSES];
	size_t count;
	struct dial_address good; /* len 0: none yet */
	int64_t used_ms;
};

struct lookup {
	struct list node;
	uv_getaddrinfo_t request;
	uv_loop_t *loop;
	char host[HOST_MAX];
	int64_t since_ms;
};

struct resolve {
	struct list node;
	uv_timer_t timer; /* the end of patience; also tells what is known at once */
	uv_loop_t *loop;
	char host[HOST_MAX];
	uint16_t port;
	struct dial_address literal; /* len 0: it is a name */
	resolve_done done;
	void *user;
};

static _Thread_local struct kept kept[KEPT];
static _Thread_local struct list lookups, waiting;

static void set_up_lists(void)
{
	if (!lookups.next) {
		list_init(&lookups);
		list_init(&waiting);
	}
}

static struct kept *find_kept(const char *host)
{
	for (size_t i = 0; i < KEPT; i++)
		if (kept[i].count && strcasecmp(kept[i].host, host) == 0)
			return &kept[i];
	return NULL;
}

static bool same_address(const struct dial_address *a, const struct dial_address *b)
{
	const struct sockaddr_in *a4 = (const void *)&a->address, *b4 = (const void *)&b->address;
	const struct sockaddr_in6 *a6 = (const void *)&a->address, *b6 = (const void *)&b->address;
	if (a->address.ss_family != b->address.ss_family)
		return false;
	if (a->address.ss_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

static void put_good_first(struct kept *k)
{
	for (size_t i = 1; k->good.len && i < k->count; i++)
		if (same_address(&k->addresses[i], &k->good)) {
			struct dial_address good = k->addresses[i];
			memmove(&k->addresses[1], &k->addresses[0], i * sizeof good);
			k->addresses[0] = good;
		}
}

/* The resolver's order (RFC 6724) decides which family goes first; then they alternate. */
static size_t take_addresses(const struct addrinfo *list, struct dial_address out[DIAL_ADDRESSES])
{
	int first = list ? list->ai_family : AF_UNSPEC;
	size_t count = 0;
	const struct addrinfo *at[2] = { list, list };
	for (unsigned turn = 0; count < DIAL_ADDRESSES && (at[0] || at[1]); turn ^= 1) {
		const struct addrinfo *a = at[turn];
		while (a && (a->ai_family == first) != (turn == 0))
			a = a->ai_next;
		at[turn] = a ? a->ai_next : NULL;
		if (!a || a->ai_addrlen > sizeof out[0].address)
			continue;
		memcpy(&out[count].address, a->ai_addr, a->ai_addrlen);
		out[count++].len = a->ai_addrlen;
	}
	return count;
}

void resolve_note(const char *host, const struct addrinfo *list)
{
	struct dial_address addresses[DIAL_ADDRESSES];
	memset(addresses, 0, sizeof addresses);
	size_t count = take_addresses(list, addresses);
	if (count == 0)
		return;
	struct kept *k = find_kept(host);
	if (!k) {
		k = &kept[0];
		for (size_t i = 1; i < KEPT; i++)
			if (kept[i].used_ms < k->used_ms)
				k = &kept[i];
		memset(k, 0, sizeof *k);
		snprintf(k->host, sizeof k->host, "%s", host);
	}
	memcpy(k->addresses, addresses, sizeof addresses);
	k->count = count;
	k->used_ms = clock_mono_ms();
	put_good_first(k);
}

void resolve_prefer(const char *host, const struct dial_address *address)
{
	struct kept *k = find_kept(host);
	if (!k)
		return;
	k->good = *address;
	put_good_first(k);
}

static void on_timer_closed(uv_handle_t *h)
{
	free(h->data);
}

static void tell(struct resolve *r, const struct dial_address *known, size_t count, const char *why_not)
{
	struct dial_address addresses[DIAL_ADDRESSES];
	resolve_done done = r->done;
	void *user = r->user;
	for (size_t i = 0; i < count; i++) {
		addresses[i] = known[i];
		if (addresses[i].address.ss_family == AF_INET)
			((struct sockaddr_in *)(void *)&addresses[i].address)->sin_port = htons(r->port);
		else
			((struct sockaddr_in6 *)(void *)&addresses[i].address)->sin6_port = htons(r->port);
	}
	resolve_cancel(&r);
	done(user, addresses, count, why_not);
}

static void on_patience_over(uv_timer_t *timer)
{
	struct resolve *r = timer->data;
	struct kept *k = find_kept(r->host);
	if (r->literal.len) {
		tell(r, &r->literal, 1, NULL);
	} else if (k) {
		k->used_ms = clock_mono_ms();
		tell(r, k->addresses, k->count, NULL);
	}
}

static unsigned count_lookups(const uv_loop_t *loop, const char *host, int64_t *out_youngest)
{
	unsigned n = 0;
	LIST_EACH(node, &lookups)
	{
		const struct lookup *l = LIST_ENTRY(node, const struct lookup, node);
		if (l->loop != loop || strcasecmp(l->host, host) != 0)
			continue;
		n++;
		if (l->since_ms > *out_youngest)
			*out_youngest = l->since_ms;
	}
	return n;
}

static struct resolve *next_waiting(const uv_loop_t *loop, const char *host)
{
	LIST_EACH(node, &waiting)
	{
		struct resolve *r = LIST_ENTRY(node, struct resolve, node);
		if (r->loop == loop && strcasecmp(r->host, host) == 0)
			return r;
	}
	return NULL;
}

static void tell_all(const uv_loop_t *loop, const char *host, const char *why_not)
{
	struct resolve *r;
	while ((r = next_waiting(loop, host))) {
		const struct kept *k = find_kept(host);
		if (k)
			tell(r, k->addresses, k->count, NULL);
		else
			tell(r, NULL, 0, why_not);
	}
}

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
	struct lookup *l = request->data;
	int64_t youngest = 0;
	list_remove(&l->node);
	if (status == 0)
		resolve_note(l->host, list);
	uv_freeaddrinfo(list);
	/* Another one that still runs may know more. */
	if (status == 0 || count_lookups(l->loop, l->host, &youngest) == 0)
		tell_all(l->loop, l->host, status ? uv_strerror(status) : "no addresses");
	free(l);
}

static int start_lookup(uv_loop_t *loop, const char *host, struct err *e)
{
	/* AI_ADDRCONFIG would hide ::1 and 127.0.0.1 on machines with one family outside. */
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	int rc = net_pool_ready(e);
	struct lookup *l = rc == 0 ? calloc(1, sizeof *l) : NULL;
	if (!l)
		return rc ? rc : err_set(e, ERR_NOMEM, "out of memory");
	l->loop = loop;
	l->request.data = l;
	l->since_ms = clock_mono_ms();
	snprintf(l->host, sizeof l->host, "%s", host);
	rc = uv_getaddrinfo(loop, &l->request, on_looked_up, host, NULL, &hints);
	if (rc != 0) {
		free(l);
		return err_set(e, ERR_INVALID, "look up %s: %s", host, uv_strerror(rc));
	}
	list_append(&lookups, &l->node);
	return 0;
}

static bool read_literal(const char *host, struct dial_address *out)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET, host, &a4.sin_addr) == 1) {
		memcpy(&out->address, &a4, sizeof a4);
		out->len = sizeof a4;
	} else if (inet_pton(AF_INET6, host, &a6.sin6_addr) == 1) {
		memcpy(&out->address, &a6, sizeof a6);
		out->len = sizeof a6;
	}
	return out->len != 0;
}

/* Sees to it that a lookup is under way, and says how long to wait for it; -1: until it ends. */
static int look_up(const struct resolve *r, int64_t *out_wait_ms, struct err *e)
{
	int64_t youngest = 0, now = clock_mono_ms();
	unsigned n = count_lookups(r->loop, r->host, &youngest);
	bool known = find_kept(r->host) != NULL;
	if (n == 0 || (n < LOOKUPS_OF_A_NAME && now - youngest > RESOLVE_SECOND_MS)) {
		int rc = start_lookup(r->loop, r->host, e);
		if (rc != 0 && !known)
			return rc;
	}
	int64_t left = n ? youngest + RESOLVE_PATIENCE_MS - now : RESOLVE_PATIENCE_MS;
	*out_wait_ms = !known ? -1 : left > 0 ? left : 0;
	return 0;
}

int resolve_start(uv_loop_t *loop, const char *host, uint16_t port, resolve_done done, void *user,
		  struct resolve **out_resolve, struct err *e)
{
	int64_t wait_ms = 0;
	set_up_lists();
	if (strlen(host) >= HOST_MAX)
		return err_set(e, ERR_INVALID, "the host name is too long");
	struct resolve *r = calloc(1, sizeof *r);
	if (!r)
		return err_set(e, ERR_NOMEM, "out of memory");
	r->loop = loop;
	r->port = port;
	r->done = done;
	r->user = user;
	snprintf(r->host, sizeof r->host, "%s", host);
	uv_timer_init(loop, &r->timer);
	r->timer.data = r;
	list_append(&waiting, &r->node);
	int rc = read_literal(host, &r->literal) ? 0 : look_up(r, &wait_ms, e);
	if (rc != 0) {
		resolve_cancel(&r);
		return rc;
	}
	if (wait_ms >= 0)
		timer_in(&r->timer, on_patience_over, wait_ms);
	*out_resolve = r;
	return 0;
}

void resolve_cancel(struct resolve **resolve)
{
	if (!resolve || !*resolve)
		return;
	struct resolve *r = *resolve;
	*resolve = NULL;
	list_remove(&r->node);
	uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}

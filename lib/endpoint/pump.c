/* Streams to and from file descriptors. What libuv can watch (sockets, pipes, terminals) is read and written when it is
 * ready, one chunk a wake-up, so that many streams share the loop evenly. Regular files and /dev/null, which epoll
 * refuses, count as always ready and get a chunk a turn.
 *
 * libuv sets what it watches non-blocking. Other holders of the same open file, such as the shell on the same terminal,
 * see that too, so it is undone before closing; where both directions are the same open file, by the one that closes
 * last.
 *
 * A local side that breaks ends the stream, but what it said before is the peer's: a service that closes with a request
 * unread resets its connection behind its answer. So what is there is read, the link delivers it and resets the stream
 * behind it, and what the peer sends meanwhile is dropped, so that nobody waits for somebody who is stuck writing.
 * Where the reset arrives, the local socket may still hold much that its reader has not taken. An RST would destroy
 * that, so the socket stays, without its stream, until the kernel has sent it all. */
#include "endpoint/internal.h"

#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUMP_CHUNK (64u * 1024)
#define PUMP_LEAVING 64        /* sockets of ended streams, kept for readers that are slow */
#define PUMP_PIECES 4          /* chunks of the link's that leave in one write */
#define PUMP_WRITES 2          /* of them a turn, so that one fast reader does not keep the loop */
#define PUMP_BULK (16u * 1024) /* bytes: who gave so many is read without a copy, and gets a chunk of memory for it */

struct side {
	int fd; /* -1: none */
	uv_poll_t poll;
	bool watched; /* poll is a live handle; else always ready */
	bool socket, made_nonblocking;
	dev_t device; /* with inode: which file it is */
	ino_t inode;
	int events; /* asked of poll */
};

struct pump {
	struct list node, dirty;
	struct endpoint *ep;
	uint32_t id;
	struct side in, out; /* one descriptor for both: out is a copy of the number and has no poll */
	bool attached;       /* has, or had, descriptors */
	bool shared;
	bool readable, writable;
	bool bulk;          /* the last read brought much */
	bool in_done;       /* read to its end */
	bool eof, out_done; /* the peer's end came; passed on */
	int broken;         /* errno of the local side that cannot be used any more; 0: none */
	const char *broken_at;
	bool failed;  /* the link was told; it says when all is over */
	bool leaving; /* the stream is over; only the socket is left */
	bool done;
	unsigned handles;
	uint64_t bytes_in, bytes_out;
};

static _Thread_local uint8_t read_bytes[PUMP_CHUNK];

struct pump *pump_find(struct endpoint *ep, uint32_t id)
{
	LIST_EACH(node, &ep->pumps[id / 2 % PUMP_BUCKETS])
	{
		struct pump *p = LIST_ENTRY(node, struct pump, node);
		if (p->id == id)
			return p;
	}
	return NULL;
}

struct pump *pump_new(struct endpoint *ep, uint32_t id)
{
	struct pump *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->ep = ep;
	p->id = id;
	p->in.fd = p->out.fd = -1;
	list_init(&p->dirty);
	list_append(&ep->pumps[id / 2 % PUMP_BUCKETS], &p->node);
	return p;
}

void pump_wake(struct pump *p)
{
	if (p->done)
		return;
	list_remove(&p->dirty);
	list_append(&p->ep->dirty, &p->dirty);
	endpoint_turn_soon(p->ep);
}

void pump_eof(struct pump *p)
{
	p->eof = true;
	pump_wake(p);
}

static void on_poll_closed(uv_handle_t *h)
{
	struct pump *p = h->data;
	if (--p->handles == 0 && p->done) /* both directions may be over before the stream is */
		free(p);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void pump_close_fds(int in_fd, int out_fd)
{
	close_fd(in_fd);
	if (out_fd != in_fd)
		close_fd(out_fd);
}

static void make_blocking(struct side *s, struct side *other)
{
	if (other->fd >= 0 && other->device == s->device && other->inode == s->inode) {
		other->made_nonblocking = true;
		return;
	}
	int flags = fcntl(s->fd, F_GETFL);
	if (flags >= 0)
		(void)fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK);
}

static void close_side(struct pump *p, struct side *s)
{
	if (s->fd < 0)
		return;
	if (s->watched) {
		/* Takes the descriptor out of epoll at once. */
		uv_close((uv_handle_t *)&s->poll, on_poll_closed);
		s->watched = false;
	}
	if (s->made_nonblocking)
		make_blocking(s, s == &p->in ? &p->out : &p->in);
	close(s->fd);
	s->fd = -1;
}

/* abort: the local peer of a TCP socket must not take what came so far for all there is, so it gets an RST. */
static void close_both(struct pump *p, bool abort)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	if (abort && p->out.fd >= 0 && p->out.socket)
		(void)setsockopt(p->out.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	if (p->shared)
		p->out.fd = -1;
	close_side(p, &p->in);
	close_side(p, &p->out);
}

static void retire(struct pump *p)
{
	p->done = true;
	list_remove(&p->node);
	list_remove(&p->dirty);
	if (p->handles == 0)
		free(p);
}

static void leave(struct pump *p)
{
	p->ep->n_leaving--;
	close_both(p, true);
	retire(p);
}

void pump_forget(struct pump **p)
{
	if (!p || !*p)
		return;
	close_both(*p, true);
	retire(*p);
	*p = NULL;
}

static void on_ready(uv_poll_t *poll, int status, int events);

static void set_events(struct side *s, int events)
{
	if (!s->watched || s->events == events)
		return;
	s->events = events;
	if (events)
		uv_poll_start(&s->poll, events, on_ready);
	else
		uv_poll_stop(&s->poll);
}

static ssize_t read_some(const struct side *s, void *out, size_t size)
{
	ssize_t n;
	do
		n = s->socket ? recv(s->fd, out, size, MSG_DONTWAIT) : read(s->fd, out, size);
	while (n < 0 && errno == EINTR);
	return n;
}

static int count_unsent(const struct side *s)
{
	int n = 0;
	return s->socket && ioctl(s->fd, SIOCOUTQNSD, &n) == 0 ? n : 0;
}

/* What the local peer still says is for nobody, but while it cannot say it, it may not read either. */
static void on_leaving(struct pump *p, int status)
{
	ssize_t n = read_some(&p->in, read_bytes, sizeof read_bytes);
	if (status < 0 || (n < 0 && errno != EAGAIN) || count_unsent(&p->in) == 0)
		leave(p);
	else if (n == 0)
		set_events(&p->in, UV_WRITABLE);
}

/* Returns false if there is nothing to stay for. A socket becomes writable when nothing is unsent. */
static bool stay(struct pump *p)
{
	struct endpoint *ep = p->ep;
	int lowat = 1;
	if (!p->shared || p->in.fd < 0 || !p->in.watched || count_unsent(&p->in) == 0 ||
	    setsockopt(p->in.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat) != 0)
		return false;
	if (ep->n_leaving++ == PUMP_LEAVING)
		leave(LIST_ENTRY(ep->leaving.next, struct pump, node));
	list_remove(&p->dirty);
	list_remove(&p->node);
	list_append(&ep->leaving, &p->node);
	p->leaving = true;
	set_events(&p->in, UV_READABLE | UV_WRITABLE);
	return true;
}

static void tell_closed(struct pump *p, unsigned code, const char *text, bool may_stay)
{
	struct endpoint *ep = p->ep;
	uint32_t id = p->id;
	uint64_t in = p->bytes_in, out = p->bytes_out;
	if (!may_stay || !stay(p)) {
		close_both(p, code != LINK_OK);
		retire(p);
	}
	if (ep->callbacks.stream_closed && !ep->freed)
		ep->callbacks.stream_closed(ep->user, id, code, text, in, out);
}

void pump_done(struct pump *p, unsigned code, const char *text)
{
	tell_closed(p, code, text, false);
}

void pump_closed(struct pump *p, unsigned code, const char *text)
{
	tell_closed(p, code, text, code != LINK_OK);
}

static void stop_watching(struct pump *p)
{
	set_events(&p->in, 0);
	set_events(&p->out, 0);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct pump *p = poll->data;
	if (p->leaving && !p->done) {
		on_leaving(p, status);
		return;
	}
	/* An error on the descriptor is found by reading or writing it. libuv has stopped the handle then. */
	if (status < 0) {
		struct side *s = poll == &p->in.poll ? &p->in : &p->out;
		events = UV_READABLE | UV_WRITABLE;
		s->events = 0;
	}
	if (events & UV_READABLE)
		p->readable = true;
	if (events & UV_WRITABLE)
		p->writable = true;
	if (p->ep->freed || p->done)
		uv_poll_stop(poll);
	else if (p->ep->frozen)
		stop_watching(p); /* else it would be told for ever */
	else
		pump_wake(p);
}

static int set_up_side(struct pump *p, struct side *s, int fd, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return err_set_errno(e, ERR_INVALID, errno, "stream %u: descriptor %d", p->id, fd);
	s->socket = S_ISSOCK(st.st_mode);
	s->device = st.st_dev;
	s->inode = st.st_ino;
	int flags = fcntl(fd, F_GETFL);
	int rc = uv_poll_init(p->ep->loop, &s->poll, fd);
	if (rc != 0 && rc != UV_EPERM)
		return err_set(e, ERR_IO, "stream %u: watch descriptor %d: %s", p->id, fd, uv_strerror(rc));
	s->fd = fd;
	if (rc == 0) {
		s->watched = true;
		s->poll.data = p;
		p->handles++;
	}
	s->made_nonblocking = s->watched && flags >= 0 && !(flags & O_NONBLOCK);
	return 0;
}

int pump_attach(struct pump *p, int in_fd, int out_fd, struct err *e)
{
	p->attached = true;
	p->shared = in_fd == out_fd;
	int rc = set_up_side(p, &p->in, in_fd, e);
	if (rc == 0 && !p->shared)
		rc = set_up_side(p, &p->out, out_fd, e);
	if (rc != 0) {
		if (p->in.fd < 0)
			close_fd(in_fd);
		if (!p->shared && p->out.fd < 0)
			close_fd(out_fd);
		close_both(p, true);
		return rc;
	}
	if (p->shared) {
		p->out.fd = p->in.fd;
		p->out.socket = p->in.socket;
	}
	/* Try first, ask later: often there is something. */
	p->readable = p->writable = true;
	pump_wake(p);
	return 0;
}

bool pump_is_attached(const struct pump *p)
{
	return p->attached;
}

static void update_events(struct pump *p, bool wants_read)
{
	int read = wants_read && !p->readable ? UV_READABLE : 0;
	int write = !p->writable && !p->out_done ? UV_WRITABLE : 0;
	if (p->shared) {
		set_events(&p->in, read | write);
	} else {
		set_events(&p->in, read);
		set_events(&p->out, write);
	}
}

/* The first error is the one that is told. */
static void note_broken(struct pump *p, int error, const char *doing)
{
	if (p->broken)
		return;
	p->broken = error;
	p->broken_at = doing;
}

/* Nothing more comes from the local side. The link's CLOSED ends the pump. */
static void fail(struct pump *p)
{
	char text[LIMIT_LINK_TEXT + 1];
	snprintf(text, sizeof text, "%s: %s", p->broken_at, strerror(p->broken));
	p->failed = true;
	close_both(p, true);
	if (p->ep->callbacks.local_error && !p->ep->freed)
		p->ep->callbacks.local_error(p->ep->user, p->id, p->broken);
	link_stream_fail(p->ep->link, p->id, LINK_IO, text);
}

static ssize_t write_some(const struct side *s, struct iovec *pieces, size_t n_pieces)
{
	struct msghdr message = { .msg_iov = pieces, .msg_iovlen = n_pieces };
	ssize_t n;
	do
		n = s->socket ? sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
			      : writev(s->fd, pieces, (int)n_pieces);
	while (n < 0 && errno == EINTR);
	return n;
}

/* The peer has finished and all it sent is written. */
static void pass_eof_on(struct pump *p)
{
	p->out_done = true;
	if (p->out.socket)
		(void)shutdown(p->out.fd, SHUT_WR);
	else if (!p->shared)
		close_side(p, &p->out);
	link_stream_eof_done(p->ep->link, p->id);
}

static void drop_incoming(struct pump *p)
{
	const void *data;
	size_t len;
	while ((len = link_stream_peek(p->ep->link, p->id, &data)) > 0)
		link_stream_consume(p->ep->link, p->id, len);
}

static void pump_out(struct pump *p)
{
	struct link *link = p->ep->link;
	struct iovec pieces[PUMP_PIECES];
	const void *data;
	size_t n_pieces;
	int writes = 0;
	while (p->writable && (n_pieces = link_stream_pieces(link, p->id, pieces, PUMP_PIECES)) > 0) {
		if (writes++ == PUMP_WRITES) {
			pump_wake(p);
			return;
		}
		ssize_t n = write_some(&p->out, pieces, n_pieces);
		if (n < 0 && errno != EAGAIN) {
			note_broken(p, errno, "write");
			p->out_done = p->readable = true;
			return;
		}
		if (n < 0) {
			p->writable = false;
			break;
		}
		p->bytes_in += (uint64_t)n;
		link_stream_consume(link, p->id, (size_t)n);
	}
	if (p->eof && !p->out_done && link_stream_peek(link, p->id, &data) == 0)
		pass_eof_on(p);
}

/* EIO: the terminal's other end is gone. A write that failed has taken the error that a read would give; EPIPE means
 * that there was none. */
static bool is_end(const struct pump *p, ssize_t n)
{
	if (n < 0)
		return errno == EIO && !p->in.socket;
	return n == 0 && (!p->broken || p->broken == EPIPE);
}

/* As read_some; *out_taken: how many bytes of it the link has. */
static ssize_t read_to_link(struct pump *p, size_t most, size_t *out_taken)
{
	struct link *link = p->ep->link;
	size_t room = 0;
	void *space = p->bulk ? link_stream_space(link, p->id, most, &room) : NULL;
	ssize_t n = space ? read_some(&p->in, space, room) : read_some(&p->in, read_bytes, most);
	if (n <= 0) {
		int error = errno;
		if (space)
			link_stream_commit(link, p->id, 0);
		errno = error;
		return n;
	}
	if (space) {
		link_stream_commit(link, p->id, (size_t)n);
		*out_taken = (size_t)n;
	} else {
		*out_taken = link_stream_write(link, p->id, read_bytes, (size_t)n);
	}
	return n;
}

static void pump_in(struct pump *p)
{
	struct link *link = p->ep->link;
	size_t room = link_stream_room(link, p->id);
	if (room == 0 || !p->readable || p->in_done)
		return;
	size_t taken = 0;
	ssize_t n = read_to_link(p, room < PUMP_CHUNK ? room : PUMP_CHUNK, &taken);
	if (n > 0) {
		p->bulk = n >= (ssize_t)PUMP_BULK;
		p->bytes_out += taken;
		p->in_done = taken != (size_t)n;
		if (p->in_done)
			note_broken(p, ENOMEM, "read");
		else if (p->in.watched && !p->broken)
			p->readable = false;
		else
			pump_wake(p);
	} else if (n < 0 && errno == EAGAIN) {
		p->readable = false;
	} else if (is_end(p, n)) {
		p->in_done = true;
		link_stream_finish(link, p->id);
		if (!p->shared)
			close_side(p, &p->in);
	} else {
		note_broken(p, errno, "read");
		p->in_done = true;
	}
}

/* Both directions of a socket break together, and then all that it still gives is there already. */
static void break_off(struct pump *p)
{
	drop_incoming(p);
	if (p->in_done || !p->shared || !p->readable)
		fail(p);
}

static void run(struct pump *p)
{
	if (p->failed)
		drop_incoming(p);
	if (p->in.fd < 0 && p->out.fd < 0)
		return; /* not attached yet, or nothing more to do here */
	if (!p->broken)
		pump_out(p);
	pump_in(p);
	if (p->broken)
		break_off(p);
	update_events(p, !p->in_done && link_stream_room(p->ep->link, p->id) > 0);
}

void pumps_thaw(struct endpoint *ep)
{
	for (size_t i = 0; i < PUMP_BUCKETS; i++)
		LIST_EACH(node, &ep->pumps[i])
	pump_wake(LIST_ENTRY(node, struct pump, node));
}

void pumps_run(struct endpoint *ep)
{
	struct list now;
	list_init(&now);
	if (ep->frozen)
		return;
	while (!list_empty(&ep->dirty)) {
		struct list *node = ep->dirty.next;
		list_remove(node);
		list_append(&now, node);
	}
	while (!list_empty(&now) && !ep->freed) {
		struct list *node = now.next;
		list_remove(node);
		run(LIST_ENTRY(node, struct pump, dirty));
	}
}

void pumps_end(struct endpoint *ep, unsigned code, const char *text)
{
	while (!list_empty(&ep->leaving))
		leave(LIST_ENTRY(ep->leaving.next, struct pump, node));
	for (size_t i = 0; i < PUMP_BUCKETS; i++)
		while (!list_empty(&ep->pumps[i])) {
			struct pump *p = LIST_ENTRY(ep->pumps[i].next, struct pump, node);
			if (ep->freed)
				pump_forget(&p);
			else
				pump_done(p, code, text);
		}
}

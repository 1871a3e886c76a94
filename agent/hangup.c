/* Who is a command: sshd's own processes all stay in the process session that the first one leads (sshd.c makes it with
 * setsid). The one that serves the login, or without one (root) the first itself, gives each command a session of its
 * own. A leader that is alive and as old as when it was noted makes its session's number certain; so only sessions
 * whose leader lives are signalled. */
#include "agent/hangup.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
	pid_t session;
	int terminal;
	unsigned long long started;
};

static bool read_proc(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return false;
	out[n] = '\0';
	return true;
}

static bool look_up(pid_t pid, struct process *out)
{
	char path[64], text[1024], state;
	int session;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (!read_proc(path, text, sizeof text))
		return false;
	const char *fields = strrchr(text, ')'); /* a name may hold anything */
	/* proc(5): state ppid pgrp session tty_nr tpgid …, starttime is the 22nd */
	if (!fields || sscanf(fields, ") %c %*d %*d %d %d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			      &state, &session, &out->terminal, &out->started) != 4)
		return false;
	out->session = session;
	return state != 'Z' && state != 'X';
}

/* Up to max children of a process; also those that it has no time to wait for. */
static size_t children_of(pid_t pid, pid_t *out, size_t max)
{
	char path[64], text[4096], *at = text, *end;
	size_t n = 0;
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
	if (!read_proc(path, text, sizeof text))
		return 0;
	for (long child; n < max && (child = strtol(at, &end, 10)) > 0 && end != at; at = end)
		out[n++] = (pid_t)child;
	return n;
}

static void note(struct hangup *h, pid_t pid, const struct process *p)
{
	size_t i = 0;
	while (i < h->count && (h->leaders[i].pid != pid || h->leaders[i].started != p->started))
		i++;
	bool known = i < h->count;
	if (p->terminal) { /* the terminal's end will do it; a shell gets it a moment after its session */
		if (known)
			h->leaders[i] = h->leaders[--h->count];
	} else if (!known && h->count < HANGUP_COMMANDS) {
		h->leaders[h->count++] = (struct hangup_leader){ pid, p->started };
	}
}

static bool still_runs(const struct hangup_leader *leader)
{
	struct process p;
	return look_up(leader->pid, &p) && p.started == leader->started && p.session == leader->pid;
}

static void forget_the_dead(struct hangup *h)
{
	for (size_t i = 0; i < h->count;)
		if (still_runs(&h->leaders[i]))
			i++;
		else
			h->leaders[i] = h->leaders[--h->count];
}

void hangup_look(struct hangup *h, pid_t sshd)
{
	pid_t list[HANGUP_COMMANDS], parent = sshd;
	struct process p;
	forget_the_dead(h);
	size_t n = children_of(sshd, list, HANGUP_COMMANDS);
	for (size_t i = 0; i < n; i++)
		if (look_up(list[i], &p) && p.session == sshd)
			parent = list[i]; /* serves the login */
	if (parent != sshd)
		n = children_of(parent, list, HANGUP_COMMANDS);
	for (size_t i = 0; i < n; i++)
		if (look_up(list[i], &p) && p.session == list[i])
			note(h, list[i], &p);
}

static bool is_noted(const struct hangup *h, pid_t session)
{
	for (size_t i = 0; i < h->count; i++)
		if (h->leaders[i].pid == session)
			return true;
	return false;
}

size_t hangup_now(struct hangup *h)
{
	forget_the_dead(h);
	size_t count = h->count;
	DIR *dir = count ? opendir("/proc") : NULL;
	for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
		struct process p;
		pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;
		if (pid <= 1 || !look_up(pid, &p) || !is_noted(h, p.session))
			continue;
		kill(pid, SIGHUP);
		kill(pid, SIGCONT); /* one that stands still would not hear it */
	}
	if (dir)
		closedir(dir);
	h->count = 0;
	return count;
}

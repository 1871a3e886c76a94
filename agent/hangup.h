/* A terminal's end hangs up what runs on it; sshd does nothing for a command that has no terminal. Here such a command
 * gets the same SIGHUP when its sshd is gone or its session is over: the command and all that stayed in the process
 * session which sshd made for it. What left that (setsid), ignores the signal (nohup), or was put into the background
 * by a command that has ended since, lives on as with sshd alone. */
#ifndef AGENT_HANGUP_H
#define AGENT_HANGUP_H

#include <stddef.h>
#include <sys/types.h>

#define HANGUP_COMMANDS 64u /* of one sshd at a time; sshd allows 10 channels (MaxSessions) */

struct hangup {
	struct hangup_leader {
		pid_t pid;
		unsigned long long started; /* tells it from a later process of the same number */
	} leaders[HANGUP_COMMANDS];
	size_t count;
};

/* Notes the commands that this sshd runs now. Nobody can tell afterwards who started them. */
void hangup_look(struct hangup *h, pid_t sshd);
/* Sends the signal for those that still run. How many those are. */
size_t hangup_now(struct hangup *h);

#endif

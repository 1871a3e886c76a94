/* One session's end on the target, a process of its own that lives as long as the session. */
#ifndef AGENT_WORKER_H
#define AGENT_WORKER_H

/* Reads its job from WORKER_FD. The process's exit code. */
int worker_main(void);

#endif

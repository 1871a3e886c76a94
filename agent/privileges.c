#include "agent/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEPT (1ull << CAP_NET_BIND_SERVICE | 1ull << CAP_DAC_OVERRIDE)

/* The kernel takes 64 capabilities as two rows of 32. */
static int keep_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
	struct __user_cap_data_struct rows[_LINUX_CAPABILITY_U32S_3];
	uint32_t more = 0;
	if (syscall(SYS_capget, &header, rows) != 0)
		return -1;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		uint32_t kept = (uint32_t)(KEPT >> 32 * i);
		more |= (rows[i].permitted | rows[i].inheritable) & ~kept;
		rows[i].effective &= kept;
		rows[i].permitted &= kept;
		rows[i].inheritable &= kept;
	}
	/* A unit's filter of system calls may forbid even to ask for less. */
	return more ? (int)syscall(SYS_capset, &header, rows) : 0;
}

/* What an execve could give back, where root runs it; without CAP_SETPCAP there is nothing to take away. */
static void shrink_bounds(void)
{
	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (!(KEPT >> c & 1))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
}

int privileges_drop(struct err *e)
{
	shrink_bounds();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || keep_capabilities() != 0)
		return err_set_errno(e, ERR_INTERNAL, errno, "cannot give up rights that the session has no use for");
	return 0;
}

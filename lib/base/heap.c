#include "base/heap.h"

#include <malloc.h>

#ifdef __GLIBC__
#define KEPT (64 * 1024 * 1024) /* bytes of free memory at the heap's end */
#define STEP (256 * 1024)       /* bytes that the heap grows by */

void heap_keep(void)
{
	mallopt(M_TRIM_THRESHOLD, KEPT);
	mallopt(M_TOP_PAD, STEP);
	/* A buffer of this size is no mapping of its own, which would come and go each time. */
	mallopt(M_MMAP_THRESHOLD, KEPT / 2);
}

void heap_give_back(void)
{
	malloc_trim(0);
}
#else
void heap_keep(void)
{
}

void heap_give_back(void)
{
}
#endif

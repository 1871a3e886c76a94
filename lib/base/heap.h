/* The C library's heap in a program whose buffers come and go by the megabyte. As it is, glibc gives the top of the
 * heap back to the kernel with every larger free, and faults it in again with the next malloc: a third of the time of a
 * bulk transfer. So it is kept, and given back when the program has come to rest. Nothing where the C library is
 * another. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

void heap_keep(void); /* from now on, for the whole process; at its start */
void heap_give_back(void);

#endif

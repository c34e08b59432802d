// SPDX-License-Identifier: Apache-2.0
/*
 * A link in a call chain of known truth. Compiled with -DNAME=first and so on, and with whatever
 * options are to be tried. NAME_call hands on through a function that only .symtab knows.
 */
#include <alloca.h>
#include <string.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

void note_caller(void *address);

static __attribute__((noinline, noclone)) long hidden(void (*next)(void *), void *argument,
						      long size)
{
	/* Some registers to keep, and a frame whose size only the run decides. */
	volatile char *room = alloca(size + 40);
	long sum = size * 3, other = size ^ 5, third = size + 7;

	note_caller(__builtin_return_address(0));
	memset((void *)room, 1, size);
	next(argument);
	sum += room[0] + other * third;
	next = 0;
	return sum;
}

__attribute__((visibility("default"), noinline)) long JOIN(NAME, _call)(void (*next)(void *),
									void *argument)
{
	volatile long result;

	note_caller(__builtin_return_address(0));
	result = hidden(next, argument, 100);
	return result + 1;
}

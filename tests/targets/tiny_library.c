/*
 * A small library with one function of every kind that a symbol table can hold. Build with
 * -Wl,--version-script=tiny_library.map.
 */
#include <stdlib.h>

int plain_function(int a)
{
	return a + 1;
}

/* The string table needs the longer name only: the shorter one is its tail. */
int outer_plain_function(int a)
{
	return a + 2;
}

/* Two names of one address. */
int aliased_function(int a) __attribute__((alias("plain_function")));

/* One name in two versions: two addresses. */
int versioned_old(int a)
{
	return a + 3;
}

int versioned_new(int a)
{
	return a + 4;
}

__asm__(".symver versioned_old, versioned_function@TINY_1");
__asm__(".symver versioned_new, versioned_function@@TINY_2");

/* The address of an indirect function is its resolver's, not its own. */
static int (*resolve(void))(int)
{
	return plain_function;
}

int indirect_function(int a) __attribute__((ifunc("resolve")));

/* Data, and a function that somebody else defines. */
int data_object = 7;

int calls_others(const char *text)
{
	return atoi(text) + data_object;
}

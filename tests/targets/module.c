// SPDX-License-Identifier: Apache-2.0
/*
 * A module as Kamailio 5 and 6 load them, as far as its exports go. Defines:
 *   NAME  what it calls itself         INIT  its init function; 0: none
 *   GLOBAL_INIT  the init function is an exported symbol, so its pointer takes another relocation
 */
#include <stddef.h>

struct module_exports {
	char *name;
	unsigned int dlflags;
	void *cmds, *params, *rpc, *pvs, *response_f;
	int (*init_mod_f)(void);
	int (*init_child_f)(int rank);
	void (*destroy_mod_f)(void);
};

static int child_init(int rank)
{
	return rank;
}

#ifdef GLOBAL_INIT
int mod_init(void)
#else
static int mod_init(void)
#endif
{
	return 7;
}

#ifndef INIT
#define INIT mod_init
#else
void *unused[] __attribute__((unused)) = {mod_init};
#endif

struct module_exports exports = {
	.name = NAME, .dlflags = 1, .init_mod_f = INIT, .init_child_f = child_init};

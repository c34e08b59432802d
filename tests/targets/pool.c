// SPDX-License-Identifier: Apache-2.0
/*
 * Stands for a server that allocates from shared memory: exports what Kamailio's program exports
 * of it, with whatever the arguments say, says so, and waits for the end of its input.
 *
 *   pool NAME BYTES [WORD…]   the manager's name, the pool's size, and the pool's first words;
 *                             p0x40 is the address of the pool and 0x40
 *
 * -DNO_ROOT: it exports the size only. -DTWICE: it has two such memories.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

unsigned long shm_mem_size;
#ifndef NO_ROOT
struct {
	const char *name;
	void *pool;
	void *block;
	void *functions[18];
} _shm_root;
#endif

static unsigned long *map(unsigned long size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 64;
	shm_mem_size = strtoul(argv[2], NULL, 0);
	unsigned long *pool = map(shm_mem_size);
#ifdef TWICE
	map(shm_mem_size);
#endif
	for (int i = 3; i < argc; i++) {
		int relative = argv[i][0] == 'p';

		pool[i - 3] = strtoul(argv[i] + relative, NULL, 0) + (relative ? (unsigned long)pool : 0);
	}
#ifndef NO_ROOT
	_shm_root.name = argv[1];
	_shm_root.pool = pool;
	_shm_root.block = pool;
#endif
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF) {
	}
	return 0;
}

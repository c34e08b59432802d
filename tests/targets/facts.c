// SPDX-License-Identifier: Apache-2.0
/*
 * Stands for a server: exports what Kamailio's program exports, maps the libraries named by its
 * arguments, says so, and waits for the end of its input. -DVERSION='"…"' is its version, -DMODE
 * gives it a tls_threads_mode.
 */
#include <dlfcn.h>
#include <stdio.h>

const char full_version[] = VERSION;
#ifdef MODE
int ksr_tls_threads_mode;
#endif

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!dlopen(argv[i], RTLD_NOW)) {
			fprintf(stderr, "cannot map: %s\n", dlerror());
			return 1;
		}
	}
#ifdef MODE
	/* As a configuration file does: only the memory tells, not the program's file. */
	ksr_tls_threads_mode = MODE;
#endif
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF) {
	}
	return full_version[0] == 0;
}

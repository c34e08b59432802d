// SPDX-License-Identifier: Apache-2.0
/* Preloaded into `openssl rand`: stops before and after libcrypto makes its random bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>

int RAND_bytes(unsigned char *buffer, int count)
{
	int (*make)(unsigned char *, int);
	int result;

	*(void **)&make = dlsym(RTLD_NEXT, "RAND_bytes");
	raise(SIGSTOP);
	result = make(buffer, count);
	raise(SIGSTOP);
	return result;
}

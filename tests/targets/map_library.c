/* Maps the library named by its argument, says so, and waits for the end of its input. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc != 2 || !dlopen(argv[1], RTLD_NOW)) {
		fprintf(stderr, "cannot map: %s\n", argc == 2 ? dlerror() : "name one library");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF) {
	}
	return 0;
}

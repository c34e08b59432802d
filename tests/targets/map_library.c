/* Maps the library named by its argument, says so, and does the same with each line of its input. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	char line[4096];

	if (argc != 2 || !dlopen(argv[1], RTLD_NOW)) {
		fprintf(stderr, "cannot map: %s\n", argc == 2 ? dlerror() : "name one library");
		return 1;
	}
	do {
		puts("ready");
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			return 0;
		line[strcspn(line, "\n")] = 0;
	} while (dlopen(line, RTLD_NOW));
	fprintf(stderr, "cannot map: %s\n", dlerror());
	return 1;
}

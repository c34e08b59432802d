// SPDX-License-Identifier: Apache-2.0
/*
 * What libbpf's own consumer takes for the records that wait in a ring: finds the ring of that
 * size, takes them, looks at each record's kind and thread, and says how many it took and the
 * nanoseconds of one.
 *
 *   ring_consumer BYTES
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../bpf/events.h"

static unsigned long threads, kinds[KAMOTEL_KINDS];

static int take(void *context, void *data, size_t size)
{
	const struct kamotel_header *header = data;

	(void)context;
	if (size < sizeof(*header) || header->kind >= KAMOTEL_KINDS)
		return -1;
	kinds[header->kind]++;
	threads += header->tid;
	return 0;
}

static int find_ring(unsigned int size)
{
	struct bpf_map_info info;
	unsigned int id = 0, length;

	while (!bpf_map_get_next_id(id, &id)) {
		int fd = bpf_map_get_fd_by_id(id);

		length = sizeof(info);
		memset(&info, 0, sizeof(info));
		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &length) &&
		    info.type == BPF_MAP_TYPE_RINGBUF && info.max_entries == size)
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	struct ring_buffer *ring;
	int fd = argc > 1 ? find_ring(strtoul(argv[1], NULL, 10)) : -1;

	if (fd < 0)
		return 65;
	ring = ring_buffer__new(fd, take, NULL, NULL);
	if (!ring)
		return 66;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	int taken = ring_buffer__consume(ring);

	clock_gettime(CLOCK_MONOTONIC, &end);
	if (taken <= 0 || !threads)
		return 67;
	printf("%d %.2f\n", taken,
	       ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / taken);
	return 0;
}

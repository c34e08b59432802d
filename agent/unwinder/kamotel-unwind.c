// SPDX-License-Identifier: Apache-2.0
/*
 * Unwinds stacks for the agent in a process that can do nothing else: parsing the files of a
 * hostile server may end this process, and nothing more. See protocol.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "unwinder.h"

static struct space spaces[MAX_SPACES];
static uint64_t now;
static struct answer answer;

/* Tells the agent, when this process died, over which file. */
static volatile uint64_t *progress;

static union {
	struct ku_header header;
	uint8_t bytes[KU_MAX_MESSAGE];
} request, reply;

static bool receive(void *buffer, size_t size, int *fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {buffer, size};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct ku_header *header = buffer;
	ssize_t length;

	do
		length = recvmsg(SOCKET_FD, &message, 0);
	while (length < 0 && errno == EINTR);
	if (length <= 0)
		return false;

	struct cmsghdr *extra = CMSG_FIRSTHDR(&message);

	*fd = -1;
	if (extra && extra->cmsg_level == SOL_SOCKET && extra->cmsg_type == SCM_RIGHTS &&
	    extra->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(extra), sizeof(int));
	if ((size_t)length < sizeof(*header) || (message.msg_flags & MSG_TRUNC) ||
	    header->version != KU_VERSION || header->length != (size_t)length)
		_exit(KU_EXIT_PROTOCOL);
	return true;
}

static void transmit(struct iovec *parts, size_t count)
{
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
	ssize_t sent;

	do
		sent = sendmsg(SOCKET_FD, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		_exit(0);
}

/* Asks for what is not here; the answer is in reply. */
static void need(enum ku_kind kind, uint64_t id, int *fd)
{
	struct ku_header question = {KU_VERSION, kind, sizeof(question), id};
	struct iovec part = {&question, sizeof(question)};

	transmit(&part, 1);
	if (!receive(&reply, sizeof(reply), fd))
		_exit(0);
	if (reply.header.id != id)
		_exit(KU_EXIT_PROTOCOL);
}

struct file *need_file(uint64_t id)
{
	struct file *file = find_file(id);
	int fd;

	*progress = id;
	if (file)
		return file;
	need(KU_NEED_FILE, id, &fd);
	switch (reply.header.kind) {
	case KU_FILE:
		return add_file(id, fd, KU_DETAIL_NOT_MAPPED);
	case KU_NO_FILE:
		return add_file(id, -1, KU_DETAIL_REFUSED);
	default:
		_exit(KU_EXIT_PROTOCOL);
	}
}

static void forget_space(uint64_t id)
{
	for (int i = 0; i < MAX_SPACES; i++) {
		if (spaces[i].id == id) {
			free(spaces[i].mappings);
			spaces[i] = (struct space){0};
		}
	}
}

static struct space *need_space(uint64_t id)
{
	const struct ku_space *told = (const struct ku_space *)&reply;
	struct space *oldest = &spaces[0];
	uint64_t end = 0;
	int fd;

	for (int i = 0; i < MAX_SPACES; i++) {
		if (id && spaces[i].id == id) {
			spaces[i].used = ++now;
			return &spaces[i];
		}
		if (spaces[i].used < oldest->used)
			oldest = &spaces[i];
	}
	need(KU_NEED_SPACE, id, &fd);
	if (told->header.kind != KU_SPACE || told->header.length < sizeof(*told) ||
	    told->count > KU_MAX_MAPPINGS ||
	    told->header.length != sizeof(*told) + told->count * sizeof(told->mappings[0]))
		_exit(KU_EXIT_PROTOCOL);
	for (uint32_t i = 0; i < told->count; i++) {
		if (told->mappings[i].start < end ||
		    told->mappings[i].end <= told->mappings[i].start)
			_exit(KU_EXIT_PROTOCOL);
		end = told->mappings[i].end;
	}

	size_t size = told->count * sizeof(told->mappings[0]);
	void *copy = malloc(size + 1);

	if (!copy)
		_exit(KU_EXIT_MEMORY);
	memcpy(copy, told->mappings, size);
	free(oldest->mappings);
	*oldest = (struct space){id, ++now, told->count, copy};
	return oldest;
}

static void answer_unwind(void)
{
	const struct ku_unwind *asked = (const struct ku_unwind *)&request;
	uint64_t length = 0;

	if (asked->header.length < sizeof(*asked))
		_exit(KU_EXIT_PROTOCOL);
	for (int i = 0; i < KU_WINDOWS; i++)
		length += asked->windows[i].length;
	if (length > KU_MAX_STACK || asked->header.length != sizeof(*asked) + length)
		_exit(KU_EXIT_PROTOCOL);

	trim_files();
	unwind(asked, request.bytes + sizeof(*asked), need_space(asked->space), &answer);
	*progress = 0;

	size_t frames = answer.count * sizeof(answer.frames[0]);
	struct ku_frames head = {
		.header = {KU_VERSION, KU_FRAMES, sizeof(head) + frames + answer.names_length,
			   asked->header.id},
		.end = answer.end,
		.detail = answer.detail,
		.count = answer.count,
		.names_length = answer.names_length,
	};
	struct iovec parts[] = {
		{&head, sizeof(head)},
		{answer.frames, frames},
		{answer.names, answer.names_length},
	};

	transmit(parts, 3);
}

#ifdef KAMOTEL_UNWIND_TEST
#include "misbehave.h"
#endif

int main(void)
{
	int fd;

#ifndef __x86_64__
	/* The registers and what calls keep are told for x86-64 alone. */
	return KU_EXIT_MACHINE;
#endif
	progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
	if (progress == MAP_FAILED || elf_version(EV_CURRENT) == EV_NONE)
		return KU_EXIT_SETUP;
	isolate();

	while (receive(&request, sizeof(request), &fd)) {
		if (fd >= 0)
			close(fd);
		switch (request.header.kind) {
		case KU_UNWIND:
#ifdef KAMOTEL_UNWIND_TEST
			misbehave((const struct ku_unwind *)&request);
#endif
			answer_unwind();
			break;
		case KU_FORGET_FILE:
			forget_file(request.header.id);
			break;
		case KU_FORGET_SPACE:
			forget_space(request.header.id);
			break;
		default:
			_exit(KU_EXIT_PROTOCOL);
		}
	}
	return 0;
}

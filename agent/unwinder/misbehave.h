// SPDX-License-Identifier: Apache-2.0
/* Compiled for tests only: what an unwinder that was taken over might try. */
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#define MAGIC 0x6d69736265686176

static void misbehave(const struct ku_unwind *asked)
{
	if (asked->registers[0] != MAGIC)
		return;
	/* The file to blame. */
	*progress = spaces[0].count ? spaces[0].mappings[0].file : 0;
	switch (asked->registers[1]) {
	case 1:
		syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
		break;
	case 2:
		syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
		break;
	case 3:
		syscall(SYS_execve, "/bin/true", NULL, NULL);
		break;
	case 4:
		syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		break;
	case 5:
		syscall(SYS_kill, 1, 0);
		break;
	case 6:
		mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		break;
	case 7:
		mprotect((void *)((uintptr_t)&request / 4096 * 4096), 4096,
			 PROT_READ | PROT_WRITE | PROT_EXEC);
		break;
	case 8:
		syscall(SYS_ptrace, 0, 0, 0, 0);
		break;
	case 9:
		syscall(SYS_write, SOCKET_FD, "x", 1);
		break;
	case 10: {
		struct msghdr message = {0};

		syscall(SYS_sendmsg, 0, &message, 0);
		break;
	}
	case 11:
#ifdef __x86_64__
		/* The 32-bit door: getpid there is what would be writev here. */
		__asm__ volatile("int $0x80" : : "a"(20) : "memory");
#endif
		break;
	case 12:
		abort();
	case 13:
		__builtin_trap();
		break;
	case 14:
		for (;;) {
		}
	case 15:
		/* Not a crime, but bounded. */
		while (malloc(1 << 20)) {
		}
		_exit(KU_EXIT_MEMORY);
	case 16:
		syscall(SYS_io_uring_setup, 1, NULL);
		break;
	case 17:
		/* Stays alive without its socket. */
		close(SOCKET_FD);
		for (;;) {
		}
	default: {
		/* Lies; each variant breaks one rule of the answer. */
		static struct {
			struct ku_frames head;
			struct ku_frame frames[300];
			char names[70000];
		} lie;
		uint64_t kind = asked->registers[1] - 100;
		size_t length = sizeof(lie.head) + sizeof(lie.frames[0]);
		struct iovec part = {&lie, 0};

		lie.head = (struct ku_frames){
			.header = {KU_VERSION, KU_FRAMES, 0, asked->header.id},
			.end = KU_UNKNOWN_CODE,
			.count = 1,
		};
		lie.frames[0] = (struct ku_frame){.address = asked->registers[16],
						  .mapping = KU_NO_MAPPING};
		switch (kind) {
		case 0: /* the truth, to know that the others fail for their reason */
			break;
		case 1:
			lie.head.header.version = 7;
			break;
		case 2:
			lie.head.header.kind = KU_UNWIND;
			break;
		case 3:
			lie.head.header.id++;
			break;
		case 4:
			lie.head.end = 99;
			break;
		case 5:
			lie.head.detail = 99;
			break;
		case 6:
			lie.head.count = 257;
			length = sizeof(lie.head) + 257 * sizeof(lie.frames[0]);
			break;
		case 7:
			lie.head.count = 0xffffffff;
			break;
		case 8:
			lie.head.names_length = 0xffffffff;
			break;
		case 9:
			length = sizeof(lie.head) - 1;
			break;
		case 10:
			lie.frames[0].mapping = 4096;
			break;
		case 11:
			lie.frames[0].mapping = 0; /* where the address is not */
			break;
		case 12:
			lie.frames[0].address++;
			break;
		case 13:
			lie.frames[0].name_length = 255;
			break;
		case 14:
			lie.frames[0].offset = 1;
			break;
		case 15:
			lie.head.end = KU_COMPLETE;
			break;
		case 16:
			lie.head.header.kind = KU_NEED_FILE;
			lie.head.header.id = 0;
			length = sizeof(lie.head.header);
			break;
		case 17:
			lie.head.header.kind = KU_NEED_SPACE;
			lie.head.header.id = ~0ull;
			length = sizeof(lie.head.header);
			break;
		case 18:
			length = 1;
			break;
		case 19:
			lie.head.count = 0;
			length = sizeof(lie.head);
			break;
		case 20: /* asks for ever */
			for (;;) {
				lie.head.header =
					(struct ku_header){KU_VERSION, KU_NEED_SPACE,
							   sizeof(lie.head.header), asked->space};
				part.iov_len = sizeof(lie.head.header);
				transmit(&part, 1);
			}
		case 21: /* longer than any message */
			length = sizeof(lie);
			break;
		case 22: /* bytes that are no text: harmless */
			lie.frames[0].mapping = 0;
			lie.frames[0].address = asked->registers[16];
			lie.frames[0].name_length = 5;
			lie.head.names_length = 5;
			memcpy(&lie.frames[1], "\x1b\xff\n\x80z", 5);
			length += 5;
			lie.head.end = KU_TRUNCATED;
			break;
		}
		lie.head.header.length = length;
		part.iov_len = length;
		transmit(&part, 1);
		_exit(0);
	}
	}
}

// SPDX-License-Identifier: Apache-2.0
/*
 * What agent and unwinder say to each other, a message a packet of a SOCK_SEQPACKET pair. The
 * agent's side is agent/KamOtel.Linux/UnwinderProtocol.cs: change both, and KU_VERSION.
 *
 * The agent asks KU_UNWIND and reads until KU_FRAMES comes. Meanwhile the unwinder may ask for what
 * it does not have (any more): KU_NEED_SPACE is answered by KU_SPACE, KU_NEED_FILE by KU_FILE with
 * the descriptor, or by KU_NO_FILE. So neither has to know what the other remembers.
 */
#ifndef KAMOTEL_UNWIND_PROTOCOL_H
#define KAMOTEL_UNWIND_PROTOCOL_H

#include <stdint.h>

#define KU_VERSION	1
#define KU_REGISTERS	17 /* DWARF order; x86-64: rax rdx rcx rbx rsi rdi rbp rsp r8-r15 rip */
#define KU_MAX_FRAMES	256
#define KU_MAX_MAPPINGS 4096
#define KU_MAX_NAME	255
#define KU_WINDOWS	2
#define KU_CHUNK	1024
#define KU_MAX_STACK	(128 * 1024) /* bytes of all windows together */
#define KU_NO_MAPPING	0xffffffffu

enum ku_kind {
	/* from the agent */
	KU_UNWIND = 1,
	KU_SPACE = 2,
	KU_FILE = 3,
	KU_NO_FILE = 4,
	KU_FORGET_FILE = 5,
	KU_FORGET_SPACE = 6,
	/* from the unwinder */
	KU_FRAMES = 16,
	KU_NEED_SPACE = 17,
	KU_NEED_FILE = 18,
};

enum ku_end {
	KU_COMPLETE = 1,       /* the outermost frame's CFI says that nobody called it */
	KU_TRUNCATED = 2,      /* needs memory that was not copied */
	KU_NO_UNWIND_INFO = 3, /* code of a known file that no CFI covers */
	KU_UNKNOWN_CODE = 4,   /* code in no mapping */
	KU_BAD_FILE = 5,       /* the file, or its CFI, cannot be used */
	KU_TOO_DEEP = 6,
};

enum ku_detail {
	KU_DETAIL_NONE = 0,
	/* KU_BAD_FILE, the file itself */
	KU_DETAIL_REFUSED = 1, /* KU_NO_FILE */
	KU_DETAIL_NOT_MAPPED = 2,
	KU_DETAIL_TOO_LARGE = 3,
	KU_DETAIL_NOT_ELF = 4,
	KU_DETAIL_SEGMENTS = 5,
	KU_DETAIL_OTHER_MAPPING = 6, /* no executable segment is mapped so, or two are */
	/* KU_BAD_FILE, its CFI */
	KU_DETAIL_EXPRESSION = 7,
	KU_DETAIL_RETURN_COLUMN = 8,
	KU_DETAIL_BACKWARDS = 9, /* the caller's frame would not lie above */
	/* KU_NO_UNWIND_INFO */
	KU_DETAIL_NO_CFI = 10,
	KU_DETAIL_NOT_COVERED = 11,
	KU_DETAIL_LOST_REGISTER = 12, /* needs a register that an inner frame did not keep */
	KU_DETAIL_RETURN_NOT_TOLD = 13,
};

struct ku_header {
	uint16_t version;
	uint16_t kind;
	uint32_t length; /* of the whole message */
	uint64_t id;	 /* KU_UNWIND, KU_FRAMES: the request's; else the space's or the file's */
};

struct ku_mapping {
	uint64_t start;
	uint64_t end;
	uint64_t offset;
	uint64_t file;
};

/* Sorted, without overlaps. */
struct ku_space {
	struct ku_header header;
	uint32_t count;
	uint32_t reserved;
	struct ku_mapping mappings[];
};

struct ku_window {
	uint64_t address;
	uint32_t length;
	uint32_t reserved;
	uint8_t holes[KU_MAX_STACK / KU_CHUNK / 8]; /* a bit a chunk that could not be read */
};

/* The bytes of the windows follow, in their order. */
struct ku_unwind {
	struct ku_header header;
	uint64_t space;
	uint64_t registers[KU_REGISTERS];
	struct ku_window windows[KU_WINDOWS];
};

struct ku_frame {
	uint64_t address;
	uint64_t file_address;
	uint64_t offset;  /* in the function; 0 without one */
	uint32_t mapping; /* index, or KU_NO_MAPPING */
	uint32_t name_length;
};

/* The frames follow, innermost first, then their names without terminators. */
struct ku_frames {
	struct ku_header header;
	uint32_t end;
	uint32_t detail;
	uint32_t count;
	uint32_t names_length;
};

#define KU_MAX_MESSAGE (sizeof(struct ku_unwind) + KU_MAX_STACK + 1024)

/* Exit codes: how far the unwinder came in locking itself in. 0 is the end of the conversation. */
enum ku_exit {
	KU_EXIT_MACHINE = 64, /* built for a machine that it cannot unwind */
	KU_EXIT_SETUP = 65,
	KU_EXIT_PRIVILEGES = 66,
	KU_EXIT_LIMITS = 67,
	KU_EXIT_SECCOMP = 68,
	KU_EXIT_PROTOCOL = 69,
	KU_EXIT_MEMORY = 70,
};

#endif

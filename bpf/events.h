/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_EVENTS_H
#define KAMOTEL_EVENTS_H

/*
 * The one contract between the kernel side and the agent: every record in the ring starts with
 * struct kamotel_header. agent/KamOtel.Bpf/Events.cs mirrors it; a test compares both by the
 * object's BTF. All fields are naturally aligned and there is no hidden padding.
 */

enum kamotel_kind {
	KAMOTEL_EXEC = 1,
	KAMOTEL_FORK = 2,
	KAMOTEL_EXIT = 3,
	KAMOTEL_INIT_LOCAL = 4,
	KAMOTEL_SET_LOCAL = 5,
	KAMOTEL_CLEANUP_LOCAL = 6,
	KAMOTEL_SET_LOCAL_EX = 7,
	KAMOTEL_CLEAN_LOCAL = 8,
	/* Never in the ring, only in the losses: a process that the full map could not take. */
	KAMOTEL_WATCH = 9,
	KAMOTEL_FATAL_SIGNAL = 10,
	/* Never in the ring, only in the losses: a call that went without the copy of its stack. */
	KAMOTEL_STACK = 11,
	KAMOTEL_ENTER = 12,
	KAMOTEL_COMPLAINT = 13,
	KAMOTEL_KINDS,
};

enum kamotel_flags {
	/* EXEC: watched under its new name; without it the process left its instance. */
	KAMOTEL_WATCHED = 1,
	/* EXIT: the last thread, so the process ended. */
	KAMOTEL_LAST_THREAD = 2,
	/* calls: the key was read. */
	KAMOTEL_KEY_READ = 4,
	/* calls, FATAL_SIGNAL: a struct kamotel_stack and its bytes follow the record. */
	KAMOTEL_HAS_STACK = 8,
};

enum {
	KAMOTEL_NAME_SIZE = 16,	    /* TASK_COMM_LEN */
	KAMOTEL_TICK_NS = 10000000, /* of /proc/PID/stat: USER_HZ is 100 */
	KAMOTEL_BLOCKS = 4,
	KAMOTEL_BLOCK_SIZE = 512, /* glibc: 32 slots of 16 bytes; musl: 64 of 8 */
	KAMOTEL_REGISTERS = 17,	  /* x86-64: the general ones as DWARF numbers them, rip last */
	KAMOTEL_CHUNK_SIZE = 1024,
	KAMOTEL_CALLS = 5, /* kinds of calls, from INIT_LOCAL on */
	KAMOTEL_ARGUMENTS = 6,
	KAMOTEL_STACK_WORDS = 16,
};

struct kamotel_header {
	__u64 time_ns;	   /* CLOCK_BOOTTIME */
	__u64 start_ns;	   /* the process's start, CLOCK_BOOTTIME: with tgid its identity */
	__u64 instance_ns; /* the instance's exec; seeded: the start of its oldest process */
	__u32 instance_tgid;
	__u32 tgid;
	__u32 tid;
	__u16 kind;
	__u16 flags;
};

struct kamotel_exec {
	struct kamotel_header header;
	char name[KAMOTEL_NAME_SIZE];
};

struct kamotel_fork {
	struct kamotel_header header; /* of the parent */
	__u64 child_start_ns;
	__u32 child_tgid;
	__u32 reserved;
};

struct kamotel_exit {
	struct kamotel_header header;
	__u32 status; /* as wait(2) encodes it; with KAMOTEL_LAST_THREAD only */
	__u32 reserved;
};

struct kamotel_call {
	struct kamotel_header header;
	__u64 key_address; /* 0: it came loaded. SET_LOCAL_EX: the library context */
	__u64 value;	   /* INIT_LOCAL: the cleanup function */
	__u32 key;	   /* SET_LOCAL_EX: the key's id */
	__u32 reserved;
};

/*
 * The top of the stack at a call or a crash, for the agent to unwind: one window from the stack
 * pointer on, and where that is not all of it a second one, up to where the stack began. The bytes
 * of both follow, in chunks that lie at multiples of their size. No agent writes them anywhere.
 */
struct kamotel_stack {
	__u64 registers[KAMOTEL_REGISTERS];
	__u64 start;	/* address of the first window */
	__u64 outer;	/* address of the second one */
	__u64 holes;	/* bit n: chunk n, of both windows together, could not be read */
	__u32 chunks;	/* in both windows */
	__u32 in_outer; /* of those, in the second one: the last */
};

/* A copy of the slots of Thread#1, from before the process's memory goes. */
struct kamotel_fatal_signal {
	struct kamotel_header header; /* of the thread that the signal hit */
	__u32 signal;
	__u32 blocks_read; /* bit n: block n; the others are zero */
	__u64 blocks[KAMOTEL_BLOCKS][KAMOTEL_BLOCK_SIZE / sizeof(__u64)];
};

/* A step of a server's start: one of its functions was entered. */
struct kamotel_enter {
	struct kamotel_header header;
	__u64 address; /* of the function's first instruction */
};

/*
 * The server is about to log a complaint of its memory manager: what it hands to the function that
 * logs. Which of it are arguments, the format says, which the agent knows by the address.
 */
struct kamotel_complaint {
	struct kamotel_header header;
	__u64 address;			    /* of the instruction that carries the probe */
	__u64 arguments[KAMOTEL_ARGUMENTS]; /* x86-64: rdi, rsi, rdx, rcx, r8, r9 */
	__u64 stack[KAMOTEL_STACK_WORDS];   /* from the stack pointer on */
	__u32 stack_read;		    /* 0: it could not be read, and is zero */
	__u32 reserved;
};

/*
 * The inode below all layers: what a uprobe binds to. stat names another device for a file on
 * overlayfs or btrfs.
 */
struct kamotel_file {
	__u64 inode;
	__u32 device; /* the kernel's dev_t: major << 20 | minor */
	__u32 reserved;
};

/* What the iterator over threads writes of each: never in the ring. */
struct kamotel_task {
	__u64 start_ns; /* of the process */
	__u64 tls_base; /* the thread pointer: x86-64's FS base, arm64's TPIDR_EL0 */
	__u32 tgid;
	__u32 tid;
};

#define KAMOTEL_HOST_NAME_SIZE 72 /* the kernel's is 65 */

/* What the iterator over host names writes of a process: never in the ring. */
struct kamotel_host {
	__u64 start_ns;
	__u32 tgid;
	__u32 namespace; /* the inode of its UTS namespace */
	char name[KAMOTEL_HOST_NAME_SIZE];
};

/* What the map `watched` holds of a process, by tgid. */
struct kamotel_watched {
	__u64 start_ticks; /* guards against a reused tgid; ticks, as /proc knows no better */
	__u64 instance_ns;
	__u32 instance_tgid;
	/* Stacks are copied of all calls of Thread#1 before the first fork, later of the first few.
	 */
	__u8 forked;
	__u8 stacks[KAMOTEL_CALLS]; /* copied so far, by kind of call */
	__u8 reserved[6];
};

struct kamotel_instance {
	__u64 since_ns; /* a header's instance_ns and instance_tgid */
	__u32 tgid;
	__u32 reserved;
};

/* What the map `slot_layouts` holds of an instance: where its C library keeps the slots. */
struct kamotel_slot_layout {
	__s64 table_offset; /* from the thread pointer */
	__u32 flat; /* 0: an array of pointers to blocks (glibc); 1: a pointer to an array (musl) */
	__u32 reserved;
};

/* A key of the map `shared_keys`: a slot that processes of this instance share. */
struct kamotel_shared_key {
	__u64 instance_ns;
	__u32 instance_tgid;
	__u32 key;
};

/* A key of the map `shared_uses`: a process whose Thread#1 used a shared slot. */
struct kamotel_shared_use {
	__u64 start_ns;
	__u32 tgid;
	__u32 key;
};

#endif /* KAMOTEL_EVENTS_H */

// SPDX-License-Identifier: Apache-2.0
/* Gives everything up before the first byte is read. */
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unwinder.h"

#define NOBODY 65534

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0
#endif

static void drop_privileges(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};
	struct __user_cap_data_struct left[2];

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(KU_EXIT_PRIVILEGES);
	/* Needs a capability that the agent may not have; without new privileges it is a bonus. */
	for (int capability = 0; capability < 64; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	/* Root whose capabilities were cut down stays root in name; it owns nothing then. */
	if (geteuid() == 0) {
		if (setgroups(0, NULL) && errno != EPERM)
			_exit(KU_EXIT_PRIVILEGES);
		if (setresgid(NOBODY, NOBODY, NOBODY) && errno != EPERM && errno != EINVAL)
			_exit(KU_EXIT_PRIVILEGES);
		if (setresuid(NOBODY, NOBODY, NOBODY) && errno != EPERM && errno != EINVAL)
			_exit(KU_EXIT_PRIVILEGES);
	}
	if (syscall(SYS_capset, &header, none) || syscall(SYS_capget, &header, left))
		_exit(KU_EXIT_PRIVILEGES);
	for (int i = 0; i < 2; i++)
		if (left[i].effective || left[i].permitted || left[i].inheritable)
			_exit(KU_EXIT_PRIVILEGES);
	/* After the identity changed, which resets both. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		_exit(KU_EXIT_PRIVILEGES);
}

static void limit(int resource, rlim_t most)
{
	struct rlimit value = {most, most};
	struct rlimit now;

	if (getrlimit(resource, &now))
		_exit(KU_EXIT_LIMITS);
	if (now.rlim_max < most)
		value.rlim_cur = value.rlim_max = now.rlim_max;
	if (setrlimit(resource, &value))
		_exit(KU_EXIT_LIMITS);
}

static struct sock_filter program[96];
static unsigned short length;

static void add(uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	program[length++] = (struct sock_filter){code, yes, no, k};
}

static void allow(uint32_t number)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
	add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* The lower half of an argument; both machines are little-endian. */
static void load_argument(int argument)
{
	add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * argument, 0, 0);
}

static void allow_on_socket(uint32_t number)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4);
	load_argument(0);
	add(BPF_JMP | BPF_JEQ | BPF_K, SOCKET_FD, 0, 1);
	add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

static void allow_not_executable(uint32_t number)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4);
	load_argument(2);
	add(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
	add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

static void filter_calls(void)
{
	struct sock_fprog filter;

	add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
	add(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
	add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
	add(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	allow_on_socket(SYS_recvmsg);
	allow_on_socket(SYS_sendmsg);
	allow_not_executable(SYS_mmap);
	allow_not_executable(SYS_mprotect);
	allow(SYS_fstat);
	allow(SYS_close);
	allow(SYS_munmap);
	allow(SYS_mremap);
	allow(SYS_brk);
	allow(SYS_madvise);
	allow(SYS_futex);
	allow(SYS_clock_gettime);
	allow(SYS_rt_sigreturn);
	allow(SYS_exit);
	allow(SYS_exit_group);
	add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);

	filter.len = length;
	filter.filter = program;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter))
		_exit(KU_EXIT_SECCOMP);
}

/* Before kernel 5.9 there is no close_range. */
static void close_from(int first)
{
	struct rlimit files;

	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &files))
		_exit(KU_EXIT_LIMITS);
	for (int fd = first; fd < (int)(files.rlim_cur < 1048576 ? files.rlim_cur : 1048576); fd++)
		close(fd);
}

void isolate(void)
{
	for (int fd = 0; fd < SOCKET_FD; fd++)
		close(fd);
	close_from(SOCKET_FD + 1);
	drop_privileges();
	/* Started by descriptor it is called by a number. */
	prctl(PR_SET_NAME, "kamotel-unwind", 0, 0, 0);
	/* The allocator asks for random numbers once; later that would be the end. */
	free(malloc(1));
	limit(RLIMIT_AS, 256u << 20);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_FSIZE, 0);
	limit(RLIMIT_NPROC, 0);
	limit(RLIMIT_NOFILE, 16);
	filter_calls();
}

// SPDX-License-Identifier: Apache-2.0
/*
 * Stands between the agent and a command that it checks. It begins the command when it is told to,
 * as if the agent's caller had begun it, and ends it, and all that it left behind, when it is told
 * to or when the agent is gone: also after SIGKILL nothing lives on.
 *
 * kamotel-guard SOCKET MILLISECONDS IGNORED BLOCKED OUTPUT COMMAND [ARGUMENT…]
 *
 * MILLISECONDS from SIGTERM to SIGKILL. IGNORED and BLOCKED are the signals that the command shall
 * ignore and have blocked, in hexadecimal, bit 0 for signal 1. OUTPUT 2 makes standard error its
 * standard output, 1 leaves it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "family.h"
#include "protocol.h"

#define LOOK_EVERY_MS 25
#define GIVE_UP_MS    10000 /* after SIGKILL: what hangs in the kernel cannot be waited for */

struct guard {
	int socket;
	int signals;
	int limit_ms;
	unsigned long long ignored;
	unsigned long long blocked;
	bool output_to_error;
	char **command;

	pid_t pid;
	bool started;
	long long stopping_ms; /* since when; 0: nobody has asked for it */
	bool killing;
	int killed;

	/* Children that have had their SIGTERM: each gets one. */
	struct relative *asked;
	size_t asked_count;
};

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000 + 1;
}

static void report(struct guard *guard, enum kg_kind kind, pid_t pid, int value)
{
	struct kg_report report = {.kind = kind, .pid = pid, .value = value};

	/* Nobody may be there any more. */
	send(guard->socket, &report, sizeof(report), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* In the child: as the agent's caller would have begun it. */
static void become_command(struct guard *guard, int failure)
{
	struct sigaction action = {0};
	sigset_t blocked;
	int error;

	sigemptyset(&blocked);
	for (int number = 1; number <= 64; number++) {
		unsigned long long bit = 1ULL << (number - 1);

		action.sa_handler = guard->ignored & bit ? SIG_IGN : SIG_DFL;
		sigaction(number, &action, NULL);
		if (guard->blocked & bit)
			sigaddset(&blocked, number);
	}
	if (guard->output_to_error && dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		close(STDOUT_FILENO);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	execvp(guard->command[0], guard->command);
	error = errno;
	while (write(failure, &error, sizeof(error)) < 0 && errno == EINTR)
		;
	_exit(127);
}

static void start(struct guard *guard)
{
	int pipe_ends[2], error = 0;
	pid_t self = getpid(), pid;

	if (guard->started || guard->stopping_ms)
		return;
	if (pipe2(pipe_ends, O_CLOEXEC)) {
		report(guard, KG_FAILED, 0, errno);
		return;
	}
	pid = fork();
	if (pid == 0) {
		/* Were the guard killed, its child is asked to end; it may be gone already. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != self)
			_exit(127);
		become_command(guard, pipe_ends[1]);
	}
	error = pid < 0 ? errno : 0;
	close(pipe_ends[1]);
	guard->started = true;
	guard->pid = pid;
	if (pid > 0) {
		report(guard, KG_STARTED, pid, 0);
		while (read(pipe_ends[0], &error, sizeof(error)) < 0 && errno == EINTR)
			;
	}
	close(pipe_ends[0]);
	if (error) {
		report(guard, KG_FAILED, 0, error);
		guard->pid = 0;
	}
}

static bool was_asked(struct guard *guard, const struct relative *who)
{
	for (size_t i = 0; i < guard->asked_count; i++) {
		if (guard->asked[i].pid == who->pid && guard->asked[i].start == who->start)
			return true;
	}
	return false;
}

static void ask(struct guard *guard, const struct relative *who)
{
	struct relative *grown;

	if (was_asked(guard, who))
		return;
	grown = realloc(guard->asked, (guard->asked_count + 1) * sizeof(*grown));
	if (!grown)
		return;
	guard->asked = grown;
	guard->asked[guard->asked_count++] = *who;
	if (signal_relative(who, SIGTERM))
		signal_relative(who, SIGCONT); /* One that is stopped hears nothing. */
}

/*
 * SIGTERM goes to the command, and to what is left to this process when others end: a daemon's
 * root, the server of a shell that died. After half of the time it goes to all, as a shell may wait
 * for a server that it does not tell. In the end SIGKILL. Returns since when it stops, in
 * milliseconds.
 */
static long long stop(struct guard *guard)
{
	long long waited = now_ms() - guard->stopping_ms;
	bool all = waited >= guard->limit_ms / 2;
	bool kill_them = guard->killing || waited >= guard->limit_ms;
	struct relative *relatives;
	size_t count;
	int killed = 0;

	relatives = family(&count);
	for (size_t i = 0; i < count; i++) {
		if (kill_them)
			killed += signal_relative(&relatives[i], SIGKILL);
		else if (all || relatives[i].child)
			ask(guard, &relatives[i]);
	}
	if (killed > guard->killed) {
		report(guard, KG_KILLED, 0, killed);
		guard->killed = killed;
	}
	return waited;
}

/* True when nothing is left. */
static bool reap(struct guard *guard)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == guard->pid) {
			report(guard, KG_ENDED, pid, status);
			guard->pid = 0;
		}
	}
	return pid < 0 && errno == ECHILD;
}

static void obey(struct guard *guard)
{
	char order = 0;
	ssize_t length = recv(guard->socket, &order, 1, MSG_DONTWAIT);

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length > 0 && order == KG_START) {
		start(guard);
		return;
	}
	if (length <= 0) {
		close(guard->socket);
		guard->socket = -1;
	}
	if (order == KG_KILL)
		guard->killing = true;
	if (!guard->stopping_ms)
		guard->stopping_ms = now_ms();
}

static void read_signals(struct guard *guard)
{
	struct signalfd_siginfo signal;

	while (read(guard->signals, &signal, sizeof(signal)) == sizeof(signal)) {
		/* A terminal tells the agent as well, which knows better; who asks the guard alone
		 * means it. */
		if (signal.ssi_signo == SIGTERM && !guard->stopping_ms)
			guard->stopping_ms = now_ms();
	}
}

/* True when nothing is left. */
static bool watch(struct guard *guard)
{
	while (true) {
		struct pollfd on[] = {{.fd = guard->signals, .events = POLLIN},
				      {.fd = guard->socket, .events = POLLIN}};

		poll(on, 2, guard->started && guard->stopping_ms ? LOOK_EVERY_MS : -1);
		read_signals(guard);
		if (guard->socket >= 0 && on[1].revents)
			obey(guard);
		if (!guard->started && guard->stopping_ms)
			return true;
		if (guard->started && reap(guard))
			return true;
		if (guard->stopping_ms && stop(guard) > guard->limit_ms + GIVE_UP_MS)
			return false;
	}
}

int main(int argc, char **argv)
{
	struct guard guard = {0};
	sigset_t heard;

	if (argc < 7) {
		fputs("kamotel-guard: kamotel starts it\n", stderr);
		return 64;
	}
	guard.socket = atoi(argv[1]);
	guard.limit_ms = atoi(argv[2]);
	guard.ignored = strtoull(argv[3], NULL, 16);
	guard.blocked = strtoull(argv[4], NULL, 16);
	guard.output_to_error = argv[5][0] == '2';
	guard.command = argv + 6;
	prctl(PR_SET_NAME, "kamotel-guard");
	/* All signals are blocked since before the exec. */
	sigemptyset(&heard);
	sigaddset(&heard, SIGCHLD);
	sigaddset(&heard, SIGTERM);
	guard.signals = signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fcntl(guard.socket, F_SETFD, FD_CLOEXEC) || guard.signals < 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1))
		return 71;
	if (!watch(&guard))
		return 75;
	report(&guard, KG_GONE, 0, 0);
	return 0;
}

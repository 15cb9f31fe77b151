/* Copyright The Warden Authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * floor PROGRAM [ARGUMENT...]: starts the program, waits for its end, and starts it
 * again: the least that a supervisor does. SIGTERM ends both.
 */
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static volatile pid_t child;

static void end(int number) {
	(void)number;
	if (child > 0) kill(child, SIGTERM);
	_exit(0);
}

int main(int argc, char **argv) {
	if (argc < 2) return 2;
	signal(SIGTERM, end);
	for (;;) {
		pid_t pid;
		if (posix_spawn(&pid, argv[1], 0, 0, argv + 1, environ)) return 1;
		child = pid;
		while (waitpid(pid, 0, 0) != pid) {}
	}
}

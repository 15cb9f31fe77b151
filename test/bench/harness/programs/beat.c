/* Copyright The Warden Authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * beat FIFO: writes its PID and CLOCK_MONOTONIC in ns to the FIFO and pauses. The clock
 * is the first thing it looks at. Linked statically it costs so little that the
 * supervisor is what is measured.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	char line[64];
	int n = snprintf(line, sizeof line, "%d %lld\n", getpid(), now.tv_sec * 1000000000LL + now.tv_nsec);
	int fd = argc > 1 ? open(argv[1], O_WRONLY) : -1;
	if (fd < 0 || write(fd, line, n) != n) return 1;
	close(fd);
	for (;;) pause();
}

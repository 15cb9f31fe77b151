// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

// lines COUNT RATE PER_WRITE FILE writes so many lines of 128 bytes, PER_WRITE of them in
// one write, RATE a second in bursts of 10 ms, or with 0 as fast as it can. At the end it
// appends to FILE how much CPU time it has used, in microseconds.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 128, BURSTS = 100, MOST = 64 };

static void wait_until(const struct timespec *begun, long burst) {
	struct timespec at = *begun;
	at.tv_nsec += burst % BURSTS * (1000000000L / BURSTS);
	at.tv_sec += burst / BURSTS + at.tv_nsec / 1000000000L;
	at.tv_nsec %= 1000000000L;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
	}
}

int main(int argc, char **argv) {
	if (argc != 5)
		return 2;
	long count = atol(argv[1]), rate = atol(argv[2]), per = atol(argv[3]);
	if (per < 1 || per > MOST)
		return 2;
	static char text[MOST * LENGTH + 1];
	struct timespec begun;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (long sent = 0; sent < count;) {
		if (rate > 0)
			wait_until(&begun, sent * BURSTS / rate);
		long n = count - sent < per ? count - sent : per;
		for (long i = 0; i < n; i++) {
			char *line = text + i * LENGTH;
			memset(line, 'x', LENGTH - 1);
			line[snprintf(line, LENGTH, "%012ld", sent + i)] = ' ';
			line[LENGTH - 1] = '\n';
		}
		for (char *at = text, *end = text + n * LENGTH; at < end;) {
			ssize_t written = write(1, at, end - at);
			if (written < 0 && errno != EINTR)
				return 1;
			if (written > 0)
				at += written;
		}
		sent += n;
	}
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	char line[32];
	int n = snprintf(line, sizeof line, "%ld\n", (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec);
	int file = open(argv[4], O_WRONLY | O_CREAT | O_APPEND, 0600);
	return file < 0 || write(file, line, n) != n;
}

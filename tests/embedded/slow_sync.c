/* Preloaded into a server: a disk that takes as many ms to sync as the file GOV_SYNC_MS says; at 0 it is synced
 * already. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int sync_slowly(long call, int fd) {
    long ms = 0;
    FILE *file = fopen(getenv("GOV_SYNC_MS"), "r");
    if (file) {
        if (fscanf(file, "%ld", &ms) != 1) ms = 0;
        fclose(file);
    }
    if (ms == 0) return 0;
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    return (int)syscall(call, fd);
}

int fdatasync(int fd) { return sync_slowly(SYS_fdatasync, fd); }

int fsync(int fd) { return sync_slowly(SYS_fsync, fd); }

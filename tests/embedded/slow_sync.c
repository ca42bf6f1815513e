/* Preloaded into a server: a disk that takes GOV_SYNC_MS to sync, and at 0 is synced already. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int sync_slowly(long call, int fd) {
    long ms = atol(getenv("GOV_SYNC_MS"));
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    if (ms == 0) return 0;
    nanosleep(&time, NULL);
    return (int)syscall(call, fd);
}

int fdatasync(int fd) { return sync_slowly(SYS_fdatasync, fd); }

int fsync(int fd) { return sync_slowly(SYS_fsync, fd); }

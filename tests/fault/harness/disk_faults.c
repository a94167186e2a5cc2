/*
 * A disk and a clock that misbehave on demand, for the daemon under test: LD_PRELOAD it.
 *
 * Calls that change files below DISK_FAULTS_FOLDER are numbered, and by the numbers in the control file (mapped from
 * DISK_FAULTS_CONTROL, shared with the test) one of them kills the process, before, after or in the middle of its
 * write, or fails with an error, or finds no room, or takes long. Calls for anything else, and all calls without a
 * control file, go straight to the C library. The wall clock is off by `clock_offset_ns`; the monotonic clock never.
 *
 * struct control has its twin in disk_faults.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { KILL_BEFORE, KILL_AFTER, KILL_TORN };
static const uint64_t FOREVER = UINT64_MAX;

struct control {
    _Atomic uint64_t processes;     /* that loaded this */
    _Atomic uint64_t calls;         /* numbered so far, the first is 1 */
    _Atomic uint64_t syncs;         /* of those, fsync, fdatasync and msync */
    _Atomic uint64_t written;       /* bytes */
    _Atomic uint64_t kill_at;       /* number of the call that kills; 0: none */
    _Atomic uint64_t kill_how;
    _Atomic uint64_t fail_from;     /* number of the first call that fails; 0: none */
    _Atomic uint64_t fail_calls;    /* how many fail */
    _Atomic uint64_t fail_errno;
    _Atomic uint64_t failed;        /* that failed, by `fail_from` or for want of room */
    _Atomic uint64_t room;          /* bytes that files may still grow by; FOREVER: no end */
    _Atomic uint64_t sync_delay_us; /* that each sync takes longer */
    _Atomic int64_t clock_offset_ns;
};

static struct control *control;
static char folder[PATH_MAX];
static size_t folder_length;

#define REAL(result, name, ...)                                   \
    static result (*real_##name)(__VA_ARGS__);                    \
    if (!real_##name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void load(void) {
    const char *file = getenv("DISK_FAULTS_CONTROL"), *below = getenv("DISK_FAULTS_FOLDER");
    if (!file || !below || !realpath(below, folder)) return;
    strncat(folder, "/", sizeof folder - strlen(folder) - 1);
    folder_length = strlen(folder);
    int descriptor = open(file, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (mapped == MAP_FAILED) return;
    control = mapped;
    atomic_fetch_add(&control->processes, 1);
}

/* Whether `descriptor` is a regular file below the folder; leaves errno alone. */
static int concerned(int descriptor) {
    if (!control) return 0;
    struct stat status;
    char link[64], path[PATH_MAX];
    int before = errno, found = 0;
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
        char *end = link + sizeof link - 1;
        *end = 0;
        int digits = descriptor;
        do *--end = (char)('0' + digits % 10);
        while (digits /= 10);
        end -= 14;
        memcpy(end, "/proc/self/fd/", 14);
        ssize_t length = readlink(end, path, sizeof path - 1);
        found = length > (ssize_t)folder_length && memcmp(path, folder, folder_length) == 0;
    }
    errno = before;
    return found;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Numbers a call, kills before it or fails it if its number says so. `*number` is 0 if it failed. */
static int begin(uint64_t *number) {
    *number = atomic_fetch_add(&control->calls, 1) + 1;
    if (*number == control->kill_at && control->kill_how == KILL_BEFORE) die();
    uint64_t from = control->fail_from;
    if (from && *number >= from && *number - from < control->fail_calls) {
        atomic_fetch_add(&control->failed, 1);
        errno = (int)control->fail_errno;
        return -1;
    }
    return 0;
}

static void end(uint64_t number) {
    if (number == control->kill_at) die();
}

/* Takes what a write needs beyond the file's present end from the room that is left. */
static int grow(int descriptor, off_t offset, size_t length) {
    if (control->room == FOREVER) return 0;
    struct stat status;
    if (fstat(descriptor, &status) != 0) return 0;
    if (offset < 0) offset = lseek(descriptor, 0, SEEK_CUR);
    int64_t growth = (int64_t)offset + (int64_t)length - (int64_t)status.st_size;
    if (growth <= 0) return 0;
    if ((uint64_t)growth > control->room) {
        atomic_fetch_add(&control->failed, 1);
        errno = ENOSPC;
        return -1;
    }
    atomic_fetch_sub(&control->room, (uint64_t)growth);
    return 0;
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int index = 0; index < count; index++) sum += parts[index].iov_len;
    return sum;
}

/* The first half of a write, and then nothing more: what a crash of the process leaves of it. */
static void tear(int descriptor, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, write, int, const void *, size_t);
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    size_t left = total(parts, count) / 2;
    for (int index = 0; index < count && left; index++) {
        size_t length = parts[index].iov_len < left ? parts[index].iov_len : left;
        ssize_t done = offset < 0 ? real_write(descriptor, parts[index].iov_base, length)
                                  : real_pwrite(descriptor, parts[index].iov_base, length, offset);
        if (done > 0 && offset >= 0) offset += done;
        left -= length;
    }
    die();
}

/* A write of any kind; `offset` -1: where the file stands. */
#define WRITE(descriptor, parts, count, offset, call)                                              \
    if (!concerned(descriptor)) return call;                                                       \
    uint64_t number;                                                                               \
    if (begin(&number) || grow(descriptor, offset, total(parts, count))) return -1;                \
    if (number == control->kill_at && control->kill_how == KILL_TORN) tear(descriptor, parts, count, offset); \
    ssize_t done = call;                                                                           \
    if (done > 0) atomic_fetch_add(&control->written, (uint64_t)done);                             \
    end(number);                                                                                   \
    return done

ssize_t write(int descriptor, const void *bytes, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct iovec one = {(void *)bytes, length};
    WRITE(descriptor, &one, 1, -1, real_write(descriptor, bytes, length));
}

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    struct iovec one = {(void *)bytes, length};
    WRITE(descriptor, &one, 1, offset, real_pwrite(descriptor, bytes, length, offset));
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    WRITE(descriptor, parts, count, -1, real_writev(descriptor, parts, count));
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    WRITE(descriptor, parts, count, offset, real_pwritev(descriptor, parts, count, offset));
}

ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));

static void take_long(void) {
    uint64_t delay = control->sync_delay_us;
    if (delay) {
        struct timespec pause = {(time_t)(delay / 1000000), (long)(delay % 1000000) * 1000};
        nanosleep(&pause, NULL);
    }
}

/* A call that changes a file without writing bytes, and cannot be torn. */
#define CHANGE(is_sync, call)             \
    uint64_t number;                      \
    if (begin(&number)) return -1;        \
    if (is_sync) {                        \
        atomic_fetch_add(&control->syncs, 1); \
        take_long();                      \
    }                                     \
    int result = call;                    \
    end(number);                          \
    return result

int fsync(int descriptor) {
    REAL(int, fsync, int);
    if (!concerned(descriptor)) return real_fsync(descriptor);
    CHANGE(1, real_fsync(descriptor));
}

int fdatasync(int descriptor) {
    REAL(int, fdatasync, int);
    if (!concerned(descriptor)) return real_fdatasync(descriptor);
    CHANGE(1, real_fdatasync(descriptor));
}

/* A mapping has no descriptor: every msync of the process counts. */
int msync(void *address, size_t length, int flags) {
    REAL(int, msync, void *, size_t, int);
    if (!control) return real_msync(address, length, flags);
    CHANGE(1, real_msync(address, length, flags));
}

int ftruncate(int descriptor, off_t length) {
    REAL(int, ftruncate, int, off_t);
    if (!concerned(descriptor)) return real_ftruncate(descriptor, length);
    CHANGE(0, real_ftruncate(descriptor, length));
}

int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));

int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    REAL(int, fallocate, int, int, off_t, off_t);
    if (!concerned(descriptor)) return real_fallocate(descriptor, mode, offset, length);
    if (grow(descriptor, offset, (size_t)length)) return -1;
    CHANGE(0, real_fallocate(descriptor, mode, offset, length));
}

int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));

/* This one returns its error. */
int posix_fallocate(int descriptor, off_t offset, off_t length) {
    return fallocate(descriptor, 0, offset, length) == 0 ? 0 : errno;
}

int posix_fallocate64(int, off_t, off_t) __attribute__((alias("posix_fallocate")));

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int result = real_clock_gettime(clock, now);
    if (result == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t offset = control->clock_offset_ns;
        int64_t nanoseconds = (int64_t)now->tv_nsec + offset % 1000000000;
        now->tv_sec += offset / 1000000000;
        if (nanoseconds >= 1000000000) nanoseconds -= 1000000000, now->tv_sec++;
        if (nanoseconds < 0) nanoseconds += 1000000000, now->tv_sec--;
        now->tv_nsec = (long)nanoseconds;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}

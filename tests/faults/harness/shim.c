/* Counts, fails, cuts short, logs or kills at file system calls under one folder. Loaded with LD_PRELOAD, armed through
 * shim_arm() in a freshly forked process, so that everything below Python is hit too: SQLite's own I/O most of all.
 *
 * Not seen here: calls that bypass libc (rustix's syncfs, which the harness replaces by libc's), stores into mapped
 * memory (the -shm file of SQLite, which is rebuilt after a crash), and close(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, NAME = 8, SIZE = 16, READ = 32 };      /* classes of calls */
enum { COUNT = 0, FAIL = 1, FAIL_ON = 2, KILL = 3, SHORT = 4, TORN_KILL = 5 }; /* what happens at the n-th */

static char prefix[4096];
static size_t prefix_bytes;
static int action, failure, classes, log_fd = -1;
static long target;
static atomic_long seen;
static atomic_long hits;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER; /* in the log calls stand as they happened */

void shim_arm(const char *folder, int what, long n, int err, int mask, int fd) {
    snprintf(prefix, sizeof prefix, "%s", folder);
    action = what, target = n, failure = err, classes = mask, log_fd = fd;
    atomic_store(&seen, 0);
    atomic_store(&hits, 0);
    prefix_bytes = strlen(prefix);
}
void shim_disarm(void) { prefix_bytes = 0, log_fd = -1; }
long shim_seen(void) { return atomic_load(&seen); }
long shim_hits(void) { return atomic_load(&hits); }

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void emit(const char *head, const void *data, size_t size) {
    static ssize_t (*out)(int, const void *, size_t);
    if (!out) out = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (out(log_fd, head, strlen(head)) < 0 || (size && out(log_fd, data, size) < 0)) abort();
}
static void note(const char *kind, const char *one, const char *two) {
    char line[9000];
    snprintf(line, sizeof line, "%s\t%s\t%s\n", kind, one, two);
    emit(line, NULL, 0);
}
void shim_note(const char *text) {
    if (log_fd < 0) return;
    pthread_mutex_lock(&order);
    note("note", text, "");
    pthread_mutex_unlock(&order);
}

static int path_of_fd(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, out, 4095);
    if (size < 0) return 0;
    out[size] = 0;
    return 1;
}
static int path_at(int folder, const char *path, char *out) {
    if (path[0] == '/') return snprintf(out, 4096, "%s", path) > 0;
    char base[4096];
    if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of_fd(folder, base)) return 0;
    return snprintf(out, 4096, "%.2000s/%.2000s", base, path) > 0;
}
static int is_ours(const char *path) {
    return prefix_bytes && !strncmp(path, prefix, prefix_bytes) && (path[prefix_bytes] == '/' || !path[prefix_bytes]);
}
static int fd_is_ours(int fd, char *path) {
    if (!prefix_bytes) return 0;
    int saved = errno, ours = path_of_fd(fd, path) && is_ours(path);
    errno = saved;
    return ours;
}
static int at_is_ours(int folder, const char *name, char *path) {
    if (!prefix_bytes) return 0;
    int saved = errno, ours = path_at(folder, name, path) && is_ours(path);
    errno = saved;
    return ours;
}

/* 0: go on; 1: fail with errno set; 2: do half of it (writes), 3: half of it, then die. */
static int decide(int kind) {
    if (!(classes & kind)) return 0;
    long n = atomic_fetch_add(&seen, 1) + 1;
    if (action == COUNT || n < target || (n > target && action != FAIL_ON && action != SHORT)) return 0;
    if (n > target && action == SHORT && !(failure && (kind & (WRITE | SIZE | OPEN)))) return 0;
    atomic_fetch_add(&hits, 1);
    if (action == KILL || (action == TORN_KILL && kind != WRITE)) kill(getpid(), SIGKILL);
    if (action == TORN_KILL) return 3;
    if (action == SHORT && n == target) {
        if (kind == WRITE) return 2;
        return 0;
    }
    errno = failure;
    return 1;
}
static void die(void) { kill(getpid(), SIGKILL); }

#define LOCK if (log_fd >= 0) pthread_mutex_lock(&order)
#define UNLOCK if (log_fd >= 0) pthread_mutex_unlock(&order)

static void log_inode(const char *kind, int fd, const char *path) {
    struct stat info;
    char number[32];
    if (log_fd < 0 || fstat(fd, &info)) return;
    if (S_ISDIR(info.st_mode)) {
        note(kind, "folder", path);
        return;
    }
    snprintf(number, sizeof number, "%lu", (unsigned long)info.st_ino);
    note(kind, number, path);
}
static void log_size(int fd, long size) {
    struct stat info;
    char number[32], length[32];
    if (log_fd < 0 || fstat(fd, &info)) return;
    snprintf(number, sizeof number, "%lu", (unsigned long)info.st_ino);
    snprintf(length, sizeof length, "%ld", size);
    note("size", number, length);
}
static void log_write(int fd, const void *data, ssize_t size, off_t at) {
    struct stat info;
    char head[128];
    if (log_fd < 0 || size <= 0 || fstat(fd, &info)) return;
    snprintf(head, sizeof head, "data\t%lu\t%ld %ld\n", (unsigned long)info.st_ino, (long)at, (long)size);
    emit(head, data, size);
}

#define OPENER(name, at_folder, at_path, ...) \
    char path[4096]; \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    REAL(name); \
    if (!at_is_ours(at_folder, at_path, path)) return real(__VA_ARGS__); \
    if (decide(OPEN)) return -1; \
    LOCK; \
    int is_new = (flags & O_CREAT) && access(path, F_OK); \
    int fd = real(__VA_ARGS__), saved = errno; \
    if (fd >= 0 && is_new) log_inode("create", fd, path); \
    if (fd >= 0 && !is_new && (flags & O_TRUNC)) log_size(fd, 0); \
    UNLOCK; \
    errno = saved; \
    return fd;

int open(const char *name, int flags, ...) { OPENER(open, AT_FDCWD, name, name, flags, mode) }
int open64(const char *name, int flags, ...) { OPENER(open64, AT_FDCWD, name, name, flags, mode) }
int openat(int folder, const char *name, int flags, ...) { OPENER(openat, folder, name, folder, name, flags, mode) }
int openat64(int folder, const char *name, int flags, ...) { OPENER(openat64, folder, name, folder, name, flags, mode) }

ssize_t write(int fd, const void *data, size_t size) {
    char path[4096];
    REAL(write);
    if (fd == log_fd || !fd_is_ours(fd, path)) return real(fd, data, size);
    int verdict = decide(WRITE);
    if (verdict == 1) return -1;
    LOCK;
    off_t at = log_fd >= 0 ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = real(fd, data, verdict && size > 1 ? size / 2 : size);
    int saved = errno;
    log_write(fd, data, done, at);
    UNLOCK;
    if (verdict == 3) die();
    errno = saved;
    return done;
}
#define PWRITER(name) \
    char path[4096]; \
    REAL(name); \
    if (!fd_is_ours(fd, path)) return real(fd, data, size, at); \
    int verdict = decide(WRITE); \
    if (verdict == 1) return -1; \
    LOCK; \
    ssize_t done = real(fd, data, verdict && size > 1 ? size / 2 : size, at); \
    int saved = errno; \
    log_write(fd, data, done, at); \
    UNLOCK; \
    if (verdict == 3) die(); \
    errno = saved; \
    return done;
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { PWRITER(pwrite) }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { PWRITER(pwrite64) }

/* Writes that the log cannot describe fail loudly while it is on: nothing of ours uses them. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[4096];
    REAL(writev);
    if (!fd_is_ours(fd, path)) return real(fd, parts, count);
    if (log_fd >= 0) abort();
    return decide(WRITE) == 1 ? -1 : real(fd, parts, count);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
    char path[4096];
    REAL(copy_file_range);
    if (!fd_is_ours(to, path)) return real(from, a, to, b, size, flags);
    if (log_fd >= 0) abort();
    return decide(WRITE) == 1 ? -1 : real(from, a, to, b, size, flags);
}

#define READER(name, ...) \
    char path[4096]; \
    REAL(name); \
    if (fd_is_ours(fd, path) && decide(READ)) return -1; \
    return real(__VA_ARGS__);
ssize_t read(int fd, void *data, size_t size) { READER(read, fd, data, size) }
ssize_t readv(int fd, const struct iovec *parts, int count) { READER(readv, fd, parts, count) }
ssize_t pread(int fd, void *data, size_t size, off_t at) { READER(pread, fd, data, size, at) }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { READER(pread64, fd, data, size, at) }

#define SYNCER(name, what) \
    char path[4096]; \
    REAL(name); \
    if (!fd_is_ours(fd, path)) return real(fd); \
    if (decide(SYNC)) { \
        int failed = errno; \
        LOCK; \
        log_inode("lost", fd, path); \
        UNLOCK; \
        errno = failed; \
        return -1; \
    } \
    LOCK; \
    int done = log_fd >= 0 ? 0 : real(fd); /* the model decides what was durable; waiting for the disk adds nothing */ \
    log_inode(what, fd, path); \
    UNLOCK; \
    return done;
int fsync(int fd) { SYNCER(fsync, "sync") }
int fdatasync(int fd) { SYNCER(fdatasync, "sync") }
int syncfs(int fd) { SYNCER(syncfs, "syncall") }

#define RESIZER(name) \
    char path[4096]; \
    REAL(name); \
    if (!fd_is_ours(fd, path)) return real(fd, size); \
    if (decide(SIZE)) return -1; \
    LOCK; \
    int done = real(fd, size), saved = errno; \
    if (!done) log_size(fd, (long)size); \
    UNLOCK; \
    errno = saved; \
    return done;
int ftruncate(int fd, off_t size) { RESIZER(ftruncate) }
int ftruncate64(int fd, off64_t size) { RESIZER(ftruncate64) }
int posix_fallocate(int fd, off_t at, off_t size) {
    char path[4096];
    REAL(posix_fallocate);
    if (fd_is_ours(fd, path) && decide(SIZE)) return errno;
    return real(fd, at, size);
}

#define NAMER(what, ours, one, two, call) \
    if (!(ours)) return call; \
    if (decide(NAME)) return -1; \
    LOCK; \
    int done = call, saved = errno; \
    if (!done && log_fd >= 0) note(what, one, two); \
    UNLOCK; \
    errno = saved; \
    return done;

int rename(const char *a, const char *b) {
    char from[4096], to[4096];
    REAL(rename);
    NAMER("rename", at_is_ours(AT_FDCWD, a, from) & at_is_ours(AT_FDCWD, b, to), from, to, real(a, b))
}
int renameat(int fa, const char *a, int fb, const char *b) {
    char from[4096], to[4096];
    REAL(renameat);
    NAMER("rename", at_is_ours(fa, a, from) & at_is_ours(fb, b, to), from, to, real(fa, a, fb, b))
}
int link(const char *a, const char *b) {
    char from[4096], to[4096];
    REAL(link);
    NAMER("link", at_is_ours(AT_FDCWD, a, from) & at_is_ours(AT_FDCWD, b, to), from, to, real(a, b))
}
int linkat(int fa, const char *a, int fb, const char *b, int flags) {
    char from[4096], to[4096];
    REAL(linkat);
    NAMER("link", at_is_ours(fa, a, from) & at_is_ours(fb, b, to), from, to, real(fa, a, fb, b, flags))
}
int unlink(const char *name) {
    char path[4096];
    REAL(unlink);
    NAMER("unlink", at_is_ours(AT_FDCWD, name, path), path, "", real(name))
}
int unlinkat(int folder, const char *name, int flags) {
    char path[4096];
    REAL(unlinkat);
    NAMER("unlink", at_is_ours(folder, name, path), path, "", real(folder, name, flags))
}
int rmdir(const char *name) {
    char path[4096];
    REAL(rmdir);
    NAMER("unlink", at_is_ours(AT_FDCWD, name, path), path, "", real(name))
}
int mkdir(const char *name, mode_t mode) {
    char path[4096];
    REAL(mkdir);
    NAMER("mkdir", at_is_ours(AT_FDCWD, name, path), path, "", real(name, mode))
}
int mkdirat(int folder, const char *name, mode_t mode) {
    char path[4096];
    REAL(mkdirat);
    NAMER("mkdir", at_is_ours(folder, name, path), path, "", real(folder, name, mode))
}

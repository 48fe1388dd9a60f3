/* File operations that go wrong: preloaded, it stands between SQLite and the C library.
 *
 * Operations on files whose path contains what fault_watch() was given are counted, and the
 * one that fault_arm() names goes wrong. Once frozen, every operation that would change such a file
 * fails and changes nothing, as if the process had ended there. What each write replaced is kept
 * in a file, so that writes that were not synced can be lost afterwards.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { NOTHING, FAIL, FULL, TORN, CRASH, TORN_CRASH };
enum { READ, WRITE, SYNC, TRUNCATE, UNLINK };
enum { PASS, REFUSE, HALF };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char watched[PATH_MAX];
static int kind, frozen, lasting, undo = -1;
static unsigned seed;
static long next, every, operations, hits;

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_read)(int, void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void find_real(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_pread = dlsym(RTLD_NEXT, "pread");
    real_write = dlsym(RTLD_NEXT, "write");
    real_read = dlsym(RTLD_NEXT, "read");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
}

void fault_watch(const char *part, const char *undo_path) {
    pthread_mutex_lock(&guard);
    snprintf(watched, sizeof watched, "%s", part);
    kind = NOTHING;
    frozen = 0;
    operations = hits = 0;
    if (undo >= 0)
        close(undo);
    undo = *undo_path ? open(undo_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600) : -1;
    pthread_mutex_unlock(&guard);
}

/* The operation `first` from now on goes wrong, and then every `again`-th or so; 0 for no other. */
void fault_arm(int what, long first, long again) {
    pthread_mutex_lock(&guard);
    seed = 1 + first + again;
    lasting = 0;
    kind = what;
    next = operations + first;
    every = again;
    pthread_mutex_unlock(&guard);
}

long fault_operations(void) { return operations; }
long fault_hits(void) { return hits; }
int fault_frozen(void) { return frozen; }

static int is_watched(int fd, char *path) {
    char link[64];
    if (!*watched)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0)
        return 0;
    path[size] = 0;
    return strstr(path, watched) != NULL && strstr(path, ".lock") == NULL;
}

/* Count the operation and say what becomes of it; with the guard held. */
static int fate(int operation) {
    if (frozen && operation != READ) {
        errno = EIO;
        return REFUSE;
    }
    operations++;
    if (kind == NOTHING || operations < next)
        return PASS;
    if ((kind == FULL && operation != WRITE && operation != TRUNCATE) || (operation == READ && kind >= CRASH))
        return PASS; /* the next that fits goes wrong instead */
    if (!lasting)
        hits++; /* a disk that stays full is one fault */
    lasting = every == 1;
    next = every == 0 ? LONG_MAX : operations + 1 + (every > 1 ? rand_r(&seed) % (2 * every) : 0);
    errno = kind == FULL ? ENOSPC : EIO;
    if (kind >= CRASH)
        frozen = 1;
    return (kind == TORN || kind == TORN_CRASH) && operation == WRITE ? HALF : REFUSE;
}

static void keep(char type, const char *path, int fd, off_t offset, size_t size) {
    struct stat now;
    struct {
        uint64_t type, path, offset, size, before;
    } head = {type, strlen(path), offset, size, 0};
    if (undo < 0 || fstat(fd, &now) != 0)
        return;
    head.before = now.st_size;
    real_write(undo, &head, sizeof head);
    real_write(undo, path, head.path);
    if (type == 'w') {
        char *old = calloc(1, size);
        real_pread(fd, old, size, offset);
        real_write(undo, old, size);
        free(old);
    }
}

static ssize_t changed(int fd, const void *data, size_t size, off_t offset, int positioned) {
    char path[PATH_MAX];
    ssize_t done;
    if (!is_watched(fd, path))
        return positioned ? real_pwrite(fd, data, size, offset) : real_write(fd, data, size);
    pthread_mutex_lock(&guard);
    int becomes = fate(WRITE), why = errno;
    if (!positioned)
        offset = lseek(fd, 0, SEEK_CUR);
    if (becomes == HALF)
        size = size / 2;
    if (becomes != REFUSE)
        keep('w', path, fd, offset, size);
    done = becomes == REFUSE ? -1 : positioned ? real_pwrite(fd, data, size, offset) : real_write(fd, data, size);
    pthread_mutex_unlock(&guard);
    if (becomes == PASS)
        return done;
    errno = why;
    return -1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return changed(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return changed(fd, data, size, offset, 1); }
ssize_t write(int fd, const void *data, size_t size) { return changed(fd, data, size, 0, 0); }

static int passes(int operation, int fd, off_t offset) {
    char path[PATH_MAX];
    if (!is_watched(fd, path))
        return 1;
    pthread_mutex_lock(&guard);
    int becomes = fate(operation), why = errno;
    if (becomes == PASS && operation == SYNC)
        keep('s', path, fd, 0, 0);
    if (becomes == PASS && operation == TRUNCATE)
        keep('t', path, fd, offset, 0);
    pthread_mutex_unlock(&guard);
    errno = why;
    return becomes == PASS;
}

ssize_t pread(int fd, void *data, size_t size, off_t offset) {
    return passes(READ, fd, 0) ? real_pread(fd, data, size, offset) : -1;
}
ssize_t pread64(int fd, void *data, size_t size, off_t offset) {
    return passes(READ, fd, 0) ? real_pread(fd, data, size, offset) : -1;
}
ssize_t read(int fd, void *data, size_t size) { return passes(READ, fd, 0) ? real_read(fd, data, size) : -1; }
int fsync(int fd) { return passes(SYNC, fd, 0) ? real_fsync(fd) : -1; }
int fdatasync(int fd) { return passes(SYNC, fd, 0) ? real_fdatasync(fd) : -1; }
int ftruncate(int fd, off_t size) { return passes(TRUNCATE, fd, size) ? real_ftruncate(fd, size) : -1; }
int ftruncate64(int fd, off_t size) { return passes(TRUNCATE, fd, size) ? real_ftruncate(fd, size) : -1; }

int unlink(const char *path) {
    if (!*watched || strstr(path, watched) == NULL || strstr(path, ".lock") != NULL)
        return real_unlink(path);
    pthread_mutex_lock(&guard);
    int becomes = fate(UNLINK), why = errno;
    pthread_mutex_unlock(&guard);
    errno = why;
    return becomes == PASS ? real_unlink(path) : -1;
}

/* Remembers what files held before they were written to, until they are synchronised.
 *
 * Preloaded into a process (LD_PRELOAD). Before a file below LOST_WRITES_DIRECTORY is written or cut
 * short, its old bytes go to the file LOST_WRITES_JOURNAL; fsync and fdatasync of the file make them
 * unneeded. Whoever kills the process can then put back what the disk of a machine that lost its
 * power could have held. Names (create, rename, unlink) are not undone.
 *
 * Record: kind (1 bytes, 2 synchronised, 3 a process begins), inode, offset, old length of the file,
 * number of bytes, up to which record of this process (kind 2): six little-endian 64-bit numbers, then
 * the bytes. Processes use a journal one after the other.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BYTES = 1, SYNCHRONISED = 2, BEGINS = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
static uint64_t records = 0;
static char directory[PATH_MAX];
static size_t directory_length = 0;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_pread)(int, void *, size_t, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off64_t);

static void put(const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        ssize_t done = real_write(journal, at, count);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) abort();
        at += done;
        count -= (size_t)done;
    }
}

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_pread = dlsym(RTLD_NEXT, "pread64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *below = getenv("LOST_WRITES_DIRECTORY");
    const char *path = getenv("LOST_WRITES_JOURNAL");
    if (below == NULL || path == NULL || strlen(below) + 2 > sizeof directory) return;
    strcpy(directory, below);
    strcat(directory, "/");
    directory_length = strlen(directory);
    journal = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) abort();
    uint64_t head[6] = {BEGINS, 0, 0, 0, 0, 0};
    put(head, sizeof head);
}

/* Whether writes to this descriptor are remembered. */
static int is_ours(int fd, struct stat64 *status) {
    char link[64], path[PATH_MAX];
    if (journal < 0 || fd == journal) return 0;
    if (fstat64(fd, status) != 0 || !S_ISREG(status->st_mode)) return 0;
    char *end = link + sizeof link;
    char *at = end;
    *--at = 0;
    int rest = fd;
    do { *--at = (char)('0' + rest % 10); rest /= 10; } while (rest > 0);
    const char *prefix = "/proc/self/fd/";
    at -= strlen(prefix);
    memcpy(at, prefix, strlen(prefix));
    ssize_t length = readlink(at, path, sizeof path - 1);
    return length > (ssize_t)directory_length && memcmp(path, directory, directory_length) == 0;
}

static void put_record(const uint64_t head[6], const void *bytes) {
    put(head, 6 * sizeof *head);
    put(bytes, head[4]);
    records++;
}

/* Remembers what the file holds from here on. With the lock held. */
static void remember(int fd, const struct stat64 *status, off64_t offset, size_t count) {
    uint64_t size = (uint64_t)status->st_size;
    uint64_t from = (uint64_t)offset;
    uint64_t old = from >= size ? 0 : (size - from < count ? size - from : count);
    char *bytes = malloc(old + 1);
    if (bytes == NULL) abort();
    if (old > 0 && real_pread(fd, bytes, old, offset) != (ssize_t)old) {
        /* Written to only: another descriptor reads. */
        char path[64] = "/proc/self/fd/";
        char digits[16];
        int number = fd, at = 0;
        size_t end = strlen(path);
        do { digits[at++] = (char)('0' + number % 10); number /= 10; } while (number > 0);
        while (at > 0) path[end++] = digits[--at];
        path[end] = 0;
        int reader = open(path, O_RDONLY | O_CLOEXEC);
        if (reader < 0 || real_pread(reader, bytes, old, offset) != (ssize_t)old) abort();
        close(reader);
    }
    uint64_t head[6] = {BYTES, status->st_ino, from, size, old, 0};
    put_record(head, bytes);
    free(bytes);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    struct stat64 status;
    if (!is_ours(fd, &status)) return real_pwrite(fd, bytes, count, offset);
    pthread_mutex_lock(&lock);
    if (fstat64(fd, &status) == 0) remember(fd, &status, offset, count);
    ssize_t done = real_pwrite(fd, bytes, count, offset);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    return pwrite64(fd, bytes, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct stat64 status;
    if (real_write == NULL) real_write = dlsym(RTLD_NEXT, "write");
    if (!is_ours(fd, &status)) return real_write(fd, bytes, count);
    pthread_mutex_lock(&lock);
    if (fstat64(fd, &status) == 0) {
        int appends = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
        off64_t at = appends ? status.st_size : lseek64(fd, 0, SEEK_CUR);
        remember(fd, &status, at, count);
    }
    ssize_t done = real_write(fd, bytes, count);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

/* Not used by what this was made for; a silent gap would be worse than a stop. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat64 status;
    static ssize_t (*real)(int, const struct iovec *, int);
    if (real == NULL) real = dlsym(RTLD_NEXT, "writev");
    if (is_ours(fd, &status)) abort();
    return real(fd, parts, count);
}

int ftruncate64(int fd, off64_t length) {
    struct stat64 status;
    if (!is_ours(fd, &status)) return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    if (fstat64(fd, &status) == 0) {
        size_t cut = status.st_size > length ? (size_t)(status.st_size - length) : 0;
        remember(fd, &status, length < status.st_size ? length : status.st_size, cut);
    }
    int outcome = real_ftruncate(fd, length);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return outcome;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

static int synchronise(int fd, int (*real)(int)) {
    struct stat64 status;
    if (!is_ours(fd, &status)) return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t up_to = records;
    pthread_mutex_unlock(&lock);
    int outcome = real(fd);
    int error = errno;
    if (outcome == 0) {
        pthread_mutex_lock(&lock);
        uint64_t head[6] = {SYNCHRONISED, status.st_ino, 0, 0, 0, up_to};
        put_record(head, "");
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return outcome;
}

int fsync(int fd) {
    return synchronise(fd, real_fsync);
}

int fdatasync(int fd) {
    return synchronise(fd, real_fdatasync);
}

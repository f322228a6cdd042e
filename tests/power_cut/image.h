// The durable image: what the disk would hold if the power went now. Shared by the shim, which keeps it
// up to date while the program under test runs, and by `power_cut`, which puts it in the tree's place.
//
// Below the log directory:
//   f/ID       content of a file as of its last sync; absent: the file was never synced
//   d/ID       entries of a directory as of its last sync: "TYPE ID MODE NAME\0" (f, d), "l - TARGETLENGTH NAME\0TARGET\0"
//   dirty/ID   ranges written since the file's last sync: pairs of u64 (start, end), appended
//   ignored    paths whose sync was ignored on purpose, one a line
//   lock       shared while a file is written, exclusive while the image changes
//   ready      the image is complete; its text is the ID of the tree's root
// ID is an inode and its birth time, so a name may move and a number may be used again.
//
// Only raw system calls are used for files: libc's names are the shim's own, and would recurse.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ID_SIZE 64
#define PATH_SIZE (PATH_MAX + 64)
#define BLOCK 65536
#define TO_THE_END UINT64_MAX

struct range {
    uint64_t start, end;
};

static char tree[PATH_MAX];    // absolute, no symbolic links
static char log_dir[PATH_MAX]; // the same; not below the tree

// A detector that goes on without its image would report durability that nobody checked.
__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...) {
    int cause = errno;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "power_cut: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (%s)\n", strerror(cause));
    va_end(arguments);
    abort();
}

static int raw_open(const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, mode);
}

static void log_path(char out[PATH_SIZE], const char *format, ...) {
    int length = snprintf(out, PATH_SIZE, "%s/", log_dir);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out + length, PATH_SIZE - (size_t)length, format, arguments);
    va_end(arguments);
}

static bool exists(const char *path) { return syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0; }

// flock, not fcntl: closing any descriptor of a file drops the fcntl locks that the program itself holds on it.
static inline int lock_image(int how) {
    char path[PATH_SIZE];
    log_path(path, "lock");
    int lock = raw_open(path, O_RDWR | O_CREAT, 0600);
    if (lock < 0) give_up("cannot open %s", path);
    while (syscall(SYS_flock, lock, how) != 0)
        if (errno != EINTR) give_up("cannot lock %s", path);
    return lock;
}

static inline void unlock_image(int lock) { syscall(SYS_close, lock); }

// `name` relative to `fd`, or `fd` itself if `name` is empty. False if there is nothing there.
static bool identify(int fd, const char *name, char id[ID_SIZE], struct statx *status) {
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (syscall(SYS_statx, fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, status) != 0) return false;
    if (!(status->stx_mask & STATX_BTIME)) give_up("the file system of %s keeps no birth times: use another", tree);
    snprintf(id, ID_SIZE, "%llu-%lld.%09u", (unsigned long long)status->stx_ino, (long long)status->stx_btime.tv_sec,
             status->stx_btime.tv_nsec);
    return true;
}

static void write_all(int to, const void *data, size_t length, uint64_t at) {
    for (size_t done = 0; done < length;) {
        long written = syscall(SYS_pwrite64, to, (const char *)data + done, length - done, (off_t)(at + done));
        if (written < 0 && errno != EINTR) give_up("cannot write the image");
        if (written > 0) done += (size_t)written;
    }
}

// Copies [start, end) as far as `from` goes. `sparse`: zeros need not be written, `to` has none but zeros there.
static void copy_range(int from, int to, uint64_t start, uint64_t end, bool sparse) {
    static const char zeros[BLOCK];
    char block[BLOCK];
    for (uint64_t at = start; at < end;) {
        size_t want = end - at < BLOCK ? (size_t)(end - at) : BLOCK;
        long count = syscall(SYS_pread64, from, block, want, (off_t)at);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) give_up("cannot read a file of the tree");
        if (count == 0) break;
        if (!sparse || memcmp(block, zeros, (size_t)count) != 0) write_all(to, block, (size_t)count, at);
        at += (uint64_t)count;
    }
}

static void set_size(int to, uint64_t size) {
    if (syscall(SYS_ftruncate, to, (off_t)size) != 0) give_up("cannot resize a file of the image");
}

// The ranges written since the last sync; the caller frees them.
static struct range *dirty_ranges(const char *id, size_t *count) {
    char path[PATH_SIZE];
    log_path(path, "dirty/%s", id);
    *count = 0;
    int fd = raw_open(path, O_RDONLY, 0);
    if (fd < 0) return NULL;
    struct stat status;
    if (fstat(fd, &status) != 0) give_up("cannot stat %s", path);
    struct range *ranges = malloc((size_t)status.st_size + 1);
    long length = syscall(SYS_pread64, fd, ranges, (size_t)status.st_size, (off_t)0);
    syscall(SYS_close, fd);
    if (length < 0) give_up("cannot read %s", path);
    *count = (size_t)length / sizeof(struct range);
    return ranges;
}

static void forget_ranges(const char *id) {
    char path[PATH_SIZE];
    log_path(path, "dirty/%s", id);
    if (syscall(SYS_unlinkat, AT_FDCWD, path, 0) != 0 && errno != ENOENT) give_up("cannot remove %s", path);
}

// The file behind `fd` (readable) is durable as it stands. The image is locked by the caller.
static inline void record_file(int fd) {
    char id[ID_SIZE], path[PATH_SIZE], part[PATH_SIZE];
    struct statx status;
    if (!identify(fd, "", id, &status)) give_up("cannot stat a file of the tree");
    log_path(path, "f/%s", id);
    if (!exists(path)) {
        log_path(part, "part-%s", id);
        int to = raw_open(part, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (to < 0) give_up("cannot write %s", part);
        copy_range(fd, to, 0, status.stx_size, true);
        set_size(to, status.stx_size);
        syscall(SYS_close, to);
        if (syscall(SYS_renameat2, AT_FDCWD, part, AT_FDCWD, path, 0) != 0) give_up("cannot write %s", path);
    } else {
        size_t count;
        struct range *ranges = dirty_ranges(id, &count);
        int to = raw_open(path, O_RDWR, 0);
        if (to < 0) give_up("cannot write %s", path);
        set_size(to, status.stx_size);
        for (size_t i = 0; i < count; i++) {
            uint64_t end = ranges[i].end < status.stx_size ? ranges[i].end : status.stx_size;
            copy_range(fd, to, ranges[i].start, end, false);
        }
        syscall(SYS_close, to);
        free(ranges);
    }
    forget_ranges(id);
}

// Writes the entries of the live directory to `out`, in the form of d/ID.
static void list_directory(const char *directory, FILE *out) {
    DIR *entries = opendir(directory);
    if (!entries) give_up("cannot list %s", directory);
    for (struct dirent *entry; (entry = readdir(entries));) {
        const char *name = entry->d_name;
        char id[ID_SIZE], target[PATH_MAX];
        struct statx status;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (!identify(dirfd(entries), name, id, &status)) continue; // gone meanwhile
        if (S_ISREG(status.stx_mode)) {
            fprintf(out, "f %s %o %s%c", id, status.stx_mode & 07777, name, 0);
        } else if (S_ISDIR(status.stx_mode)) {
            fprintf(out, "d %s %o %s%c", id, status.stx_mode & 07777, name, 0);
        } else if (S_ISLNK(status.stx_mode)) {
            long length = syscall(SYS_readlinkat, dirfd(entries), name, target, sizeof target - 1);
            if (length < 0) continue;
            fprintf(out, "l - %lo %s%c%.*s%c", (unsigned long)length, name, 0, (int)length, target, 0);
        } // sockets and pipes mean nothing after a power cut
    }
    closedir(entries);
}

// The entries of `directory` are durable as they stand; the content of what it names is not thereby.
static void record_directory(const char *directory) {
    char id[ID_SIZE], path[PATH_SIZE], part[PATH_SIZE];
    struct statx status;
    if (!identify(AT_FDCWD, directory, id, &status)) return; // removed meanwhile
    log_path(part, "part-%s", id);
    FILE *out = fopen(part, "we");
    if (!out) give_up("cannot write %s", part);
    list_directory(directory, out);
    if (fclose(out) != 0) give_up("cannot write %s", part);
    log_path(path, "d/%s", id);
    if (syscall(SYS_renameat2, AT_FDCWD, part, AT_FDCWD, path, 0) != 0) give_up("cannot write %s", path);
}

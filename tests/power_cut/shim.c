// power_cut shim: makes unsynced writes droppable. Loaded by LD_PRELOAD into the program under test.
//
//   POWER_CUT_TREE          the directory that the power cut will hit; must exist when the first program starts
//   POWER_CUT_LOG           where the durable image is kept (image.h); outside the tree
//   POWER_CUT_IGNORE_SYNC   optional: a pattern (fnmatch, against the path relative to the tree, "." for the tree
//                           itself); syncs of what it matches report success and do nothing. With it a test
//                           proves that it would notice a sync left out.
//
// What the program does goes to the tree as always. Beside it, the shim keeps the image of what a disk must still
// hold after a power cut at this moment, in the worst case that POSIX allows: a file has the content of its last
// fsync or fdatasync; a directory has the entries of its own last fsync, so that creations, renames and removals
// without one are undone; a new file whose directory was synced but not itself is empty. What was there when the
// first program started counts as durable. After SIGKILL, `power_cut` puts the image in the tree's place.
// Worker processes and restarts share the image.
//
// What is seen: calls of libc's functions, as Rust's std and SQLite make them. Not seen: raw system calls (rustix
// with its default backend, io_uring), stdio, stores into mapped memory, syncfs and sync. All of these err on the
// safe side: a write or sync that is not seen counts as lost, and the test turns red without cause. So the code
// under test makes its log writes through std. SQLite's -shm file is mapped and thus empty afterwards, which is
// what SQLite expects of a power cut. A file that was synced elsewhere and then moved into the tree counts as
// unsynced. O_SYNC and O_DSYNC files count as synced after each write.
//
// Build: cc -shared -fPIC -O2 -o libpower_cut.so shim.c
#include "image.h"

#include <fnmatch.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <time.h>

static bool active;
static dev_t tree_device;
static const char *ignored_syncs;

// The path below the tree ("." for itself), or NULL: not ours.
static const char *inside(int fd, char path[PATH_SIZE]) {
    if (!active) return NULL;
    struct stat status;
    if (fstat(fd, &status) != 0 || status.st_dev != tree_device) return NULL;
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return NULL;
    if (status.st_nlink == 0) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_SIZE - 1);
    if (length < 0) give_up("cannot read %s", link);
    path[length] = 0;
    size_t root = strlen(tree);
    if (strncmp(path, tree, root) != 0) return NULL;
    if (path[root] == 0) return ".";
    return path[root] == '/' ? path + root + 1 : NULL;
}

static void note_range(int fd, uint64_t start, uint64_t end) {
    char id[ID_SIZE], path[PATH_SIZE];
    struct statx status;
    if (!identify(fd, "", id, &status)) give_up("cannot stat a file of the tree");
    log_path(path, "f/%s", id);
    if (!exists(path)) return; // never synced: its first sync takes all of it
    log_path(path, "dirty/%s", id);
    int to = raw_open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    struct range range = {start, end};
    if (to < 0 || syscall(SYS_write, to, &range, sizeof range) != (long)sizeof range) give_up("cannot write %s", path);
    syscall(SYS_close, to);
}

static void ignore_sync(const char *name) {
    char path[PATH_SIZE];
    log_path(path, "ignored");
    FILE *out = fopen(path, "ae");
    if (!out || fprintf(out, "%s\n", name) < 0 || fclose(out) != 0) give_up("cannot write %s", path);
}

// To be called after the real sync succeeded.
static void note_sync(int fd) {
    char path[PATH_SIZE];
    const char *name = inside(fd, path);
    if (!name) return;
    if (ignored_syncs && fnmatch(ignored_syncs, name, 0) == 0) {
        ignore_sync(name);
        return;
    }
    struct stat status;
    if (fstat(fd, &status) != 0) give_up("cannot stat %s", path);
    int lock = lock_image(LOCK_EX);
    if (S_ISDIR(status.st_mode)) {
        record_directory(path);
    } else if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
        record_file(fd);
    } else {
        // Closing this one drops fcntl locks of the program on the file; SQLite, which uses them, never opens
        // a file for writing only.
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int readable = raw_open(link, O_RDONLY, 0);
        if (readable < 0) give_up("cannot read %s", path);
        record_file(readable);
        syscall(SYS_close, readable);
    }
    unlock_image(lock);
}

// Runs `call` with the range noted first, under the lock: no sync can come between the two.
#define WRITING(fd, start, end, call)                                        \
    do {                                                                     \
        char path_[PATH_SIZE];                                               \
        int caller_errno_ = errno;                                           \
        if (!inside(fd, path_)) {                                            \
            errno = caller_errno_;                                           \
            return (call);                                                   \
        }                                                                    \
        int lock_ = lock_image(LOCK_SH);                                     \
        note_range(fd, start, end);                                          \
        errno = caller_errno_;                                               \
        long result_ = (call);                                               \
        caller_errno_ = errno;                                               \
        unlock_image(lock_);                                                 \
        if (result_ >= 0 && (fcntl(fd, F_GETFL) & O_DSYNC)) note_sync(fd);   \
        errno = caller_errno_;                                               \
        return result_;                                                      \
    } while (0)

// Where a write without offset starts; an append lands at the present end or after it.
static uint64_t position(int fd) {
    if (fcntl(fd, F_GETFL) & O_APPEND) {
        struct stat status;
        return fstat(fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    }
    off_t at = (off_t)syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR);
    return at < 0 ? 0 : (uint64_t)at;
}

static uint64_t position_end(int fd, size_t length) {
    return fcntl(fd, F_GETFL) & O_APPEND ? TO_THE_END : position(fd) + length;
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

ssize_t write(int fd, const void *data, size_t length) {
    WRITING(fd, position(fd), position_end(fd, length), syscall(SYS_write, fd, data, length));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    WRITING(fd, position(fd), position_end(fd, total(parts, count)), syscall(SYS_writev, fd, parts, count));
}
// On Linux pwrite to an O_APPEND file appends, whatever the offset.
static ssize_t pwrite_at(int fd, const void *data, size_t length, off_t at) {
    bool append = fcntl(fd, F_GETFL) & O_APPEND;
    WRITING(fd, append ? position(fd) : (uint64_t)at, append ? TO_THE_END : (uint64_t)at + length,
            syscall(SYS_pwrite64, fd, data, length, at));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return pwrite_at(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return pwrite_at(fd, data, length, at); }

// An offset of -1 means the current position.
static ssize_t pwritev_at(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    bool current = at == -1 || (fcntl(fd, F_GETFL) & O_APPEND) || (flags & RWF_APPEND);
    if (flags & (RWF_DSYNC | RWF_SYNC)) give_up("a write with RWF_DSYNC is not modelled");
    WRITING(fd, current ? position(fd) : (uint64_t)at, current ? TO_THE_END : (uint64_t)at + total(parts, count),
            syscall(SYS_pwritev2, fd, parts, count, at, (long)0, flags));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev_at(fd, parts, count, at, 0); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    return pwritev_at(fd, parts, count, at, 0);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    return pwritev_at(fd, parts, count, at, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    return pwritev_at(fd, parts, count, at, flags);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    WRITING(to, to_at ? (uint64_t)*to_at : position(to), TO_THE_END,
            syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags));
}
ssize_t sendfile(int to, int from, off_t *from_at, size_t length) {
    WRITING(to, position(to), TO_THE_END, syscall(SYS_sendfile, to, from, from_at, length));
}
ssize_t sendfile64(int to, int from, off64_t *from_at, size_t length) { return sendfile(to, from, from_at, length); }

// What lies beyond the new end is gone, also if the file grows again before its next sync.
static int resize(int fd, off_t size) { WRITING(fd, (uint64_t)size, TO_THE_END, syscall(SYS_ftruncate, fd, size)); }
int ftruncate(int fd, off_t size) { return resize(fd, size); }
int ftruncate64(int fd, off64_t size) { return resize(fd, size); }

static int resize_path(const char *path, off_t size) {
    int fd = raw_open(path, O_WRONLY, 0);
    if (fd < 0) return -1;
    int result = resize(fd, size);
    int cause = errno;
    syscall(SYS_close, fd);
    errno = cause;
    return result;
}
int truncate(const char *path, off_t size) { return resize_path(path, size); }
int truncate64(const char *path, off64_t size) { return resize_path(path, size); }

static int allocate(int fd, int mode, off_t at, off_t length) {
    // Collapsing and inserting move everything behind.
    uint64_t end = (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) ? TO_THE_END
                                                                                                  : (uint64_t)(at + length);
    WRITING(fd, (uint64_t)at, end, syscall(SYS_fallocate, fd, mode, at, length));
}
int fallocate(int fd, int mode, off_t at, off_t length) { return allocate(fd, mode, at, length); }
int fallocate64(int fd, int mode, off64_t at, off64_t length) { return allocate(fd, mode, at, length); }
int posix_fallocate(int fd, off_t at, off_t length) { return allocate(fd, 0, at, length) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t at, off64_t length) { return allocate(fd, 0, at, length) == 0 ? 0 : errno; }

static int sync_then_note(int fd, long number) {
    int result = (int)syscall(number, fd);
    int cause = errno;
    if (result == 0) note_sync(fd);
    errno = cause;
    return result;
}
int fsync(int fd) { return sync_then_note(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_then_note(fd, SYS_fdatasync); }

// A new file may get the number of a removed one within one tick of the clock, and would then be taken for it.
// It is made again until it can be told apart.
static int tell_apart(int fd, int at, const char *name, int flags, mode_t mode) {
    char id[ID_SIZE], path[PATH_SIZE], known[PATH_SIZE];
    struct statx status;
    for (;;) {
        if (!inside(fd, path) || !identify(fd, "", id, &status)) return fd;
        log_path(known, "f/%s", id);
        if (!exists(known)) return fd;
        struct timespec tick = {0, 2000000};
        syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        syscall(SYS_close, fd);
        syscall(SYS_nanosleep, &tick, NULL);
        fd = (int)syscall(SYS_openat, at, name, flags, mode);
        if (fd < 0) return fd;
    }
}

static int open_at(int at, const char *name, int flags, mode_t mode) {
    int caller_errno = errno;
    bool absent = active && (flags & O_CREAT) && syscall(SYS_faccessat, at, name, F_OK) != 0 && errno == ENOENT;
    int writes = (flags & O_ACCMODE) == O_RDONLY ? 0 : O_TRUNC;
    // Truncation is noted like any other write, so it is taken out of the call and done here.
    int now = active ? flags & ~writes : flags;
    errno = caller_errno;
    int fd = (int)syscall(SYS_openat, at, name, now, mode);
    if (fd < 0 || !active) return fd;
    if (absent) return tell_apart(fd, at, name, now, mode);
    if ((flags & writes) && resize(fd, 0) != 0 && errno != EINVAL) { // EINVAL: a device or pipe, nothing to cut
        int cause = errno;
        syscall(SYS_close, fd);
        errno = cause;
        return -1;
    }
    errno = caller_errno;
    return fd;
}

static mode_t mode_argument(int flags, va_list arguments) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(arguments, int) : 0;
}

#define OPEN(name)                                             \
    int name(const char *path, int flags, ...) {               \
        va_list arguments;                                     \
        va_start(arguments, flags);                            \
        mode_t mode = mode_argument(flags, arguments);         \
        va_end(arguments);                                     \
        return open_at(AT_FDCWD, path, flags, mode);           \
    }
#define OPENAT(name)                                           \
    int name(int at, const char *path, int flags, ...) {       \
        va_list arguments;                                     \
        va_start(arguments, flags);                            \
        mode_t mode = mode_argument(flags, arguments);         \
        va_end(arguments);                                     \
        return open_at(at, path, flags, mode);                 \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }
// What _FORTIFY_SOURCE calls where no mode is given.
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }

// Takes what is there for durable.
static void record_tree(const char *directory) {
    record_directory(directory);
    DIR *entries = opendir(directory);
    if (!entries) give_up("cannot list %s", directory);
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[PATH_SIZE];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (lstat(path, &status) != 0) continue;
        if (S_ISDIR(status.st_mode)) record_tree(path);
        if (!S_ISREG(status.st_mode)) continue;
        int fd = raw_open(path, O_RDONLY, 0);
        if (fd < 0) give_up("cannot read %s", path);
        record_file(fd);
        syscall(SYS_close, fd);
    }
    closedir(entries);
}

__attribute__((constructor)) static void start(void) {
    const char *tree_setting = getenv("POWER_CUT_TREE"), *log_setting = getenv("POWER_CUT_LOG");
    if (!tree_setting || !log_setting) return;
    if (!realpath(tree_setting, tree)) give_up("POWER_CUT_TREE %s must exist", tree_setting);
    if (!realpath(log_setting, log_dir)) give_up("POWER_CUT_LOG %s must exist", log_setting);
    size_t root = strlen(tree);
    if (strncmp(log_dir, tree, root) == 0 && (log_dir[root] == '/' || log_dir[root] == 0))
        give_up("POWER_CUT_LOG must not lie in the tree");
    struct stat status;
    if (stat(tree, &status) != 0) give_up("cannot stat %s", tree);
    tree_device = status.st_dev;
    ignored_syncs = getenv("POWER_CUT_IGNORE_SYNC");

    char ready[PATH_SIZE], path[PATH_SIZE], id[ID_SIZE];
    struct statx root_status;
    int lock = lock_image(LOCK_EX);
    log_path(ready, "ready");
    if (!exists(ready)) {
        const char *parts[] = {"f", "d", "dirty"};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            log_path(path, "%s", parts[i]);
            if (mkdir(path, 0700) != 0 && errno != EEXIST) give_up("cannot make %s", path);
        }
        record_tree(tree);
        if (!identify(AT_FDCWD, tree, id, &root_status)) give_up("cannot stat %s", tree);
        FILE *out = fopen(ready, "we");
        if (!out || fputs(id, out) < 0 || fclose(out) != 0) give_up("cannot write %s", ready);
    }
    unlock_image(lock);
    active = true;
}

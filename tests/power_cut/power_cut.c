// power_cut TREE LOG [SEED]: puts what a power cut leaves in the place of TREE. To be run when every program
// under the shim (shim.c) has been killed and waited for.
//
// Without SEED all that was not synced is lost. With it, a part chosen by the seed survives, in sectors of 512 bytes
// and whole directories, as disks do that write in an order of their own: torn writes, and later ones without
// the earlier.
//
// Prints one line for each file and directory that had something unsynced. Build: cc -O2 -o power_cut power_cut.c
#include "image.h"

#define SECTOR 512

static bool keeps_some;
static uint64_t seed;

static bool coin(void) { // xorshift64
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed & 1;
}

static void keep_some_sectors(int from, int to, const struct range *ranges, size_t count, uint64_t size) {
    struct stat durable;
    if (fstat(to, &durable) != 0) give_up("cannot stat a file of the image");
    if (size < (uint64_t)durable.st_size && coin()) set_size(to, size);
    for (size_t i = 0; i < count; i++) {
        uint64_t end = ranges[i].end < size ? ranges[i].end : size;
        for (uint64_t at = ranges[i].start; at < end;) {
            uint64_t next = (at / SECTOR + 1) * SECTOR;
            if (next > end) next = end;
            if (coin()) copy_range(from, to, at, next, false);
            at = next;
        }
    }
}

static void look_at_file(const char *path, const char *id, uint64_t size) {
    char image[PATH_SIZE];
    size_t count;
    log_path(image, "f/%s", id);
    bool never_synced = !exists(image);
    struct range *ranges = dirty_ranges(id, &count);
    if (never_synced || count > 0) {
        printf("unsynced %s %s\n", never_synced ? "file" : "writes to", path + strlen(tree) + 1);
        if (keeps_some) {
            int from = raw_open(path, O_RDONLY, 0), to = raw_open(image, O_RDWR | O_CREAT, 0600);
            if (from < 0 || to < 0) give_up("cannot open %s", path);
            struct range all = {0, size};
            keep_some_sectors(from, to, never_synced ? &all : ranges, never_synced ? 1 : count, size);
            syscall(SYS_close, from);
            syscall(SYS_close, to);
        }
    }
    free(ranges);
}

static char *whole_file(const char *path, size_t *length) {
    *length = 0;
    int fd = raw_open(path, O_RDONLY, 0);
    if (fd < 0) return NULL;
    struct stat status;
    if (fstat(fd, &status) != 0) give_up("cannot stat %s", path);
    char *text = malloc((size_t)status.st_size + 1);
    long count = syscall(SYS_pread64, fd, text, (size_t)status.st_size, (off_t)0);
    syscall(SYS_close, fd);
    if (count != status.st_size) give_up("cannot read %s", path);
    text[count] = 0;
    *length = (size_t)count;
    return text;
}

// Entries come in the directory's own order, which does not change while nothing in it does.
static void look_at_entries(const char *path, const char *id) {
    char durable_path[PATH_SIZE];
    log_path(durable_path, "d/%s", id);
    char *live;
    size_t live_length, durable_length;
    FILE *out = open_memstream(&live, &live_length);
    list_directory(path, out);
    fclose(out);
    char *durable = whole_file(durable_path, &durable_length);
    if (!durable || durable_length != live_length || memcmp(durable, live, live_length) != 0) {
        printf("unsynced entries of %s\n", path[strlen(tree)] ? path + strlen(tree) + 1 : ".");
        if (keeps_some && coin()) record_directory(path);
    }
    free(durable);
    free(live);
}

static void look_at(const char *directory) {
    char id[ID_SIZE];
    struct statx status;
    if (!identify(AT_FDCWD, directory, id, &status)) give_up("cannot stat %s", directory);
    look_at_entries(directory, id);
    DIR *entries = opendir(directory);
    if (!entries) give_up("cannot list %s", directory);
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[PATH_SIZE];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (!identify(AT_FDCWD, path, id, &status)) give_up("cannot stat %s", path);
        if (S_ISDIR(status.stx_mode)) look_at(path);
        if (S_ISREG(status.stx_mode)) look_at_file(path, id, status.stx_size);
    }
    closedir(entries);
}

static void empty_directory(const char *directory) {
    DIR *entries = opendir(directory);
    if (!entries) give_up("cannot list %s", directory);
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[PATH_SIZE];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (lstat(path, &status) != 0) give_up("cannot stat %s", path);
        if (S_ISDIR(status.st_mode)) empty_directory(path);
        if (remove(path) != 0) give_up("cannot remove %s", path);
    }
    closedir(entries);
}

static void restore_file(const char *path, const char *id, mode_t mode) {
    char image[PATH_SIZE];
    int to = raw_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (to < 0) give_up("cannot make %s", path);
    log_path(image, "f/%s", id);
    int from = raw_open(image, O_RDONLY, 0);
    if (from >= 0) {
        struct stat status;
        if (fstat(from, &status) != 0) give_up("cannot stat %s", image);
        copy_range(from, to, 0, (uint64_t)status.st_size, true);
        set_size(to, (uint64_t)status.st_size);
        syscall(SYS_close, from);
    }
    if (fchmod(to, mode) != 0) give_up("cannot set the mode of %s", path);
    syscall(SYS_close, to);
}

static void restore_directory(const char *directory, const char *directory_id) {
    char listing[PATH_SIZE];
    size_t length;
    log_path(listing, "d/%s", directory_id);
    char *entries = whole_file(listing, &length); // absent: never synced, so empty
    for (char *entry = entries; entry && entry < entries + length; entry += strlen(entry) + 1) {
        char type, id[ID_SIZE], path[PATH_SIZE];
        unsigned mode;
        int name;
        if (sscanf(entry, "%c %63s %o%n", &type, id, &mode, &name) != 3) give_up("malformed entry in %s", listing);
        snprintf(path, sizeof path, "%s/%s", directory, entry + name + 1);
        if (type == 'f') restore_file(path, id, (mode_t)mode);
        if (type == 'd') {
            if (mkdir(path, 0700) != 0) give_up("cannot make %s", path);
            restore_directory(path, id);
            if (chmod(path, (mode_t)mode) != 0) give_up("cannot set the mode of %s", path);
        }
        if (type == 'l') {
            entry += strlen(entry) + 1;
            if (symlink(entry, path) != 0) give_up("cannot make %s", path);
        }
    }
    free(entries);
}

int main(int count, char **arguments) {
    if (count != 3 && count != 4) {
        fprintf(stderr, "usage: power_cut TREE LOG [SEED]\n");
        return 2;
    }
    if (!realpath(arguments[1], tree)) give_up("no tree %s", arguments[1]);
    if (!realpath(arguments[2], log_dir)) give_up("no log %s", arguments[2]);
    if (count == 4) {
        keeps_some = true;
        seed = strtoull(arguments[3], NULL, 10) * 0x9E3779B97F4A7C15u | 1;
    }
    char ready[PATH_SIZE];
    size_t length;
    log_path(ready, "ready");
    char *root = whole_file(ready, &length);
    if (!root) give_up("%s is missing: the shim was not loaded, or not to its end", ready);

    look_at(tree);
    empty_directory(tree);
    restore_directory(tree, root);
    free(root);
    // The next program to start takes the tree as it is now for durable.
    empty_directory(log_dir);
    return 0;
}

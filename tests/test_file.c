/* Files and folders that appear whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "digest.h"
#include "file.h"

#define DEAD "999999999" /* beyond every process number */

static char root[64], path[128], inside[192];

static const char *at(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static bool exists(const char *name) { return !access(at(name), F_OK); }

static void put(const char *directory, const char *name, const char *text)
{
    snprintf(inside, sizeof inside, "%s/%s", directory, name);
    assert_true(sid2_file_write(inside, text, strlen(text), NULL));
}

static void makes_and_removes_trees(void **state)
{
    (void)state;
    sid2_error err = {0};
    assert_true(sid2_make_directories(at("a/b/c"), &err));
    assert_true(sid2_make_directories(at("a/b/c/"), &err));
    sid2_kind kind;
    assert_true(sid2_look(at("a/b/c"), &kind, &err) && kind == SID2_FOLDER);
    put(at("a/b"), "file", "x");
    assert_false(sid2_make_directories(at("a/b/file/d"), &err));
    assert_non_null(strstr(err.message, "in the way"));
    assert_true(sid2_remove_tree(at("a"), &err));
    assert_false(exists("a"));
    assert_true(sid2_remove_tree(at("a"), &err));
}

static void folders_appear_whole(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_atomic_directory directory;
    assert_true(sid2_atomic_directory_open(&directory, at("runs/one"), &err));
    put(directory.temporary, "data", "first");
    assert_false(exists("runs/one"));
    assert_true(sid2_atomic_directory_commit(&directory, true, &err));
    assert_true(exists("runs/one/data"));

    /* replaced */
    assert_true(sid2_atomic_directory_open(&directory, at("runs/one"), &err));
    put(directory.temporary, "other", "second");
    assert_true(sid2_atomic_directory_commit(&directory, true, &err));
    assert_true(exists("runs/one/other"));
    assert_false(exists("runs/one/data"));

    /* discarded: the one before stays */
    assert_true(sid2_atomic_directory_open(&directory, at("runs/one"), &err));
    put(directory.temporary, "third", "third");
    sid2_atomic_directory_discard(&directory);
    assert_true(exists("runs/one/other"));

    /* what stands there by the time of the commit is not replaced unasked */
    assert_true(sid2_atomic_directory_open(&directory, at("runs/one"), &err));
    assert_false(sid2_atomic_directory_commit(&directory, false, &err));
    assert_non_null(strstr(err.message, "exists"));
    assert_true(exists("runs/one/other"));
}

/* Only names of the one pattern, of processes that are gone, are ever removed. */
static void only_leftovers_are_cleared(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_atomic_directory directory;
    static const char *const gone[] = {"left/.one.sid2-tmp-" DEAD "-0", "left/.two.sid2-tmp-" DEAD "-17"};
    static const char *const kept[] = {"left/one",
                                       "left/one.mine",
                                       "left/one.tmp-" DEAD,
                                       "left/one.sid2-tmp-" DEAD "-0",
                                       "left/.one.sid2-tmp-" DEAD,
                                       "left/.one.sid2-tmp-" DEAD "-",
                                       "left/.one.sid2-tmp-" DEAD "-0x",
                                       "left/.one.sid2-tmp-" DEAD "-0-best",
                                       "left/.one.sid2-new-" DEAD "-0",
                                       "left/.sid2-tmp-" DEAD "-0",
                                       "left/.one.sid2-tmp-1-0"}; /* process 1 runs */
    for (int i = 0; i < 2; i++) {
        assert_true(sid2_make_directories(at(gone[i]), &err));
        put(at(gone[i]), "data", "x");
    }
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        assert_true(sid2_make_directories(at(kept[i]), &err));
    put(at("left"), ".file.sid2-tmp-" DEAD "-3", "x");
    put(at("left"), ".file.sid2-tmp-" DEAD "-3.AbCdEf", "x"); /* libzip's */
    assert_int_equal(symlink("one", at("left/.link.sid2-tmp-" DEAD "-0")), 0);
    assert_true(sid2_atomic_directory_open(&directory, at("left/one"), &err));
    sid2_clear_leftovers(at("left")); /* not what is in use, though it is of this process */
    assert_int_equal(access(directory.temporary, F_OK), 0);
    sid2_atomic_directory_discard(&directory);
    for (int i = 0; i < 2; i++) assert_false(exists(gone[i]));
    assert_false(exists("left/.file.sid2-tmp-" DEAD "-3"));
    assert_false(exists("left/.file.sid2-tmp-" DEAD "-3.AbCdEf"));
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (!exists(kept[i])) fail_msg("%s was removed", kept[i]);
    struct stat status;
    assert_int_equal(lstat(at("left/.link.sid2-tmp-" DEAD "-0"), &status), 0);
}

/* Killed between moving the old folder aside and moving the new one in: the old one is all there is. */
static void a_folder_left_aside_comes_back(void **state)
{
    (void)state;
    sid2_error err = {0};
    assert_true(sid2_make_directories(at(".aside.sid2-old-" DEAD "-0"), &err));
    put(at(".aside.sid2-old-" DEAD "-0"), "data", "only copy");
    assert_true(sid2_make_directories(at(".aside.sid2-tmp-" DEAD "-0"), &err));
    sid2_clear_leftovers(root);
    assert_true(exists("aside/data"));
    assert_false(exists(".aside.sid2-old-" DEAD "-0"));
    assert_false(exists(".aside.sid2-tmp-" DEAD "-0"));
    assert_true(sid2_make_directories(at(".aside.sid2-old-" DEAD "-0"), &err)); /* one that was replaced */
    sid2_clear_leftovers(root);
    assert_true(exists("aside/data"));
    assert_false(exists(".aside.sid2-old-" DEAD "-0"));
}

/* Absent is what is not there. */
static void what_cannot_be_seen_is_not_absent(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_kind kind = SID2_REGULAR;
    sid2_list list;
    char name[600];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    put(root, "seen", "x");
    assert_true(sid2_look(at("nothing here"), &kind, &err) && kind == SID2_ABSENT);
    assert_true(sid2_look(at("seen/below"), &kind, &err) && kind == SID2_ABSENT);
    assert_false(sid2_look(name, &kind, &err));
    assert_int_equal(symlink("circle", at("circle")), 0);
    assert_false(sid2_look(at("circle"), &kind, &err));
    assert_true(sid2_list_folder(&list, at("nothing here"), NULL, &err) && list.count == 0);
    assert_false(sid2_list_folder(&list, at("seen"), NULL, &err));
    assert_false(sid2_list_folder(&list, at("circle"), NULL, &err));
    struct rlimit old, limit;
    getrlimit(RLIMIT_NOFILE, &old);
    limit = (struct rlimit){3, old.rlim_max}; /* no descriptor left */
    setrlimit(RLIMIT_NOFILE, &limit);
    bool listed = sid2_list_folder(&list, root, NULL, &err);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_false(listed);
    assert_non_null(strstr(err.message, "Too many open files"));
}

static void only_files_are_read(void **state)
{
    (void)state;
    sid2_error err = {0};
    size_t size;
    assert_int_equal(mkfifo(at("fifo"), 0666), 0);
    assert_null(sid2_file_read(path, 100, &size, &err)); /* and does not wait for a writer */
    assert_non_null(strstr(err.message, "a pipe or a device"));
    assert_null(sid2_file_read("/dev/zero", 100, &size, &err));
    assert_non_null(strstr(err.message, "a pipe or a device"));
    assert_null(sid2_file_read(root, 100, &size, &err));
    assert_non_null(strstr(err.message, "Is a directory"));
}

/* In a folder where all may write, a link of somebody else leads to where he wants. */
static void planted_links_are_not_followed(void **state)
{
    (void)state;
    sid2_error err = {0};
    if (geteuid() != 0) skip(); /* only the superuser can make another's link */
    enum { ANOTHER = 65534 };
    assert_true(sid2_make_directories(at("open"), &err));
    assert_int_equal(chmod(path, 01777), 0);
    put(root, "mine", "old");
    assert_int_equal(symlink("../mine", at("open/own")), 0);
    put(at("open"), "own", "new");
    static const char *const planted[] = {"open/planted", "open/folder"};
    static const char *const targets[] = {"../mine", ".."};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(symlink(targets[i], at(planted[i])), 0);
        assert_int_equal(lchown(at(planted[i]), ANOTHER, ANOTHER), 0);
    }
    assert_int_equal(symlink("open/planted", at("way")), 0); /* our own link to it */
    static const char *const ways[] = {"open/planted", "open/folder/mine", "way", "open/folder/new"};
    for (int i = 0; i < 4; i++) {
        assert_false(sid2_file_write(at(ways[i]), "x", 1, &err));
        assert_non_null(strstr(err.message, "of another user"));
    }
    assert_false(sid2_make_directories(at("open/folder/run"), &err));
    assert_false(exists("run"));
    size_t size;
    uint8_t *bytes = sid2_file_read(at("mine"), 100, &size, &err);
    assert_memory_equal(bytes, "new", 3);
    free(bytes);
}

/* A limit on file size stands in for a full disk: both make write fail half-way. */
static void full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    sid2_error err = {0};
    static char large[1 << 16];
    put(root, "kept", "old");
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){4096, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    bool written = sid2_file_write(at("kept"), large, sizeof large, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(written);
    assert_int_equal(err.code, SID2_ERR_IO);
    assert_non_null(strstr(err.message, "kept"));
    size_t size;
    uint8_t *bytes = sid2_file_read(at("kept"), 100, &size, &err);
    assert_int_equal(size, 3);
    assert_memory_equal(bytes, "old", 3);
    free(bytes);
}

/* Every flipped bit is seen but in the field's name, which leaves a text without a digest. */
static void flips_are_seen(void **state)
{
    (void)state;
    static const char fields[] = "{\"step\": 3,\n \"text\": \"a, b\"";
    char digest[33], text[160];
    sid2_digest_bytes(fields, strlen(fields), digest);
    int size = snprintf(text, sizeof text, "%s,\n  \"xxh3_128\": \"%s\"\n}\n", fields, digest);
    size_t name = (size_t)(strstr(text, "\"xxh3") - text), end = name + strlen("\"xxh3_128\"");
    assert_true(sid2_digest_holds(text, (size_t)size));
    assert_true(sid2_digest_holds("{\"step\": 3}", 11));
    assert_true(sid2_digest_holds("", 0));
    for (size_t bit = 0; bit < 8 * ((size_t)size - strlen("\n}\n")); bit++) {
        bool named = bit / 8 >= name && bit / 8 < end;
        text[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(sid2_digest_holds(text, (size_t)size), named);
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = end; cut < (size_t)size - strlen("}\n"); cut++)
        assert_false(sid2_digest_holds(text, cut)); /* nor are texts read past their end */
}

static void expect_kind(const char *name, mode_t kind)
{
    struct stat status;
    assert_int_equal(lstat(at(name), &status), 0);
    assert_int_equal(status.st_mode & S_IFMT, kind);
}

static void links_stay(void **state)
{
    (void)state;
    sid2_error err = {0};
    size_t size;
    put(root, "target", "old");
    assert_int_equal(symlink("target", at("link")), 0);
    put(root, "link", "new");
    expect_kind("link", S_IFLNK);
    uint8_t *bytes = sid2_file_read(at("target"), 100, &size, &err);
    assert_memory_equal(bytes, "new", 3);
    free(bytes);
    assert_int_equal(symlink("nothing", at("dangling")), 0);
    assert_false(sid2_file_write(at("dangling"), "x", 1, &err));
    assert_non_null(strstr(err.message, "symbolic link"));
    expect_kind("dangling", S_IFLNK);
}

static void streams_are_written_through(void **state)
{
    (void)state;
    sid2_error err = {0};
    char got[8] = "";
    sid2_atomic_file file;
    assert_int_equal(mkfifo(at("pipe"), 0666), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(sid2_output_open(&file, path, &err));
    fputs("through", file.stream);
    assert_true(sid2_atomic_commit(&file, &err));
    assert_int_equal(read(reader, got, sizeof got), 7);
    assert_string_equal(got, "through");
    expect_kind("pipe", S_IFIFO);

    assert_false(sid2_atomic_open(&file, path, &err)); /* for a file of sid2's own choice */
    assert_non_null(strstr(err.message, "a pipe or a device, and no file"));
    expect_kind("pipe", S_IFIFO);

    signal(SIGPIPE, SIG_IGN);
    assert_true(sid2_output_open(&file, path, &err));
    close(reader);
    fputs("lost", file.stream);
    assert_false(sid2_atomic_commit(&file, &err));
    assert_non_null(strstr(err.message, "Broken pipe"));
    expect_kind("pipe", S_IFIFO);
}

static void a_folder_in_the_way_is_an_error(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_atomic_file file;
    assert_true(sid2_make_directories(at("folder.png"), &err));
    assert_false(sid2_atomic_open(&file, at("folder.png"), &err));
    assert_non_null(strstr(err.message, "Is a directory"));
    put(root, "made/on/the/way", "x");
    assert_true(exists("made/on/the/way"));
}

static void abandoned_files_are_removed(void **state)
{
    (void)state;
    sid2_error err = {0};
    sid2_atomic_file first, second;
    assert_true(sid2_atomic_open(&first, at("first"), &err));
    assert_true(sid2_atomic_open(&second, at("second"), &err));
    assert_true(sid2_atomic_commit(&first, &err));
    assert_int_equal(access(second.temporary, F_OK), 0);
    sid2_atomic_abandon();
    assert_int_equal(access(second.temporary, F_OK), -1);
    assert_true(exists("first"));
    sid2_atomic_discard(&second);
}

static void reading_respects_the_limit(void **state)
{
    (void)state;
    sid2_error err = {0};
    size_t size;
    put(root, "file", "0123456789");
    assert_null(sid2_file_read(at("file"), 9, &size, &err));
    uint8_t *bytes = sid2_file_read(at("file"), 10, &size, &err);
    assert_non_null(bytes);
    assert_int_equal(size, 10);
    free(bytes);
    assert_null(sid2_file_read(at("absent"), 10, &size, &err));
    assert_non_null(strstr(err.message, "absent"));
}

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/sid2-test-file-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return sid2_remove_tree(root, NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_and_removes_trees),
        cmocka_unit_test(folders_appear_whole),
        cmocka_unit_test(only_leftovers_are_cleared),
        cmocka_unit_test(a_folder_left_aside_comes_back),
        cmocka_unit_test(what_cannot_be_seen_is_not_absent),
        cmocka_unit_test(only_files_are_read),
        cmocka_unit_test(planted_links_are_not_followed),
        cmocka_unit_test(full_disk_leaves_the_old_file),
        cmocka_unit_test(flips_are_seen),
        cmocka_unit_test(links_stay),
        cmocka_unit_test(streams_are_written_through),
        cmocka_unit_test(a_folder_in_the_way_is_an_error),
        cmocka_unit_test(abandoned_files_are_removed),
        cmocka_unit_test(reading_respects_the_limit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* A folder that is listed by one of several ranks, for all. */
#include "dataset.h"
#include "source.h"
#include "thread_ranks.h"

#include "picture_support.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

/* What each rank is given, and what it must find. */
typedef struct expectation {
    const char *path[2]; /* of rank 0, of the others */
    int64_t files;       /* -1: an error, the same for all */
    size_t folders;
    const char *message;
} expectation;

static const char *expect_files(sid2_group *group, sid2_device *device, const void *data)
{
    (void)device;
    const expectation *want = data;
    const char *path = want->path[sid2_group_rank(group) > 0], *wrong = NULL;
    sid2_error cause = {0};
    sid2_files *files = sid2_files_open(path, group, &cause);
    if (want->files < 0)
        wrong = files ? "it is opened" : strstr(cause.message, want->message) ? NULL : "another message";
    else if (!files)
        wrong = "it is not opened";
    else if (files->count != want->files || files->folders.count != want->folders)
        wrong = "there are other files";
    for (int64_t i = 0; files && !wrong && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        size_t size;
        uint8_t *bytes = files->read(files, e, 1 << 20, &size, NULL);
        if (!bytes || size != e->size) wrong = "a file cannot be read";
        if (i && strcmp(files->entry[i - 1].name, e->name) >= 0) wrong = "files are not in order";
        free(bytes);
    }
    sid2_files_close(files);
    return wrong;
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_true(sid2_file_write(path, text, strlen(text), NULL));
}

static char *path_of(const char *name)
{
    static char path[4][128];
    static int next;
    snprintf(path[next % 4], sizeof path[0], "%s/%s", folder, name);
    return path[next++ % 4];
}

/* Names in another form of Unicode are kept as they are stored; what only others have is not seen, and what is hidden is
 * hidden from all. */
static void test_list(void **state)
{
    (void)state;
    char empty[128];
    snprintf(empty, sizeof empty, "%s/one/empty", folder);
    write_file("one/a/1.png", "1");
    write_file("one/a/Ka\xcc\x88tzchen.png", "22");
    write_file("one/b/3.png", "");
    write_file("one/.hidden/4.png", "4444");
    assert_int_equal(mkdir(empty, 0777), 0);
    const expectation same = {.path = {path_of("one"), path_of("one")}, .files = 3, .folders = 3};
    for (int ranks = 2; ranks <= 8; ranks *= 2) as_ranks(ranks, AT_HAND, expect_files, &same);
    as_ranks(3, AT_HAND, expect_files, &same);

    write_file("two/a/1.png", "1");
    write_file("two/a/Ka\xcc\x88tzchen.png", "22");
    write_file("two/b/3.png", "");
    write_file("two/c/5.png", "55555");
    const expectation other = {.path = {path_of("one"), path_of("two")}, .files = 3, .folders = 3};
    as_ranks(4, AT_HAND, expect_files, &other);
    /* What rank 0 does not see as a folder each opens by itself; what it cannot list is nobody's. */
    const expectation file = {.path = {path_of("one/a/1.png"), path_of("two/a/1.png")}, .files = 2};
    as_ranks(2, AT_HAND, expect_files, &file);
    const expectation none = {
        .path = {path_of("none"), path_of("none")}, .files = -1, .message = "No such file"};
    as_ranks(2, AT_HAND, expect_files, &none);
}

/* As a data set: labels and pictures are those of one process alone, also of a part of a part. */
static const char *expect_pictures(sid2_group *group, sid2_device *device, const void *data)
{
    (void)device;
    sid2_error cause = {0};
    const sid2_dataset_options options =
        sid2_with(sid2_dataset_options, .size = 8, .channels = 1, .holdout = 4);
    sid2_dataset *alone = sid2_dataset_open(data, &options, &cause),
                 *all = sid2_dataset_open_together(group, data, &options, &cause),
                 *part = all ? sid2_dataset_part_of(all, data, SID2_PART_HELDOUT, &cause) : NULL;
    const char *wrong = alone && all && part ? NULL : "it is not opened";
    if (!wrong && (sid2_dataset_count(all) != sid2_dataset_count(alone) || sid2_dataset_count(part) != 4))
        wrong = "there are other pictures";
    for (int64_t i = 0; !wrong && i < sid2_dataset_count(all); i++) {
        uint8_t a[64], b[64];
        int32_t x, y;
        if (!sid2_dataset_get(alone, i, false, a, &x, &cause) ||
            !sid2_dataset_get(all, i, false, b, &y, &cause) || x != y || memcmp(a, b, sizeof a) != 0)
            wrong = "a picture is another";
    }
    char digests[2][33];
    if (!wrong && (!sid2_dataset_digest(alone, digests[0], &cause) ||
                   !sid2_dataset_digest(all, digests[1], &cause) || strcmp(digests[0], digests[1]) != 0))
        wrong = "its digest is another";
    sid2_dataset_close(part);
    sid2_dataset_close(all);
    sid2_dataset_close(alone);
    return wrong;
}

static void test_pictures(void **state)
{
    (void)state;
    assert_true(write_squares(folder, 24, NULL));
    as_ranks(4, AT_HAND, expect_pictures, path_of("pictures"));
}

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-together-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return sid2_remove_tree(folder, NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list), cmocka_unit_test(test_pictures)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

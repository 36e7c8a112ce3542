/* Clips: folders of frames in the order of their numbers, arrays of numpy's, and what is refused. */
#include "model_support.h"

#include "clips.h"
#include "image.h"
#include "zip_write.h"

#include <sys/stat.h>
#include <unistd.h>

enum { SIDE = 6 };

static char folder[] = "/tmp/sid2-clips-XXXXXX";

static const char *at(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void put_frame(const char *path, uint8_t value)
{
    uint8_t pixels[SIDE * SIDE];
    memset(pixels, value, sizeof pixels);
    const sid2_image image = {.width = SIDE, .height = SIDE, .channels = 1, .pixels = pixels};
    must(sid2_png_write(path, &image, NULL, 0, &err));
}

/* Three videos, of 25, 12 and 3 frames; frame n of video v has the value 80 v + n. */
static int set_up(void **state)
{
    static const int lengths[] = {25, 12, 3};
    (void)state;
    assert_non_null(mkdtemp(folder));
    mkdir(at("videos"), 0700);
    for (int v = 0; v < 3; v++) {
        char name[64];
        snprintf(name, sizeof name, "videos/v%d", v);
        mkdir(at(name), 0700);
        for (int n = 0; n < lengths[v]; n++) {
            snprintf(name, sizeof name, "videos/v%d/frame%d.png", v, n); /* frame10 comes after frame9 */
            put_frame(at(name), (uint8_t)(80 * v + n));
        }
    }
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void expect_values(const sid2_clips *clips, int64_t clip, int first, int step)
{
    const sid2_shape shape = sid2_clips_shape(clips);
    const size_t frame = (size_t)(shape.dim[1] * shape.dim[2] * 3);
    uint8_t *pixels = malloc((size_t)sid2_shape_count(shape));
    assert_non_null(pixels);
    must(sid2_clips_get(clips, clip, pixels, &err));
    for (int64_t f = 0; f < shape.dim[0]; f++)
        for (size_t i = 0; i < frame; i++)
            assert_int_equal(pixels[(size_t)f * frame + i], first + step * (int)f);
    free(pixels);
}

static void folders_become_clips(void **state)
{
    (void)state;
    sid2_clips *clips = sid2_clips_open(NULL, at("videos"), 12, 0, 0, &err);
    must(clips != NULL);
    assert_int_equal(sid2_clips_count(clips),
                     3); /* 12 + 12 of the first, whose last is left over; 12; none */
    assert_int_equal(sid2_clips_videos(clips), 3);
    assert_true(sid2_shape_equal(sid2_clips_shape(clips), sid2_shape_of(12, SIDE, SIDE, 3)));
    expect_values(clips, 0, 0, 1);
    expect_values(clips, 1, 12, 1);
    expect_values(clips, 2, 80, 1);
    char digest[2][33];
    must(sid2_clips_digest(clips, digest[0], &err));
    sid2_clips_close(clips);
    put_frame(at("videos/v1/frame11.png"),
              200); /* other contents, another digest; and another size is cut to fit */
    clips = sid2_clips_open(NULL, at("videos"), 0, 4, 4, &err);
    must(clips != NULL);
    assert_int_equal(sid2_clips_count(clips), 1); /* 16 frames */
    assert_true(sid2_shape_equal(sid2_clips_shape(clips), sid2_shape_of(16, 4, 4, 3)));
    expect_values(clips, 0, 0, 1);
    must(sid2_clips_digest(clips, digest[1], &err));
    assert_string_not_equal(digest[0], digest[1]);
    sid2_clips_close(clips);
    assert_null(sid2_clips_open(NULL, at("videos"), 26, 0, 0, &err));
    assert_non_null(strstr(err.message, "of 3 videos none has 26 frames"));
}

static void put_npz(const char *path, const char *type, const char *shape, size_t bytes)
{
    sid2_archive *archive = sid2_archive_open(path, &err);
    must(archive != NULL);
    size_t size = 128 + bytes;
    uint8_t *member = calloc(size, 1);
    assert_non_null(member);
    memcpy(member, "\x93NUMPY\x01\x00\x76\x00", 10);
    memset(member + 10, ' ', 118);
    char head[112];
    int length =
        snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
    memcpy(member + 10, head, (size_t)length);
    member[127] = '\n';
    for (size_t i = 0; i < bytes; i++) member[128 + i] = (uint8_t)(i / 12); /* a frame of 2 x 2 x 3 */
    must(sid2_archive_add(archive, "arr_0.npy", member, size, &err) && sid2_archive_commit(archive, &err));
    free(member);
}

static void arrays_become_clips(void **state)
{
    (void)state;
    put_npz(at("x.npz"), "|u1", "2, 5, 2, 2, 3", 2 * 5 * 12);
    sid2_clips *clips = sid2_clips_open(NULL, at("x.npz"), 0, 0, 0, &err);
    must(clips != NULL);
    assert_int_equal(sid2_clips_count(clips), 2);
    assert_true(sid2_shape_equal(sid2_clips_shape(clips), sid2_shape_of(5, 2, 2, 3)));
    expect_values(clips, 1, 5, 1);
    sid2_clips_close(clips);
    clips = sid2_clips_open(NULL, at("x.npz"), 2, 0, 0, &err);
    must(clips != NULL);
    assert_int_equal(sid2_clips_count(clips), 4);
    expect_values(clips, 1, 2, 1);
    expect_values(clips, 2, 5, 1);
    sid2_clips_close(clips);
}

static void what_is_none_is_refused(void **state)
{
    static const struct {
        const char *type, *shape, *says;
    } bad[] = {{"|u1", "2, 5, 2, 2", "an array of |u1 with 4 extents"},
               {"<f4", "2, 5, 2, 2, 3", "an array of <f4 with 5 extents"},
               {"|u1", "2, 5, 2, 2, 4", "1 or 3]"},
               {"|u1", "9, 5, 2, 2, 3", "cut short"},
               {"|u1", "0, 5, 2, 2, 3", "impossible extents"},
               {"|u1", "2147483647, 2147483647, 8192, 8192, 3", "cut short"}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char name[32];
        snprintf(name, sizeof name, "bad%zu.npz", i);
        put_npz(at(name), bad[i].type, bad[i].shape, 2 * 5 * 12);
        assert_null(sid2_clips_open(NULL, at(name), 0, 0, 0, &err));
        if (!strstr(err.message, bad[i].says)) fail_msg("%s", err.message);
    }
    mkdir(at("empty"), 0700);
    assert_null(sid2_clips_open(NULL, at("empty"), 0, 0, 0, &err));
    put_frame(at("videos/v0/frame3.png"), 3);
    assert_int_equal(truncate(at("videos/v0/frame3.png"), 60), 0);
    sid2_clips *clips = sid2_clips_open(NULL, at("videos"), 0, 0, 0, &err);
    must(clips != NULL);
    uint8_t pixels[16 * SIDE * SIDE * 3];
    assert_false(sid2_clips_get(clips, 0, pixels, &err));
    assert_non_null(strstr(err.message, "v0/frame3.png"));
    sid2_clips_close(clips);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_become_clips),
        cmocka_unit_test(arrays_become_clips),
        cmocka_unit_test(what_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

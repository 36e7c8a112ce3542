/* Clips as data sets: what holds videos, which clips are in it, what is held out and left out, and what is refused. */
#include "model_support.h"

#include "archive_write.h"
#include "dataset.h"
#include "image.h"
#include "y4m.h"

#include <sys/stat.h>
#include <unistd.h>

enum { SIDE = 6 };

static char folder[] = "/tmp/sid2-clips-XXXXXX";

static const char *at(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* A picture of one value, `wide` squares side by side, the next one's value by one higher; in the upper left corner black. */
static uint8_t *frame_bytes(uint8_t value, int wide, size_t *size)
{
    uint8_t pixels[SIDE * SIDE * 32], *bytes;
    for (int i = 0; i < SIDE * SIDE * wide; i++) pixels[i] = (uint8_t)(value + i % (SIDE * wide) / SIDE);
    for (int i = 0; i < wide; i++) pixels[i * SIDE] = 0;
    const sid2_image image = {.width = SIDE * wide, .height = SIDE, .channels = 1, .pixels = pixels};
    must(sid2_png_encode(&image, NULL, 0, &bytes, size, &err));
    return bytes;
}

static void put_bytes(const char *path, const void *bytes, size_t size)
{
    must(sid2_make_parents(path, &err) && sid2_file_write(path, bytes, size, &err));
}

static void put_frame(const char *path, uint8_t value, int wide)
{
    size_t size;
    uint8_t *bytes = frame_bytes(value, wide, &size);
    put_bytes(path, bytes, size);
    free(bytes);
}

/* Three videos, of 25, 12 and 3 frames; frame n of video v has the value 80 v + n. */
static int set_up(void **state)
{
    static const int lengths[] = {25, 12, 3};
    (void)state;
    assert_non_null(mkdtemp(folder));
    for (int v = 0; v < 3; v++)
        for (int n = 0; n < lengths[v]; n++) {
            char name[64];
            snprintf(name, sizeof name, "videos/v%d/frame%d.png", v, n); /* frame10 comes after frame9 */
            put_frame(at(name), (uint8_t)(80 * v + n), 1);
        }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return !sid2_remove_tree(folder, NULL);
}

static sid2_dataset *open_with(const char *name, sid2_dataset_options options)
{
    options.struct_size = sizeof options;
    options.cache_bytes = options.cache_bytes ? options.cache_bytes : 1;
    if (!options.size) options.size = SIDE;
    return sid2_dataset_open(at(name), &options, &err);
}

static sid2_dataset *open_clips(const char *name, int frames)
{
    sid2_dataset *clips = open_with(name, (sid2_dataset_options){.frames = frames});
    must(clips != NULL);
    return clips;
}

static uint8_t *get(sid2_dataset *clips, int64_t clip, bool flip, int32_t *label)
{
    uint8_t *pixels = malloc(sid2_sample_bytes(sid2_dataset_type(clips)));
    assert_non_null(pixels);
    must(sid2_dataset_get(clips, clip, flip, pixels, label, &err));
    return pixels;
}

/* The last pixel of each frame; of the first, that the corner is where it should be. */
static void expect_values(sid2_dataset *clips, int64_t clip, int first, int step)
{
    const sid2_shape shape = sid2_dataset_type(clips).shape;
    const int64_t frame = sid2_shape_count(shape) / shape.dim[0];
    for (int flip = 0; flip < 2; flip++) {
        uint8_t *pixels = get(clips, clip, flip, NULL);
        for (int64_t f = 0; f < shape.dim[0]; f++)
            assert_int_equal(pixels[(f + 1) * frame - 1], first + step * (int)f);
        if (first > 100 && shape.dim[1] == SIDE)
            for (int64_t f = 0; f < shape.dim[0]; f++)
                assert_int_equal(pixels[f * frame + (flip ? 3 * (SIDE - 1) : 0)] < 60, 1);
        free(pixels);
    }
}

static void folders_become_clips(void **state)
{
    (void)state;
    sid2_dataset *clips = open_clips("videos", 12);
    assert_int_equal(sid2_dataset_count(clips),
                     3); /* 12 + 12 of the first, whose last is left over; 12; none */
    assert_int_equal(sid2_dataset_videos(clips), 3);
    assert_true(sid2_shape_equal(sid2_dataset_type(clips).shape, sid2_shape_of(12, SIDE, SIDE, 3)));
    expect_values(clips, 0, 0, 1);
    expect_values(clips, 1, 12, 1);
    expect_values(clips, 2, 80, 1);
    char digest[2][33];
    must(sid2_dataset_digest(clips, digest[0], &err));
    sid2_dataset_close(clips);
    put_frame(at("videos/v1/frame11.png"), 200, 1); /* other contents, another digest */
    clips = open_with("videos", (sid2_dataset_options){.frames = -1, .size = 4, .cache_bytes = 1 << 20});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 1); /* 16 frames; another size is cut to fit */
    assert_true(sid2_shape_equal(sid2_dataset_type(clips).shape, sid2_shape_of(16, 4, 4, 3)));
    expect_values(clips, 0, 0, 1);
    expect_values(clips, 0, 0, 1); /* now from the cache */
    must(sid2_dataset_digest(clips, digest[1], &err));
    assert_string_not_equal(digest[0], digest[1]);
    sid2_dataset_close(clips);
    put_frame(at("videos/v1/frame11.png"), 91, 1);
    assert_null(open_with("videos", (sid2_dataset_options){.frames = 26}));
    assert_non_null(strstr(err.message, "of 3 videos none has 26 frames"));
}

static void strides_and_hops(void **state)
{
    (void)state;
    sid2_dataset *clips = open_with("videos", (sid2_dataset_options){.frames = 3, .stride = 4});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 2 + 1); /* 9 frames from first to last */
    expect_values(clips, 1, 9, 4);
    expect_values(clips, 2, 80, 4);
    sid2_dataset_close(clips);
    clips = open_with("videos", (sid2_dataset_options){.frames = 3, .hop = 1});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 23 + 10 + 1);
    expect_values(clips, 22, 22, 1);
    expect_values(clips, 33, 160, 1);
    sid2_dataset_close(clips);
}

/* FVD's protocol: windows spread evenly over a video, each cropped along the longer side. */
static void windows_and_crops(void **state)
{
    enum { FRAME = SIDE * SIDE * 3 };
    (void)state;
    sid2_dataset *clips = open_with("videos", (sid2_dataset_options){.frames = 12, .windows = 2});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 2 + 1); /* of the second video there is but one */
    expect_values(clips, 1, 13, 1);
    expect_values(clips, 2, 80, 1);
    sid2_dataset_close(clips);
    for (int n = 0; n < 5; n++) {
        char name[64];
        snprintf(name, sizeof name, "wide/v/%d.png", n);
        put_frame(at(name), (uint8_t)(50 + 10 * n), 3); /* three squares, of n, n + 1, n + 2 */
    }
    clips = open_with("wide", (sid2_dataset_options){.frames = 4, .windows = 2, .crops = 3});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 6);
    for (int i = 0; i < 6; i++) {
        uint8_t *pixels = get(clips, i, false, NULL);
        for (int f = 0; f < 4; f++)
            assert_int_equal(pixels[(f + 1) * FRAME - 1], 50 + 10 * (i / 3 + f) + i % 3);
        free(pixels);
    }
    sid2_dataset_close(clips);
}

/* ---- Tars ---- */

static void add(sid2_archive *tar, const char *name, const void *bytes, size_t size)
{
    must(sid2_archive_add(tar, name, bytes, size, &err));
}

static void add_frame(sid2_archive *tar, const char *name, uint8_t value)
{
    size_t size;
    uint8_t *bytes = frame_bytes(value, 1, &size);
    add(tar, name, bytes, size);
    free(bytes);
}

static void expect_label(sid2_dataset *clips, int64_t clip, const char *name)
{
    int32_t label;
    free(get(clips, clip, false, &label));
    assert_string_equal(sid2_dataset_class_name(clips, label), name);
    assert_int_equal(label, sid2_dataset_label(clips, clip));
}

/* Class, video, frame; and a file of facts beside the frames. */
static void tars_have_classes(void **state)
{
    (void)state;
    sid2_archive *tar = sid2_archive_open(at("classes.tar"), &err);
    must(tar != NULL);
    for (int v = 0; v < 4; v++)
        for (int n = 0; n < 5; n++) {
            char name[64];
            snprintf(name, sizeof name, "all/%s/%d/%d.png", v % 2 ? "square" : "circle", v, n);
            add_frame(tar, name, (uint8_t)(101 + 20 * v + n));
        }
    add(tar, "all/circle/0/clip.json", "{\"rate\": [30000, 1001]}", 23);
    must(sid2_archive_commit(tar, &err));
    sid2_dataset *clips = open_clips("classes.tar", 5);
    assert_int_equal(sid2_dataset_count(clips), 4);
    assert_int_equal(sid2_dataset_classes(clips), 2);
    expect_values(clips, 1, 141, 1); /* by folder: circle/0, circle/2, square/1, square/3 */
    expect_label(clips, 1, "circle");
    expect_label(clips, 2, "square");
    int32_t rate[2];
    sid2_dataset_rate(clips, rate);
    assert_int_equal(rate[0], 30000);
    assert_int_equal(rate[1], 1001);
    assert_null(sid2_dataset_loss(clips, 0));
    sid2_dataset_close(clips);
}

static void webdatasets_have_classes(void **state)
{
    (void)state;
    sid2_archive *tar = sid2_archive_open(at("shard-000000.tar"), &err);
    must(tar != NULL);
    for (int v = 0; v < 3; v++) {
        char name[64], label[64];
        for (int n = 0; n < 4; n++) {
            snprintf(name, sizeof name, "%06d.%04d.png", v, n);
            add_frame(tar, name, (uint8_t)(101 + 20 * v + n));
        }
        snprintf(name, sizeof name, "%06d.cls", v);
        snprintf(label, sizeof label, "%d\n", 2 * v);
        add(tar, name, label, strlen(label));
    }
    must(sid2_archive_commit(tar, &err));
    sid2_dataset *clips = open_clips("shard-000000.tar", 4);
    assert_int_equal(sid2_dataset_count(clips), 3);
    assert_int_equal(sid2_dataset_classes(clips), 5);
    assert_int_equal(sid2_dataset_label(clips, 2), 4);
    expect_values(clips, 2, 141, 1);
    sid2_dataset_close(clips);
}

/* ---- Strips, y4m ---- */

static void strips_become_clips(void **state)
{
    (void)state;
    put_frame(at("strips/a/one.png"), 101, 8);
    put_frame(at("strips/a/two.png"), 121, 9);
    put_frame(at("strips/b/three.png"), 141, 4);
    sid2_dataset *clips = open_clips("strips", 4);
    assert_int_equal(sid2_dataset_videos(clips), 3);
    assert_int_equal(sid2_dataset_count(clips), 2 + 2 + 1);
    expect_values(clips, 1, 105, 1);
    expect_values(clips, 4, 141, 1);
    expect_label(clips, 4, "b");
    sid2_dataset_close(clips);
    clips = open_clips("strips/b/three.png", 4);
    assert_int_equal(sid2_dataset_count(clips), 1);
    expect_values(clips, 0, 141, 1);
    sid2_dataset_close(clips);
}

/* Frames of one grey value each, by their luma. */
static size_t film(char *bytes, int frames, int first)
{
    size_t size = (size_t)sprintf(bytes, "YUV4MPEG2 W%d H%d F25:1 Cmono XCOLORRANGE=FULL\n", SIDE, SIDE);
    for (int f = 0; f < frames; f++) {
        size += (size_t)sprintf(bytes + size, f % 2 ? "FRAME Ip\n" : "FRAME\n");
        memset(bytes + size, first + f, SIDE * SIDE);
        bytes[size] = 0;
        size += SIDE * SIDE;
    }
    return size;
}

static void y4m_becomes_clips(void **state)
{
    (void)state;
    char bytes[2000];
    size_t size = film(bytes, 7, 120);
    put_bytes(at("films/x/one.y4m"), bytes, size);
    sid2_archive *tar = sid2_archive_open(at("films.tar"), &err);
    must(tar != NULL);
    char longest[200];
    memset(longest, 'n', sizeof longest);
    strcpy(longest + 150, "/one.y4m"); /* needs more than one head in the tar */
    add(tar, "a.y4m", bytes, size);
    add(tar, longest, bytes, size);
    must(sid2_archive_commit(tar, &err));
    size = film(bytes, 6, 160);
    put_bytes(at("films/y/two.y4m"), bytes, size - 1); /* ends in its last frame */
    put_bytes(at("films/y/none.y4m"), "YUV4MPEG2 W9\n", 13);
    sid2_dataset *clips = open_clips("films", 3);
    assert_int_equal(sid2_dataset_count(clips), 2 + 1);
    expect_values(clips, 1, 123, 1);
    expect_values(clips, 2, 160, 1);
    expect_label(clips, 2, "y");
    int32_t rate[2];
    sid2_dataset_rate(clips, rate);
    assert_int_equal(rate[0], 25);
    char *loss = sid2_dataset_loss(clips, 0);
    assert_non_null(loss);
    assert_non_null(strstr(loss, "2 "));
    free(loss);
    sid2_dataset_close(clips);
    clips = open_clips("films/x/one.y4m", 7);
    assert_int_equal(sid2_dataset_count(clips), 1);
    expect_values(clips, 0, 120, 1);
    sid2_dataset_close(clips);
    clips = open_clips("films.tar", 7);
    assert_int_equal(sid2_dataset_count(clips), 2);
    expect_values(clips, 0, 120, 1);
    expect_values(clips, 1, 120, 1);
    sid2_dataset_close(clips);
    assert_null(open_with("films/y/none.y4m", (sid2_dataset_options){.frames = 3}));
    assert_non_null(strstr(err.message, "tells no height"));
}

/* ---- An npz ---- */

static void put_array(sid2_archive *archive, const char *name, const char *type, const char *shape,
                      const void *values, size_t bytes)
{
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
    memcpy(member + 128, values, bytes);
    add(archive, name, member, size);
    free(member);
}

enum { ARRAY = 2 * 5 * 12 }; /* frames of 2 x 2 x 3 */

static void put_npz(const char *path, const char *type, const char *shape, const uint8_t *labels)
{
    uint8_t pixels[ARRAY];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i / 12);
    sid2_archive *archive = sid2_archive_open(path, &err);
    must(archive != NULL);
    put_array(archive, "arr_0.npy", type, shape, pixels, sizeof pixels);
    if (labels) put_array(archive, "arr_1.npy", "|u1", "2,", labels, 2);
    must(sid2_archive_commit(archive, &err));
}

static void arrays_become_clips(void **state)
{
    (void)state;
    put_npz(at("x.npz"), "|u1", "2, 5, 2, 2, 3", (const uint8_t[]){3, 1});
    sid2_dataset *clips = open_with("x.npz", (sid2_dataset_options){.frames = -1, .size = 2});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 2);
    assert_true(sid2_shape_equal(sid2_dataset_type(clips).shape, sid2_shape_of(5, 2, 2, 3)));
    expect_values(clips, 1, 5, 1);
    assert_int_equal(sid2_dataset_classes(clips), 4);
    assert_int_equal(sid2_dataset_label(clips, 0), 3);
    sid2_dataset_close(clips);
    clips = open_with("x.npz", (sid2_dataset_options){.frames = 2, .size = 2});
    must(clips != NULL);
    assert_int_equal(sid2_dataset_count(clips), 4);
    expect_values(clips, 1, 2, 1);
    expect_values(clips, 2, 5, 1);
    assert_int_equal(sid2_dataset_label(clips, 2), 1);
    sid2_dataset_close(clips);
}

/* ---- What is held out, and what is left out ---- */

/* Pieces of a video, as data pack writes them, are held out with it; its number of clips is no matter. */
static void videos_are_held_out(void **state)
{
    (void)state;
    for (int v = 0; v < 5; v++)
        for (int piece = 0; piece < 3; piece++)
            for (int n = 0; n < 4; n++) {
                char name[64];
                snprintf(name, sizeof name, "pieces/video%d@%06d/%04d.png", v, 4 * piece, n);
                put_frame(at(name), (uint8_t)(101 + 20 * v + 4 * piece + n), 1);
            }
    int seen[2][5] = {{0}};
    for (int part = 0; part < 2; part++) {
        sid2_dataset *clips = open_with(
            "pieces", (sid2_dataset_options){
                          .frames = 2, .part = part ? SID2_PART_HELDOUT : SID2_PART_TRAIN, .holdout = 2});
        must(clips != NULL);
        assert_int_equal(sid2_dataset_videos(clips), 5);
        for (int64_t i = 0; i < sid2_dataset_count(clips); i++) {
            uint8_t *pixels = get(clips, i, false, NULL);
            seen[part][(pixels[sid2_sample_bytes(sid2_dataset_type(clips)) - 1] - 101) / 20]++;
            free(pixels);
        }
        sid2_dataset_close(clips);
    }
    int held = 0;
    for (int v = 0; v < 5; v++) {
        assert_int_equal(seen[0][v] + seen[1][v], 3 * 2);
        assert_true(!seen[0][v] || !seen[1][v]);
        held += seen[1][v] > 0;
    }
    assert_int_equal(held, 2);
    assert_null(
        open_with("pieces", (sid2_dataset_options){.frames = 2, .part = SID2_PART_HELDOUT, .holdout = 5}));
    assert_non_null(strstr(err.message, "leaves not one video of each class"));
}

static void count_skips(void *user, const char *name, const char *reason)
{
    (void)reason;
    ++*(int *)user;
    assert_non_null(strstr(name, "v0/frame13.png"));
}

static void broken_frames_leave_their_clip_out(void **state)
{
    (void)state;
    int skips = 0;
    put_frame(at("videos/v0/frame13.png"), 13, 1);
    assert_int_equal(truncate(at("videos/v0/frame13.png"), 60), 0);
    sid2_dataset *clips = open_with(
        "videos",
        (sid2_dataset_options){.frames = 12, .on_skip = count_skips, .user = &skips, .cache_bytes = 1 << 20});
    must(clips != NULL);
    expect_values(clips, 1, 80, 1); /* the next one stands in */
    assert_int_equal(sid2_dataset_broken(clips), 1);
    assert_int_equal(skips, 1);
    uint8_t *pixels = malloc(sid2_sample_bytes(sid2_dataset_type(clips)));
    sid2_finding found;
    must(sid2_dataset_inspect(clips, 1, pixels, &found, &err));
    assert_false(found.is_readable);
    must(sid2_dataset_inspect(clips, 0, pixels, &found, &err));
    assert_true(found.is_readable);
    free(pixels);
    sid2_dataset_close(clips);
    put_frame(at("videos/v0/frame13.png"), 13, 1);
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
        put_npz(at(name), bad[i].type, bad[i].shape, NULL);
        assert_null(open_with(name, (sid2_dataset_options){.frames = -1}));
        if (!strstr(err.message, bad[i].says)) fail_msg("%s", err.message);
    }
    mkdir(at("empty"), 0700);
    assert_null(open_with("empty", (sid2_dataset_options){.frames = 4}));
    assert_non_null(strstr(err.message, "holds no clips"));
    assert_int_equal(mkfifo(at("pipe.y4m"), 0600), 0);
    assert_null(open_with("pipe.y4m", (sid2_dataset_options){.frames = 4}));
    assert_non_null(strstr(err.message, "pipe.y4m"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_become_clips),     cmocka_unit_test(strides_and_hops),
        cmocka_unit_test(windows_and_crops),        cmocka_unit_test(tars_have_classes),
        cmocka_unit_test(webdatasets_have_classes), cmocka_unit_test(strips_become_clips),
        cmocka_unit_test(y4m_becomes_clips),        cmocka_unit_test(arrays_become_clips),
        cmocka_unit_test(videos_are_held_out),      cmocka_unit_test(broken_frames_leave_their_clip_out),
        cmocka_unit_test(what_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

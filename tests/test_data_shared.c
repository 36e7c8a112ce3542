/* Real data sets, where they are present: counts, statistics, every picture readable. */
#include "dataset.h"
#include "loader.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *folder;

static sid2_dataset *open_shared(const char *name, sid2_dataset_options options)
{
    char path[512];
    sid2_error err;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    options.struct_size = sizeof options;
    sid2_dataset *dataset = sid2_dataset_open(path, &options, &err);
    if (!dataset) print_error("%s\n", err.message);
    assert_non_null(dataset);
    return dataset;
}

/* Mean and deviation per channel over everything, through the loader's own threads. */
static void statistics(sid2_dataset *dataset, double mean[3], double deviation[3])
{
    int64_t count = sid2_dataset_count(dataset);
    int channels = sid2_dataset_channels(dataset), size = sid2_dataset_size(dataset);
    int64_t sum[3] = {0}, squares[3] = {0};
    assert_int_equal(count % 1000, 0);
    sid2_error err;
    sid2_loader *loader =
        sid2_loader_open(dataset, &sid2_with(sid2_loader_options, .batch = 1000, .seed = 5), &err);
    assert_non_null(loader);
    for (int64_t b = 0; b < count / 1000; b++) {
        const sid2_batch *batch = sid2_loader_next(loader, &err);
        assert_non_null(batch);
        for (size_t i = 0; i < (size_t)1000 * (size_t)size * (size_t)size * (size_t)channels; i++) {
            int64_t value = batch->pixels[i];
            sum[i % (size_t)channels] += value;
            squares[i % (size_t)channels] += value * value;
        }
    }
    sid2_loader_close(loader);
    double n = (double)count * size * size;
    for (int c = 0; c < channels; c++) {
        mean[c] = (double)sum[c] / n;
        deviation[c] = sqrt((double)squares[c] / n - mean[c] * mean[c]);
    }
}

static void test_cifar10_zip(void **state)
{
    (void)state;
    static const double means[] = {125.3069, 122.9504, 113.8654}, deviations[] = {62.9932, 62.0887, 66.7049};
    sid2_dataset *dataset = open_shared("cifar10-train.zip", (sid2_dataset_options){0});
    assert_int_equal(sid2_dataset_count(dataset), 50000);
    assert_int_equal(sid2_dataset_classes(dataset), 10);
    assert_string_equal(sid2_dataset_class_name(dataset, 9), "truck");
    int per_class[10] = {0};
    for (int64_t i = 0; i < 50000; i++) per_class[sid2_dataset_label(dataset, i)]++;
    for (int c = 0; c < 10; c++) assert_int_equal(per_class[c], 5000);
    double mean[3], deviation[3];
    statistics(dataset, mean, deviation);
    for (int c = 0; c < 3; c++) {
        assert_float_equal(mean[c], means[c], 1e-4);
        assert_float_equal(deviation[c], deviations[c], 1e-4);
    }
    assert_int_equal(sid2_dataset_broken(dataset), 0);
    sid2_dataset_close(dataset);
}

static void test_fashion_mnist(void **state)
{
    (void)state;
    static const int first[] = {9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9};
    const char *name = "fashion-mnist-images-idx3-ubyte.gz";
    sid2_dataset *dataset = open_shared(name, (sid2_dataset_options){.size = 28, .channels = 1});
    assert_int_equal(sid2_dataset_count(dataset), 60000);
    assert_int_equal(sid2_dataset_classes(dataset), 10);
    assert_string_equal(sid2_dataset_class_name(dataset, 9), "Ankle boot");
    for (int i = 0; i < 12; i++) assert_int_equal(sid2_dataset_label(dataset, i), first[i]);
    double mean[3], deviation[3];
    statistics(dataset, mean, deviation);
    assert_float_equal(mean[0], 72.9404, 1e-4);
    assert_float_equal(deviation[0], 90.0212, 1e-4);

    sid2_dataset *padded =
        open_shared("", (sid2_dataset_options){.size = 32, .channels = 1}); /* the folder */
    uint8_t small[28 * 28], large[32 * 32];
    for (int i = 0; i < 100; i++) {
        assert_true(sid2_dataset_get(dataset, i, false, small, NULL, NULL));
        assert_true(sid2_dataset_get(padded, i, false, large, NULL, NULL));
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 32; x++) {
                bool inside = y >= 2 && y < 30 && x >= 2 && x < 30;
                assert_int_equal(large[y * 32 + x], inside ? small[(y - 2) * 28 + x - 2] : 0);
            }
    }
    sid2_dataset_close(padded);
    sid2_dataset_close(dataset);
}

static void on_skip(void *user, const char *name, const char *reason)
{
    (void)user;
    print_error("%s: %s\n", name, reason);
}

static void load_all(const char *name, int64_t count, int32_t classes, const char *first_class, int32_t size)
{
    sid2_dataset *dataset = open_shared(name, (sid2_dataset_options){.size = size, .on_skip = on_skip});
    assert_int_equal(sid2_dataset_count(dataset), count);
    assert_int_equal(sid2_dataset_classes(dataset), classes);
    assert_string_equal(sid2_dataset_class_name(dataset, 0), first_class);
    uint8_t *pixels = malloc((size_t)size * (size_t)size * 3);
    for (int64_t i = 0; i < count; i++) assert_true(sid2_dataset_get(dataset, i, false, pixels, NULL, NULL));
    assert_int_equal(sid2_dataset_broken(dataset), 0);
    free(pixels);
    sid2_dataset_close(dataset);
}

static void test_crawl_tiles(void **state)
{
    (void)state;
    load_all("crawl-tiles-32.zip", 3984, 7, "dngn", 32);
}

static void test_emoji(void **state)
{
    (void)state;
    load_all("noto-emoji-128.zip", 3386, 8, "Smileys & Emotion", 128);
}

int main(void)
{
    folder = getenv("SID2_DATA");
    if (!folder) folder = SID2_SOURCE_DIR "/../shared/data";
    if (access(folder, R_OK)) {
        printf("skipped: no data in %s (set SID2_DATA)\n", folder);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cifar10_zip),
        cmocka_unit_test(test_fashion_mnist),
        cmocka_unit_test(test_crawl_tiles),
        cmocka_unit_test(test_emoji),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

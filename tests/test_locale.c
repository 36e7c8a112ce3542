/* An application may have set any locale: numbers and names mean the same. German writes 0,5; in Turkish the
 * small letter of I is no i. */
#include "model_support.h"

#include <unistd.h>

#include "dataset.h"
#include "file.h"
#include "locale_support.h"
#include "text.h"

enum { BATCH = 8, BYTES = 64, CLASSES = 3 };

static char folder[] = "/tmp/sid2-locale-XXXXXX";

static void all_keys(const sid2_config *config, char text[8192])
{
    const sid2_config_key *key;
    char value[256];
    size_t used = 0;
    for (int i = 0; (key = sid2_config_key_at(i)); i++) {
        must(sid2_config_get(config, key->name, value, sizeof value, &err));
        used += (size_t)snprintf(text + used, 8192 - used, "%s = %s\n", key->name, value);
        assert_true(used < 8192);
    }
}

/* Configuration, training, saving, resuming, sampling; what came of it. */
typedef struct outcome {
    char defaults[8192], keys[8192], read[8192], message[480], digest[33];
    uint8_t pixels[2 * BYTES];
} outcome;

static outcome work(void)
{
    outcome o;
    memset(&o, 0, sizeof o);
    sid2_config *config = sid2_config_create(), *read = sid2_config_create();
    all_keys(config, o.defaults);
    sid2_config_destroy(config);
    config = TINY("train.ema=0.75", "loss.bias=-1.5", "sample.interval=-3.5,0.25", "model.dropout=0,0.125");
    all_keys(config, o.keys);
    must(sid2_config_save(config, path_in(folder, "config.ini"), &err));
    must(sid2_config_load(read, path_in(folder, "config.ini"), &err));
    all_keys(read, o.read);
    assert_false(sid2_config_set(config, "train.ema=0,5", &err));
    assert_true(sid2_config_set(config, "schedule.logsnr_min=14.5", &err));
    sid2_config_check(config, &err);
    strcpy(o.message, err.message);
    sid2_config_destroy(config);

    sid2_device *device = open_device("reference");
    sid2_trainer *trainer = sid2_trainer_create(device, read, 0, &err);
    must(trainer);
    uint8_t pixels[BATCH * BYTES];
    int32_t labels[BATCH];
    make_images(pixels, labels, BATCH, BYTES, CLASSES, 0);
    must(sid2_trainer_step(trainer, pixels, labels, &err));
    must(sid2_trainer_save(trainer, path_in(folder, "checkpoint"), &err));
    must(sid2_trainer_resume(trainer, path_in(folder, "checkpoint"), &err));
    must(sid2_trainer_step(trainer, pixels, labels, &err));
    must(sid2_trainer_save(trainer, path_in(folder, "checkpoint"), &err));
    sid2_trainer_destroy(trainer);
    must(sid2_checkpoint_digest(path_in(folder, "checkpoint"), o.digest, &err));

    sid2_sampler *sampler = sid2_sampler_create(device, read, 0, &err);
    must(sampler);
    must(sid2_sampler_load(sampler, path_in(folder, "checkpoint"), true, &err));
    must(sid2_sampler_run(sampler, (uint64_t[]){1, 2}, (int32_t[]){-1, 2}, 2, o.pixels, NULL, NULL, &err));
    sid2_sampler_destroy(sampler);
    sid2_device_close(device);
    sid2_config_destroy(read);
    must(sid2_remove_tree(path_in(folder, "checkpoint"), &err));
    return o;
}

static void a_comma_changes_nothing(void **state)
{
    (void)state;
    outcome plain = work();
    if (!use_locale(folder, "de_DE")) {
        print_message("skipped: no German locale can be made here (Debian, Ubuntu: locales)\n");
        skip();
    }
    char text[32];
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5"); /* it is one */
    outcome comma = work();
    setlocale(LC_ALL, "C");
    assert_string_equal(plain.defaults, comma.defaults);
    assert_string_equal(plain.keys, comma.keys);
    assert_string_equal(plain.keys, comma.read);
    assert_non_null(strstr(plain.keys, "train.ema = 0.75\n"));
    assert_non_null(strstr(plain.message, "14.5"));
    assert_string_equal(plain.message, comma.message);
    assert_string_equal(plain.digest, comma.digest);
    assert_memory_equal(plain.pixels, comma.pixels, sizeof plain.pixels);
}

static void names_have_no_language(void **state)
{
    (void)state;
    if (!use_locale(folder, "tr_TR")) {
        print_message("skipped: no Turkish locale can be made here (Debian, Ubuntu: locales)\n");
        skip();
    }
    assert_true(sid2_text_equal("CIFAR.ZIP", "cifar.zip"));
    must(sid2_synth_write(path_in(folder, "PICTURES.ZIP"), 4, 16, 1, NULL, &err));
    sid2_dataset *data =
        sid2_dataset_open(path_in(folder, "PICTURES.ZIP"), &sid2_with(sid2_dataset_options), &err);
    must(data);
    assert_string_equal(sid2_dataset_kind(data), "zip");
    sid2_dataset_close(data);
    setlocale(LC_ALL, "C");
}

static void text_is_compared(void **state)
{
    (void)state;
    assert_true(sid2_text_equal("", ""));
    assert_true(sid2_text_equal("aB9", "Ab9"));
    assert_false(sid2_text_equal("ab", "abc"));
    assert_false(sid2_text_equal("abc", "ab"));
    assert_false(sid2_text_equal("@", "`")); /* 32 apart, and no letters */
    assert_true(sid2_text_begins("Vulkan:0", "vulkan", 6));
    assert_false(sid2_text_begins("Vulk", "vulkan", 6));
    char *end;
    assert_true(sid2_text_real("2.5e-1,5", &end) == 0.25 && strcmp(end, ",5") == 0);
}

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_comma_changes_nothing),
        cmocka_unit_test(names_have_no_language),
        cmocka_unit_test(text_is_compared),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sid2_remove_tree(folder, NULL);
    return failed;
}

/* libsid2 as an application sees it: the shared library, and the public headers alone. */
#include <sid2/sid2.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static sid2_error err;

static void versions_agree(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", SID2_VERSION_MAJOR, SID2_VERSION_MINOR, SID2_VERSION_PATCH);
    assert_string_equal(text, SID2_VERSION);
    assert_string_equal(sid2_version(), SID2_VERSION);
}

static void devices_are_found_inside(void **state)
{
    (void)state;
    sid2_device_list *list = sid2_devices(NULL, &err);
    assert_non_null(list);
    bool cpu = false;
    for (int i = 0; i < sid2_device_list_count(list); i++)
        cpu |= strcmp(sid2_device_list_at(list, i)->id, "cpu") == 0;
    assert_true(cpu);
    assert_null(sid2_device_list_at(list, sid2_device_list_count(list)));
    assert_null(sid2_device_list_at(list, -1));
    assert_non_null(sid2_device_list_best(list));
    sid2_device_list_destroy(list);
    assert_null(sid2_device_open("abacus", NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_non_null(strstr(err.message, "no device 'abacus'; there are: auto, cpu"));
}

/* Options of an older program, of one that was built against a later libsid2, and of one that forgot SID2_INIT. */
static void options_may_grow(void **state)
{
    (void)state;
    struct {
        sid2_device_options known;
        char later[16];
    } options = {.known = SID2_INIT(sid2_device_options)};
    options.known.threads = 1;
    options.known.blocks = "no such blocks";
    options.known.struct_size = offsetof(sid2_device_options, share_cores); /* blocks are past its end */
    sid2_device *device = sid2_device_open("reference", &options.known, &err);
    assert_non_null(device);
    sid2_device_close(device);

    options.known = SID2_INIT(sid2_device_options);
    options.known.struct_size = sizeof options;
    device = sid2_device_open("reference", &options.known, &err);
    assert_non_null(device);
    sid2_device_close(device);
    options.later[7] = 1;
    assert_null(sid2_device_open("reference", &options.known, &err));
    assert_int_equal(err.code, SID2_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "sid2_device_options"));

    sid2_dataset_options zeroed;
    memset(&zeroed, 0, sizeof zeroed);
    assert_null(sid2_dataset_open("/", &zeroed, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    assert_non_null(strstr(err.message, "SID2_INIT(sid2_dataset_options)"));
    sid2_loader_options loader = {0};
    assert_null(sid2_loader_open(NULL, &loader, NULL));
    sid2_run_options run = {0};
    assert_null(sid2_run_open(&run, &err));
    assert_non_null(strstr(err.message, "SID2_INIT(sid2_run_options)"));
}

static void models_are_described(void **state)
{
    (void)state;
    sid2_config *config = sid2_config_create();
    assert_true(sid2_config_preset(config, "quickstart", &err));
    sid2_model_info *info = sid2_model_describe(config, NULL, 0, &err);
    assert_non_null(info);
    int64_t parameters = 0;
    for (int i = 0; i < info->layer_count; i++) parameters += info->layers[i]->parameters;
    assert_true(parameters > 0 && parameters == info->parameters);
    sid2_model_info_destroy(info);
    assert_null(sid2_model_describe(config, NULL, 1000, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    sid2_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_agree),
        cmocka_unit_test(devices_are_found_inside),
        cmocka_unit_test(options_may_grow),
        cmocka_unit_test(models_are_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

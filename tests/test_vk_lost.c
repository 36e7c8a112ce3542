/* A device that is lost in a training: a line that names the step, the last checkpoint kept, and the run goes on from
 * there on a device opened afresh, to the weights that it would have had. */
#include <unistd.h>
#include <volk.h>

#include "file.h"
#include "image.h"
#include "model_support.h"
#include "picture_support.h"
#include "vk.h"

enum { SKIPPED = 77 };

static char folder[64] = "/tmp/sid2-lost-XXXXXX";
static uint64_t lose_after; /* a step; 0: never */
static bool losing;
static PFN_vkQueueSubmit real_submit;

static VkResult VKAPI_CALL trapped_submit(VkQueue q, uint32_t n, const VkSubmitInfo *i, VkFence f)
{
    return losing ? VK_ERROR_DEVICE_LOST : real_submit(q, n, i, f);
}

static bool on_event(void *user, const sid2_run_event *event)
{
    (void)user;
    losing = lose_after && event->kind == SID2_RUN_STEP && event->stats->step == lose_after;
    return true;
}

static sid2_device *open_gpu(void)
{
    const sid2_backend *backend = &sid2_backend_vk;
    const char *name = getenv("SID2_VK_DEVICE");
    losing = false;
    return sid2_backends_open(&backend, 1, name ? name : "auto", NULL, &err);
}

/* Loses a device after each of `steps` (up to a 0), opens another and goes on. */
static void train(const char *name, const uint64_t *steps, char digest[33])
{
    char path[160], pictures[160], words[80], found[4096];
    strcpy(path, path_in(folder, name));
    strcpy(pictures, path_in(folder, "pictures"));
    sid2_config *config =
        TINY("train.batch=4", "train.steps=6", "train.checkpoint_every=2", "train.sample_every=0");
    sid2_run *run = sid2_run_open(
        &sid2_with(sid2_run_options, .path = path, .config = config, .data = pictures, .callback = on_event),
        &err);
    must(run);
    for (; (lose_after = *steps); steps++) {
        sid2_device *device = open_gpu();
        must(device);
        assert_false(sid2_run_train(run, device, &err));
        assert_int_equal(err.code, SID2_ERR_LOST);
        snprintf(words, sizeof words, "after step %d: vulkan", (int)lose_after);
        assert_true(strncmp(err.message, words, strlen(words)) == 0);
        assert_non_null(strstr(err.message, "lost"));
        sid2_device_close(device);
        bool saved = sid2_checkpoint_find(path, found, sizeof found, NULL);
        assert_int_equal(saved, lose_after >= 2);
        if (saved) must(sid2_checkpoint_verify(found, &err));
    }
    sid2_device *device = open_gpu();
    must(device && sid2_run_train(run, device, &err));
    assert_int_equal(sid2_run_where(run)->step, 6);
    assert_false(sid2_run_train(run, device, &err)); /* it has ended */
    assert_int_equal(err.code, SID2_ERR_USAGE);
    must(sid2_checkpoint_find(path, found, sizeof found, &err));
    must(sid2_checkpoint_digest(found, digest, &err));
    sid2_run_close(run);
    sid2_device_close(device);
    sid2_config_destroy(config);
}

static void goes_on_where_it_was_saved(void **state)
{
    (void)state;
    char straight[33], lost[33];
    train("straight", (const uint64_t[]){0}, straight);
    train("lost", (const uint64_t[]){1, 3, 4, 0}, lost); /* with nothing saved, since it was, as it is */
    assert_string_equal(lost, straight);
}

int main(void)
{
    sid2_device *device = open_gpu();
    if (!device) return printf("skipped: %s\n", err.message), SKIPPED;
    sid2_device_close(device);
    real_submit = vkQueueSubmit;
    vkQueueSubmit = trapped_submit;
    if (!mkdtemp(folder)) return 1;
    if (!write_squares(folder, 12, &err)) return printf("%s\n", err.message), 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(goes_on_where_it_was_saved)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    return sid2_remove_tree(folder, &err) ? failures : 1;
}

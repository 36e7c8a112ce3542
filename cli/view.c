/* sid2 view: a page on which to look at what a model makes. The server's threads take wishes, this one grants them. */
#include "cli.h"

#include "classes.h"
#include "config.h"
#include "image.h"
#include "recipe.h"
#include "server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What a wish may say of the sampler: the page's names and the keys they set. */
static const struct {
    const char *name, *key;
} keys[] = {{"steps", "sample.steps"}, {"guidance", "sample.guidance"}, {"sampler", "sample.sampler"}};
enum { KEYS = sizeof keys / sizeof keys[0] };

typedef struct viewer {
    const char *path;
    int64_t port;
    device_choice on;
    size_t memory;
    bool raw;
    assignments set;

    char directory[4096], digest[33];
    int hold; /* on the directory */
    sid2_config *config;
    sid2_classes *names;
    sid2_device *device;
    server *server;

    sid2_config *made_config; /* of the sampler, as long as wishes want no other */
    sid2_sampler *sampler;
    int width, height, channels;
    uint8_t *pixels; /* of one image */

    wish *wish;
    uint64_t seed;
    int32_t label;
    double began;
} viewer;

static json_t *describe_model(const viewer *v)
{
    json_t *classes = json_array(), *samplers = json_array();
    char steps[256], guidance[256], sampler[256];
    bool ok = true;
    for (int i = 0; ok && i < sid2_config_classes(v->config); i++) {
        const char *name = sid2_classes_name(v->names, i);
        ok = !json_array_append_new(classes, json_string(name ? name : ""));
    }
    const sid2_config_word *word;
    for (int i = 0; ok && (word = sid2_config_word_at(i)); i++)
        if (strcmp(word->key, "sample.sampler") == 0)
            ok = !json_array_append_new(samplers, json_string(word->word));
    char *model = strdup(v->path), *device = strdup(sid2_device_describe(v->device)->name);
    json_t *all = NULL;
    if (ok && model && device)
        all = json_pack("{s:s, s:s, s:i, s:i, s:s, s:s, s:s, s:O, s:O}", "model", sid2_plain_line(model),
                        "device", sid2_plain_line(device), "width", v->width, "height", v->height, "steps",
                        config_text(v->config, "sample.steps", steps), "guidance",
                        config_text(v->config, "sample.guidance", guidance), "sampler",
                        config_text(v->config, "sample.sampler", sampler), "classes", classes, "samplers",
                        samplers);
    free(model);
    free(device);
    json_decref(classes);
    json_decref(samplers);
    return all;
}

/* ---- A wish ---- */

static const char *value_of(const viewer *v, const char *name)
{
    const char *value = json_string_value(json_object_get(wish_settings(v->wish), name));
    return value ? value : "";
}

/* A sampler for the settings of this wish: that of the last one, where it does. */
static bool prepare_sampler(viewer *v, sid2_error *err)
{
    sid2_config *config = sid2_config_clone(v->config);
    bool ok = config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), same = v->sampler != NULL;
    for (int i = 0; ok && i < KEYS; i++) {
        char now[256], before[256];
        const char *value = value_of(v, keys[i].name);
        ok = !*value || config_set(config, keys[i].key, value, err);
        same = same && strcmp(config_text(config, keys[i].key, now),
                              config_text(v->made_config, keys[i].key, before)) == 0;
    }
    ok = ok && sid2_config_check(config, err);
    if (!ok || same) {
        sid2_config_destroy(config);
        return ok;
    }
    wish_tell(v->server, v->wish, json_pack("{s:s}", "wait", "preparing the device"), NULL, 0);
    sid2_sampler_destroy(v->sampler);
    sid2_config_destroy(v->made_config);
    sid2_config_settle_sample(config, v->device);
    v->made_config = config;
    v->sampler = sid2_sampler_create(v->device, config, v->memory, err);
    if (v->sampler && sid2_sampler_load(v->sampler, v->directory, !v->raw, err)) return true;
    sid2_sampler_destroy(v->sampler);
    v->sampler = NULL;
    return false;
}

static bool read_seed_and_class(viewer *v, sid2_error *err)
{
    size_t count;
    uint64_t *seeds = parse_ranges("seed", value_of(v, "seed"), 1, &count, err);
    if (!seeds) return false;
    v->seed = seeds[0];
    free(seeds);
    v->label = -1;
    if (!*value_of(v, "class")) return true;
    char text[64];
    snprintf(text, sizeof text, "number:%.40s", value_of(v, "class"));
    int32_t *labels = sid2_classes_parse(v->names, sid2_config_classes(v->config), text, &count, err);
    if (labels) v->label = labels[0];
    free(labels);
    return labels != NULL;
}

/* The picture as it stands, and what to say beside it. */
static bool tell(viewer *v, json_t *event, const sid2_png_text *texts, size_t text_count, sid2_error *err)
{
    const sid2_image image = {
        .width = v->width, .height = v->height, .channels = v->channels, .pixels = v->pixels};
    uint8_t *png = NULL;
    size_t size;
    bool ok = sid2_png_encode(&image, texts, text_count, &png, &size, err);
    if (ok)
        wish_tell(v->server, v->wish, event, png, size);
    else
        json_decref(event);
    free(png);
    return ok;
}

static bool on_step(void *user, const sid2_sample_progress *now)
{
    viewer *v = user;
    if (interrupted() || wish_is_void(v->server, v->wish)) return false;
    sid2_error ignored; /* a step that is not seen */
    if (now->step < now->steps && sid2_sampler_preview(v->sampler, v->pixels, &ignored))
        tell(v, json_pack("{s:i, s:i}", "step", now->step, "steps", now->steps), NULL, 0, &ignored);
    return true;
}

static bool tell_picture(viewer *v, sid2_error *err)
{
    char seed[32], file[64], caption[256], seconds[32], class[SID2_CLASSES_LIST];
    snprintf(seed, sizeof seed, "%" PRIu64, v->seed);
    snprintf(file, sizeof file, "%06" PRIu64 ".png", v->seed);
    snprintf(caption, sizeof caption, "seed %s%s%.200s", seed, v->label >= 0 ? ", " : "",
             v->label >= 0 ? sid2_classes_list(v->names, &v->label, 1, "", class) : "");
    sid2_text_format(seconds, sizeof seconds, "%.1f", sid2_clock() - v->began);
    recipe made = {.model = v->path,
                   .config = v->made_config,
                   .names = v->names,
                   .device = sid2_device_describe(v->device),
                   .threads = v->on.threads,
                   .raw = v->raw};
    memcpy(made.digest, v->digest, sizeof made.digest);
    const shown what = {.seeds = seed,
                        .first_seed = v->seed,
                        .labels = &v->label,
                        .count = 1,
                        .width = v->width,
                        .height = v->height,
                        .channels = v->channels};
    sid2_png_text *texts;
    size_t count;
    if (!recipe_texts(&made, &what, &texts, &count, err)) return false;
    char *command = recipe_command(&made, &what, file);
    bool ok = command ? tell(v,
                             json_pack("{s:s, s:s, s:s, s:s}", "command", command, "file", file, "caption",
                                       sid2_plain_line(caption), "seconds", seconds),
                             texts, count, err)
                      : sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    free(command);
    sid2_png_text_free(texts, count);
    return ok;
}

/* What goes wrong is told to the page; only a device that is gone ends the program. */
static bool grant(viewer *v, sid2_error *err)
{
    *err = (sid2_error){0};
    v->began = sid2_clock();
    bool ok = prepare_sampler(v, err) && read_seed_and_class(v, err) &&
              sid2_sampler_run(v->sampler, &v->seed, &v->label, 1, v->pixels, on_step, v, err) &&
              tell_picture(v, err);
    if (!ok && err->code != SID2_ERR_CANCELLED)
        wish_tell(v->server, v->wish, json_pack("{s:s}", "error", err->message), NULL, 0);
    wish_done(v->server, v->wish);
    return ok || err->code != SID2_ERR_LOST;
}

/* ---- The command ---- */

static bool prepare(viewer *v, sid2_error *err)
{
    v->config = sid2_config_create();
    if (!v->config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    if (v->port > 65535) return sid2_fail(err, SID2_ERR_USAGE, "--port is 65535 at most");
    if (!sid2_checkpoint_hold(v->path, v->directory, sizeof v->directory, &v->hold, err) ||
        !sid2_checkpoint_config(v->directory, v->config, err) || !options_apply(v->config, &v->set, err) ||
        !sid2_config_set(v->config, "sample.batch=1", err) || !sid2_config_check(v->config, err) ||
        !makes_images(v->config, v->path, err) || !sid2_checkpoint_classes(v->directory, &v->names, err) ||
        !sid2_checkpoint_digest(v->directory, v->digest, err) || !(v->device = open_device(&v->on, err)))
        return false;
    v->width = sid2_config_image_width(v->config);
    v->height = sid2_config_image_height(v->config);
    v->channels = sid2_config_image_channels(v->config);
    v->pixels = malloc(sid2_config_image_bytes(v->config));
    if (!v->pixels) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for an image");
    v->server = server_start((int)v->port, describe_model(v), err);
    return v->server != NULL;
}

int command_view(int argc, char **argv)
{
    viewer v = {.hold = -1};
    const option_row rows[] = {
        {OPTION_POSITIONAL, "CHECKPOINT", NULL, &v.path,
         "a checkpoint's folder, or a run (its newest checkpoint)", NULL},
        {OPTION_INT, "port", "N", &v.port, "of 127.0.0.1, where the page is (a free one)", NULL},
        {OPTION_FLAG, "raw", NULL, &v.raw, "the weights themselves rather than their average", NULL},
        OPTIONS_DEVICE_CHOICE(v.on),
        OPTION_MEMORY(&v.memory),
        OPTION_SET_KEY(&v.set),
    };
    int code = options_parse(
        &(option_table){
            "view", "Look at what a model makes, on a page in the browser",
            "The page is on this machine's loopback address alone, and its address holds a secret: who "
            "knows it may use the page. Over ssh: ssh -L N:127.0.0.1:N HOST, with --port N.",
            rows, sizeof rows / sizeof rows[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;

    sid2_error err = {0};
    interrupt_install();
    bool ok = prepare(&v, &err);
    if (ok) {
        fprintf(stderr, "%s on %s; Ctrl-C ends\n", v.directory, sid2_device_describe(v.device)->name);
        printf("%s\n", server_address(v.server));
        fflush(stdout);
    }
    while (ok && !interrupted())
        if ((v.wish = server_next(v.server))) ok = grant(&v, &err);
    server_stop(v.server);
    if (ok) print_notice(v.device);
    code = ok ? 0 : report_error("view", &err);

    sid2_sampler_destroy(v.sampler);
    sid2_config_destroy(v.made_config);
    sid2_checkpoint_release(v.hold);
    sid2_device_close(v.device);
    sid2_classes_destroy(v.names);
    sid2_config_destroy(v.config);
    free(v.pixels);
    return code;
}

/* The loop with three networks and two objectives that take turns: a frozen teacher, a student that learns what
 * it says, and a third network beside them. Nothing of it is known to the loop. */
#include <unistd.h>

#include "file.h"
#include "model_support.h"

enum { BATCH = 8, BYTES = 64, CLASSES = 3 };

static sid2_device *device;

typedef struct process {
    sid2_tensor x, z, time, label, alpha, sigma, weight;
} process;

static process diffuse(sid2_graph *g, const sid2_config *config, int64_t n)
{
    sid2_shape images = sid2_config_images(config, n);
    sid2_shape each = sid2_shape_of(n);
    process p = {.x = sid2_image_to_float(g, sid2_graph_external(g, "pixels", SID2_U8, images)),
                 .time = sid2_graph_external(g, "time", SID2_F32, each),
                 .label = sid2_graph_external(g, "label", SID2_I32, each),
                 .alpha = sid2_graph_external(g, "alpha", SID2_F32, each),
                 .sigma = sid2_graph_external(g, "sigma", SID2_F32, each),
                 .weight = sid2_graph_external(g, "weight", SID2_F32, each)};
    sid2_tensor noise = sid2_random_normal(
        g, sid2_graph_external(g, "samples", SID2_U32, sid2_shape_of(n, 2)),
        sid2_graph_external(g, "seed", SID2_U32, sid2_shape_of(2)), images, SID2_PURPOSE_NOISE);
    p.z = sid2_diffuse(g, p.x, noise, p.alpha, p.sigma);
    return p;
}

static sid2_tensor network(sid2_graph *g, const sid2_config *config, const process *p, const char *name,
                           bool trained)
{
    return sid2_uvit_build(g, config,
                           (sid2_uvit_inputs){.params = sid2_graph_params(g, name, trained),
                                              .z = p->z,
                                              .time = p->time,
                                              .label = p->label,
                                              .samples = SID2_NONE,
                                              .seed = SID2_NONE})
        .v;
}

static sid2_graph *finish(sid2_graph *g, sid2_tensor loss, int64_t n, sid2_error *error)
{
    sid2_graph_export(g, loss, "loss");
    sid2_graph_fuse(g);
    sid2_tensor dloss = sid2_graph_external(g, "dloss", SID2_F32, sid2_shape_of(n));
    sid2_graph_backward(g, &loss, &dloss, 1);
    if (sid2_graph_finish(g, error)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static sid2_graph *third_graph(const sid2_config *config, int64_t n, sid2_error *error)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    process p = diffuse(g, config, n);
    sid2_tensor v = network(g, config, &p, "third", true);
    return finish(g, sid2_diffusion_loss(g, v, p.z, p.x, p.alpha, p.sigma, p.weight), n, error);
}

/* The student's target is what the teacher takes the image for: x = alpha z - sigma v. */
static sid2_graph *student_graph(const sid2_config *config, int64_t n, sid2_error *error)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    process p = diffuse(g, config, n);
    sid2_tensor teacher = network(g, config, &p, "teacher", false), v = network(g, config, &p, "", true);
    sid2_tensor minus = sid2_graph_emit(g, SID2_OP_scale, (sid2_attr){.scale = -1}, &p.sigma, 1, false);
    sid2_tensor target = sid2_diffuse(g, p.z, teacher, p.alpha, minus);
    return finish(g, sid2_diffusion_loss(g, v, p.z, target, p.alpha, p.sigma, p.weight), n, error);
}

static sid2_trainer *make_trainer(const sid2_config *config)
{
    static sid2_objective third, student;
    third = student = sid2_diffusion; /* the host tells them the same */
    third.trains = "third";
    third.graph = third_graph;
    student.graph = student_graph;
    sid2_recipe recipe = sid2_recipe_of(config);
    const sid2_average *ema = recipe.states[0].averages;
    recipe.states[1] = (sid2_state_rule){.name = "teacher"};
    recipe.states[2] =
        (sid2_state_rule){.name = "third", .trained = true, .averages = {*ema}, .average_count = 1};
    recipe.state_count = 3;
    recipe.objectives[0] = &third;
    recipe.objectives[1] = &student;
    recipe.objective_count = 2;
    sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(t);
    return t;
}

static float *weights_of(const sid2_state *state)
{
    float *flat = malloc((size_t)state->params->elements * sizeof *flat);
    must(sid2_state_download(state, "weights", flat, &err));
    return flat;
}

static double distance(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

static void networks_take_turns(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.label_drop=0");
    sid2_trainer *before = sid2_trainer_create(device, config, 0, &err), *t = make_trainer(config);
    must(before);
    train_steps(before, 40);
    float *taught = weights_of(&before->states[0]), *first = weights_of(&t->states[0]);
    must(sid2_state_set(&t->states[1], taught, &err));
    train_steps(t, 1);
    float *student = weights_of(&t->states[0]), *third = weights_of(&t->states[2]);
    int64_t count = t->states[0].params->elements;
    assert_true(distance(student, first, count) == 0); /* the first turn is not its */
    assert_true(distance(third, first, count) > 0);
    double early = train_steps(t, 1).loss;
    for (int i = 0; i < 3; i++) assert_int_equal(t->states[i].updates, i != 1);
    train_steps(t, 78);
    double late = train_steps(t, 2).loss;
    if (!(late < 0.5 * early)) fail_msg("the student's loss went from %g to %g", early, late);
    assert_int_equal(t->states[0].updates, 41);
    assert_int_equal(t->states[2].updates, 41);
    float *teacher = weights_of(&t->states[1]);
    assert_true(distance(teacher, taught, count) == 0); /* frozen */
    assert_null(sid2_buffers_find(&t->buffers, "teacher.grads"));
    assert_null(sid2_buffers_find(&t->buffers, "teacher.m"));
    float *const all[] = {taught, first, student, third, teacher};
    for (int i = 0; i < 5; i++) free(all[i]);
    sid2_trainer_destroy(before);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static void same(const sid2_trainer *a, const sid2_trainer *b, const char *name)
{
    float *x = download(&a->buffers, name), *y = download(&b->buffers, name);
    assert_memory_equal(x, y, sid2_buffers_find(&a->buffers, name)->bytes);
    free(x);
    free(y);
}

/* All three come back, and with them whose turn it is. */
static void resume_is_bit_identical(void **state)
{
    (void)state;
    static const char *const files[] = {"ema",       "weights",       "optimizer",      "teacher.weights",
                                        "third.ema", "third.weights", "third.optimizer"};
    char folder[] = "/tmp/sid2-objectives-XXXXXX", path[64], file[128];
    must(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/three", folder);
    sid2_config *config = TINY(NULL);
    sid2_trainer *straight = make_trainer(config), *first = make_trainer(config),
                 *second = make_trainer(config);
    train_steps(straight, 6);
    train_steps(first, 3);
    must(sid2_trainer_save(first, path, &err));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(file, sizeof file, "%s/%s.safetensors", path, files[i]);
        assert_int_equal(access(file, F_OK), 0);
    }
    must(sid2_trainer_resume(second, path, &err));
    assert_int_equal(second->states[0].updates, 1);
    assert_int_equal(second->states[2].updates, 2);
    train_steps(second, 3);
    static const char *const names[] = {"weights",       "m",      "v", "ema", "teacher.weights",
                                        "third.weights", "third.v"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) same(straight, second, names[i]);
    sid2_trainer_destroy(straight);
    sid2_trainer_destroy(first);
    sid2_trainer_destroy(second);
    sid2_config_destroy(config);
    must(sid2_remove_tree(folder, &err));
}

/* A power of the time passed, as no configuration asks for yet. */
static double power_decay(const sid2_average *average, uint64_t update)
{
    return pow(1 - 1 / (double)update, average->rate + 1);
}

/* A second average is one more row: the first does not notice, the second follows its rule, and both are kept. */
static void two_averages_are_tracked(void **state)
{
    (void)state;
    enum { STEPS = 5 };
    char folder[] = "/tmp/sid2-objectives-XXXXXX", path[64];
    must(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/two", folder);
    sid2_config *config = TINY("train.precision=bf16");
    sid2_recipe recipe = sid2_recipe_of(config);
    const sid2_average power = {.name = "power", .decay = power_decay, .rate = 2};
    recipe.states[0].averages[recipe.states[0].average_count++] = power;
    sid2_trainer *one = sid2_trainer_create(device, config, 0, &err);
    sid2_trainer *two = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    sid2_trainer *resumed = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(one && two && resumed);
    int64_t count = two->states[0].params->elements;
    double *expected = calloc((size_t)count, sizeof *expected);
    for (int step = 1; step <= STEPS; step++) {
        train_steps(two, 1);
        float *weights = weights_of(&two->states[0]);
        for (int64_t i = 0; i < count; i++)
            expected[i] += (1 - power_decay(&power, (uint64_t)step)) * (weights[i] - expected[i]);
        free(weights);
        if (step == 3) must(sid2_trainer_save(two, path, &err));
    }
    float *average = download(&two->buffers, "power");
    double size = 0, error = 0;
    for (int64_t i = 0; i < count; i++) {
        size += expected[i] * expected[i];
        error += (average[i] - expected[i]) * (average[i] - expected[i]);
    }
    assert_true(size > 0 && sqrt(error / size) < 1e-6);
    train_steps(one, STEPS);
    same(one, two, "ema");
    same(one, two, "weights");
    must(sid2_trainer_resume(resumed, path, &err));
    train_steps(resumed, STEPS - 3);
    same(two, resumed, "ema");
    same(two, resumed, "power");
    must(sid2_trainer_resume(one, path, &err)); /* which tracks one, and leaves the other's file alone */
    free(average);
    free(expected);
    sid2_trainer_destroy(one);
    sid2_trainer_destroy(two);
    sid2_trainer_destroy(resumed);
    sid2_config_destroy(config);
    must(sid2_remove_tree(folder, &err));
}

/* ---- Stops ---- */

static struct {
    char names[64]; /* of the stops that were met */
    int lasts;
    float
        half; /* of the upper half of the gradients, whose norm this is when the last micro-batch stops there */
} met;

static sid2_graph *stopping_graph(const sid2_config *config, int64_t n, sid2_error *error)
{
    sid2_graph *g = sid2_diffusion.graph(config, n, error);
    if (!g) return NULL;
    int64_t all = g->params[0].elements;
    sid2_graph_stop(g, "whole", g->params[0].grads, 0, all);
    sid2_graph_stop(g, "loss", sid2_graph_find(g, "loss"), 0, n);
    sid2_graph_stop(g, "half", g->params[0].grads, all / 2, all - all / 2);
    if (sid2_graph_finish(g, error)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

static bool on_stop(void *self, sid2_buffers *buffers, const char *stop, bool last, sid2_error *error)
{
    (void)self;
    (void)error;
    snprintf(met.names + strlen(met.names), sizeof met.names - strlen(met.names), "%s ", stop);
    met.lasts += last;
    float *grads = download(buffers, "grads");
    int64_t count = (int64_t)(sid2_buffers_find(buffers, "grads")->bytes / sizeof *grads);
    double half = 0;
    for (int64_t i = count / 2; i < count; i++) half += (double)grads[i] * grads[i];
    free(grads);
    if (strcmp(stop, "half") == 0) met.half = (float)half;
    if (strcmp(stop, "whole") == 0) assert_true((float)half == met.half); /* it was whole then */
    return true;
}

static void the_host_is_asked_at_stops(void **state)
{
    (void)state;
    sid2_config *config = TINY(NULL);
    sid2_objective stopping = sid2_diffusion;
    stopping.graph = stopping_graph;
    stopping.at_stop = on_stop;
    sid2_recipe recipe = sid2_recipe_of(config);
    recipe.objectives[0] = &stopping;
    sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(t);
    assert_int_equal(sid2_trainer_memory(t)->lanes, 1);
    must(sid2_config_set(config, "train.lanes=2", &err));
    assert_null(sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
    must(sid2_config_set(config, "train.lanes=1", &err));
    sid2_trainer *straight = sid2_trainer_create(device, config, 0, &err);
    must(straight);
    train_steps(t, 1);
    assert_string_equal(met.names, "loss half whole loss half whole "); /* two micro-batches */
    assert_int_equal(met.lasts, 3);
    assert_true(met.half > 0);
    train_steps(t, 1);
    train_steps(straight, 2);
    same(t, straight, "weights");
    same(t, straight, "ema");
    sid2_trainer_destroy(straight);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static void memory_is_planned(void **state)
{
    (void)state;
    sid2_config *config = TINY("train.microbatch=auto", "train.lanes=1");
    sid2_trainer *t = make_trainer(config);
    assert_int_equal(sid2_trainer_memory(t)->microbatch, BATCH);
    size_t weights = (size_t)t->states[0].params->elements * sizeof(float);
    /* Of those that learn weights, gradients, two moments and an average, of the other one weights. */
    assert_true(t->training.params >= 11 * weights && t->training.params < 12 * weights);
    /* One arena for all: no objective's and no update's comes on top. */
    sid2_memory_report held = *sid2_trainer_memory(t);
    assert_true(held.arena == t->training.arena && held.arena > 0);
    /* Of each update: hyper, norm, share, and the squares of one block. */
    assert_true(held.state == sid2_training_state(&t->training) + (7 * 4 + 4 + 4 + 8) * 2);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

static int open_cpu(void **state)
{
    (void)state;
    device = open_device("cpu");
    return 0;
}

static int close_cpu(void **state)
{
    (void)state;
    sid2_device_close(device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_take_turns), cmocka_unit_test(resume_is_bit_identical),
        cmocka_unit_test(two_averages_are_tracked), cmocka_unit_test(the_host_is_asked_at_stops),
        cmocka_unit_test(memory_is_planned)};
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}

/* Lanes: a step's bits follow from lanes and micro-batch alone, whoever computes them; and they add up. */
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "model_support.h"

enum { BATCH = 16, BYTES = 64, CLASSES = 3 };

static char folder[64];

static sid2_device *open_threads(int threads)
{
    const sid2_backend *backend = &sid2_backend_cpu;
    sid2_device *device =
        sid2_backends_open(&backend, 1, "cpu", &(sid2_device_options){.threads = threads}, &err);
    must(device);
    return device;
}

#define LANES(...) TINY("train.batch=16", "train.microbatch=auto", __VA_ARGS__)

static sid2_trainer *make_trainer(sid2_device *device, const sid2_config *config)
{
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    return t;
}

static pthread_barrier_t all_at_work;
static int workers;

/* Lanes are taken in order, and whoever has one of the first waits here until everybody has: so small a lane might else
 * be done before another thread is awake. */
static bool tell_together(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first,
                          float *logsnr, sid2_error *error)
{
    if (first < 2 * workers) pthread_barrier_wait(&all_at_work);
    return sid2_diffusion.tell(self, buffers, step, first, logsnr, error);
}

/* Fifty steps on 1, 2, 3 and 8 threads, more than there are cores among them, every thread with a lane in each step. */
static void threads_change_no_bit(void **state)
{
    (void)state;
    enum { STEPS = 50 };
    static const int threads[] = {1, 2, 3, 8};
    static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};
    sid2_objective together = sid2_diffusion;
    together.tell = tell_together;
    for (int p = 0; p < 2; p++) {
        sid2_config *config = LANES(precisions[p], "model.dropout=0.1");
        sid2_recipe recipe = sid2_recipe_of(config);
        recipe.objectives[0] = &together;
        sid2_device *device[4];
        sid2_trainer *t[4];
        float losses[4];
        for (int i = 0; i < 4; i++) {
            device[i] = open_threads(threads[i]);
            must(t[i] = sid2_trainer_create_recipe(device[i], config, &recipe, 0, NULL, &err));
            const sid2_memory_report *m = sid2_trainer_memory(t[i]);
            assert_int_equal(m->lanes, 8);
            assert_int_equal(m->workers, threads[i]);
            assert_int_equal(m->cores, 1);
            assert_int_equal(m->microbatch, 2);
            workers = m->workers;
            assert_int_equal(pthread_barrier_init(&all_at_work, NULL, (unsigned)workers), 0);
            losses[i] = (float)train_steps(t[i], STEPS).loss;
            pthread_barrier_destroy(&all_at_work);
            assert_true(losses[i] == losses[0]);
            same_state(t[0], t[i]);
        }
        for (int i = 0; i < 4; i++) {
            sid2_trainer_destroy(t[i]);
            assert_int_equal(sid2_device_used(device[i]), 0);
            sid2_device_close(device[i]);
        }
        sid2_config_destroy(config);
    }
}

/* Saved by P threads, resumed by Q: as if nothing had been. */
static void resuming_on_other_threads_changes_no_bit(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 8};
    static const char *const precisions[] = {"train.precision=f32", "train.precision=bf16"};
    for (int p = 0; p < 2; p++) {
        sid2_config *config = LANES(precisions[p]);
        sid2_device *device[4];
        for (int i = 0; i < 4; i++) device[i] = open_threads(threads[i]);
        sid2_trainer *straight = make_trainer(device[0], config);
        train_steps(straight, 5);
        for (int i = 0; i < 4; i++) {
            const char *path = path_in(folder, precisions[p] + sizeof "train.precision");
            sid2_trainer *first = make_trainer(device[i], config);
            train_steps(first, 2);
            must(sid2_trainer_save(first, path, &err));
            sid2_trainer_destroy(first);
            for (int k = 0; k < 4; k++) {
                sid2_trainer *second = make_trainer(device[k], config);
                must(sid2_trainer_resume(second, path, &err));
                assert_string_equal(second->note, "");
                train_steps(second, 3);
                same_state(straight, second);
                sid2_trainer_destroy(second);
            }
        }
        sid2_trainer_destroy(straight);
        for (int i = 0; i < 4; i++) sid2_device_close(device[i]);
        sid2_config_destroy(config);
    }
}

/* ---- Against doubles ---- */

static double *exact; /* the sum of every image's gradient */

static sid2_graph *whole_graph(const sid2_config *config, int64_t n, sid2_error *error)
{
    sid2_graph *g = sid2_diffusion.graph(config, n, error);
    if (!g) return NULL;
    sid2_graph_stop(g, "whole", g->params[0].grads, 0, g->params[0].elements);
    if (sid2_graph_finish(g, error)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

/* Takes the gradient of one image away. */
static bool take_gradient(void *self, sid2_buffers *buffers, const char *stop, bool last, sid2_error *error)
{
    (void)self;
    (void)stop;
    (void)last;
    float *grads = download(buffers, "grads");
    size_t count = sid2_buffers_find(buffers, "grads")->bytes / sizeof *grads;
    for (size_t i = 0; i < count; i++) exact[i] += grads[i], grads[i] = 0;
    bool ok = sid2_buffers_upload(buffers, "grads", grads, error);
    free(grads);
    return ok;
}

static void sum_exactly(sid2_device *device, int64_t count)
{
    sid2_config *config = LANES("train.clip=1e30", "train.microbatch=1");
    sid2_objective alone = sid2_diffusion;
    alone.graph = whole_graph;
    alone.at_stop = take_gradient;
    sid2_recipe recipe = sid2_recipe_of(config);
    recipe.objectives[0] = &alone;
    exact = calloc((size_t)count, sizeof *exact);
    sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
    must(t);
    train_steps(t, 1);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
}

/* However many lanes there are, and however many buffers for them, their sum is that of all images. */
static void lanes_add_up(void **state)
{
    (void)state;
    static const char *const lanes[] = {"train.lanes=1", "train.lanes=2", "train.lanes=4", "train.lanes=8",
                                        "train.lanes=16"};
    for (int threads = 0; threads <= 5; threads++) { /* 0: the reference device */
        sid2_device *device = threads ? open_threads(threads) : open_device("reference");
        for (int i = 0; i < 5; i++) {
            sid2_config *config = LANES("train.clip=1e30", lanes[i]);
            sid2_trainer *t = make_trainer(device, config);
            int64_t count = t->states[0].params->elements;
            if (i == 0) sum_exactly(device, count);
            train_steps(t, 1);
            float *m = download(&t->buffers, "m"); /* a tenth of the gradient */
            double size = 0, error = 0;
            for (int64_t k = 0; k < count; k++) {
                size += exact[k] * exact[k];
                error += (10 * (double)m[k] - exact[k]) * (10 * (double)m[k] - exact[k]);
            }
            if (!(size > 0 && sqrt(error / size) < 1e-6))
                fail_msg("%d threads, %s: off by %g", threads, lanes[i], sqrt(error / size));
            free(m);
            sid2_trainer_destroy(t);
            sid2_config_destroy(config);
        }
        free(exact);
        sid2_device_close(device);
    }
}

/* ---- What is kept ---- */

/* Lanes and micro-batch come with a checkpoint; what is asked for wins, and is told. */
static void a_checkpoint_keeps_its_cut(void **state)
{
    (void)state;
    sid2_device *device = open_threads(2);
    sid2_config *given = LANES("train.lanes=4", "train.microbatch=1"), *open = LANES(NULL);
    sid2_config *other = LANES("train.lanes=2"), *wide = LANES("train.microbatch=4");
    const char *path = path_in(folder, "cut");
    sid2_trainer *straight = make_trainer(device, given), *first = make_trainer(device, given);
    train_steps(straight, 4);
    train_steps(first, 2);
    must(sid2_trainer_save(first, path, &err));
    sid2_trainer *t = make_trainer(device, open);
    assert_int_equal(t->training.lanes, 8);
    must(sid2_trainer_resume(t, path, &err));
    assert_string_equal(t->note, "");
    train_steps(t, 2);
    same_state(straight, t);
    sid2_trainer_destroy(t);
    t = make_trainer(device, other);
    must(sid2_trainer_resume(t, path, &err));
    assert_non_null(strstr(t->note, "2 lanes, of 8 images at a time; until now 4 of 1"));
    train_steps(t, 2);
    sid2_trainer_destroy(t);
    t = make_trainer(device, wide);
    must(sid2_trainer_resume(t, path, &err));
    assert_int_equal(t->training.lanes, 4);
    assert_int_equal(t->training.microbatch, 4);
    assert_non_null(strstr(t->note, "4 images at a time, until now 1"));
    sid2_trainer_destroy(t);
    sid2_trainer_destroy(straight);
    sid2_trainer_destroy(first);
    sid2_config *const all[] = {given, open, other, wide};
    for (int i = 0; i < 4; i++) sid2_config_destroy(all[i]);
    sid2_device_close(device);
}

/* A limit on memory that the kept micro-batch does not fit is told too. */
static void a_limit_may_forbid_it(void **state)
{
    (void)state;
    sid2_device *device = open_threads(1);
    sid2_config *config = LANES("train.lanes=1", "train.arena=0");
    const char *path = path_in(folder, "limit");
    sid2_trainer *t = make_trainer(device, config);
    assert_int_equal(t->training.microbatch, BATCH);
    train_steps(t, 1);
    must(sid2_trainer_save(t, path, &err));
    const sid2_memory_report m = *sid2_trainer_memory(t);
    sid2_trainer_destroy(t);
    size_t limit = m.state + m.workspace + m.arena / 4;
    must(t = sid2_trainer_create(device, config, limit, &err));
    must(sid2_trainer_resume(t, path, &err));
    assert_true(t->training.microbatch < BATCH);
    assert_non_null(strstr(t->note, "until now 16, which the limit on memory does not hold"));
    assert_int_equal(sid2_trainer_steps(t), 1);
    train_steps(t, 1);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
    sid2_device_close(device);
}

/* Memory decides how many lanes are computed at once; what a lane is stays. */
static void memory_makes_fewer_workers(void **state)
{
    (void)state;
    sid2_device *device = open_threads(8);
    sid2_config *config = LANES("train.lanes=8");
    int fewest = 8;
    sid2_trainer *t = make_trainer(device, config);
    sid2_memory_report free = *sid2_trainer_memory(t), m = free;
    sid2_trainer_destroy(t);
    assert_true(free.workers == 8 && free.cores == 1 && !free.wish);
    for (size_t limit = free.state + free.arena + free.workspace; m.workers > 1; limit -= free.arena / 16) {
        must(t = sid2_trainer_create(device, config, limit, &err));
        m = *sid2_trainer_memory(t);
        assert_true(m.state + m.arena + m.workspace <= limit);
        assert_true(m.workers <= fewest && m.cores == 8 / m.workers);
        assert_int_equal(m.wish != 0, m.workers < 8);
        assert_int_equal(m.lanes, 8);
        assert_int_equal(m.microbatch, free.microbatch);
        fewest = m.workers;
        if (m.workers == 3) train_steps(t, 2);
        sid2_trainer_destroy(t);
    }
    sid2_config_destroy(config);
    sid2_device_close(device);
}

/* ---- What goes wrong ---- */

static atomic_int told, fails_at; /* images; -1: none */
static atomic_bool failed;

static bool tell(void *self, sid2_buffers *buffers, const sid2_step_input *step, int first, float *logsnr,
                 sid2_error *error)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    int image = atomic_load(&fails_at);
    atomic_fetch_add(&told, 1);
    if (first == image) {
        atomic_store(&failed, true);
        return sid2_fail(error, SID2_ERR_IO, "image %d is gone", first);
    }
    for (bool seen = false; first > image && image >= 0 && !seen; nanosleep(&pause, NULL))
        seen = atomic_load(&failed); /* and then there is time to notice */
    return sid2_diffusion.tell(self, buffers, step, first, logsnr, error);
}

/* The first error of any worker ends the step, and a resumed training does not notice. */
static void the_first_error_wins(void **state)
{
    (void)state;
    sid2_config *config = LANES("train.microbatch=1", "train.lanes=8");
    sid2_objective failing = sid2_diffusion;
    failing.tell = tell;
    sid2_recipe recipe = sid2_recipe_of(config);
    recipe.objectives[0] = &failing;
    const char *path = path_in(folder, "failing");
    for (int threads = 1; threads <= 4; threads++) {
        sid2_device *device = open_threads(threads);
        sid2_trainer *straight = make_trainer(device, config);
        train_steps(straight, 3);
        atomic_store(&fails_at, -1);
        sid2_trainer *t = sid2_trainer_create_recipe(device, config, &recipe, 0, NULL, &err);
        must(t);
        train_steps(t, 2);
        must(sid2_trainer_save(t, path, &err));
        for (int image = 0; image < BATCH; image += 5) {
            uint8_t pixels[BATCH * BYTES] = {0};
            char line[32];
            atomic_store(&fails_at, image);
            atomic_store(&told, 0);
            atomic_store(&failed, false);
            snprintf(line, sizeof line, "image %d is gone", image);
            assert_false(sid2_trainer_step(t, pixels, NULL, &err));
            assert_string_equal(err.message, line);
            assert_true(atomic_load(&told) <= image + 1 + 2 * (threads - 1)); /* the others stopped */
            assert_false(sid2_trainer_step(t, pixels, NULL, &err));
            assert_non_null(strstr(err.message, "resume"));
            must(sid2_trainer_resume(t, path, &err));
        }
        atomic_store(&fails_at, -1);
        train_steps(t, 1);
        same_state(straight, t);
        sid2_trainer_destroy(straight);
        sid2_trainer_destroy(t);
        sid2_device_close(device);
    }
    sid2_config_destroy(config);
}

/* Steps computed twice, and a step that is stepped over, with lanes on cores. */
static void verified_and_skipped(void **state)
{
    (void)state;
    sid2_device *device = open_threads(3);
    sid2_config *config = LANES("train.skip_bad_steps=1"),
                *twice = LANES("train.skip_bad_steps=1", "train.verify_every=1");
    sid2_trainer *a = make_trainer(device, config), *b = make_trainer(device, twice);
    float *bad = download(&a->buffers, "grads");
    bad[5] = NAN;
    train_steps(a, 3);
    train_steps(b, 3);
    same_state(a, b);
    must(sid2_buffers_upload(&a->buffers, "grads", bad, &err));
    assert_true(train_steps(a, 1).skipped);
    b->steps++, b->images += BATCH, b->states[0].updates++;
    train_steps(a, 2);
    train_steps(b, 2);
    same_state(a, b);
    free(bad);
    sid2_trainer_destroy(a);
    sid2_trainer_destroy(b);
    sid2_config_destroy(config);
    sid2_config_destroy(twice);
    sid2_device_close(device);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"train.lanes=3", "train.lanes = 3"},
                                         {"train.lanes=32", "train.lanes = 32"},
                                         {"train.microbatch=3", "train.microbatch = 3"}};
    for (int i = 0; i < 3; i++) {
        sid2_config *config = LANES(bad[i][0]);
        assert_false(sid2_config_check(config, &err));
        assert_non_null(strstr(err.message, bad[i][1]));
        sid2_config_destroy(config);
    }
    sid2_config *config = LANES("train.lanes=4", "train.microbatch=8");
    assert_false(sid2_config_check(config, &err));
    assert_non_null(strstr(err.message, "a lane of 4 images"));
    sid2_config_destroy(config);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sid2-lanes-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return sid2_remove_tree(folder, &err) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(resuming_on_other_threads_changes_no_bit),
        cmocka_unit_test(lanes_add_up),
        cmocka_unit_test(a_checkpoint_keeps_its_cut),
        cmocka_unit_test(a_limit_may_forbid_it),
        cmocka_unit_test(memory_makes_fewer_workers),
        cmocka_unit_test(the_first_error_wins),
        cmocka_unit_test(verified_and_skipped),
        cmocka_unit_test(contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

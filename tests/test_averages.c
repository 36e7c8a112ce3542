/* Averages after the fact: the formulas, and a training's averages and mixtures of its records against sums in float64. */
#include <sys/stat.h>

#include "averages.h"
#include "checkpoint_support.h"
#include "profile.h"

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.12g is not %.12g within %g", got, want, tolerance);
}

/* The values of the paper's table, and what a length is: the deviation of t, of density (p + 1) t^p. */
static void powers_of_lengths(void **state)
{
    (void)state;
    static const double known[][2] = {{0.05, 16.972}, {0.10, 6.937}, {0.15, 3.558}, {0.20, 1.826}};
    for (int i = 0; i < 4; i++) near(sid2_length_power(known[i][0]), known[i][1], 0.002);
    for (double length = 0.001; length < SID2_LENGTH_MOST; length *= 1.3) {
        double p = sid2_length_power(length), mean = (p + 1) / (p + 2), square = (p + 1) / (p + 3);
        assert_true(p > 0);
        near(sqrt(square - mean * mean) / length, 1, 1e-6);
    }
    const sid2_average average = {.rate = 2};
    near(sid2_power_decay(&average, 1), 0, 0);
    near(sid2_power_decay(&average, 4), 27.0 / 64, 1e-15);
}

/* Products of profiles by the midpoint rule: what a mixture is away from the wanted one, two ways. */
static double density(sid2_profile p, double t)
{
    return t < p.time ? (p.power + 1) * pow(t / p.time, p.power) / p.time : 0;
}

static void mixtures_are_nearest(void **state)
{
    (void)state;
    enum { COUNT = 12, STEPS = 100000 };
    sid2_profile of[COUNT], wanted = {100, sid2_length_power(0.08)};
    double shares[COUNT], lack, sum = 0, away = 0, norm = 0;
    for (int i = 0; i < COUNT; i++)
        of[i] = (sid2_profile){100 - 12 * (i / 2), sid2_length_power(i % 2 ? 0.1 : 0.05)};
    must(sid2_profile_mix(of, COUNT, wanted, shares, &lack, &err));
    for (int i = 0; i < COUNT; i++) sum += shares[i];
    near(sum, 1, 1e-12);
    for (int k = 0; k < STEPS; k++) {
        double t = (k + 0.5) * wanted.time / STEPS, want = density(wanted, t), got = 0;
        for (int i = 0; i < COUNT; i++) got += shares[i] * density(of[i], t);
        norm += want * want;
        away += (got - want) * (got - want);
    }
    assert_true(lack > 1e-4 && lack < 0.05);
    near(sqrt(away / norm) / lack, 1, 0.02);
    /* One that is there is taken as it is. */
    must(sid2_profile_mix(of, COUNT, of[1], shares, &lack, &err));
    for (int i = 0; i < COUNT; i++) near(shares[i], i == 1, 1e-9);
    near(lack, 0, 1e-6);
}

static void strides_keep_the_number(void **state)
{
    (void)state;
    for (int64_t most = 1; most <= 40; most += 13)
        for (uint64_t step = 1; step < 3000; step++) {
            uint64_t stride = sid2_record_stride(step, most), kept = step / stride;
            assert_true(kept <= (uint64_t)most && !(stride & (stride - 1)));
            assert_true(stride == 1 ||
                        step / (stride / 2) > (uint64_t)most); /* and no larger than it must be */
        }
    uint64_t step;
    assert_true(sid2_record_step("step-00001000.safetensors", &step) && step == 1000);
    assert_false(sid2_record_step("step-1000.safetensors", &step));
    assert_false(sid2_record_step("step-00001000.safetensors.old", &step));
    assert_false(sid2_record_step("step-00000000.safetensors", &step));
}

/* ---- Of a training ---- */

enum { STEPS = 96, MOST = 32, LENGTHS = 7 };
static const double lengths[LENGTHS] = {0.05, 0.10, 0.03, 0.08, 0.15, 0.20, 0.25};

/* The average of weights as the definition says, one step more. */
static void add_step(double *average, const float *weights, int64_t count, int step, double length)
{
    double decay = step > 1 ? exp((sid2_length_power(length) + 1) * log1p(-1.0 / step)) : 0;
    for (int64_t i = 0; i < count; i++) average[i] = decay * average[i] + (1 - decay) * (double)weights[i];
}

static double distance(const double *a, const double *b, const float *c, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += pow(a[i] - (b ? b[i] : (double)c[i]), 2);
    return sqrt(sum / (double)count);
}

static void load(const char *path, const sid2_params *params, float *flat)
{
    const sid2_params_part part = {.prefix = "", .flat = flat};
    must(sid2_params_load(path, params, &part, 1, NULL, NULL, &err));
}

static void choose(sid2_mixture *m, double length, double *lack)
{
    sid2_profile *of = calloc((size_t)m->count, sizeof *of);
    double *shares = calloc((size_t)m->count, sizeof *shares);
    must(of && shares);
    for (int i = 0; i < m->count; i++) of[i] = (sid2_profile){m->item[i].time, m->item[i].power};
    must(sid2_profile_mix(of, m->count, (sid2_profile){m->time, sid2_length_power(length)}, shares, lack,
                          &err));
    for (int i = 0; i < m->count; i++) m->item[i].share = shares[i];
    free(of);
    free(shares);
}

/* A run's folder is made as a run makes it; saved and resumed half-way, in 16 bits as in 32. */
static void training_against_float64(void **state)
{
    (void)state;
    sid2_device *device = open_device("cpu");
    sid2_config *config = TINY("train.averages=32", "train.learning_rate=1e-2");
    sid2_trainer *t = sid2_trainer_create(device, config, 0, &err);
    must(t);
    int64_t count = t->states[0].params->elements;
    double *exact = calloc((size_t)count * LENGTHS, sizeof *exact);
    float *got = calloc((size_t)count, sizeof *got);
    must(exact && got);
    assert_int_equal(mkdir(path_in(folder, "run"), 0755), 0);
    assert_int_equal(mkdir(path_in(folder, "run/checkpoints"), 0755), 0);
    for (int step = 1; step <= STEPS; step++) {
        train_steps(t, 1);
        float *weights = download(&t->buffers, "weights");
        for (int i = 0; i < LENGTHS; i++) add_step(exact + i * count, weights, count, step, lengths[i]);
        free(weights);
        char name[64], path[256];
        snprintf(path, sizeof path, "%s/averages/%s", path_in(folder, "run"),
                 sid2_record_name((uint64_t)step, name));
        if (step % (int)sid2_record_stride(STEPS, MOST) == 0) must(sid2_record_save(t, path, &err));
        if (step != STEPS / 2) continue;
        must(sid2_trainer_save(t, path_in(folder, "half"), &err));
        sid2_trainer_destroy(t);
        must(t = sid2_trainer_create(device, config, 0, &err));
        must(sid2_trainer_resume(t, path_in(folder, "half"), &err));
    }
    const char *checkpoint = "run/checkpoints/step-00000096";
    must(sid2_trainer_save(t, path_in(folder, checkpoint), &err));
    must(sid2_checkpoint_verify(path_in(folder, checkpoint), &err));
    for (int i = 0; i < 2; i++) { /* those that are tracked, in f32 */
        float *tracked = download(&t->buffers, i ? "power_0.10" : "power_0.05");
        assert_true(distance(exact + i * count, NULL, tracked, count) < 2e-7);
        free(tracked);
    }
    for (int i = 0; i < LENGTHS; i++) {
        double lack;
        sid2_mixture m;
        char file[256];
        must(sid2_mixture_open(&m, path_in(folder, checkpoint), &err));
        assert_int_equal(m.count, 2 + 2 * (STEPS / 4 - 1)); /* the record of this very step gives way */
        near(m.time, STEPS, 0);
        choose(&m, lengths[i], &lack);
        snprintf(m.length, sizeof m.length, "%g", lengths[i]);
        must(sid2_mixture_export(&m, path_in(folder, checkpoint), path_in(folder, "export"), SID2_F32, &err));
        sid2_mixture_close(&m);
        snprintf(file, sizeof file, "%s/ema.safetensors", path_in(folder, "export"));
        load(file, t->states[0].params, got);
        /* Beside what lies between lengths that are there: steps that are few, and f16, leave the rest. */
        double off = distance(exact + i * count, NULL, got, count),
               scale = distance(exact + i * count, exact + (i == 0) * count, NULL, count);
        if (i < 2 ? off > 2e-7 : off > 0.03 * scale)
            fail_msg("length %g: off by %g, of %g; profile by %g", lengths[i], off, scale, lack);
        sid2_safetensors *written = sid2_safetensors_open(file, &err);
        must(written);
        near(atof(sid2_safetensors_metadata(written, "ema")), lengths[i], 1e-9);
        sid2_safetensors_close(written);
        must(sid2_remove_tree(path_in(folder, "export"), &err));
    }
    free(exact);
    free(got);
    sid2_trainer_destroy(t);
    sid2_config_destroy(config);
    sid2_device_close(device);
}

/* What is missing or damaged is named, and nothing is made. */
static void trouble_is_named(void **state)
{
    (void)state;
    sid2_mixture m;
    char record[256];
    double lack;
    must(sid2_mixture_open(&m, path_in(folder, "half"), &err)); /* in no run: its own two */
    assert_int_equal(m.count, 2);
    sid2_mixture_close(&m);
    assert_false(sid2_mixture_open(&m, path_in(folder, "run"), &err));
    assert_non_null(strstr(err.message, "without train.averages"));
    snprintf(record, sizeof record, "%s/run/averages/step-00000040.safetensors", folder);
    size_t size;
    uint8_t *bytes = sid2_file_read(record, 0, &size, &err);
    must(bytes);
    bytes[size - 7] ^= 16;
    must(sid2_file_write(record, bytes, size, &err));
    free(bytes);
    must(sid2_mixture_open(&m, path_in(folder, "run/checkpoints/step-00000096"), &err));
    choose(&m, 0.07, &lack);
    assert_false(sid2_mixture_export(&m, path_in(folder, "run/checkpoints/step-00000096"),
                                     path_in(folder, "export"), SID2_F32, &err));
    assert_non_null(strstr(err.message, "step-00000040.safetensors"));
    sid2_mixture_close(&m);
    sid2_kind kind;
    must(sid2_look(path_in(folder, "export"), &kind, &err));
    assert_int_equal(kind, SID2_ABSENT);
    must(sid2_file_write(record, "short", 5, &err));
    assert_false(sid2_mixture_open(&m, path_in(folder, "run/checkpoints/step-00000096"), &err));
    assert_non_null(strstr(err.message, "step-00000040.safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_of_lengths), cmocka_unit_test(mixtures_are_nearest),
        cmocka_unit_test(strides_keep_the_number), cmocka_unit_test(training_against_float64),
        cmocka_unit_test(trouble_is_named)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}

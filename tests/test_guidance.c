/* Guidance that is measured (APG): the graphs of sampling against what is published, written out in double. */
#include "model_support.h"

#include "sampling.h"

enum { IMAGES = 3, VALUES = 64, ALL = IMAGES * VALUES };

typedef struct bench {
    sid2_buffers buffers;
    sid2_graph *graph[SID2_PASS_COUNT], *linear;
    sid2_program *program[SID2_PASS_COUNT], *linear_program;
    float z[ALL];
} bench;

static void tell(bench *b, const char *name, double value)
{
    float numbers[IMAGES];
    for (int i = 0; i < IMAGES; i++) numbers[i] = (float)value;
    must(sid2_buffers_upload(&b->buffers, name, numbers, &err));
}

static void set(bench *b, const char *name, const float *values)
{
    must(sid2_buffers_upload(&b->buffers, name, values, &err));
}

static void get(bench *b, const char *name, float *values)
{
    must(sid2_buffers_download(&b->buffers, name, values, &err));
}

static sid2_program *compile(bench *b, const sid2_graph *g)
{
    must(sid2_buffers_params(&b->buffers, g, &err));
    sid2_program *p = sid2_buffers_program(&b->buffers, g, NULL, &err);
    must(p);
    return p;
}

static void open_bench(bench *b, const char *id, const sid2_config *apg, const sid2_config *linear)
{
    *b = (bench){.buffers = {.device = open_device(id)}};
    static const sid2_pass passes[] = {SID2_PASS_START, SID2_PASS_GUIDED, SID2_PASS_STEP};
    for (int i = 0; i < 3; i++) {
        sid2_pass p = passes[i];
        must(b->graph[p] = sid2_pass_graph(apg, NULL, p, IMAGES, &err));
        b->program[p] = compile(b, b->graph[p]);
    }
    must(b->linear = sid2_pass_graph(linear, NULL, SID2_PASS_GUIDED, IMAGES, &err));
    b->linear_program = compile(b, b->linear);
    const sid2_params *params = &b->linear->params[0];
    float *weights = sid2_params_initial(params, 5, &err);
    must(weights);
    /* Fresh networks say nothing (their head is 0), so that of this one is not. */
    for (int64_t i = 0; i < params->elements; i++)
        weights[i] += 0.8f * ((float)sid2_uniform(sid2_philox_word(7, 0, 0, (uint64_t)i)) - 0.5f);
    must(sid2_params_upload(&b->buffers, b->linear, params, weights, &err));
    free(weights);
    const uint32_t samples[2 * IMAGES] = {1, 0, 2, 0, 3, 0}, seed[2] = {9, 9};
    const int32_t label[IMAGES] = {0, 1, 2}, none[IMAGES] = {3, 3, 3};
    must(sid2_buffers_upload(&b->buffers, "samples", samples, &err));
    must(sid2_buffers_upload(&b->buffers, "seed", seed, &err));
    must(sid2_buffers_upload(&b->buffers, "label", label, &err));
    must(sid2_buffers_upload(&b->buffers, "no_label", none, &err));
    must(sid2_program_run(b->program[SID2_PASS_START], &err));
    get(b, "z", b->z);
}

static void close_bench(bench *b)
{
    for (int i = 0; i < SID2_PASS_COUNT; i++) {
        sid2_program_destroy(b->program[i]);
        sid2_graph_destroy(b->graph[i]);
    }
    sid2_program_destroy(b->linear_program);
    sid2_graph_destroy(b->linear);
    sid2_device *device = b->buffers.device;
    sid2_buffers_clear(&b->buffers);
    sid2_device_close(device);
}

/* x̂ of model (w = 1) or guide (w = 0), unclamped: by the step that linear guidance takes, made small. */
static void ask(bench *b, const sid2_schedule *schedule, double logsnr, double w, double x[ALL])
{
    const float alpha = (float)sid2_alpha(logsnr), sigma = (float)sid2_sigma(logsnr), small = 1.f / 64;
    const float coef[8] = {small * alpha, small * sigma, (float)w, 0, 1 / small, 0, 0, 0};
    float got[ALL];
    set(b, "z", b->z);
    set(b, "coef", coef);
    tell(b, "time", sid2_schedule_position(schedule, logsnr));
    must(sid2_program_run(b->linear_program, &err));
    get(b, "z", got);
    for (int i = 0; i < ALL; i++) x[i] = (double)got[i];
}

/* One image; the running direction is kept. */
static void publish(const sid2_config *c, double w, const double *x, const double *guide, double *run,
                    double *out)
{
    double square = 0, dot = 0, own = 0, r = c->sample_apg_radius * sqrt(VALUES);
    for (int i = 0; i < VALUES; i++) run[i] = x[i] - guide[i] + c->sample_apg_momentum * run[i];
    for (int i = 0; i < VALUES; i++) square += run[i] * run[i];
    double scale = r > 0 ? fmin(1, r / sqrt(square)) : 1;
    for (int i = 0; i < VALUES; i++) dot += scale * run[i] * x[i], own += x[i] * x[i];
    for (int i = 0; i < VALUES; i++) {
        double parallel = dot / own * x[i], across = scale * run[i] - parallel;
        out[i] = x[i] + (w - 1) * (across + c->sample_apg_parallel * parallel);
    }
}

/* As the sampler does it: asked, measured, stepped. z becomes x̂. */
static void guide(bench *b, const sid2_config *c, const sid2_schedule *schedule, double logsnr, double w)
{
    const float step[8] = {0, -1, 1, 0, 1, 0, 0, 0};
    float means[3][IMAGES], share[2][IMAGES];
    set(b, "z", b->z);
    tell(b, "time", sid2_schedule_position(schedule, logsnr));
    tell(b, "level_alpha", sid2_alpha(logsnr));
    tell(b, "level_sigma", -sid2_sigma(logsnr));
    tell(b, "zero", 0);
    tell(b, "one", 1);
    must(sid2_program_run(b->program[SID2_PASS_GUIDED], &err));
    get(b, "x_square", means[0]);
    get(b, "d_square", means[1]);
    get(b, "apart_square", means[2]);
    for (int i = 0; i < IMAGES; i++) {
        double shares[2];
        sid2_guidance_shares(c, w, (double[]){means[0][i], means[1][i], means[2][i]}, shares);
        for (int k = 0; k < 2; k++) share[k][i] = (float)shares[k];
    }
    set(b, "share_x", share[0]);
    set(b, "share_d", share[1]);
    set(b, "coef", step);
    must(sid2_program_run(b->program[SID2_PASS_STEP], &err));
}

static void apg_is_as_published(void **state)
{
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    static const char *const settings[][3] = {
        {"sample.apg_radius=0.02", "sample.apg_momentum=-0.75", "sample.apg_parallel=0"}, /* the defaults */
        {"sample.apg_radius=0.3", "sample.apg_momentum=0.5", "sample.apg_parallel=0.25"},
        {"sample.apg_radius=0", "sample.apg_momentum=0", "sample.apg_parallel=1"}};
    const double levels[] = {-2, -1, 0.5}, w = 2.5;
    for (int k = 0; k < 6; k++) {
        const char *const *s = settings[k / 2];
        sid2_config *apg = TINY("sample.guidance=2.5", "sample.guidance_rule=apg", "sample.sampler=ddim",
                                s[0], s[1], s[2]),
                    *linear = TINY("sample.guidance=2.5", "sample.sampler=ddim");
        sid2_schedule schedule = sid2_schedule_create(apg);
        bench b;
        open_bench(&b, devices[k % 2], apg, linear);
        double run[ALL] = {0}, most = 0, moved = 0;
        for (int step = 0; step < 3; step++) {
            double x[ALL], other[ALL], want[ALL];
            float got[ALL];
            ask(&b, &schedule, levels[step], 1, x);
            ask(&b, &schedule, levels[step], 0, other);
            for (int i = 0; i < IMAGES; i++)
                publish(apg, w, x + i * VALUES, other + i * VALUES, run + i * VALUES, want + i * VALUES);
            guide(&b, apg, &schedule, levels[step], w);
            get(&b, "z", got);
            for (int i = 0; i < ALL; i++) {
                most = fmax(most, fabs((double)got[i] - fmax(-1, fmin(1, want[i]))));
                moved = fmax(moved, fabs(want[i] - x[i]));
                /* Without limit, memory and projection it is linear guidance. */
                if (k / 2 == 2) assert_true(fabs(want[i] - (other[i] + w * (x[i] - other[i]))) < 1e-6);
            }
        }
        if (!(most < 2e-5 && moved > 0.01))
            fail_msg("%s, %s: off by %g, guided by %g", s[0], devices[k % 2], most, moved);
        close_bench(&b);
        sid2_config_destroy(apg);
        sid2_config_destroy(linear);
    }
}

/* Radius, projection and weight, on numbers that can be seen through. */
static void shares(void **state)
{
    (void)state;
    sid2_config *c = TINY("sample.guidance_rule=apg", "sample.apg_radius=0.5");
    double s[2];
    /* d across x, of length 1: cut to a half. */
    sid2_guidance_shares(c, 3, (double[]){4, 1, 5}, s);
    assert_true(s[0] == 1 && s[1] == 1);
    /* d along x: nothing is left of it. */
    sid2_guidance_shares(c, 3, (double[]){4, 0.16, 2.56}, s); /* d = 0.2 x */
    assert_true(fabs(s[0] + 0.2 * s[1] - 1) < 1e-12 && s[1] == 2);
    sid2_guidance_shares(c, 1, (double[]){4, 1, 5}, s);
    assert_true(s[0] == 1 && s[1] == 0);
    sid2_guidance_shares(c, 3, (double[]){0, 0, 0}, s);
    assert_true(s[0] == 1 && s[1] == 2);
    sid2_guidance_shares(c, 3, (double[]){1, NAN, NAN}, s);
    assert_true(isnan(s[0]) || isnan(s[1]));
    sid2_config_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(apg_is_as_published), cmocka_unit_test(shares)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

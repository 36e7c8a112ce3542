/* The networks that judge, of random weights, on a device. */
#ifndef SID2_TEST_JUDGE_SUPPORT_H
#define SID2_TEST_JUDGE_SUPPORT_H

#include "model_support.h"

static inline void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%.9g is not %.9g", got, want);
}

/* From the graph's external "x" to `output`. Frees x. */
static inline void run_network(const char *id, const sid2_graph *g, const sid2_params *params, float *x,
                               const char *output, float *values)
{
    sid2_device *device = open_device(id);
    sid2_buffers buffers = {.device = device};
    sid2_program *program = sid2_buffers_program(&buffers, g, NULL, &err);
    float *weights = program ? sid2_params_initial(params, 7, &err) : NULL;
    must(weights && sid2_params_upload(&buffers, g, params, weights, &err));
    must(sid2_buffers_upload(&buffers, "x", x, &err) && sid2_program_run(program, &err) &&
         sid2_buffers_download(&buffers, output, values, &err));
    free(x);
    free(weights);
    sid2_program_destroy(program);
    sid2_buffers_clear(&buffers);
    sid2_device_close(device);
}

/* What `run` gives, on both devices of the CPU, beside another program's numbers. */
static inline void agrees(void (*run)(const char *id, float *values), const double *expected, int count)
{
    static const char *const devices[] = {"cpu", "reference"};
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int d = 0; d < 2; d++) {
        run(devices[d], values);
        for (int i = 0; i < count; i++) near((double)values[i], expected[i], 2e-5 * (1 + fabs(expected[i])));
    }
    free(values);
}

#endif

/* Elementwise operators: one pass over memory each, chunk by chunk. */
#include "fast.h"

static void for_flat(const sid2_call *call, chunk_kernel kernel)
{
    for_chunks(call, 1, count(&call->in[0]), kernel);
}

static void for_samples(const sid2_call *call, chunk_kernel kernel)
{
    int64_t samples = first(&call->in[0]);
    for_chunks(call, samples, count(&call->in[0]) / max64(1, samples), kernel);
}

/* ---- Sums and casts ---- */
static void add_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    chunk buffer[3];
    const float *a = load(&call->in[0], at, n, buffer[0].at), *b = load(&call->in[1], at, n, buffer[1].at);
    float *y = target(&call->out[0], at, n, buffer[2].at), scale = call->attr->scale;
    for (int64_t i = 0; i < n; i += VL) vstore(y + i, vload(a + i) + scale * vload(b + i));
    store(y, &call->out[0], at, n);
}

static void scale_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    chunk buffer[2];
    const float *x = load(&call->in[0], at, n, buffer[0].at);
    float *y = target(&call->out[0], at, n, buffer[1].at), scale = call->attr->scale;
    for (int64_t i = 0; i < n; i += VL) vstore(y + i, scale * vload(x + i));
    store(y, &call->out[0], at, n);
}

static void cast_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    chunk buffer;
    store(load(&call->in[0], at, n, buffer.at), &call->out[0], at, n);
}

void FAST(add)(sid2_call *call) { for_flat(call, add_chunk); }
void FAST(scale)(sid2_call *call) { for_flat(call, scale_chunk); }
void FAST(cast)(sid2_call *call) { for_flat(call, cast_chunk); }

/* ---- Bytes and floats ---- */
static void image_to_float_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    const uint8_t *x = (const uint8_t *)call->in[0].data + at;
    chunk buffer;
    float *y = target(&call->out[0], at, n, buffer.at);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = f32_from_pixel((float)x[i]);
    store(y, &call->out[0], at, n);
}

static void float_to_image_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    chunk buffer;
    const float *x = load(&call->in[0], at, n, buffer.at);
    uint8_t *y = (uint8_t *)call->out[0].data + at;
    for (int64_t i = 0; i < n; i++) y[i] = (uint8_t)f64_to_pixel((double)x[i]);
}

void FAST(image_to_float)(sid2_call *call) { for_flat(call, image_to_float_chunk); }
void FAST(float_to_image)(sid2_call *call) { for_flat(call, float_to_image_chunk); }

/* ---- Diffusion ---- */
static void diffuse_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    chunk buffer[3];
    const float *x = load(&call->in[0], at, n, buffer[0].at), *eps = load(&call->in[1], at, n, buffer[1].at);
    float *z = target(&call->out[0], at, n, buffer[2].at);
    float alpha = ((const float *)call->in[2].data)[sample],
          sigma = ((const float *)call->in[3].data)[sample];
    for (int64_t i = 0; i < n; i += VL) vstore(z + i, vf_diffuse(vload(x + i), vload(eps + i), alpha, sigma));
    store(z, &call->out[0], at, n);
}

static void sampler_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    (void)sample;
    const sid2_operand *in = call->in, *out = call->out;
    const float *coef = in[5].data;
    chunk buffer[7];
    const float *z = load(&in[0], at, n, buffer[0].at), *v = load(&in[1], at, n, buffer[1].at);
    const float *v_null = in[2].data ? load(&in[2], at, n, buffer[2].at) : v;
    const float *noise = in[3].data ? load(&in[3], at, n, buffer[3].at) : NULL;
    const float *x_prev = in[4].data ? load(&in[4], at, n, buffer[4].at) : NULL;
    float *z_next = target(&out[0], at, n, buffer[5].at), *x_hat = target(&out[1], at, n, buffer[6].at);
    float weight = in[2].data ? coef[2] : 0.0f;
    for (int64_t i = 0; i < n; i += VL) {
        vf zi = vload(z + i), vn = vload(v_null + i);
        vf vg = in[2].data ? vf_toward(vn, vload(v + i), weight) : vn;
        vf x = vf_x_hat_clamped(zi, vg, coef[0], coef[1]);
        vf next = vf_z_next(zi, x, coef[3], coef[4]);
        if (noise) next = vf_z_more(next, vload(noise + i), coef[5]);
        if (x_prev) next = vf_z_more(next, vload(x_prev + i), coef[6]);
        vstore(x_hat + i, x);
        vstore(z_next + i, next);
    }
    store(z_next, &out[0], at, n);
    store(x_hat, &out[1], at, n);
}

static void loss_grad_chunk(const sid2_call *call, int64_t sample, int64_t at, int64_t n)
{
    const sid2_operand *in = call->in;
    chunk buffer[4];
    const float *v = load(&in[1], at, n, buffer[0].at), *z = load(&in[2], at, n, buffer[1].at),
                *x = load(&in[3], at, n, buffer[2].at);
    float *dv = target(&call->out[0], at, n, buffer[3].at);
    float dloss = ((const float *)in[0].data)[sample], alpha = ((const float *)in[4].data)[sample],
          sigma = ((const float *)in[5].data)[sample], weight = ((const float *)in[6].data)[sample],
          loss = ((const float *)in[7].data)[sample];
    int64_t elements = count(&in[1]) / first(&in[1]);
    float factor =
        (float)f64_loss_slope((double)loss, (double)dloss, (double)weight, (double)sigma, (double)elements);
    for (int64_t i = 0; i < n; i += VL)
        vstore(dv + i, factor * vf_x_error(vload(v + i), vload(z + i), vload(x + i), alpha, sigma));
    store(dv, &call->out[0], at, n);
}

void FAST(diffuse)(sid2_call *call) { for_samples(call, diffuse_chunk); }
void FAST(sampler_step)(sid2_call *call) { for_flat(call, sampler_chunk); }
void FAST(diffusion_loss_grad)(sid2_call *call)
{
    int64_t samples = first(&call->in[1]);
    for_chunks(call, samples, count(&call->in[1]) / max64(1, samples), loss_grad_chunk);
}

/* ---- Conditioning: small, so plain ---- */
void FAST(embedding)(sid2_call *call)
{
    const sid2_operand *table = &call->in[0];
    const uint32_t *index = call->in[1].data;
    int64_t rows = first(table), width = last(table), samples = count(&call->in[1]);
    for (int64_t n = 0; n < samples; n++)
        for (int64_t c = 0; c < width; c += CHUNK) {
            chunk buffer;
            int64_t row = min64(index[n], rows - 1), size = min64(CHUNK, width - c);
            fetch(table, row * width + c, size, buffer.at);
            store(buffer.at, &call->out[0], n * width + c, size);
        }
}

void FAST(embedding_grad)(sid2_call *call)
{
    const sid2_operand *dy = &call->in[0];
    const uint32_t *index = call->in[1].data;
    float *table = call->out[0].data;
    int64_t rows = first(&call->out[0]), width = last(dy), samples = count(&call->in[1]);
    for (int64_t n = 0; n < samples; n++)
        for (int64_t c = 0; c < width; c += CHUNK) {
            chunk buffer;
            int64_t row = min64(index[n], rows - 1), size = min64(CHUNK, width - c);
            fetch(dy, n * width + c, size, buffer.at);
            for (int64_t i = 0; i < size; i++) table[row * width + c + i] += buffer.at[i];
        }
}

void FAST(sinusoid)(sid2_call *call)
{
    const float *t = call->in[0].data;
    int64_t width = last(&call->out[0]), half = width / 2, samples = count(&call->in[0]);
    for (int64_t n = 0; n < samples; n++)
        for (int64_t k = 0; k < half; k++) {
            double angle = (double)t[n] * pow((double)call->attr->period, -(double)k / (double)half);
            float value[2] = {(float)cos(angle), (float)sin(angle)};
            store(value, &call->out[0], n * width + k, 1);
            store(value + 1, &call->out[0], n * width + half + k, 1);
        }
}

#include "pictures.h"

#include "frechet.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 16, AXES = 64, MAX_WAVES = 256 };

struct sid2_real_pictures {
    int height, width, channels;
    int rows, columns; /* of blocks */
    int64_t values;    /* rows x columns x channels */
    int axes;
    double *mean;        /* [values] */
    double *axis;        /* [axes, values] */
    sid2_gaussian along; /* of the real pictures, along the axes */
    double power[MAX_WAVES / 2 + 1];
};

/* ---- Averages ---- */

static int block_of(int place, int extent, int blocks) { return (int)((int64_t)place * blocks / extent); }

/* One picture's averages over blocks, from -1 to 1. sum, count: [rows x columns x channels]. */
static void average(const sid2_real_pictures *r, const uint8_t *pixels, double *sum, float *to)
{
    memset(sum, 0, (size_t)r->values * sizeof *sum);
    for (int y = 0; y < r->height; y++)
        for (int x = 0; x < r->width; x++) {
            int place = block_of(y, r->height, r->rows) * r->columns + block_of(x, r->width, r->columns);
            for (int c = 0; c < r->channels; c++) sum[place * r->channels + c] += *pixels++;
        }
    for (int row = 0; row < r->rows; row++)
        for (int column = 0; column < r->columns; column++) {
            /* The first place p of a block b is the least with p * blocks >= b * extent. */
            int64_t high = ((int64_t)(row + 1) * r->height + r->rows - 1) / r->rows -
                           ((int64_t)row * r->height + r->rows - 1) / r->rows;
            int64_t wide = ((int64_t)(column + 1) * r->width + r->columns - 1) / r->columns -
                           ((int64_t)column * r->width + r->columns - 1) / r->columns;
            for (int c = 0; c < r->channels; c++) {
                int place = (row * r->columns + column) * r->channels + c;
                to[place] = (float)(sum[place] / (double)(high * wide) / 127.5 - 1);
            }
        }
}

static size_t picture_bytes(const sid2_pictures *p)
{
    return (size_t)p->height * (size_t)p->width * (size_t)p->channels;
}

/* rows[count, values], from malloc. */
static float *averages(const sid2_real_pictures *r, const sid2_pictures *p, sid2_error *err)
{
    float *rows = malloc((size_t)p->count * (size_t)r->values * sizeof *rows);
    double *sum = malloc((size_t)r->values * sizeof *sum);
    for (int i = 0; rows && sum && i < p->count; i++)
        average(r, p->pixels + (size_t)i * picture_bytes(p), sum, rows + (int64_t)i * r->values);
    if (!sum) free(rows), rows = NULL;
    free(sum);
    if (!rows) sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d pictures", p->count);
    return rows;
}

/* ---- Principal axes ---- */

/* Those of the largest variance; their signs and, where variances are equal, their choice change no distance. */
static bool find_axes(sid2_real_pictures *r, const sid2_gaussian *all, sid2_error *err)
{
    lapack_int n = (lapack_int)r->values, found = 0;
    double *variance = malloc((size_t)n * sizeof *variance);
    lapack_int *support = malloc(2 * (size_t)n * sizeof *support);
    r->axis = malloc((size_t)r->axes * (size_t)n * sizeof *r->axis);
    bool ok = (variance && support && r->axis) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    /* A symmetric matrix is the same by rows and by columns; columns of its axes are our rows. */
    int result = ok ? LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, all->covariance, n, 0, 0,
                                     n - r->axes + 1, n, 0, &found, variance, r->axis, n, support)
                    : 0;
    if (ok && (result || found != r->axes))
        ok = sid2_fail(err, result == LAPACK_WORK_MEMORY_ERROR ? SID2_ERR_MEMORY : SID2_ERR_FORMAT,
                       "the pictures' principal axes cannot be found");
    free(variance);
    free(support);
    return ok;
}

/* The Gaussian of averages rows[count, values] along the axes. */
static bool project(const sid2_real_pictures *r, const float *rows, int count, sid2_gaussian *g,
                    sid2_error *err)
{
    float *along = malloc((size_t)count * (size_t)r->axes * sizeof *along);
    if (!along) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for %d pictures", count);
    for (int i = 0; i < count; i++)
        for (int a = 0; a < r->axes; a++) {
            double sum = 0;
            for (int64_t k = 0; k < r->values; k++)
                sum += (rows[i * r->values + k] - r->mean[k]) * r->axis[a * r->values + k];
            along[i * r->axes + a] = (float)sum;
        }
    bool ok = sid2_gaussian_of(along, count, r->axes, g, err);
    free(along);
    return ok;
}

/* ---- Spectrum ---- */

/* The mean power of pictures' brightness at each whole number of cycles, and around it. */
typedef struct spectrum {
    int size;
    double *cosine, *sine; /* [size] of one cycle */
    double *grey;          /* [size, size] */
    double *re, *im;       /* [size, size]: of the rows */
} spectrum;

static bool spectrum_create(spectrum *s, int height, int width, sid2_error *err)
{
    int size = height < width ? height : width;
    size = size < MAX_WAVES ? size : MAX_WAVES;
    size_t area = (size_t)size * (size_t)size * sizeof(double), line = (size_t)size * sizeof(double);
    *s = (spectrum){size, malloc(line), malloc(line), malloc(area), malloc(area), malloc(area)};
    if (!s->cosine || !s->sine || !s->grey || !s->re || !s->im)
        return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a spectrum");
    for (int i = 0; i < size; i++) {
        s->cosine[i] = cos(2 * acos(-1) * i / size);
        s->sine[i] = sin(2 * acos(-1) * i / size);
    }
    return true;
}

static void spectrum_destroy(spectrum *s)
{
    free(s->cosine);
    free(s->sine);
    free(s->grey);
    free(s->re);
    free(s->im);
}

static void take_grey(spectrum *s, const sid2_pictures *p, int picture)
{
    const uint8_t *pixels = p->pixels + (size_t)picture * picture_bytes(p);
    int top = (p->height - s->size) / 2, left = (p->width - s->size) / 2;
    for (int y = 0; y < s->size; y++)
        for (int x = 0; x < s->size; x++) {
            const uint8_t *at =
                pixels + ((size_t)(top + y) * (size_t)p->width + (size_t)(left + x)) * (size_t)p->channels;
            double sum = 0;
            for (int c = 0; c < p->channels; c++) sum += at[c];
            s->grey[y * s->size + x] = sum / p->channels / 127.5 - 1;
        }
}

/* Adds one picture's power: a Fourier transform of the rows, then of the columns, of which half are enough. */
static void add_power(const spectrum *s, double *power, double *places)
{
    const int n = s->size;
    for (int y = 0; y < n; y++)
        for (int u = 0; u <= n / 2; u++) {
            double re = 0, im = 0;
            for (int x = 0, turn = 0; x < n; x++, turn = (turn + u) % n) {
                re += s->grey[y * n + x] * s->cosine[turn];
                im -= s->grey[y * n + x] * s->sine[turn];
            }
            s->re[u * n + y] = re;
            s->im[u * n + y] = im;
        }
    for (int u = 0; u <= n / 2; u++)
        for (int v = 0; v < n; v++) {
            int wave = (int)lround(hypot(u, v <= n / 2 ? v : v - n));
            if (!wave || wave > n / 2) continue;
            double re = 0, im = 0;
            for (int y = 0, turn = 0; y < n; y++, turn = (turn + v) % n) {
                re += s->re[u * n + y] * s->cosine[turn] + s->im[u * n + y] * s->sine[turn];
                im += s->im[u * n + y] * s->cosine[turn] - s->re[u * n + y] * s->sine[turn];
            }
            power[wave] += re * re + im * im;
            places[wave] += 1;
        }
}

static bool measure_power(const sid2_pictures *p, double power[MAX_WAVES / 2 + 1], sid2_error *err)
{
    spectrum s;
    double places[MAX_WAVES / 2 + 1] = {0};
    memset(power, 0, (MAX_WAVES / 2 + 1) * sizeof *power);
    bool ok = spectrum_create(&s, p->height, p->width, err);
    for (int i = 0; ok && i < p->count; i++) {
        take_grey(&s, p, i);
        add_power(&s, power, places);
    }
    for (int i = 0; i <= MAX_WAVES / 2; i++)
        if (places[i] > 0) power[i] /= places[i];
    spectrum_destroy(&s);
    return ok;
}

/* ---- Comparing ---- */

static bool enough(const sid2_pictures *p, sid2_error *err)
{
    return p->count >= 2 || sid2_fail(err, SID2_ERR_USAGE, "%d pictures have no statistics", p->count);
}

static bool describe(sid2_real_pictures *r, const sid2_pictures *real, sid2_error *err)
{
    sid2_gaussian all = {0};
    float *rows = averages(r, real, err);
    bool ok = rows && sid2_gaussian_of(rows, real->count, r->values, &all, err) && find_axes(r, &all, err);
    r->mean = all.mean;
    all.mean = NULL;
    sid2_gaussian_free(&all);
    ok = ok && project(r, rows, real->count, &r->along, err) && measure_power(real, r->power, err);
    free(rows);
    return ok;
}

sid2_real_pictures *sid2_real_pictures_create(const sid2_pictures *real, sid2_error *err)
{
    if (!enough(real, err)) return NULL;
    sid2_real_pictures *r = calloc(1, sizeof *r);
    if (!r) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    r->height = real->height;
    r->width = real->width;
    r->channels = real->channels;
    r->rows = real->height < BLOCKS ? real->height : BLOCKS;
    r->columns = real->width < BLOCKS ? real->width : BLOCKS;
    r->values = (int64_t)r->rows * r->columns * r->channels;
    r->axes = r->values < AXES ? (int)r->values : AXES;
    if (describe(r, real, err)) return r;
    sid2_real_pictures_destroy(r);
    return NULL;
}

void sid2_real_pictures_destroy(sid2_real_pictures *r)
{
    if (!r) return;
    free(r->mean);
    free(r->axis);
    sid2_gaussian_free(&r->along);
    free(r);
}

bool sid2_real_pictures_compare(const sid2_real_pictures *r, const sid2_pictures *other,
                                sid2_picture_distances *distances, sid2_error *err)
{
    sid2_gaussian along = {0};
    double power[MAX_WAVES / 2 + 1], squares = 0;
    int waves = 0;
    if (!enough(other, err)) return false;
    if (other->height != r->height || other->width != r->width || other->channels != r->channels)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "pictures of %dx%dx%d cannot be compared with those of %dx%dx%d", other->height,
                         other->width, other->channels, r->height, r->width, r->channels);
    float *rows = averages(r, other, err);
    bool ok = rows && project(r, rows, other->count, &along, err) &&
              sid2_frechet(&r->along, &along, &distances->pixels, err) && measure_power(other, power, err);
    free(rows);
    sid2_gaussian_free(&along);
    for (int i = 1; ok && i <= MAX_WAVES / 2; i++) {
        if (r->power[i] <= 0 && power[i] <= 0) continue; /* past the picture's finest, or no such waves */
        double ratio = 10 * log10(fmax(power[i], 1e-12) / fmax(r->power[i], 1e-12));
        squares += ratio * ratio;
        waves++;
    }
    distances->spectrum = waves ? sqrt(squares / waves) : 0;
    return ok;
}

/* ---- Neighbours ---- */

static uint64_t squares_between(const uint8_t *a, const uint8_t *b, size_t size)
{
    enum { PART = 4096 }; /* whose sum 32 bits hold */
    uint64_t all = 0;
    for (size_t first = 0; first < size; first += PART) {
        size_t count = size - first < PART ? size - first : PART;
        uint32_t sum = 0;
        for (size_t i = 0; i < count; i++) {
            int d = a[first + i] - b[first + i];
            sum += (uint32_t)(d * d);
        }
        all += sum;
    }
    return all;
}

void sid2_find_nearest(const sid2_pictures *pictures, const sid2_pictures *real, int64_t first,
                       sid2_nearest *nearest)
{
    size_t size = picture_bytes(pictures);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < pictures->count; i++)
        for (int k = 0; k < real->count; k++) {
            uint64_t squares =
                squares_between(pictures->pixels + (size_t)i * size, real->pixels + (size_t)k * size, size);
            if (nearest[i].index >= 0 && squares >= nearest[i].squares) continue;
            nearest[i] = (sid2_nearest){first + k, squares};
        }
}

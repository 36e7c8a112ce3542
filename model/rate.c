#include "rate.h"

#include <math.h>

/* Of a step past the start of the decay. */
typedef struct place {
    double step, start; /* step > start; steps count from 1 */
    double way;         /* of the way from start to the end of training, 0 to 1 */
} place;

/* ---- The rows of decays.def ---- */

static double constant(const place *p) { return (void)p, 1; }
static double cosine(const place *p) { return 0.5 + 0.5 * cos(M_PI * p->way); }
static double linear(const place *p) { return 1 - p->way; }
static double inverse_sqrt(const place *p) { return sqrt(fmax(p->start, 1) / p->step); }

static double (*const decays[])(const place *) = {
#define DECAY(word, help) word,
#include "decays.def"
};

double sid2_learning_rate(const sid2_config *c, uint64_t done)
{
    double step = (double)done + 1, warmup = (double)c->train_warmup;
    if (step < warmup) return c->train_learning_rate * step / warmup;
    place p = {step, fmax(warmup, (double)c->train_decay_start), 0};
    if (step <= p.start) return c->train_learning_rate;
    /* The step after the last would have none, so the last has some. */
    p.way = fmin(1, (step - p.start) / fmax(1, (double)c->train_steps + 1 - p.start));
    return c->train_learning_rate * decays[c->train_decay](&p);
}

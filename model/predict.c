#include "predict.h"

#include <math.h>

double sid2_update_bytes(double elements, int averages)
{
    return (9 + 3 * averages) * sizeof(float) * elements;
}

sid2_step_work sid2_step_work_of(const sid2_training *plan, const sid2_recipe *recipe, int64_t batch)
{
    double runs = (double)batch / plan->microbatch;
    sid2_cost cost = sid2_graph_cost(plan->graph[0]);
    sid2_step_work work = {
        .lanes = plan->lanes, .multiply_adds = runs * cost.multiply_adds, .bytes = runs * cost.bytes};
    double sum = work.sum = (double)plan->sum;
    work.weights = runs * sum;
    int averages = 0;
    for (int i = 0; i < recipe->state_count; i++) averages += recipe->states[i].average_count;
    work.update = sid2_update_bytes(sum / sizeof(float), averages);
    return work;
}

double sid2_step_sums(const sid2_step_work *w) { return w->lanes > 1 ? 2 * w->lanes * w->sum : 0; }

sid2_prediction sid2_predict_step(const sid2_step_work *w, const sid2_machine_rates *m, int threads)
{
    int cores = threads < w->lanes ? threads : w->lanes, sockets = cores < m->sockets ? cores : m->sockets;
    int rounds = (w->lanes + cores - 1) / cores;
    double rate = fmin(cores * m->core, sockets * fmax(m->socket, m->core));
    /* Of bytes without a home, one in `sockets` is at home, and every socket has links of its own. */
    double far = sockets > 1 ? 1 / (sockets * fmax(m->link, m->core)) : 0;
    /* A core cannot have moved more than its rate: the rest came from its caches, and will. */
    double moved = fmin(w->bytes, w->seconds * m->core), meet = sid2_step_sums(w) + w->update;
    return (sid2_prediction){
        .cores = cores,
        .lanes = fmax(w->seconds * rounds / w->lanes, fmax(moved / rate, fmin(w->weights, moved) * far)),
        .sums_and_update = fmax(meet / rate, meet * far),
        .waking = cores > 1 ? SID2_STEP_REGIONS * (m->wake + cores * m->wake_each) : 0};
}

/* What a training step would take on more cores than there are, from one core's measured time and counted bytes. */
#ifndef SID2_PREDICT_H
#define SID2_PREDICT_H

#include "training.h"

/* A step: what its lanes take, and what meets after them. */
typedef struct sid2_step_work {
    int lanes;
    double multiply_adds, seconds; /* of all lanes, seconds on one core */
    double bytes;                  /* that their operators move, caches or not */
    double weights;                /* bytes of those that are weights, read by each micro-batch anew */
    double sum, update;            /* bytes: gradients of a lane; all that norm, Adam and averages move */
} sid2_step_work;

/* Bytes that norm, Adam and averages move of so many elements: the norm reads; Adam reads four arrays and writes them;
 * an average reads two and writes one. */
double sid2_update_bytes(double elements, int averages);

/* Bytes a second of memory, as one core gets them, as a socket's cores share them, and over one link between sockets. */
typedef struct sid2_machine_rates {
    int sockets;
    double core, socket, link;
    double wake, wake_each; /* seconds to start a parallel region, and for each core in it */
} sid2_machine_rates;

enum { SID2_STEP_REGIONS = 5 }; /* lanes, sums; norm, Adam, averages */

typedef struct sid2_prediction {
    int cores;                             /* that have work: at most one a lane */
    double lanes, sums_and_update, waking; /* seconds of a step */
} sid2_prediction;

/* Counts a step of `batch` images by the operators' cost rule; the seconds are left 0. */
sid2_step_work sid2_step_work_of(const sid2_training *plan, const sid2_recipe *recipe, int64_t batch);

/* Bytes moved by adding up the lanes' gradients: each is read, and left as zeros. */
double sid2_step_sums(const sid2_step_work *work);

/* With one thread: work->seconds, and the other bytes at a core's rate. Threads are spread evenly over the sockets. */
sid2_prediction sid2_predict_step(const sid2_step_work *work, const sid2_machine_rates *machine, int threads);

#endif

/* The Fréchet distance of sets of pictures as FID's Inception network sees them, where the user has its weights (eval/judge.h).
 * It is FID in the field's sense for as many samples and real pictures as the field takes; with fewer it is larger. */
#ifndef SID2_FID_H
#define SID2_FID_H

#include "device.h"
#include "heldout.h"
#include "pictures.h"

typedef struct sid2_fid sid2_fid;

/* Borrows the device. */
sid2_fid *sid2_fid_open(sid2_device *device, const char *weights, sid2_error *err);
void sid2_fid_close(sid2_fid *fid);               /* NULL is fine */
const char *sid2_fid_digest(const sid2_fid *fid); /* of the weights' file */
/* What others are compared with, until the next call. done: 0 to 1; false: stop, which is CANCELLED. */
bool sid2_fid_set_real(sid2_fid *fid, const sid2_pictures *real, sid2_heldout_callback callback, void *user,
                       sid2_error *err);
bool sid2_fid_measure(sid2_fid *fid, const sid2_pictures *pictures, double *distance,
                      sid2_heldout_callback callback, void *user, sid2_error *err);

#endif

/* The networks that judge, on a device: from pictures or clips to features. */
#ifndef SID2_JUDGE_H
#define SID2_JUDGE_H

#include "device.h"
#include "i3d.h"
#include "inception.h"

typedef struct sid2_judge sid2_judge;

/* Inception, of a file that sid2_inception_convert made, for `batch` pictures at a time; `spatial`: sFID's features are
 * wanted too. Borrows the device. */
sid2_judge *sid2_judge_open(sid2_device *device, const char *path, int batch, bool spatial, sid2_error *err);
/* I3D, of a file that sid2_i3d_convert made, for `batch` clips of so many frames at a time. USAGE: fewer than
 * SID2_I3D_LEAST_FRAMES. */
sid2_judge *sid2_judge_open_clips(sid2_device *device, const char *path, int batch, int frames,
                                  sid2_error *err);
void sid2_judge_close(sid2_judge *judge); /* NULL is fine */
bool sid2_judge_has_classes(const sid2_judge *judge);
/* Of one picture: features, then (where wanted) sFID's, then (where the file has the head) the classes' probabilities. Of a
 * clip: its logits. */
int64_t sid2_judge_width(const sid2_judge *judge);
/* pixels u8 [count,height,width,channels], of clips [count,frames,height,width,channels], any count; rows[count, width of a
 * row]. The bits of a row do not depend on the others. */
bool sid2_judge_rows(sid2_judge *judge, const uint8_t *pixels, int64_t count, int64_t height, int64_t width,
                     int channels, float *rows, sid2_error *err);

#endif

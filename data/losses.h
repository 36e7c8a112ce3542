/* Inside data/: what is left out of a data set, counted by reason and by kind of file. */
#ifndef SID2_LOSSES_H
#define SID2_LOSSES_H

#include "base.h"

typedef enum sid2_reason {
    SID2_LOST_KIND,
    SID2_LOST_HIDDEN,
    SID2_LOST_OUTSIDE,
    SID2_LOST_SPLIT,
    SID2_LOST_TEST,
    SID2_LOST_UNLABELLED,
    SID2_LOST_EXTRA,
    SID2_LOST_EMPTY,
    SID2_LOST_POINTER,
    SID2_LOST_DANGLING,
    SID2_LOST_CIRCLE,
    SID2_LOST_LINK,
    SID2_LOST_DENIED,
    SID2_LOST_SPECIAL,
    SID2_LOST_BROKEN,
    SID2_REASONS
} sid2_reason;

enum { SID2_LOST_KINDS = 32 };

typedef struct sid2_loss {
    int64_t count;
    char *first; /* the lowest of their names; NULL: without memory for it */
    int kinds;   /* the last stands for all that found no place */
    struct {
        char ending[12];
        int64_t count;
    } kind[SID2_LOST_KINDS];
} sid2_loss;

typedef struct sid2_losses {
    sid2_loss *of[SID2_REASONS]; /* NULL: none */
} sid2_losses;

bool sid2_losses_add(sid2_losses *losses, sid2_reason reason, const char *name, sid2_error *err);
void sid2_losses_free(sid2_losses *losses);

/* "6 files of other kinds: .webp 4, .heic 2", safe to print; false where nothing was lost for this reason. */
enum { SID2_LOSS_LINE = 2048 };
bool sid2_losses_line(const sid2_losses *losses, sid2_reason reason, char line[SID2_LOSS_LINE]);
/* The same; NULL also without memory. The caller frees. */
char *sid2_losses_text(const sid2_losses *losses, sid2_reason reason);

#endif

#include "losses.h"

#include "file.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *one, *many;
} words[SID2_REASONS] = {
    [SID2_LOST_KIND] = {"file of another kind", "files of other kinds"},
    [SID2_LOST_HIDDEN] = {"hidden file, or in a helper folder", "hidden files, or in helper folders"},
    [SID2_LOST_OUTSIDE] = {"picture outside every class folder", "pictures outside every class folder"},
    [SID2_LOST_SPLIT] = {"picture of another split", "pictures of other splits"},
    [SID2_LOST_TEST] = {"file of a test set", "files of a test set"},
    [SID2_LOST_UNLABELLED] = {"picture without a label", "pictures without a label"},
    [SID2_LOST_EXTRA] = {"further picture of a sample", "further pictures of a sample"},
    [SID2_LOST_EMPTY] = {"empty file", "empty files"},
    [SID2_LOST_POINTER] = {"git-lfs pointer (git lfs pull fetches what it stands for)",
                           "git-lfs pointers (git lfs pull fetches what they stand for)"},
    [SID2_LOST_DANGLING] = {"link to nothing", "links to nothing"},
    [SID2_LOST_CIRCLE] = {"link that leads in a circle", "links that lead in a circle"},
    [SID2_LOST_LINK] = {"link within the archive", "links within the archive"},
    [SID2_LOST_DENIED] = {"without permission to read it", "without permission to read them"},
    [SID2_LOST_SPECIAL] = {"pipe, socket or device", "pipes, sockets or devices"},
    [SID2_LOST_BROKEN] = {"broken picture", "broken pictures"},
};

static void ending_of(const char *name, char ending[12])
{
    const char *base = sid2_base_name(name), *dot = strrchr(base, '.');
    size_t length = dot && dot != base ? strlen(dot) : 0;
    strcpy(ending, "no ending");
    if (length < 2 || length > 11) return;
    for (size_t i = 0; i <= length; i++)
        ending[i] = (char)(dot[i] >= 'A' && dot[i] <= 'Z' ? dot[i] + ('a' - 'A') : dot[i]);
}

bool sid2_losses_add(sid2_losses *losses, sid2_reason reason, const char *name, sid2_error *err)
{
    sid2_loss *loss = losses->of[reason];
    if (!loss) loss = losses->of[reason] = calloc(1, sizeof *loss);
    if (!loss) return sid2_fail(err, SID2_ERR_MEMORY, "no memory to count what is left out");
    loss->count++;
    if (!loss->first || strcmp(name, loss->first) < 0) { /* whatever the order in which a folder is read */
        char *copy = strdup(name);
        if (copy) free(loss->first);
        if (copy) loss->first = copy;
    }
    char ending[12];
    ending_of(name, ending);
    int k = 0;
    while (k < loss->kinds && strcmp(loss->kind[k].ending, ending) != 0) k++;
    if (k == SID2_LOST_KINDS)
        strcpy(loss->kind[--k].ending, "others");
    else if (k == loss->kinds)
        strcpy(loss->kind[loss->kinds++].ending, ending);
    loss->kind[k].count++;
    return true;
}

void sid2_losses_free(sid2_losses *losses)
{
    for (int i = 0; i < SID2_REASONS; i++) {
        if (losses->of[i]) free(losses->of[i]->first);
        free(losses->of[i]);
    }
    *losses = (sid2_losses){0};
}

static bool comes_before(const sid2_loss *loss, int a, int b)
{
    int64_t more = loss->kind[a].count - loss->kind[b].count;
    return more > 0 || (more == 0 && strcmp(loss->kind[a].ending, loss->kind[b].ending) < 0);
}

bool sid2_losses_line(const sid2_losses *losses, sid2_reason reason, char line[SID2_LOSS_LINE])
{
    const sid2_loss *loss = losses->of[reason];
    if (!loss) return false;
    int used = snprintf(line, SID2_LOSS_LINE, "%lld %s", (long long)loss->count,
                        loss->count == 1 ? words[reason].one : words[reason].many);
    bool told[SID2_LOST_KINDS] = {false}; /* the most frequent first */
    for (int i = 0; i < loss->kinds; i++) {
        int most = -1;
        for (int k = 0; k < loss->kinds; k++)
            if (!told[k] && (most < 0 || comes_before(loss, k, most))) most = k;
        told[most] = true;
        used += snprintf(line + used, (size_t)(SID2_LOSS_LINE - used), "%s %s %lld", i ? "," : ":",
                         loss->kind[most].ending, (long long)loss->kind[most].count);
    }
    if (loss->first && reason != SID2_LOST_KIND)
        snprintf(line + used, (size_t)(SID2_LOSS_LINE - used), " (%s%.200s)",
                 loss->count == 1 ? "" : "such as ", loss->first);
    sid2_plain_line(line);
    return true;
}

char *sid2_losses_text(const sid2_losses *losses, sid2_reason reason)
{
    char line[SID2_LOSS_LINE];
    return sid2_losses_line(losses, reason, line) ? strdup(line) : NULL;
}

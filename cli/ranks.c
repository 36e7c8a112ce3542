#include "ranks.h"

#include "transports.h"

#include <stdio.h>

enum { PATIENCE = 600 }; /* seconds for the slowest of what others wait for */

bool ranks_join(ranks *r, sid2_error *err)
{
    *r = (ranks){.group = NULL};
    if (!sid2_place_find(&r->place, err)) return false;
    if (r->place.ranks == 1) return true;
    const sid2_transport *transport = sid2_transport_open(&r->place, err);
    return transport && (r->group = sid2_group_join(transport, &r->place, PATIENCE, err));
}

int ranks_leave(ranks *r, int code, const sid2_error *err)
{
    bool lost = r->group && err->code == SID2_ERR_LOST;
    sid2_group_leave(r->group, !lost);
    r->group = NULL;
    return lost ? EXIT_AGAIN : code;
}

bool ranks_speak(const ranks *r) { return r->place.rank == 0; }

int ranks_report(const ranks *r, const char *command, const sid2_error *err)
{
    char name[96];
    sid2_error named = *err;
    if (!ranks_speak(r) && err->code != SID2_ERR_LOST)
        return err->code == SID2_ERR_USAGE ? EXIT_REQUEST : EXIT_FAILED;
    snprintf(named.message, sizeof named.message, "%s%.370s", ranks_name(r, name), err->message);
    return report_error(command, &named);
}

const char *ranks_name(const ranks *r, char text[96])
{
    text[0] = 0;
    if (r->place.rank) snprintf(text, 96, "rank %d on %s: ", r->place.rank, r->place.host);
    return text;
}

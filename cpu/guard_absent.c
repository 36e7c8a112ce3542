#include "guard.h"

bool sid2_guard(void (*work)(void *user), void *user)
{
    work(user);
    return true;
}

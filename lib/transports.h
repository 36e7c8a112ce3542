/* How ranks reach each other: opens the module that suits whatever started them. */
#ifndef SID2_TRANSPORTS_H
#define SID2_TRANSPORTS_H

#include "transport.h"

/* Stays open as long as the process. UNSUPPORTED: no such module, or its library is missing. */
const sid2_transport *sid2_transport_open(const sid2_place *place, sid2_error *err);

#endif

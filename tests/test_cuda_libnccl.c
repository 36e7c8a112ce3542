/* The real NCCL, where it is there, without a GPU: it has what sid2 calls, and ranks find each other by NCCL_COMM_ID alone. */
#include "libraries.h"
#include "nccl.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what)
{
    printf("FAILED: %s\n", what);
    return 1;
}

/* An id begins with a number of 64 bits, then has the address where rank 0 will listen. */
static int check_id(const sid2_nccl_functions *nccl)
{
    ncclUniqueId id[2];
    struct sockaddr_in address;
    setenv("NCCL_COMM_ID", "127.0.0.1:23456", 1);
    for (int i = 0; i < 2; i++)
        if (nccl->ncclGetUniqueId(&id[i]) != ncclSuccess) return fail("no id by NCCL_COMM_ID");
    if (memcmp(&id[0], &id[1], sizeof id[0]) != 0) return fail("two ranks get two ids");
    memcpy(&address, id[0].internal + 8, sizeof address);
    if (address.sin_family != AF_INET || ntohs(address.sin_port) != 23456 ||
        ntohl(address.sin_addr.s_addr) != INADDR_LOOPBACK)
        return fail("an id that does not hold the address");
    return 0;
}

int main(void)
{
    sid2_nccl_functions nccl;
    char why[200];
    if (!sid2_nccl_load(&nccl, why, sizeof why)) {
        if (strstr(why, "lacks")) return fail(why);
        printf("skipped: %s (SID2_CUDA_LIBRARIES names where it is)\n", why);
        return 77;
    }
    if (!sid2_nccl_there(why, sizeof why)) return fail(why);
    printf("%s\n", sid2_nccl_transport.version());
    return check_id(&nccl);
}

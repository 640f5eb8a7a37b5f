/* A network backend of sockets, for tests and fuzz targets: the test holds the other ends. */
#pragma once

#include "kvm-glue/net-backend.h"

/* n pairs; ret_ends: a nonblocking datagram socket for each, the caller's. */
struct net_backend *fake_network_new(unsigned n_pairs, int *ret_ends);
/* So many pairs were asked for last. */
unsigned fake_network_pairs(void);

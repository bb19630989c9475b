/*
 * kvma: VMAs for kernels and hypervisors. Link with -lkvma.
 *
 * Generated from the crate kvma-capi. Do not edit: change the crate or header.outline, then
 *     KVMA_BLESS=1 cargo test -p kvma-capi --test header
 *
 *     kvma/core.h      the map of VMAs
 *     kvma/linux.h     Linux' memory calls, on top of a map
 *     kvma/guest.h     guest-physical memory, for hypervisors
 *     kvma/libmmap.h   an address space as libmmap has it, of which its headers are made
 */

#ifndef KVMA_H
#define KVMA_H

#include "kvma/core.h"
#include "kvma/linux.h"
#include "kvma/guest.h"
#include "kvma/libmmap.h"

#endif /* KVMA_H */

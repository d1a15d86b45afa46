// Everything a training program needs.
#ifndef MUSTER_MUSTER_H_
#define MUSTER_MUSTER_H_

#include "muster/communicator.h"
#include "muster/device.h"
#include "muster/optimizer.h"
#include "muster/sampler.h"
#include "muster/session.h"
#include "muster/shards.h"
#include "muster/tensor.h"
#include "muster/trainer.h"
#include "muster/window.h"
#include "muster/work.h"

#endif  // MUSTER_MUSTER_H_

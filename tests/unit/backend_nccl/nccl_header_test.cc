// What muster declares of libnccl is what NVIDIA's header declares, as far as this version of it goes.
#include <gtest/gtest.h>
#include <nccl.h>

#include <cstddef>

#include "runtime/backend/nccl/nccl_api.h"
#include "runtime/backend/nccl/nccl_functions.h"
#include "tests/support/same_call.h"

namespace muster::test {
namespace {

#define MUSTER_CHECK_CALL(name, type) \
  static_assert(SameCall(static_cast<type>(nullptr), static_cast<decltype(&::name)>(nullptr)), #name);
MUSTER_NCCL_FUNCTIONS(MUSTER_CHECK_CALL)
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 7)
MUSTER_NCCL_LATER_FUNCTIONS(MUSTER_CHECK_CALL)
static_assert(kNcclWindowSymmetric == NCCL_WIN_COLL_SYMMETRIC && kNcclShrinkDefault == NCCL_SHRINK_DEFAULT);
#endif
#undef MUSTER_CHECK_CALL

static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId) && sizeof(NcclId) == sizeof(ncclUniqueId));
static_assert(sizeof(NcclConfig) <= sizeof(ncclConfig_t));
static_assert(offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(kNcclOk == ncclSuccess && kNcclUnhandledCudaError == ncclUnhandledCudaError &&
              kNcclSystemError == ncclSystemError && kNcclInternalError == ncclInternalError &&
              kNcclInvalidArgument == ncclInvalidArgument && kNcclInvalidUsage == ncclInvalidUsage &&
              kNcclRemoteError == ncclRemoteError && kNcclInProgress == ncclInProgress);
static_assert(ncclSum == 0 && ncclProd == 1 && ncclMax == 2 && ncclMin == 3 && ncclAvg == 4);
static_assert(ncclUint8 == 1 && ncclInt32 == 2 && ncclInt64 == 4 && ncclFloat16 == 6 && ncclFloat32 == 7 && ncclFloat64 == 8 &&
              ncclBfloat16 == 9);

TEST(NcclHeader, DeclaresWhatMusterCalls) {
  constexpr ncclConfig_t real = NCCL_CONFIG_INITIALIZER;
  EXPECT_EQ(NcclConfig().magic, real.magic);
  EXPECT_LE(NcclConfig().version, real.version);
}

}  // namespace
}  // namespace muster::test

#include <gtest/gtest.h>

TEST(CudaHeader, DeclaresWhatMusterCalls) { GTEST_SKIP() << "cuda_runtime_api.h was not found when muster was configured"; }

#include "runtime/kernels/kernel_body.h"

namespace muster::kernels {

const KernelTable kAvx2Kernels = kTable;

}  // namespace muster::kernels

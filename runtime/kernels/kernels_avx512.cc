#include "runtime/kernels/kernel_body.h"

namespace muster::kernels {

const KernelTable kAvx512Kernels = kTable;

}  // namespace muster::kernels

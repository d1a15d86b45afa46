#include "runtime/kernels/kernel_body.h"

namespace muster::kernels {

const KernelTable kPlainKernels = kTable;

}  // namespace muster::kernels

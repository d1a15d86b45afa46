// What train_words asks of its kernels for GPUs. libtrain_words_cuda.so, built where nvcc and cuBLAS are, implements it.
//
// Crosses a dlopen: plain types only. What returns int returns 0, or a code that ErrorText turns into words.
#ifndef TRAIN_WORDS_MODEL_CUDA_H_
#define TRAIN_WORDS_MODEL_CUDA_H_

#include <stddef.h>
#include <stdint.h>

inline constexpr int kModelCudaVersion = 1;
inline constexpr int kModelParameters = 7;  // in the order of Model::Parameters

struct ModelCudaShape {
  int symbols;
  int context;
  int embed;
  int hidden;
};

// One thread. The arithmetic is that of model.cc, in float32 without TF32; sums go in an order that depends on shapes and GPU only,
// so that the same positions give the same bits.
class ModelCuda {
 public:
  virtual ~ModelCuda() = default;

  // Queues forward and backward pass over `positions` to `stream` (a cudaStream_t), waits, and sets `*loss` to the summed loss. Values
  // and gradients are in device memory, contexts and targets (positions.h) in the host's. `ready(context, i)` is called when the
  // work that adds the gradient of parameter i has been queued, and with -1 between forward and backward.
  virtual int Train(const float* const* values, float* const* gradients, const int32_t* contexts, const int32_t* targets,
                    int64_t positions, void* stream, void (*ready)(void* context, int parameter), void* context,
                    double* loss) = 0;

  // The summed loss alone.
  virtual int Evaluate(const float* const* values, const int32_t* contexts, const int32_t* targets, int64_t positions,
                       void* stream, double* loss) = 0;
};

// What libtrain_words_cuda.so exports, with C names.
extern "C" {
using TrainWordsCudaVersion = int (*)();
using TrainWordsCudaModel = int (*)(const ModelCudaShape* shape, int device, ModelCuda** model);  // to be deleted by the caller
using TrainWordsCudaErrorText = void (*)(int code, char* text, size_t bytes);
}

#endif  // TRAIN_WORDS_MODEL_CUDA_H_

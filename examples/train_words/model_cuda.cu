// libtrain_words_cuda.so: the model's passes on an NVIDIA GPU, matrix products by cuBLAS.
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <stdio.h>

#include <vector>

#include "model_cuda.h"

namespace {

// cuBLAS's codes stand behind CUDA's.
constexpr int kCublasCodes = 1 << 20;
constexpr int kWarp = 32;
constexpr int kThreads = 256;

// In the order of registration, which is the order of use.
enum Parameter { kEmbedding, kWeight1, kBias1, kWeight2, kBias2, kWeight3, kBias3 };

#define RETURN_IF_ERROR(expression) \
  if (const int code_ = (expression); code_ != 0) return code_

int Code(cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS ? 0 : kCublasCodes + static_cast<int>(status); }
int Launched() { return static_cast<int>(cudaGetLastError()); }
unsigned Blocks(int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }

__device__ int64_t Thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// input[i][slot*embed + e] = embedding[contexts[i][slot]][e]; `count` elements.
__global__ void Gather(const float* embedding, const int32_t* contexts, int embed, int64_t count, float* input) {
  const int64_t at = Thread();
  if (at < count) input[at] = embedding[contexts[at / embed] * static_cast<int64_t>(embed) + at % embed];
}

__global__ void AddBiasTanh(const float* bias, int units, int64_t count, float* output) {
  const int64_t at = Thread();
  if (at < count) output[at] = tanhf(output[at] + bias[at % units]);
}

// A warp for each position: probabilities in place of `output`, and the loss.
__global__ void Softmax(const float* bias, const int32_t* targets, int symbols, int64_t positions, float* output,
                        double* losses) {
  const int64_t position = Thread() / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (position >= positions) return;
  float* const row = output + position * symbols;
  float largest = -INFINITY;
  for (int i = lane; i < symbols; i += kWarp) largest = fmaxf(largest, row[i] += bias[i]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, offset));
  __syncwarp();
  const float chosen = row[targets[position]] - largest;
  __syncwarp();
  float total = 0;
  for (int i = lane; i < symbols; i += kWarp) total += row[i] = expf(row[i] - largest);
  for (int offset = kWarp / 2; offset > 0; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
  for (int i = lane; i < symbols; i += kWarp) row[i] /= total;
  if (lane == 0) losses[position] = log(static_cast<double>(total)) - static_cast<double>(chosen);
}

__global__ void SubtractTargets(const int32_t* targets, int symbols, int64_t positions, float* output) {
  const int64_t position = Thread();
  if (position < positions) output[position * symbols + targets[position]] -= 1.0f;
}

// bias[column] += the sum of a column; a block for each.
__global__ void AddColumnSums(const float* matrix, int64_t rows, int columns, float* bias) {
  __shared__ float sums[kThreads];
  float sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) sum += matrix[row * columns + blockIdx.x];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) bias[blockIdx.x] += sums[0];
}

// hidden = gradient * (1 - hidden^2): from a layer's output to the gradient before its tanh.
__global__ void TanhBackward(const float* gradient, int64_t count, float* hidden) {
  const int64_t at = Thread();
  if (at < count) hidden[at] = gradient[at] * (1.0f - hidden[at] * hidden[at]);
}

// A block for each symbol, a thread for each of its numbers, which finds the symbol's places in order: no atomic additions, whose
// order would differ from run to run.
__global__ void AddEmbedding(const float* gradient, const int32_t* contexts, int64_t places, int embed, float* embedding) {
  const int symbol = blockIdx.x;
  for (int e = threadIdx.x; e < embed; e += blockDim.x) {
    float sum = 0;
    for (int64_t place = 0; place < places; ++place) {
      if (contexts[place] == symbol) sum += gradient[place * embed + e];
    }
    embedding[symbol * embed + e] += sum;
  }
}

// Device memory that grows with the largest batch.
template <class T>
class Buffer {
 public:
  ~Buffer() { cudaFree(memory_); }
  int Resize(int64_t count) {
    if (count <= count_) return 0;
    cudaFree(memory_);
    memory_ = nullptr;
    count_ = 0;
    RETURN_IF_ERROR(cudaMalloc(&memory_, static_cast<size_t>(count) * sizeof(T)));
    count_ = count;
    return 0;
  }
  T* get() const { return memory_; }

 private:
  T* memory_ = nullptr;
  int64_t count_ = 0;
};

class CublasModel final : public ModelCuda {
 public:
  CublasModel(const ModelCudaShape& shape, int device) : shape_(shape), device_(device) {}
  ~CublasModel() override {
    cudaSetDevice(device_);
    if (cublas_ != nullptr) cublasDestroy(cublas_);
  }
  int Make() {
    RETURN_IF_ERROR(cudaSetDevice(device_));
    RETURN_IF_ERROR(Code(cublasCreate(&cublas_)));
    return Code(cublasSetMathMode(cublas_, CUBLAS_PEDANTIC_MATH));
  }

  int Train(const float* const* values, float* const* gradients, const int32_t* contexts, const int32_t* targets,
            int64_t positions, void* stream, void (*ready)(void*, int), void* context, double* loss) override {
    RETURN_IF_ERROR(Forward(values, contexts, targets, positions, stream));
    ready(context, -1);
    RETURN_IF_ERROR(Backward(values, gradients, positions, ready, context));
    return SumLosses(positions, loss);
  }

  int Evaluate(const float* const* values, const int32_t* contexts, const int32_t* targets, int64_t positions, void* stream,
               double* loss) override {
    RETURN_IF_ERROR(Forward(values, contexts, targets, positions, stream));
    return SumLosses(positions, loss);
  }

 private:
  int inputs() const { return shape_.context * shape_.embed; }

  // output (rows x columns) = input (rows x inner) * weight (inner x columns), all row-major: to cuBLAS, which is column-major, they
  // are transposed, and so is the product.
  int Multiply(const float* input, const float* weight, int64_t rows, int inner, int columns, float* output) {
    const float one = 1, zero = 0;
    return Code(cublasSgemm(cublas_, CUBLAS_OP_N, CUBLAS_OP_N, columns, static_cast<int>(rows), inner, &one, weight, columns,
                            input, inner, &zero, output, columns));
  }
  // weight_gradient (inner x columns) += input^T * gradient
  int AddWeightGradient(const float* input, const float* gradient, int64_t rows, int inner, int columns,
                        float* weight_gradient) {
    const float one = 1;
    return Code(cublasSgemm(cublas_, CUBLAS_OP_N, CUBLAS_OP_T, columns, inner, static_cast<int>(rows), &one, gradient, columns,
                            input, inner, &one, weight_gradient, columns));
  }
  // input_gradient (rows x inner) = gradient * weight^T
  int MultiplyBack(const float* gradient, const float* weight, int64_t rows, int inner, int columns, float* input_gradient) {
    const float one = 1, zero = 0;
    return Code(cublasSgemm(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, inner, static_cast<int>(rows), columns, &one, weight, columns,
                            gradient, columns, &zero, input_gradient, inner));
  }

  int Forward(const float* const* values, const int32_t* contexts, const int32_t* targets, int64_t positions, void* stream) {
    RETURN_IF_ERROR(cudaSetDevice(device_));
    stream_ = static_cast<cudaStream_t>(stream);
    RETURN_IF_ERROR(Code(cublasSetStream(cublas_, stream_)));
    RETURN_IF_ERROR(Resize(positions));
    const size_t places = static_cast<size_t>(positions) * static_cast<size_t>(shape_.context);
    RETURN_IF_ERROR(cudaMemcpyAsync(contexts_.get(), contexts, places * sizeof(int32_t), cudaMemcpyHostToDevice, stream_));
    RETURN_IF_ERROR(cudaMemcpyAsync(targets_.get(), targets, static_cast<size_t>(positions) * sizeof(int32_t),
                                    cudaMemcpyHostToDevice, stream_));
    const int64_t input_count = positions * inputs();
    Gather<<<Blocks(input_count), kThreads, 0, stream_>>>(values[kEmbedding], contexts_.get(), shape_.embed, input_count,
                                                          input_.get());
    RETURN_IF_ERROR(Hidden(input_.get(), inputs(), values + kWeight1, positions, hidden1_.get()));
    RETURN_IF_ERROR(Hidden(hidden1_.get(), shape_.hidden, values + kWeight2, positions, hidden2_.get()));
    RETURN_IF_ERROR(Multiply(hidden2_.get(), values[kWeight3], positions, shape_.hidden, shape_.symbols, output_.get()));
    Softmax<<<Blocks(positions * kWarp), kThreads, 0, stream_>>>(values[kBias3], targets_.get(), shape_.symbols, positions,
                                                                 output_.get(), losses_.get());
    return Launched();
  }

  // `values`: the layer's weight, then its bias.
  int Hidden(const float* input, int inner, const float* const* values, int64_t positions, float* output) {
    RETURN_IF_ERROR(Multiply(input, values[0], positions, inner, shape_.hidden, output));
    const int64_t count = positions * shape_.hidden;
    AddBiasTanh<<<Blocks(count), kThreads, 0, stream_>>>(values[1], shape_.hidden, count, output);
    return Launched();
  }

  int Backward(const float* const* values, float* const* gradients, int64_t positions, void (*ready)(void*, int),
               void* context) {
    SubtractTargets<<<Blocks(positions), kThreads, 0, stream_>>>(targets_.get(), shape_.symbols, positions, output_.get());
    // Gradients of a layer's bias and weight, marked as they are queued, and of its input.
    const auto layer = [&](const float* input, int inner, int weight, const float* output, int columns, float* input_gradient) {
      AddColumnSums<<<static_cast<unsigned>(columns), kThreads, 0, stream_>>>(output, positions, columns,
                                                                              gradients[weight + 1]);
      RETURN_IF_ERROR(Launched());
      ready(context, weight + 1);
      RETURN_IF_ERROR(AddWeightGradient(input, output, positions, inner, columns, gradients[weight]));
      ready(context, weight);
      return MultiplyBack(output, values[weight], positions, inner, columns, input_gradient);
    };
    const auto through_tanh = [&](float* hidden) {
      const int64_t count = positions * shape_.hidden;
      TanhBackward<<<Blocks(count), kThreads, 0, stream_>>>(gradient_.get(), count, hidden);
      return Launched();
    };
    RETURN_IF_ERROR(layer(hidden2_.get(), shape_.hidden, kWeight3, output_.get(), shape_.symbols, gradient_.get()));
    RETURN_IF_ERROR(through_tanh(hidden2_.get()));
    RETURN_IF_ERROR(layer(hidden1_.get(), shape_.hidden, kWeight2, hidden2_.get(), shape_.hidden, gradient_.get()));
    RETURN_IF_ERROR(through_tanh(hidden1_.get()));
    RETURN_IF_ERROR(layer(input_.get(), inputs(), kWeight1, hidden1_.get(), shape_.hidden, gradient_.get()));
    AddEmbedding<<<static_cast<unsigned>(shape_.symbols), kWarp, 0, stream_>>>(
        gradient_.get(), contexts_.get(), positions * shape_.context, shape_.embed, gradients[kEmbedding]);
    RETURN_IF_ERROR(Launched());
    ready(context, kEmbedding);
    return 0;
  }

  // On the host, in order.
  int SumLosses(int64_t positions, double* loss) {
    host_losses_.resize(static_cast<size_t>(positions));
    RETURN_IF_ERROR(cudaMemcpyAsync(host_losses_.data(), losses_.get(), host_losses_.size() * sizeof(double),
                                    cudaMemcpyDeviceToHost, stream_));
    RETURN_IF_ERROR(cudaStreamSynchronize(stream_));
    *loss = 0;
    for (const double part : host_losses_) *loss += part;
    return 0;
  }

  int Resize(int64_t positions) {
    RETURN_IF_ERROR(contexts_.Resize(positions * shape_.context));
    RETURN_IF_ERROR(targets_.Resize(positions));
    RETURN_IF_ERROR(input_.Resize(positions * inputs()));
    RETURN_IF_ERROR(hidden1_.Resize(positions * shape_.hidden));
    RETURN_IF_ERROR(hidden2_.Resize(positions * shape_.hidden));
    RETURN_IF_ERROR(output_.Resize(positions * shape_.symbols));
    RETURN_IF_ERROR(gradient_.Resize(positions * (inputs() > shape_.hidden ? inputs() : shape_.hidden)));
    return losses_.Resize(positions);
  }

  const ModelCudaShape shape_;
  const int device_;
  cublasHandle_t cublas_ = nullptr;
  cudaStream_t stream_ = nullptr;
  Buffer<int32_t> contexts_, targets_;
  Buffer<float> input_, hidden1_, hidden2_;  // positions x (context*embed, hidden, hidden)
  Buffer<float> output_;                     // positions x symbols: probabilities, later their gradient
  Buffer<float> gradient_;                   // of a layer's input
  Buffer<double> losses_;                    // by position
  std::vector<double> host_losses_;
};

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int train_words_cuda_version() { return kModelCudaVersion; }

EXPORTED int train_words_cuda_model(const ModelCudaShape* shape, int device, ModelCuda** model) {
  auto* const made = new CublasModel(*shape, device);
  const int code = made->Make();
  if (code == 0) {
    *model = made;
  } else {
    delete made;
  }
  return code;
}

EXPORTED void train_words_cuda_error_text(int code, char* text, size_t bytes) {
  if (code >= kCublasCodes) {
    snprintf(text, bytes, "cuBLAS: %s", cublasGetStatusString(static_cast<cublasStatus_t>(code - kCublasCodes)));
  } else {
    snprintf(text, bytes, "%s", cudaGetErrorString(static_cast<cudaError_t>(code)));
  }
}

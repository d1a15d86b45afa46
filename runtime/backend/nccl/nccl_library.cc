#include "runtime/backend/nccl/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/backend/nccl/nccl_functions.h"
#include "runtime/base/status.h"
#include "runtime/device/library_search.h"

namespace muster {
namespace {

struct Functions {
#define MUSTER_MEMBER(name, type) std::type_identity_t<type> name = nullptr;
  MUSTER_NCCL_FUNCTIONS(MUSTER_MEMBER)
  MUSTER_NCCL_LATER_FUNCTIONS(MUSTER_MEMBER)
#undef MUSTER_MEMBER
};

// A ncclDataType_t.
int TypeOf(DataType type) {
  switch (type) {
    case DataType::kUint8:
      return 1;
    case DataType::kInt32:
      return 2;
    case DataType::kInt64:
      return 4;
    case DataType::kFloat16:
      return 6;
    case DataType::kFloat32:
      return 7;
    case DataType::kFloat64:
      return 8;
    case DataType::kBFloat16:
      return 9;
  }
  return -1;
}

// A ncclRedOp_t.
int OpOf(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return 0;
    case ReduceOp::kProd:
      return 1;
    case ReduceOp::kMax:
      return 2;
    case ReduceOp::kMin:
      return 3;
    case ReduceOp::kAvg:
      return 4;
  }
  return -1;
}

// NCCL_VERSION_CODE: up to 2.8 major*1000 + minor*100 + patch, then major*10000 + minor*100 + patch.
std::string VersionText(int code) {
  const int major = code < 10'000 ? code / 1000 : code / 10'000;
  return absl::StrCat("NCCL ", major, ".", code % (code < 10'000 ? 1000 : 10'000) / 100, ".", code % 100);
}

class NcclLibrary : public NcclApi {
 public:
  NcclLibrary(const Functions& functions, std::string library) : f_(functions), library_(std::move(library)) {
    powers_.several_roots = f_.ncclCommInitRankScalable != nullptr;
    powers_.splits = f_.ncclCommSplit != nullptr;
    powers_.shrinks = f_.ncclCommShrink != nullptr && f_.ncclCommRevoke != nullptr;
    powers_.allocates = f_.ncclMemAlloc != nullptr && f_.ncclMemFree != nullptr;
    powers_.registers = f_.ncclCommRegister != nullptr && f_.ncclCommDeregister != nullptr;
    powers_.has_windows = f_.ncclCommWindowRegister != nullptr && f_.ncclCommWindowDeregister != nullptr && powers_.allocates;
  }

  const std::string& library() const override { return library_; }
  const NcclPowers& powers() const override { return powers_; }

  int GetId(NcclId* id) override {
    NcclUniqueId made = {};
    const int code = f_.ncclGetUniqueId(&made);
    std::memcpy(id->data(), made.internal, sizeof made.internal);
    return code;
  }
  int Init(NcclComm* comm, int ranks, int rank, std::span<const NcclId> ids) override {
    static_assert(sizeof(NcclId) == sizeof(NcclUniqueId));
    NcclConfig config;
    std::vector<NcclUniqueId> all(ids.size());
    std::memcpy(all.data(), ids.data(), ids.size_bytes());
    if (all.size() == 1) return f_.ncclCommInitRankConfig(comm, ranks, all[0], rank, &config);
    return f_.ncclCommInitRankScalable(comm, ranks, rank, static_cast<int>(all.size()), all.data(), &config);
  }
  int Split(NcclComm comm, int color, int key, NcclComm* made) override {
    NcclConfig config;
    return f_.ncclCommSplit(comm, color < 0 ? -1 : color, key, made, &config);
  }
  int Shrink(NcclComm comm, std::span<const int> excluded, NcclComm* made) override {
    NcclConfig config;
    std::vector<int> ranks(excluded.begin(), excluded.end());
    return f_.ncclCommShrink(comm, ranks.data(), static_cast<int>(ranks.size()), made, &config, kNcclShrinkDefault);
  }
  int Revoke(NcclComm comm) override { return f_.ncclCommRevoke(comm, 0); }
  int Finalize(NcclComm comm) override { return f_.ncclCommFinalize(comm); }
  int Destroy(NcclComm comm) override { return f_.ncclCommDestroy(comm); }
  int Abort(NcclComm comm) override { return f_.ncclCommAbort(comm); }
  int AsyncError(NcclComm comm, int* state) override { return f_.ncclCommGetAsyncError(comm, state); }

  int AllReduce(const void* send, void* receive, int64_t count, DataType type, ReduceOp op, NcclComm comm,
                CudaStream stream) override {
    return f_.ncclAllReduce(send, receive, static_cast<size_t>(count), TypeOf(type), OpOf(op), comm, stream);
  }
  int ReduceScatter(const void* send, void* receive, int64_t count, DataType type, ReduceOp op, NcclComm comm,
                    CudaStream stream) override {
    return f_.ncclReduceScatter(send, receive, static_cast<size_t>(count), TypeOf(type), OpOf(op), comm, stream);
  }
  int Broadcast(void* buffer, int64_t bytes, int root, NcclComm comm, CudaStream stream) override {
    return f_.ncclBroadcast(buffer, buffer, static_cast<size_t>(bytes), TypeOf(DataType::kUint8), root, comm, stream);
  }
  int AllGather(const void* send, void* receive, int64_t bytes, NcclComm comm, CudaStream stream) override {
    return f_.ncclAllGather(send, receive, static_cast<size_t>(bytes), TypeOf(DataType::kUint8), comm, stream);
  }

  int Allocate(void** memory, int64_t bytes) override { return f_.ncclMemAlloc(memory, static_cast<size_t>(bytes)); }
  int Free(void* memory) override { return f_.ncclMemFree(memory); }
  int Register(NcclComm comm, void* memory, int64_t bytes, void** handle) override {
    return f_.ncclCommRegister(comm, memory, static_cast<size_t>(bytes), handle);
  }
  int Deregister(NcclComm comm, void* handle) override { return f_.ncclCommDeregister(comm, handle); }
  int RegisterWindow(NcclComm comm, void* memory, int64_t bytes, NcclWindow* window) override {
    return f_.ncclCommWindowRegister(comm, memory, static_cast<size_t>(bytes), window, kNcclWindowSymmetric);
  }
  int DeregisterWindow(NcclComm comm, NcclWindow window) override { return f_.ncclCommWindowDeregister(comm, window); }

  std::string ErrorText(int code) override {
    const char* const last = f_.ncclGetLastError(nullptr);
    const std::string said = last == nullptr ? "" : last;
    return said.empty() ? f_.ncclGetErrorString(code) : absl::StrCat(f_.ncclGetErrorString(code), " (", said, ")");
  }

 private:
  const Functions f_;
  const std::string library_;
  NcclPowers powers_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<NcclApi>> OpenNcclLibrary(const std::string& path,
                                                         absl::FunctionRef<const char*(const char*)> variable) {
  LibrarySearch search;
  search.what = "NCCL";
  search.variable = "MUSTER_NCCL_LIBRARY";
  search.chosen = path;
  search.names = {"libnccl.so.2"};
  search.wheels = {"nvidia/nccl/lib", "nvidia/cu13/lib"};
  search.remedy = "install NCCL (NVIDIA's package libnccl2, or pip install nvidia-nccl-cu13)";
  MUSTER_ASSIGN_OR_RETURN(const OpenedLibrary library, OpenLibrary(search, variable));
  Functions functions;
  std::string missing;
#define MUSTER_BIND(name, type) functions.name = reinterpret_cast<decltype(functions.name)>(::dlsym(library.handle, #name));
#define MUSTER_BIND_OR_MISS(name, type) \
  MUSTER_BIND(name, type)               \
  if (functions.name == nullptr && missing.empty()) missing = #name;
  MUSTER_NCCL_FUNCTIONS(MUSTER_BIND_OR_MISS)
  MUSTER_NCCL_LATER_FUNCTIONS(MUSTER_BIND)
#undef MUSTER_BIND_OR_MISS
#undef MUSTER_BIND
  if (!missing.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "NCCL ", library.file, " has no ", missing, "; install NCCL 2.14 or later, or name another file in ", search.variable));
  }
  int version = 0;
  functions.ncclGetVersion(&version);
  return std::make_shared<NcclLibrary>(functions, VersionText(version));
}

absl::StatusOr<std::shared_ptr<NcclApi>> OpenNcclLibrary(const std::string& path) {
  return OpenNcclLibrary(path, [](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace muster

// libmuster_mpi.so: the one user of an MPI library.
// C bindings only: the C++ ones would be another library.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#include "runtime/backend/mpi/mpi_api.h"

namespace muster {
namespace {

// --- muster's own minimum and maximum: MPI's leave NaN and the zeros' signs open ---

template <bool kMinimum, typename T>
T Pick(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (a != a || b != b) return std::numeric_limits<T>::quiet_NaN();
    if (a == b) return std::signbit(a) == kMinimum ? a : b;
  }
  return (a < b) == kMinimum ? a : b;
}

// The buffers may lie at any address.
template <bool kMinimum, typename T>
void PickAll(const void* in, void* in_out, int count) {
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    T a, b;
    std::memcpy(&a, static_cast<const char*>(in) + i * sizeof a, sizeof a);
    char* const to = static_cast<char*>(in_out) + i * sizeof b;
    std::memcpy(&b, to, sizeof b);
    b = Pick<kMinimum>(a, b);
    std::memcpy(to, &b, sizeof b);
  }
}

template <bool kMinimum>
void PickFloats(void* in, void* in_out, int* count, MPI_Datatype* type) {
  if (*type == MPI_FLOAT) PickAll<kMinimum, float>(in, in_out, *count);
  if (*type == MPI_DOUBLE) PickAll<kMinimum, double>(in, in_out, *count);
}

// Bytes wrap as well: Open MPI's AVX operations saturate them (seen with 4.1.4).
template <bool kProduct>
void WrapBytes(void* in, void* in_out, int* count, MPI_Datatype*) {
  const auto* a = static_cast<const uint8_t*>(in);
  auto* b = static_cast<uint8_t*>(in_out);
  for (int i = 0; i < *count; ++i) b[i] = static_cast<uint8_t>(kProduct ? a[i] * b[i] : a[i] + b[i]);
}

// Integers wrap, so they are added and multiplied unsigned.
MPI_Datatype TypeOf(DataType type, ReduceOp op) {
  const bool arithmetic = op == ReduceOp::kSum || op == ReduceOp::kProd;
  switch (type) {
    case DataType::kFloat32:
      return MPI_FLOAT;
    case DataType::kFloat64:
      return MPI_DOUBLE;
    case DataType::kInt32:
      return arithmetic ? MPI_UINT32_T : MPI_INT32_T;
    case DataType::kInt64:
      return arithmetic ? MPI_UINT64_T : MPI_INT64_T;
    default:
      return MPI_UINT8_T;
  }
}

// Requests live on the heap, for the interface has no room for the library's handles.
MPI_Request* NewRequest() { return new MPI_Request(MPI_REQUEST_NULL); }

int Began(int code, MPI_Request* made, MpiRequest* request) {
  if (code == MPI_SUCCESS) {
    *request = made;
    return kMpiOk;
  }
  delete made;
  *request = nullptr;
  return code;
}

class OpenMpi : public MpiApi {
 public:
  // `root`: the channels of all ranks; null: these are.
  explicit OpenMpi(OpenMpi* root = nullptr) : root_(root == nullptr ? this : root) {}

  int Start(MpiPlace* place) override {
    int over = 0, begun = 0, threads = 0;
    MPI_Finalized(&over);
    if (over != 0 || begun_) return kMpiIsOver;
    MPI_Initialized(&begun);
    if (begun != 0) {
      MPI_Query_thread(&threads);
      // The program's own calls may come at any time.
      if (threads < MPI_THREAD_MULTIPLE) return kMpiThreadsFewer;
    } else {
      const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &threads);
      if (code != MPI_SUCCESS) return code;
      started_here_ = true;
      if (threads < MPI_THREAD_SERIALIZED) return kMpiThreadsFewer;
    }
    for_several_threads_ = threads >= MPI_THREAD_MULTIPLE;
    begun_ = true;
    place->started_here = started_here_;
    MPI_Comm all = MPI_COMM_NULL;
    int code = MPI_Comm_dup(MPI_COMM_WORLD, &all);
    if (code == MPI_SUCCESS) code = Open(all, place);
    for (const auto& [function, made] : {std::pair{&PickFloats<true>, &minimum_},
                                         {&PickFloats<false>, &maximum_},
                                         {&WrapBytes<false>, &sum_of_bytes_},
                                         {&WrapBytes<true>, &product_of_bytes_}}) {
      if (code == MPI_SUCCESS) code = MPI_Op_create(function, /*commute=*/1, made);
    }
    return code;
  }

  int End() override {
    for (OpenMpi* some = some_; some != nullptr; some = some->next_) some->Close();
    for (MPI_Op* made : {&minimum_, &maximum_, &sum_of_bytes_, &product_of_bytes_}) MPI_Op_free(made);
    Close();
    return started_here_ ? MPI_Finalize() : MPI_SUCCESS;
  }

  bool ForSeveralThreads() override { return root_->for_several_threads_; }

  int Split(int color, int key, MpiApi** some, MpiPlace* place) override {
    *some = nullptr;
    MPI_Comm made = MPI_COMM_NULL;
    const int code = MPI_Comm_split(collectives_, color < 0 ? MPI_UNDEFINED : color, key, &made);
    if (code != MPI_SUCCESS || made == MPI_COMM_NULL) return code;
    auto* const channels = new OpenMpi(root_);  // it lives until the process ends
    *some = channels;
    const int opened = channels->Open(made, place);
    channels->next_ = root_->some_.load();
    while (!root_->some_.compare_exchange_weak(channels->next_, channels)) {
    }
    return opened;
  }

  int BeginAllReduce(void* buffer, int64_t count, DataType type, ReduceOp op, MpiRequest* request) override {
    MPI_Request* const made = NewRequest();
    return Began(
        MPI_Iallreduce(MPI_IN_PLACE, buffer, static_cast<int>(count), TypeOf(type, op), OpOf(type, op), collectives_, made),
        made, request);
  }

  int BeginReduceScatter(const void* send, void* receive, int64_t count, DataType type, ReduceOp op,
                         MpiRequest* request) override {
    MPI_Request* const made = NewRequest();
    return Began(
        MPI_Ireduce_scatter_block(send, receive, static_cast<int>(count), TypeOf(type, op), OpOf(type, op), collectives_, made),
        made, request);
  }

  int BeginBroadcast(void* buffer, int64_t bytes, int root, MpiRequest* request) override {
    MPI_Request* const made = NewRequest();
    return Began(MPI_Ibcast(buffer, static_cast<int>(bytes), MPI_BYTE, root, collectives_, made), made, request);
  }

  int BeginAllGather(const void* send, void* receive, int64_t bytes, int64_t stride_bytes, MpiRequest* request) override {
    const void* const from = send == nullptr ? MPI_IN_PLACE : send;
    const int count = static_cast<int>(bytes);
    MPI_Request* const made = NewRequest();
    if (stride_bytes == bytes) {
      return Began(MPI_Iallgather(from, count, MPI_BYTE, receive, count, MPI_BYTE, collectives_, made), made, request);
    }
    // One element a rank, as far apart as the parts are. The library keeps the type until the operation is done.
    MPI_Datatype part, spaced;
    MPI_Type_contiguous(count, MPI_BYTE, &part);
    MPI_Type_create_resized(part, 0, static_cast<MPI_Aint>(stride_bytes), &spaced);
    MPI_Type_commit(&spaced);
    const int code = MPI_Iallgather(from, count, MPI_BYTE, receive, 1, spaced, collectives_, made);
    MPI_Type_free(&part);
    MPI_Type_free(&spaced);
    return Began(code, made, request);
  }

  int BeginFarewell(MpiRequest* request) override {
    MPI_Request* const made = NewRequest();
    return Began(MPI_Ibarrier(news_, made), made, request);
  }

  int BeginTell(const void* news, int64_t bytes, int rank, MpiRequest* request) override {
    MPI_Request* const made = NewRequest();
    return Began(MPI_Isend(news, static_cast<int>(bytes), MPI_BYTE, rank, kNewsTag, news_, made), made, request);
  }

  int BeginHear(void* news, int64_t bytes, MpiRequest* request) override {
    MPI_Request* const made = NewRequest();
    hearing_ = made;
    return Began(MPI_Irecv(news, static_cast<int>(bytes), MPI_BYTE, MPI_ANY_SOURCE, kNewsTag, news_, made), made, request);
  }

  void StopHearing(MpiRequest* request) override {
    auto* const made = static_cast<MPI_Request*>(*request);
    if (made == nullptr) return;
    hearing_ = nullptr;
    MPI_Cancel(made);
    MPI_Wait(made, MPI_STATUS_IGNORE);
    delete made;
    *request = nullptr;
  }

  int Test(MpiRequest* request, bool* done) override {
    auto* const made = static_cast<MPI_Request*>(*request);
    int finished = 0;
    const int code = MPI_Test(made, &finished, MPI_STATUS_IGNORE);
    *done = code == MPI_SUCCESS && finished != 0;
    if (code == MPI_SUCCESS && finished == 0) return kMpiOk;
    if (made == hearing_) hearing_ = nullptr;
    delete made;
    *request = nullptr;
    return code;
  }

  void ErrorText(int code, char* text, size_t bytes) override {
    char message[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (MPI_Error_string(code, message, &length) != MPI_SUCCESS) std::snprintf(message, sizeof message, "code %d", code);
    std::snprintf(text, bytes, "%s", message);
  }

  const char* Library() override {
    if (library_[0] != '\0') return library_;
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(version, &length);
    version[std::strcspn(version, ",\n")] = '\0';  // the rest tells of its packaging
    std::snprintf(library_, sizeof library_, "%s", version);
    return library_;
  }

 private:
  static constexpr int kNewsTag = 1;

  // Takes `collectives` over; the channel for news is made beside it.
  int Open(MPI_Comm collectives, MpiPlace* place) {
    collectives_ = collectives;
    int code = MPI_Comm_set_errhandler(collectives_, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_dup(collectives_, &news_);
    if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(news_, MPI_ERRORS_RETURN);
    if (code != MPI_SUCCESS) return code;
    MPI_Comm_rank(collectives_, &place->rank);
    MPI_Comm_size(collectives_, &place->world_size);
    return MPI_SUCCESS;
  }

  void Close() {
    if (hearing_ != nullptr) {  // a program that ends without having destroyed its communicator
      MPI_Cancel(hearing_);
      MPI_Wait(hearing_, MPI_STATUS_IGNORE);
      hearing_ = nullptr;
    }
    for (MPI_Comm* channel : {&collectives_, &news_}) {
      if (*channel != MPI_COMM_NULL) MPI_Comm_free(channel);
    }
  }

  MPI_Op OpOf(DataType type, ReduceOp op) const {
    const bool integer = IsInteger(type);
    switch (op) {
      case ReduceOp::kMin:
        return integer ? MPI_MIN : root_->minimum_;
      case ReduceOp::kMax:
        return integer ? MPI_MAX : root_->maximum_;
      case ReduceOp::kProd:
        return type == DataType::kUint8 ? root_->product_of_bytes_ : MPI_PROD;
      default:
        return type == DataType::kUint8 ? root_->sum_of_bytes_ : MPI_SUM;
    }
  }

  OpenMpi* const root_;
  MPI_Comm collectives_ = MPI_COMM_NULL;
  MPI_Comm news_ = MPI_COMM_NULL;
  MPI_Request* hearing_ = nullptr;  // the one BeginHear, while it is not done
  OpenMpi* next_ = nullptr;         // made before this one

  // Of the root only.
  bool begun_ = false;
  bool started_here_ = false;
  bool for_several_threads_ = false;
  std::atomic<OpenMpi*> some_{nullptr};  // what Split has made: the last one
  MPI_Op minimum_ = MPI_OP_NULL;
  MPI_Op maximum_ = MPI_OP_NULL;
  MPI_Op sum_of_bytes_ = MPI_OP_NULL;
  MPI_Op product_of_bytes_ = MPI_OP_NULL;
  char library_[128] = "";
};

}  // namespace
}  // namespace muster

extern "C" {

__attribute__((visibility("default"))) int muster_mpi_api_version() { return muster::kMpiApiVersion; }

__attribute__((visibility("default"))) muster::MpiApi* muster_mpi_api() {
  static auto* const api = new muster::OpenMpi;  // MPI outlives every session
  return api;
}

}  // extern "C"

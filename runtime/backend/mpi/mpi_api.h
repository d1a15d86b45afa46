// What the MPI backend asks of an MPI library. libmuster_mpi.so implements it over Open MPI, tests in memory.
#ifndef MUSTER_RUNTIME_BACKEND_MPI_MPI_API_H_
#define MUSTER_RUNTIME_BACKEND_MPI_MPI_API_H_

#include <cstddef>
#include <cstdint>

#include "muster/tensor.h"

namespace muster {

// Crosses a dlopen: no type of MPI, abseil or the standard library in it, and kMpiApiVersion counts its changes.
//
// The channels of some ranks: at first of all, see Split. One thread at a time; others may use other channels meanwhile where
// ForSeveralThreads. What returns int returns kMpiOk, or a code that ErrorText turns into words. An operation that was begun
// borrows its buffers until Test has said that it is done; it cannot be called off. Operations on one channel are begun in the same
// order on all ranks.
// Source: MPI: A Message-Passing Interface Standard, version 3.1, sections 5.12 (non-blocking collectives), 6.4.2 (split),
// 12.4 (threads).
inline constexpr int kMpiApiVersion = 2;
inline constexpr int kMpiOk = 0;
// Codes of our own; the library's are above 0.
inline constexpr int kMpiIsOver = -1;        // MPI was ended in this process; it can be started only once
inline constexpr int kMpiThreadsFewer = -2;  // the program has started MPI for fewer threads than are needed

using MpiRequest = void*;  // null: none

struct MpiPlace {
  int rank = 0;
  int world_size = 0;
  bool started_here = false;  // not by the program itself
};

class MpiApi {
 public:
  virtual ~MpiApi() = default;

  // Starts MPI unless the program has, for several threads at a time or else for threads that take turns, and makes the channels;
  // collective. Once a process, of the channels of all ranks.
  virtual int Start(MpiPlace* place) = 0;
  // Ends all channels, and MPI if Start started it. Collective, and blocks until all ranks call it: only after an operation that was the
  // last of all. Of the channels of all ranks only.
  virtual int End() = 0;

  // Whether channels may be used by different threads at a time, without which there is no Split.
  virtual bool ForSeveralThreads() = 0;
  // Channels of the ranks that give the same `color`, in the order of `key`, then of their rank here; null for a negative one. Collective,
  // and blocks until all ranks call it. `*some` lives until the process ends; its channels until End.
  virtual int Split(int color, int key, MpiApi** some, MpiPlace* place) = 0;

  // buffer[i] = op over all ranks, of 1 <= count <= INT32_MAX elements. Types: kFloat32, kFloat64, kInt32, kInt64, kUint8; not kAvg.
  // kMin and kMax are those of muster/tensor.h. NaNs of a sum or product may differ in sign and payload.
  virtual int BeginAllReduce(void* buffer, int64_t count, DataType type, ReduceOp op, MpiRequest* request) = 0;
  // The same; part r of `send`, `count` elements long, arrives in `receive` of rank r. The two lie apart.
  virtual int BeginReduceScatter(const void* send, void* receive, int64_t count, DataType type, ReduceOp op,
                                 MpiRequest* request) = 0;
  // `bytes` (1 to INT32_MAX) of `root` to all.
  virtual int BeginBroadcast(void* buffer, int64_t bytes, int root, MpiRequest* request) = 0;
  // `bytes` (1 to INT32_MAX) of rank r arrive at receive + r*stride_bytes. `send` null: this rank's are there already.
  virtual int BeginAllGather(const void* send, void* receive, int64_t bytes, int64_t stride_bytes, MpiRequest* request) = 0;

  // News go from rank to rank beside the collectives, with a channel of their own.
  virtual int BeginFarewell(MpiRequest* request) = 0;  // done when all ranks have begun it
  virtual int BeginTell(const void* news, int64_t bytes, int rank, MpiRequest* request) = 0;
  virtual int BeginHear(void* news, int64_t bytes,
                        MpiRequest* request) = 0;  // from any rank; the one operation StopHearing ends
  virtual void StopHearing(MpiRequest* request) = 0;

  // Moves all operations on. When done, `*request` is null.
  virtual int Test(MpiRequest* request, bool* done) = 0;

  virtual void ErrorText(int code, char* text, size_t bytes) = 0;
  virtual const char* Library() = 0;  // name and version, such as "Open MPI v4.1.4"
};

// What libmuster_mpi.so exports, with C names.
extern "C" {
using MusterMpiApiVersion = int (*)();
using MusterMpiApi = MpiApi* (*)();  // one a process, never destroyed
}
inline constexpr char kMpiApiVersionSymbol[] = "muster_mpi_api_version";
inline constexpr char kMpiApiSymbol[] = "muster_mpi_api";

}  // namespace muster

#endif  // MUSTER_RUNTIME_BACKEND_MPI_MPI_API_H_

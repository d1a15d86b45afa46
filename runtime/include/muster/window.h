// Memory that all members of a communicator share, in which collectives run in one pass and in place.
#ifndef MUSTER_WINDOW_H_
#define MUSTER_WINDOW_H_

#include <cstdint>

namespace muster {

// One rank's part of a collectively made window. A collective whose input lies in the same window on every rank (at any offset)
// reads each input byte once and writes each output byte once; anything else is staged through a copy. Messages up to 4 KiB are
// copied either way, which is faster.
//
// Made by Communicator::CreateWindow, filled with zeros, page-aligned. Lives until destroyed by its owner; destroy it after the
// last operation that uses it has finished on this rank (peers keep their own mapping, so the order among ranks is free).
// Not inherited by fork: a child process does not see the memory.
class Window {
 public:
  virtual ~Window() = default;
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  // This rank's memory; other ranks have memory of their own at `data()`.
  virtual void* data() = 0;
  virtual int64_t bytes() const = 0;

 protected:
  Window() = default;
};

}  // namespace muster

#endif  // MUSTER_WINDOW_H_

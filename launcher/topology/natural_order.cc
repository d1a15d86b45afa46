#include "launcher/topology/natural_order.h"

#include <cstddef>

#include "absl/strings/ascii.h"

namespace muster {
namespace {

// Takes a run of digits off the front of `text`, without its leading zeros.
absl::string_view TakeNumber(absl::string_view* text) {
  size_t size = 0;
  while (size < text->size() && absl::ascii_isdigit(static_cast<unsigned char>((*text)[size]))) ++size;
  absl::string_view number = text->substr(0, size);
  text->remove_prefix(size);
  while (number.size() > 1 && number[0] == '0') number.remove_prefix(1);
  return number;
}

bool BeginsWithDigit(absl::string_view text) {
  return !text.empty() && absl::ascii_isdigit(static_cast<unsigned char>(text[0]));
}

}  // namespace

bool NaturalLess(absl::string_view a, absl::string_view b) {
  absl::string_view x = a, y = b;
  while (!x.empty() && !y.empty()) {
    if (BeginsWithDigit(x) && BeginsWithDigit(y)) {
      const absl::string_view m = TakeNumber(&x), n = TakeNumber(&y);
      if (m.size() != n.size()) return m.size() < n.size();
      if (m != n) return m < n;
      continue;
    }
    if (x[0] != y[0]) return static_cast<unsigned char>(x[0]) < static_cast<unsigned char>(y[0]);
    x.remove_prefix(1);
    y.remove_prefix(1);
  }
  if (x.size() != y.size()) return x.size() < y.size();
  return a < b;
}

}  // namespace muster

#include "launcher/topology/speed_text.h"

#include <iterator>

#include "absl/strings/str_format.h"

namespace muster {

std::string BitsText(double bytes_per_second) {
  const double bits = bytes_per_second * 8;
  const char* units[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"};
  size_t unit = 0;
  double value = bits;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.3g %s", value, units[unit]);
}

}  // namespace muster

#include "launcher/cli/flags.h"

#include <algorithm>
#include <set>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// "--nproc_per_node" and "-nproc-per-node" are "nproc-per-node".
std::string BareName(absl::string_view typed) {
  std::string name(absl::StripPrefix(absl::StripPrefix(typed, "-"), "-"));
  return absl::StrReplaceAll(name, {{"_", "-"}});
}

}  // namespace

FlagSet::Flag& FlagSet::Declare(Kind kind, const std::string& names, std::string value_name, std::string help) {
  Flag flag;
  flag.kind = kind;
  flag.names = absl::StrSplit(names, ' ', absl::SkipEmpty());
  flag.value_name = std::move(value_name);
  flag.help = std::move(help);
  flag.heading = heading_;
  flags_.push_back(std::move(flag));
  return flags_.back();
}

void FlagSet::Switch(const std::string& names, bool* target, std::string help) {
  Declare(Kind::kSwitch, names, "", std::move(help)).switch_target = target;
}

void FlagSet::Count(const std::string& names, std::string value_name, int64_t* target, int64_t least, int64_t most,
                    std::string help) {
  Flag& flag = Declare(Kind::kCount, names, std::move(value_name), std::move(help));
  flag.count_target = target;
  flag.least = least;
  flag.most = most;
}

void FlagSet::Seconds(const std::string& names, std::string value_name, double* target, std::string help, double most) {
  Flag& flag = Declare(Kind::kSeconds, names, std::move(value_name), std::move(help));
  flag.seconds_target = target;
  flag.seconds_most = most;
}

void FlagSet::Text(const std::string& names, std::string value_name, std::string* target, std::string help) {
  Declare(Kind::kText, names, std::move(value_name), std::move(help)).text_target = target;
}

void FlagSet::Texts(const std::string& names, std::string value_name, std::vector<std::string>* target, std::string help) {
  Declare(Kind::kTexts, names, std::move(value_name), std::move(help)).texts_target = target;
}

void FlagSet::Choices(const std::string& name, std::vector<std::string> values) {
  Flag* flag = Find(BareName(name));
  MUSTER_CHECK(flag != nullptr && flag->takes_value(), "choices for a flag that is declared before and takes a value");
  flag->choices = std::move(values);
}

void FlagSet::Ignored(const std::string& names, std::string value_name) {
  Declare(Kind::kIgnored, names, std::move(value_name), "");
}

void FlagSet::NotYet(const std::string& names, std::string instead) { Declare(Kind::kNotYet, names, "", std::move(instead)); }

void FlagSet::NotNeeded(const std::string& names, std::string why) { Declare(Kind::kNotNeeded, names, "", std::move(why)); }

void FlagSet::Refuse(const FlagSet& others, std::string why) {
  for (const Flag& flag : others.flags_) {
    if (flag.kind == Kind::kNotYet || flag.kind == Kind::kNotNeeded) {
      flags_.push_back(flag);
      continue;
    }
    std::vector<std::string> names;
    for (const std::string& name : flag.names) {
      if (Find(BareName(name)) == nullptr) names.push_back(name);
    }
    if (!names.empty()) Declare(Kind::kRefused, absl::StrJoin(names, " "), "", why);
  }
}

const FlagSet::Flag* FlagSet::Find(const std::string& bare_name) const {
  for (const Flag& flag : flags_) {
    for (const std::string& name : flag.names) {
      if (BareName(name) == bare_name) return &flag;
    }
  }
  return nullptr;
}

FlagSet::Flag* FlagSet::Find(const std::string& bare_name) {
  return const_cast<Flag*>(static_cast<const FlagSet*>(this)->Find(bare_name));
}

absl::Status FlagSet::Unknown(const std::string& word) const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) {
    if (!flag.is_offered() && flag.kind != Kind::kIgnored) continue;
    for (const std::string& name : flag.names) names.push_back(BareName(name));
  }
  const std::string nearest = NearestName(BareName(word), names);
  std::string remedy = absl::StrCat("`", command_, " --help` lists the options");
  if (!nearest.empty()) {
    for (const std::string& name : Find(nearest)->names) {
      if (BareName(name) == nearest) remedy = absl::StrCat("did you mean ", name, "?");
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown option ", word, "; ", remedy));
}

absl::Status FlagSet::Normalise(const std::vector<std::string>& arguments, std::vector<std::string>* normalised,
                                std::vector<std::string>* rest) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--" || word.size() < 2 || word[0] != '-') {
      separated_ = word == "--";
      rest->assign(arguments.begin() + static_cast<ptrdiff_t>(i) + (separated_ ? 1 : 0), arguments.end());
      return absl::OkStatus();
    }
    std::vector<std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
    const std::string typed = parts[0];
    std::string name = BareName(typed);
    if (name == "h" || name == "help") {
      help_wanted_ = true;
      return absl::OkStatus();
    }
    Flag* flag = Find(name);
    if (flag == nullptr && parts.size() == 1) {
      // -np4: a count directly behind its name.
      const size_t digits = name.find_first_of("0123456789");
      Flag* counted = digits == std::string::npos ? nullptr : Find(name.substr(0, digits));
      if (counted != nullptr && counted->kind == Kind::kCount &&
          name.find_first_not_of("0123456789", digits) == std::string::npos) {
        flag = counted;
        parts.push_back(name.substr(digits));
      }
    }
    if (flag == nullptr) return Unknown(typed);
    if (flag->kind == Kind::kIgnored && !flag->takes_value()) continue;
    if (flag->kind == Kind::kNotYet) {
      return absl::InvalidArgumentError(absl::StrCat(typed, " is not in this version of muster. ", flag->help));
    }
    if (flag->kind == Kind::kNotNeeded) {
      return absl::InvalidArgumentError(absl::StrCat(typed, " is not needed with muster. ", flag->help));
    }
    if (flag->kind == Kind::kRefused) return absl::InvalidArgumentError(absl::StrCat(typed, " ", flag->help));
    if (flag->kind != Kind::kIgnored) normalised->push_back(absl::StrCat("--", BareName(flag->names[0])));
    if (!flag->takes_value()) {
      if (parts.size() > 1) return absl::InvalidArgumentError(absl::StrCat(typed, " takes no value; write it alone"));
      continue;
    }
    if (parts.size() == 1) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(absl::StrCat(typed, " needs a value: ", typed, " ", flag->value_name));
      }
      parts.push_back(arguments[++i]);
    }
    if (flag->kind != Kind::kIgnored) normalised->push_back(parts[1]);
  }
  return absl::OkStatus();
}

absl::Status FlagSet::Fill(std::vector<std::string> normalised) {
  CLI::App app;
  app.set_help_flag();
  // Those that were given: CLI11 compares each new option with all before it.
  std::set<Flag*> given;
  for (size_t i = 0; i < normalised.size(); ++i) {
    Flag* const flag = Find(BareName(normalised[i]));
    given.insert(flag);
    if (flag->takes_value()) ++i;
  }
  for (Flag& flag : flags_) {
    if (!given.contains(&flag)) continue;
    const std::string name = absl::StrCat("--", BareName(flag.names[0]));
    switch (flag.kind) {
      case Kind::kSwitch:
        app.add_flag(name, *flag.switch_target);
        break;
      case Kind::kCount:
        app.add_option(name, *flag.count_target)->take_last();
        break;
      case Kind::kSeconds:
        app.add_option(name, *flag.seconds_target)->take_last();
        break;
      case Kind::kText:
        app.add_option(name, *flag.text_target)->take_last();
        break;
      case Kind::kTexts:
        app.add_option(name, *flag.texts_target)->expected(1)->take_all();
        break;
      case Kind::kIgnored:
      case Kind::kNotYet:
      case Kind::kNotNeeded:
      case Kind::kRefused:
        break;
    }
  }
  // CLI11 names the option and the value but not what would be right, so values are checked here.
  for (size_t i = 0; i < normalised.size(); ++i) {
    Flag* flag = Find(BareName(normalised[i]));
    if (!flag->takes_value()) continue;
    const std::string& value = normalised[++i];
    const std::string shown = absl::StrCat(flag->names[0], " ", value);
    if (flag->kind == Kind::kCount) {
      int64_t number = 0;
      if (!absl::SimpleAtoi(value, &number) || number < flag->least || number > flag->most) {
        return absl::InvalidArgumentError(absl::StrCat(shown, " is not possible: ", flag->value_name,
                                                       " is a whole number from ", flag->least, " to ", flag->most));
      }
    } else if (flag->kind == Kind::kSeconds) {
      double number = 0;
      if (!absl::SimpleAtod(value, &number) || !(number > 0)) {
        return absl::InvalidArgumentError(
            absl::StrCat(shown, " is not possible: ", flag->value_name, " is a number of seconds above 0, such as 90 or 0.5"));
      }
      if (number > flag->seconds_most) {
        return absl::InvalidArgumentError(absl::StrCat(shown, " is not possible: at most ", flag->seconds_most, " seconds"));
      }
    } else if (value.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(flag->names[0], " needs a value that is not empty: ", flag->names[0], " ", flag->value_name));
    }
  }
  std::reverse(normalised.begin(), normalised.end());  // as CLI::App::parse(vector) wants it
  try {
    app.parse(std::move(normalised));
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), "; see `", command_, " --help`"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FlagSet::Parse(const std::vector<std::string>& arguments) {
  std::vector<std::string> normalised;
  std::vector<std::string> rest;
  MUSTER_RETURN_IF_ERROR(Normalise(arguments, &normalised, &rest));
  if (help_wanted_) return std::vector<std::string>();
  MUSTER_RETURN_IF_ERROR(Fill(std::move(normalised)));
  return rest;
}

std::string FlagSet::Help() const { return FlagsText(Describe()); }

std::vector<FlagDescription> FlagSet::Describe() const {
  std::vector<FlagDescription> described;
  for (const Flag& flag : flags_) {
    if (flag.kind != Kind::kIgnored && !flag.is_offered()) continue;
    described.push_back({.names = flag.names,
                         .value_name = flag.takes_value() ? flag.value_name : "",
                         .help = flag.help,
                         .heading = flag.heading,
                         .choices = flag.choices,
                         .without_effect = flag.kind == Kind::kIgnored});
  }
  std::vector<std::string> headings = {""};
  for (const FlagDescription& flag : described) {
    if (std::find(headings.begin(), headings.end(), flag.heading) == headings.end()) headings.push_back(flag.heading);
  }
  const auto place = [&headings](const FlagDescription& flag) {
    return std::find(headings.begin(), headings.end(), flag.heading) - headings.begin();
  };
  std::stable_sort(described.begin(), described.end(),
                   [&place](const FlagDescription& a, const FlagDescription& b) { return place(a) < place(b); });
  return described;
}

std::string FlagsText(const std::vector<FlagDescription>& flags) {
  constexpr size_t kColumn = 30;
  std::string text, heading;
  for (const FlagDescription& flag : flags) {
    if (flag.without_effect) continue;
    if (flag.heading != heading) absl::StrAppend(&text, "\n", flag.heading, "\n");
    heading = flag.heading;
    std::string line = absl::StrCat("  ", absl::StrJoin(flag.names, ", "));
    if (!flag.value_name.empty()) absl::StrAppend(&line, " ", flag.value_name);
    if (line.size() + 2 > kColumn) {
      absl::StrAppend(&text, line, "\n");
      line.clear();
    }
    for (absl::string_view part : absl::StrSplit(flag.help, '\n')) {
      line.resize(kColumn, ' ');
      absl::StrAppend(&text, line, part, "\n");
      line.clear();
    }
  }
  return text;
}

absl::Status OutOfPlace(std::initializer_list<GivenFlag> flags, const std::string& about, const std::string& remedy) {
  for (const GivenFlag& flag : flags) {
    if (flag.is_given) {
      return absl::InvalidArgumentError(absl::StrCat(flag.name, " is about ", about, "; ", remedy, ", or leave it out"));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster

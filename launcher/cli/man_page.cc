#include "launcher/cli/man_page.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr absl::string_view kUsage = "usage: ";

// Text as roff takes it (groff_char(7)): a hyphen that a reader may copy is a minus, and no line is a request.
std::string Escape(absl::string_view text) {
  std::string escaped =
      absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}, {"`", "\\(ga"}, {"'", "\\(aq"}, {"~", "\\(ti"}, {"^", "\\(ha"}});
  if (absl::StartsWith(escaped, ".")) escaped.insert(0, "\\&");
  return escaped;
}

bool IsIndented(absl::string_view line) { return absl::StartsWith(line, " "); }

bool IsHeading(const std::vector<std::string>& lines, size_t i) {
  const bool alone = i == 0 || lines[i - 1].empty();
  return alone && !lines[i].empty() && absl::ascii_islower(static_cast<unsigned char>(lines[i][0])) && i + 1 < lines.size() &&
         IsIndented(lines[i + 1]) && !absl::StartsWith(lines[i], kUsage);
}

// Roff of one page, section after section.
class Manual {
 public:
  Manual(const std::string& name, const std::string& summary, const ManualEdition& edition) {
    absl::StrAppend(&text_, ".TH ", absl::AsciiStrToUpper(Escape(name)), " 1 ", edition.date, " \"muster ", edition.version,
                    "\" \"muster manual\"\n");
    Section("name");
    absl::StrAppend(&text_, Escape(name), " \\- ", Escape(summary), "\n");
  }

  void Section(absl::string_view heading) {
    const std::string title = absl::AsciiStrToUpper(heading);
    absl::StrAppend(&text_, ".SH ", absl::StrContains(title, ' ') ? absl::StrCat("\"", Escape(title), "\"") : Escape(title),
                    "\n");
    begun_ = true;
  }

  // A help page's plain text; paragraphs before the first heading stand under `heading`.
  void Plain(absl::string_view text, absl::string_view heading) {
    const std::vector<std::string> lines = absl::StrSplit(absl::StripSuffix(text, "\n"), '\n');
    bool verbatim = false, headed = false, paragraph = false;
    for (size_t i = 0; i < lines.size(); ++i) {
      const std::string& line = lines[i];
      if (absl::StartsWith(line, kUsage)) {
        Section("synopsis");
        Verbatim(true, &verbatim);
        absl::StrAppend(&text_, Escape(absl::StripPrefix(line, kUsage)), "\n");
      } else if (line.empty()) {
        Verbatim(false, &verbatim);
        paragraph = true;
      } else if (IsHeading(lines, i)) {
        Verbatim(false, &verbatim);
        Section(line);
        headed = true;
        paragraph = false;
        Verbatim(true, &verbatim);
      } else if (verbatim) {
        const absl::string_view cut = absl::StripPrefix(absl::StripPrefix(line, "       "), "  ");
        absl::StrAppend(&text_, Escape(headed ? absl::StripPrefix(line, "  ") : cut), "\n");
      } else {
        if (!headed)
          Section(heading);
        else if (paragraph)
          absl::StrAppend(&text_, ".PP\n");
        headed = true;
        paragraph = false;
        absl::StrAppend(&text_, Escape(line), "\n");
      }
    }
    Verbatim(false, &verbatim);
  }

  void Flags(const std::vector<FlagDescription>& flags) {
    std::vector<std::string> without_effect;
    std::string heading;
    bool first = true;
    for (const FlagDescription& flag : flags) {
      if (flag.without_effect) {
        for (const std::string& name : flag.names) without_effect.push_back(Escape(name));
        continue;
      }
      if (first) Section("options");
      first = false;
      if (flag.heading != heading) absl::StrAppend(&text_, ".SS ", Escape(flag.heading), "\n");
      heading = flag.heading;
      std::vector<std::string> names;
      for (const std::string& name : flag.names) names.push_back(absl::StrCat("\\fB", Escape(name), "\\fR"));
      absl::StrAppend(&text_, ".TP\n", absl::StrJoin(names, ", "));
      if (!flag.value_name.empty()) absl::StrAppend(&text_, " \\fI", Escape(flag.value_name), "\\fR");
      absl::StrAppend(&text_, "\n");
      for (absl::string_view line : absl::StrSplit(flag.help, '\n', absl::SkipEmpty()))
        absl::StrAppend(&text_, Escape(line), "\n");
    }
    if (without_effect.empty()) return;
    if (first) Section("options");
    absl::StrAppend(&text_, ".TP\n\\fB", absl::StrJoin(without_effect, "\\fR, \\fB"),
                    "\\fR\nAccepted without effect: what they ask for is so anyway.\n");
  }

  void SeeAlso(const std::vector<std::string>& pages) {
    Section("see also");
    std::vector<std::string> references;
    for (const std::string& page : pages) references.push_back(absl::StrCat(".BR ", Escape(page), " (1)"));
    absl::StrAppend(&text_, absl::StrJoin(references, ",\n"), "\n");
  }

  std::string text() const { return text_; }

 private:
  // Lines as they are, between .EX and .EE, which man(7) of groff and mandoc both know.
  void Verbatim(bool wanted, bool* verbatim) {
    if (wanted != *verbatim) absl::StrAppend(&text_, wanted ? ".nf\n" : ".fi\n");
    *verbatim = wanted;
  }

  std::string text_;
  bool begun_ = false;
};

}  // namespace

std::string CommandManual(const CommandPage& command, const std::vector<std::string>& others, const ManualEdition& edition) {
  Manual manual(absl::StrCat("muster-", command.name), command.summary, edition);
  manual.Plain(command.page.before, "description");
  manual.Flags(command.page.flags);
  if (!command.page.after.empty()) manual.Plain(command.page.after, "notes");
  std::vector<std::string> pages = {"muster"};
  for (const std::string& other : others) {
    if (other != command.name) pages.push_back(absl::StrCat("muster-", other));
  }
  manual.SeeAlso(pages);
  return manual.text();
}

std::string OverviewManual(const HelpPage& overview, const std::vector<CommandPage>& commands, const ManualEdition& edition) {
  Manual manual("muster", "start training programs on several ranks, watch over them, end them cleanly", edition);
  manual.Plain(overview.before, "description");
  std::vector<std::string> pages;
  for (const CommandPage& command : commands) pages.push_back(absl::StrCat("muster-", command.name));
  manual.SeeAlso(pages);
  return manual.text();
}

}  // namespace muster

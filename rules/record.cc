#include "rules/record.h"

namespace logbell::rules {

const std::vector<std::string>& fact_names(Envelope envelope) {
  static const std::vector<std::string> kNone;
  static const std::vector<std::string> kCri{"stream", "namespace", "pod", "container"};
  static const std::vector<std::string> kDocker{"stream", "container_id"};
  static const std::vector<std::string> kSyslog{"host", "app", "procid", "msgid", "facility", "severity"};
  static const std::vector<std::string> kJournal{"host", "app", "procid", "unit", "facility", "severity"};
  switch (envelope) {
    case Envelope::kNone:
      return kNone;
    case Envelope::kCri:
      return kCri;
    case Envelope::kDocker:
      return kDocker;
    case Envelope::kSyslog:
      return kSyslog;
    case Envelope::kJournal:
      return kJournal;
  }
  return kNone;
}

}  // namespace logbell::rules

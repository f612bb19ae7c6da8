#include "rules/record.h"

namespace logbell::rules {

const std::vector<std::string>& fact_names(Envelope envelope) {
  static const std::vector<std::string> kNone;
  static const std::vector<std::string> kCri{"stream", "namespace", "pod", "container"};
  static const std::vector<std::string> kDocker{"stream", "container_id"};
  switch (envelope) {
    case Envelope::kNone:
      return kNone;
    case Envelope::kCri:
      return kCri;
    case Envelope::kDocker:
      return kDocker;
  }
  return kNone;
}

}  // namespace logbell::rules

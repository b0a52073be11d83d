// See table_text.h.
#include "comm/table_text.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace cgx {
namespace {

using Json = nlohmann::ordered_json;

// Null where it is not known: of what was sent raw it is known without measuring.
Json nmse(const TensorRow& row) {
  const SegmentNotes& n = row.notes;
  if (n.compared > 0 && n.input_squares > 0) return n.error_squares / n.input_squares;
  if (n.compared > 0 && n.error_squares == 0) return 0.0;
  return row.wire_bytes == row.raw_bytes && n.compared == 0 ? Json(0.0) : Json(nullptr);
}

Json cosine(const TensorRow& row) {
  const SegmentNotes& n = row.notes;
  const double lengths = std::sqrt(n.input_squares) * std::sqrt(n.sent_squares);
  if (n.compared > 0 && lengths > 0) return n.product / lengths;
  return row.wire_bytes == row.raw_bytes && n.compared == 0 ? Json(1.0) : Json(nullptr);
}

}  // namespace

std::string table_text(const std::map<uint32_t, TensorRow>& rows,
                       const std::function<double(uint32_t tensor)>& residual_norm) {
  Json table = Json::array();
  for (const auto& [tensor, row] : rows) {
    const double ratio =
        row.wire_bytes == 0 ? 1.0 : static_cast<double>(row.raw_bytes) / static_cast<double>(row.wire_bytes);
    table.push_back({{"tensor", tensor},
                     {"codec", to_string(row.codec)},
                     {"calls", row.calls},
                     {"elements", row.elements},
                     {"raw_bytes", row.raw_bytes},
                     {"wire_bytes", row.wire_bytes},
                     {"ratio", ratio},
                     {"observed", row.observed},
                     {"compared", row.notes.compared},
                     {"nmse", nmse(row)},
                     {"cosine", cosine(row)},
                     {"saturated", row.notes.counts.saturated},
                     {"non_finite", row.notes.counts.non_finite},
                     {"residual_norm", residual_norm(tensor)},
                     {"encode_seconds", row.notes.encode_seconds},
                     {"decode_seconds", row.notes.decode_seconds},
                     {"wait_seconds", row.notes.wait_seconds}});
  }
  return table.dump();
}

}  // namespace cgx

// Two levels of one tensor: its own layout between hosts, and the layout of messages inside a host.
#pragma once

#include <string>

#include "base/status.h"
#include "codec/layout.h"

namespace cgx {

// "" is none. kInvalidArgument for what cannot serve every tensor: "auto", "+ef" (which the tensor's own
// codec asks for), and codecs whose residual would grow.
Result<CodecSpec> parse_inner_codec(const std::string& text);

// The same segments with `codec`; those that are to travel uncompressed do so inside a host, too.
Layout inner_layout(const Layout& layout, const CodecSpec& codec);

}  // namespace cgx

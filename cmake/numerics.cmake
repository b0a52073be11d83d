# Flags that the bit-identity contract (docs/NUMERICS.md) rests on, each with its reason.
add_library(cgx_numerics INTERFACE)
target_compile_options(cgx_numerics INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>  # a*b+c stays two roundings: fused, wire bytes change
  $<$<COMPILE_LANGUAGE:C,CXX>:-fno-fast-math>     # no reassociation, NaN and signed zeros kept
  $<$<COMPILE_LANGUAGE:C,CXX>:-fno-math-errno>    # sqrt may be one instruction (the same value)
  $<$<COMPILE_LANGUAGE:C,CXX>:-fno-trapping-math> # loops over floats may be vectorised (the same values)
)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # x87 would round doubly; SSE2 is every x86-64's floor and is spelled out for 32-bit-minded setups.
  target_compile_options(cgx_numerics INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-mfpmath=sse>)
endif()

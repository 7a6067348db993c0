# The daemon end to end, before real servers. tests/run.sh overrides NEARCACHED_BINARY with sanitized builds, which are slow:
# the time limits are for those.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

foreach(name protocol cluster coherence identity lifecycle)
  add_test(NAME redis.system.${name} COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/${name}_test.py)
endforeach()
add_test(NAME redis.system.bad_inputs COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/bad_inputs.py)

foreach(name protocol cluster coherence identity lifecycle bad_inputs)
  set_tests_properties(redis.system.${name} PROPERTIES LABELS redis TIMEOUT 400 SKIP_RETURN_CODE 77 RUN_SERIAL ON)
  # An environment that names a daemon wins: CTest's own ENVIRONMENT would hide it.
  if(NOT DEFINED ENV{NEARCACHED_BINARY})
    set_tests_properties(redis.system.${name} PROPERTIES ENVIRONMENT "NEARCACHED_BINARY=$<TARGET_FILE:nearcached>")
  endif()
endforeach()

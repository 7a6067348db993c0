# The daemon end to end, before real servers. NEARCACHED_BINARY names another daemon than the one of this build. The time
# limits are for sanitized builds, which are slow.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

function(add_system_test name script)
  add_test(NAME redis.system.${name} COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${ARGN})
  set_tests_properties(redis.system.${name} PROPERTIES LABELS redis TIMEOUT 400 SKIP_RETURN_CODE 77 RUN_SERIAL ON
    ENVIRONMENT "NEARCACHED_BUILT_BINARY=$<TARGET_FILE:nearcached>")
endfunction()

foreach(name protocol cluster across_cluster coherence identity lifecycle local_commands runs_of_hits security tls write_behind write_behind_disk)
  add_system_test(${name} ${name}_test.py)
endforeach()
# Long, and about time: not for builds that a sanitizer slows down, which leave the simulator out as well.
if(NEARCACHED_SIM)
  foreach(name cached_reads compression levels modes bus hash_field_expiry pinned tracking isolation databases sentinel memory)
    add_system_test(${name} ${name}_test.py)
  endforeach()
  # What a hit costs, in instructions: no times.
  add_system_test(instructions ../../loadtest/instructions.py --check)
endif()
add_system_test(bad_inputs bad_inputs.py)
